"""The spellings of a final answer: LaTeX without its dress, and what a text can be read as.

A text has one or more readings: (2, 6) is an interval and a point, 3:20 a time and a ratio. Two texts are the same answer
where they say the same under the first reading that both have; `equality` decides that. Nothing here does mathematics.
"""

import math
import re
from typing import NamedTuple

# -- dress -------------------------------------------------------------------------------------------------------------

_SIGNS = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "θ": r"\theta ",
    "∞": r"\infty ", "°": r"^\circ ", "º": r"^\circ ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "≡": r"\equiv ", "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "′": "'", "²": "^2", "³": "^3", "⁴": "^4", "⁻¹": "^{-1}", "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⟨": r"\langle ", "⟩": r"\rangle ", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
}  # fmt: skip
_ONE_NAME = {
    r"\\(?:leq|leqslant)(?![a-zA-Z])": r"\\le ",
    r"\\(?:geq|geqslant)(?![a-zA-Z])": r"\\ge ",
    r"\\neq(?![a-zA-Z])": r"\\ne ",
    r"\\lt(?![a-zA-Z])": "<",
    r"\\gt(?![a-zA-Z])": ">",
    r"\\varnothing(?![a-zA-Z])|\\\{\s*\\\}": r"\\emptyset ",
    r"\\[dtc]frac(?![a-zA-Z])": r"\\frac",
    r"\\[dt]binom(?![a-zA-Z])": r"\\binom",
    r"\\(?:colon|mathbin:|mathrel:)(?![a-zA-Z])|\{:\}": ":",
    r"\\(?:lbrace|lbrack)(?![a-zA-Z])": r"\\{",
    r"\\(?:mid|vert|lvert|rvert)(?![a-zA-Z])": "|",
    r"\\(?:land|wedge)(?![a-zA-Z])": r"\\text{and}",
    r"\\(?:lor|vee)(?![a-zA-Z])": r"\\text{or}",
    r"\\(?:degree|textdegree)(?![a-zA-Z])|\^\s*\{?\s*\\circ\s*\}?": r"^\\circ ",
    r"\\log_\{?e\}?(?![a-zA-Z])": r"\\ln",
    r"\\exp\s*\(([^()]*)\)": r"e^{\1}",
    r"\\cdot\s*i(?![a-zA-Z])": "i",
    r"\{\s*(\w+)\s*\\choose\s*(\w+)\s*\}": r"\\binom{\1}{\2}",
    r"(?<![a-zA-Z\\])C\(\s*(\w+)\s*,\s*(\w+)\s*\)|(?<![a-zA-Z\\])C\^\{?(\w+)\}?_\{?(\w+)\}?": r"\\binom{\1\3}{\2\4}",
}
_LOOKS = re.compile(
    r"(?<!\\)\\[,;: ]|\\q?quad(?![a-zA-Z])|~"
    r"|\\(?:displaystyle|textstyle|limits|big|Big|bigg|Bigg|bigl|bigr|Bigl|Bigr|left|right)(?![a-zA-Z])"
)
_BETWEEN_DIGITS = re.compile(r"(?<=\d)\s*(?:\{,\}|,\\[!,;: ]|\\[!,;: ])\s*(?=\d{3}(?!\d))")
_SHAPES = (
    r"(?:text|textbf|textit|textrm|textsf|textnormal|underline|boldsymbol|emph"
    r"|mbox|hbox|mathrm|mathbf|mathit|mathsf|operatorname|rm|bf)\*?"
)
_ARGUMENT = r"(?:\{([^{}]*)\}|(\\[a-zA-Z]+|\w))"
_END_OF_SENTENCE = re.compile(r"(?<![.\\])[.,;]\s*$")
WORDS = re.compile(r"\\text\{((?:[^{}]|\{[^{}]*\})*)\}")


def tidy(text: str) -> str:
    r"""LaTeX without what only decides its looks, other scripts' signs as LaTeX, words in `\text{}`, one name per sign."""
    for sign, name in _SIGNS.items():
        text = text.replace(sign, name)
    text = text.strip()
    text = re.sub(r"^\*\*(.+)\*\*$", r"\1", text)
    text = _END_OF_SENTENCE.sub("", text)
    text = re.sub(r"^(?:\$\$?|\\\(|\\\[)\s*((?:[^$\\]|\\.)*?)\s*(?:\$\$?|\\\)|\\\])$", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"^\\(?:boxed|fbox)\s*\{(.*)\}$", r"\1", text, flags=re.DOTALL)
    text = re.sub(rf"\\{_SHAPES}\s*\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}", r"\\text{\1}", text)
    text = re.sub(r"\\text\{\s*\\text\{([^{}]*)\}\s*\}", r"\\text{\1}", text)
    text = _BETWEEN_DIGITS.sub(",", text).replace(r"\!", "")
    text = _LOOKS.sub(" ", text)
    for spelling, name in _ONE_NAME.items():
        text = re.sub(spelling, name, text)
    text = re.sub(r"√\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[a-zA-Z]))", r"\\sqrt{\1\2}", text)
    text = re.sub(r"\\text\{\s*(\d+)\s*\}", r"\1", text)
    text = re.sub(r"(?<=[_^])\{(\w)\}", r"\1", text)
    text = _END_OF_SENTENCE.sub("", re.sub(r"\s+", " ", text).strip())
    text = re.sub(r"\\sqrt\s*(\[\w+\])?\s*(\d)", r"\\sqrt\1{\2}", text)
    return re.sub(rf"\\frac\s*{_ARGUMENT}\s*{_ARGUMENT}", r"\\frac{\1\2}{\3\4}", text)


def same_text(gold: str, answer: str) -> bool:
    """Equal but for spacing, LaTeX dress and signs that look alike."""
    return _plain(tidy(gold)) == _plain(tidy(answer)) != ""


def _plain(text: str) -> str:
    return re.sub(r"\s+", "", WORDS.sub(r"\1", text))


def unworded(text: str) -> str:
    r"""With the words of `\text{}` as bare ones."""
    return re.sub(r"\s+", " ", WORDS.sub(lambda found: f" {found[1]} ", text)).strip()


# -- words that are numbers or signs --------------------------------------------------------------------------------------

_UP_TO_19 = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
COUNTS = {word: number for number, word in enumerate(_UP_TO_19.split())} | {
    word: 10 * number for number, word in enumerate(_TENS.split(), 2)
}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_MEANINGS = {
    "infinity": r"\infty", "positive infinity": r"\infty", "negative infinity": r"-\infty", "empty set": r"\emptyset",
    "all real numbers": r"(-\infty,\infty)", "all reals": r"(-\infty,\infty)", "one half": r"\frac{1}{2}",
    "one third": r"\frac{1}{3}", "two thirds": r"\frac{2}{3}", "one fourth": r"\frac{1}{4}", "one quarter": r"\frac{1}{4}",
    "three fourths": r"\frac{3}{4}", "three quarters": r"\frac{3}{4}",
}  # fmt: skip


def counted(words: str) -> int | None:
    """The number that words say ("one hundred and five"), or None."""
    total = part = 0
    said = re.sub(r"[-\s]+|\band\b", " ", words.casefold()).split()
    for word in said:
        if word in COUNTS:
            part += COUNTS[word]
        elif word == "hundred" and part:
            part *= 100
        elif word in SCALES and part:
            total, part = total + part * SCALES[word], 0
        else:
            return None
    return total + part if said else None


def _meant(text: str) -> str:
    """What stands for a sign or number in words, as that; else the text."""
    said = re.sub(r"^(?:the|a|an) ", "", unworded(text).casefold().replace("-", " "))
    sign, rest = ("-", re.sub(r"^(?:minus|negative) ", "", said)) if re.match(r"(?:minus|negative) ", said) else ("", said)
    if said in _MEANINGS:
        return _MEANINGS[said]
    number = counted(rest)
    return text if number is None else f"{sign}{number}"


# -- readings --------------------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """One way to understand a text. Two of a kind agree where their marks are one and their parts are the same answers."""

    kind: str
    mark: str
    """What must be alike to the letter: brackets, a base, the shape of a matrix, the words."""
    parts: "tuple[str | Reading, ...]" = ()
    ordered: bool = True


def readings(text: str) -> dict[str, Reading]:
    """Every reading of a tidy text by kind, the most specific first; `value`, the last, is the text as one expression."""
    text = _meant(_said(text))
    found = (
        _letters(text), _matrix(text), _region(text), _point(text), _members(text), _based(text), _clock(text), _residue(text),
        _ratio(text), _words(text), Reading("value", "", (text,)), _any_words(text), _numeral(text),
    )  # fmt: skip
    structured = ("region", "point", "members", "matrix", "words", "clock", "based", "ratio")
    kinds: dict[str, Reading] = {}
    for reading in found:
        if reading is None or (reading.kind == "value" and any(kind in kinds for kind in structured)):
            continue
        kinds.setdefault(reading.kind, reading)
    return kinds


_LEAD = re.compile(
    r"^(?:(?:so|thus|hence|therefore),?\s*)?(?:the\s+)?(?:(?:final|correct|right)\s+)?(?:answer|option|choice|value|solution)s?"
    r"(?:\s+(?:is|are|equals))?\s*:?\s*(?=\S)",
    re.IGNORECASE,
)


def _said(text: str) -> str:
    """Without "the answer is" before it."""
    plain = unworded(text)
    lead = _LEAD.match(plain)
    return plain[lead.end() :] if lead and lead.end() < len(plain) else text


def split(text: str, signs: str = ",;") -> list[str]:
    """The parts between signs at the top level, outside every bracket."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character in signs and depth <= 0 and not _within_number(text, place):
            parts.append(text[start:place].strip())
            start = place + 1
    return [part for part in [*parts, text[start:].strip()] if part]


def _within_number(text: str, place: int) -> bool:
    """A comma between thousands: three digits after it, one to three before the first, no space."""
    before, after = (
        re.search(r"(?<![\d.])\d{1,3}(?:,\d{3})*$", text[:place]),
        re.match(r",\d{3}(?:,\d{3})*(?!\d)", text[place:]),
    )
    return bool(before and after)


def _letters(text: str) -> Reading | None:
    """The letters of choices, in whatever order: C, (C), (C) 12, C) twelve, ACD, "A, C and D"."""
    plain = unworded(text)
    if one := re.fullmatch(r"(?:\(\s*([A-Ja-d])\s*\)|([A-J])\s*[).:])\s+(?!and\b|or\b)[^,].*|\(?\s*([A-Ja-d])\s*[).]?", plain):
        return Reading("letters", (one[1] or one[2] or one[3]).upper())
    letters = re.sub(r"\band\b|[(),;&\s]", "", plain)
    if not re.fullmatch("[A-J]{2,}", letters):
        return None
    return Reading("letters", "".join(sorted(letters))) if len(set(letters)) == len(letters) else None


def _matrix(text: str) -> Reading | None:
    name = re.sub(r"^\\?[a-zA-Z]+(?:\{\w+\})?\s*=\s*", "", text)
    found = re.fullmatch(r"[(\[]?\s*\\begin\{([pbvBV]?matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\{\1\}\s*[)\]]?", name)
    if not found or found[1][0] in "vV":
        return None
    rows = [[cell.strip() for cell in row.split("&")] for row in re.split(r"\\\\", found[2]) if row.strip()]
    return Reading("matrix", f"{len(rows)} x {max(map(len, rows), default=0)}", tuple(cell for row in rows for cell in row))


_BRACKETS = re.compile(r"(\(|\[|\\langle)\s*(.*?)\s*(\)|\]|\\rangle)")


def _bracketed(text: str) -> tuple[str, str, list[str]] | None:
    """Opening and closing bracket and what stands between them, where one pair holds the whole text and a list."""
    found = _BRACKETS.fullmatch(text)
    if not found:
        return None
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and place < len(text) - 1 and not text.startswith("\\langle"):
            return None
    parts = split(found[2])
    parts = parts if len(parts) > 1 else [part.strip() for part in found[2].split(",")]  # (12,102) is no number
    return (found[1], found[3], parts) if len(parts) > 1 and all(parts) else None


def _point(text: str) -> Reading | None:
    """A tuple or vector: (8, 5), \\langle 8, 5 \\rangle, a column, "x = 8, y = 5"."""
    if (matrix := _matrix(text)) and matrix.mark.endswith("x 1"):
        return Reading("point", "(", matrix.parts)
    if (named := _named(text)) and len({name for name, _ in named}) == len(named) > 1:
        return Reading("point", "(", tuple(value for _, value in sorted(named)))
    found = _bracketed(re.sub(r"^[^=<>]*=\s*(?=[(\[\\])|^[A-Z]\s*(?=\()", "", text))
    if not found or (found[0] == "[") != (found[1] == "]"):
        return None
    return Reading("point", "[" if found[0] == "[" else "(", tuple(found[2]))


def _named(text: str) -> list[tuple[str, str]]:
    """The names and values of "x = 8 and y = 5"; empty where a part is none."""
    parts = [re.fullmatch(r"\\?([a-zA-Z]\w*)\s*=\s*([^=]+)", part) for part in split(_ands(text))]
    return [(found[1], found[2].strip()) for found in parts if found] if all(parts) else []


def _ands(text: str) -> str:
    """With commas for what joins the members of a list."""
    text = re.sub(r"\\text\{\s*,?\s*(?:and|or)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])", ",", text)
    return re.sub(r",\s*,", ",", text)


_END = r"[^<>=]+?"
_RELATION = {
    "<": ("<", False),
    r"\le": ("<", True),
    "<=": ("<", True),
    ">": (">", False),
    r"\ge": (">", True),
    ">=": (">", True),
}
_SIGN = r"(\\le|\\ge|<=|>=|<|>)"


def _region(text: str) -> Reading | None:
    """A union of intervals: [-2, 7), "x < 3", -2 \\le x < 7, "x < -1 or x > 4"."""
    text = re.sub(r"^\\\{\s*[a-z]\s*(?:\\in\s*\\mathbb\{?R\}?\s*)?[|:]\s*(.*)\\\}$", r"\1", text)
    text = re.sub(r"^[a-z]\s*\\in(?![a-zA-Z])\s*", "", text)
    text = re.sub(r"\\mathbb\s*\{?R\}?", r"(-\\infty,\\infty)", text) if "R" in text else text
    parts = re.split(r"\\cup(?![a-zA-Z])|\\text\{\s*or\s*\}|(?<![a-zA-Z\\])or(?![a-zA-Z])", text)
    intervals = [_interval(part.strip()) for part in parts]
    known = tuple(interval for interval in intervals if interval)
    return Reading("region", "", known, ordered=False) if len(known) == len(parts) else None


def _interval(text: str) -> Reading | None:
    if (found := _bracketed(text)) and "\\langle" not in found and len(found[2]) == 2:
        return Reading("interval", f"{found[0]}{found[1]}", tuple(re.sub(r"^\+\s*", "", end) for end in found[2]))
    if two := re.fullmatch(rf"({_END})\s*{_SIGN}\s*(\\?[a-zA-Z])\s*{_SIGN}\s*({_END})", text):
        (first, closed), (second, ends) = _RELATION[two[2]], _RELATION[two[4]]
        if first != second:
            return None
        low, high = ((two[1], closed), (two[5], ends)) if first == "<" else ((two[5], ends), (two[1], closed))
        return _ends(low, high)
    if one := re.fullmatch(rf"({_END})\s*{_SIGN}\s*({_END})", text):
        sign, closed = _RELATION[one[2]]
        left, right = one[1].strip(), one[3].strip()
        if re.fullmatch(r"\\?[a-zA-Z]", right) and not re.fullmatch(r"\\?[a-zA-Z]", left):
            left, right, sign = right, left, "<>"[sign == "<"]
        if not re.fullmatch(r"\\?[a-zA-Z]", left):
            return None
        return _ends((r"-\infty", False), (right, closed)) if sign == "<" else _ends((right, closed), (r"\infty", False))
    return None


def _ends(low: tuple[str, bool], high: tuple[str, bool]) -> Reading:
    return Reading("interval", "([)]"[low[1]] + ")]"[high[1]], (low[0].strip(), high[0].strip()))


def _members(text: str) -> Reading | None:
    """Several answers in any order: a list, a set, \\pm."""
    text = re.sub(r"^[a-zA-Z]\s*(?:=|\\in)\s*(?=\\\{|.*\\pm|[^=]*,)", "", text)
    braces = re.fullmatch(r"\\?\{(.*)\\?\}", text.replace(r"\}", "}"))
    parts = [value for part in split(_ands(braces[1] if braces else text)) for value in _signs(assigned(part))]
    return Reading("members", "", tuple(parts), ordered=False) if len(parts) > 1 or braces else None


def assigned(text: str) -> str:
    """The value that `x = 5`, `f(3) = 5` or `2 + 3 = 5` ends in; what has a relation or more than one variable stays."""
    text = re.sub(r"\s*\\approx.*", "", text) if not text.startswith(r"\approx") else text.removeprefix(r"\approx").strip()
    found = re.fullmatch(r"(\\?[a-zA-Z]+(?:_\{?\w+\}?)?'*(?:\s*\([^()=]*\))?|\|\w+\|)\s*[=:]\s*([^=<>:]+)", text)
    return found[2].strip() if found else text


_EITHER_SIGN = r"\\pm(?![a-zA-Z])"


def _signs(text: str) -> list[str]:
    if len(re.findall(_EITHER_SIGN, text)) != 1:
        return [text]
    return [re.sub(r"^\+", "", re.sub(_EITHER_SIGN, sign, text).strip()) for sign in "+-"]


_BASE = re.compile(
    r"\(?([0-9A-Fa-f]+)\)?(?:_\{?\(?(?:base)?(\d+|[a-z]+)\)?\}?|\(?(?:in)?base[-_]?(\d+|[a-z]+)\)?)", re.IGNORECASE
)


def _based(text: str) -> Reading | None:
    """A numeral with its base: 52_8, (52)_8, 52_{\\text{eight}}, 52 (base 8)."""
    found = _BASE.fullmatch(re.sub(r"\s", "", unworded(text)))
    base = found and (found[2] or found[3])
    if not found or not base or not (base.isdigit() or base in COUNTS):
        return None
    return Reading("based", f"{found[1].lower().lstrip('0')}_{COUNTS.get(base, base)}")


def _numeral(text: str) -> Reading | None:
    based = _based(text)
    digits = based.mark.split("_")[0] if based else re.sub(r"\s", "", text).lower().lstrip("0")
    return Reading("numeral", digits) if re.fullmatch("[0-9a-f]+", digits) else None


def _clock(text: str) -> Reading | None:
    found = re.fullmatch(r"(\d{1,2})\s*:\s*([0-5]\d)\s*([ap])?\.?\s*(?:m\.?)?", unworded(text).casefold())
    return Reading("clock", f"{int(found[1])}:{found[2]}{found[3] or ''}") if found else None


def _ratio(text: str) -> Reading | None:
    parts = [part.strip() for part in re.split(r":|(?<=[\w}])\s+to\s+(?=[\w\\])", unworded(text))]
    plain = len(parts) > 1 and all(re.fullmatch(r"[^=<>,]+", part) and re.search(r"\d|^[a-z]$", part) for part in parts)
    if plain and all(part.isdecimal() and int(part) for part in parts):
        common = math.gcd(*map(int, parts))
        parts = [str(int(part) // common) for part in parts]
    return Reading("ratio", "", tuple(parts)) if plain else None


def _residue(text: str) -> Reading | None:
    found = re.fullmatch(
        r"(?:\\?[a-zA-Z]\s*\\equiv\s*)?(-?\d+)\s*\(?\s*(?:\\pmod|\\bmod|\\mod|mod(?:ulo)?)\s*\{?\s*(\d+)\s*\}?\s*\)?",
        unworded(text),
    )
    return Reading("residue", f"{int(found[1]) % int(found[2])} mod {found[2]}") if found and int(found[2]) else None


_SHORT = {"yes", "no", "odd", "red", "all", "one", "two", "six", "ten"}


def _words(text: str) -> Reading | None:
    """An answer that is surely in words: a name, a direction, "none of these"."""
    found = _any_words(text)
    certain = found and (r"\text" in text or found.mark in _SHORT or re.search(r"[a-z]{4}", found.mark))
    return Reading("words", found.mark) if found and certain else None


def _any_words(text: str) -> Reading | None:
    bare = re.sub(r"[$.\s\"“”]+", " ", unworded(text)).strip().casefold()
    bare = re.sub(r"^(?:there (?:is|are)\s+)?(?:(?:the|a|an)\s+)?", "", bare)
    bare = re.sub(r"(?<=[a-rt-z]{3})s$", "", bare)
    return Reading("any words", bare) if re.fullmatch(r"[a-z][a-z' -]*[a-z]", bare) else None
