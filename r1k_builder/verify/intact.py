"""Damage on the way from the teacher: a text cut, stripped of brackets or displays, or left unbalanced.

Of 90 chains of thought and answers as their hosts had sent them, by R1 and Gemini, three show a sign: an answer whose
display is closed by a code fence, and two of Gemini's chains, which really end before their result.
"""

import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

from r1k_builder.schema import CheckResult, Solution
from r1k_builder.verify.answer import UNITS, Number, read_answer, stated_answer
from r1k_builder.verify.question import Question, Text
from r1k_builder.verify.result import failed, passed, quote

FIELD_LIMITS = {32_767: "a spreadsheet's cell", 50_000: "a web spreadsheet's cell", 65_535: "a 16-bit field"}
"""Lengths at which known tools cut a text without a word."""


def check_intact(
    question: str | None, solution: Solution, prompt: str | None = None, expected: str | None = None
) -> CheckResult:
    """No text was damaged on its way.

    `question` is None for a forward row, whose question is the source's own; `prompt` is what the teacher was really sent;
    `expected` is the answer that is known, a reverse row's New Answer.
    """
    if question is not None and prompt is not None and question not in prompt:
        return failed("the prompt does not hold the question")
    texts = {"question": question or "", "reasoning": solution.reasoning, "answer": solution.answer}
    for name, text in texts.items():
        signs = chain(_truncated(text), _stripped(text), _unbalanced(text), _cut(text, list(texts.values())))
        if (damage := next(signs, None)) is not None:
            return failed(f"{name}: {damage}")
    unfinished = _asks_nothing(texts["question"]) or _unfinished(solution) or _without_unit(solution, expected or "")
    return failed(unfinished) if unfinished else passed()


def _truncated(text: str) -> Iterator[str]:
    if len(text) in FIELD_LIMITS:
        yield f"exactly {len(text):,} characters, the limit of {FIELD_LIMITS[len(text)]}"


# ------------------------------------------------------------------------------------------------ stripped, unbalanced

_LONE_BACKSLASH = re.compile(r"^[ \t]*+\\[ \t]*+$", re.MULTILINE)
_DELIMITER = re.compile(r"\\(?P<side>left|right)(?![A-Za-z])\s*+(?P<delimiter>[(\[|.\\/<>)\]⟨⟩‖⌊⌋⌈⌉∣])?+")
_PAIRS = (("\\(", "\\)"), ("\\[", "\\]"), ("\\begin{", "\\end{"))
_SIDE = re.compile(r"\\(?:\\|[()\[\]{}]|begin\{|end\{|boxed)")
"""What opens or closes; two backslashes are a new line."""
_FENCE = re.compile(r"^[ \t>]*+```", re.MULTILINE)


def _stripped(text: str) -> Iterator[str]:
    """What is left where everything from a `[` to its `]` was deleted."""
    if ("\\\n" in text or text.endswith("\\")) and (lines := len(_LONE_BACKSLASH.findall(text))):
        yield f"{lines} line{'s' * (lines > 1)} of a lone backslash, where a display stood"
    if "\\left" in text or "\\right" in text:
        sides = Counter[str]()
        for found in _DELIMITER.finditer(text):
            if found["delimiter"] is None:
                yield f"{quote(text[found.start() : found.end() + 10])} lacks its bracket"
            sides[found["side"]] += 1
        if sides["left"] != sides["right"]:
            yield f"unbalanced: {sides['left']} \\left and {sides['right']} \\right"


def _unbalanced(text: str) -> Iterator[str]:
    """Delimiters without their counterpart. A single `$` is money as often as mathematics, and is not counted."""
    if "\\" in text:
        sides = Counter(_SIDE.findall(text))
        for opened, closed in _PAIRS:
            if (one := sides[opened]) != (other := sides[closed]):
                yield f"unbalanced: {one} {opened} and {other} {closed}"
        if sides["\\boxed"] and text.count("{") - sides["\\{"] > text.count("}") - sides["\\}"]:
            yield "unbalanced: a brace that is not closed"
    if text.count("$$") % 2:
        yield "unbalanced: a $$ that is not closed"
    if "```" in text and len(_FENCE.findall(text)) % 2:
        yield "unbalanced: a code fence that is not closed"


# ----------------------------------------------------------------------------------------------------------------- cut

_TAIL = 300
"""Characters from the end of a text that show how it ends."""
_LAST = 60
"""Those that its last word and sign are among: no pattern of an end is longer."""
_DECORATION = " \t\r\n*_`~\"'”’»>"
_RULE_END = re.compile(r"\n[-=_*\s]{3,}\Z")
_OPEN_END = re.compile(r"(?:[,:(\[{]|\s[=+<≤≥×·/&–—-]|\w/|\\(?:boxed|frac|sqrt|text)?)\Z")
_WORD_END = re.compile(r"(?<![^\W\d_])[^\W\d_]{1,40}\Z")
_BROKEN_END = re.compile(r"(?<=[a-z0-9,;}] )[a-z]{3,40}\Z")
_CONNECTIVES_TEXT = """
    a an the of to and or nor but with for by from that which who whose in on at as we if then because this its is are was
    were be been can could will would shall should may might must has have had so into than where when while between their our
    your my
"""
_CONNECTIVES = frozenset(_CONNECTIVES_TEXT.split())
_NO_PROSE = re.compile(r"^\s*+(?:[-*•+#|>]|\d+[.)]|\(?[A-Za-z][.)])|:\s|[|=]|answer")
_SENTENCE_END = re.compile(r"[.?!]\s")


def _cut(text: str, row: list[str]) -> Iterator[str]:
    """A text that ends on a comma, an operator or a connective, in the middle of a word that stands whole elsewhere in the
    row, or, having sentences, in a line of prose without its full stop."""
    tail = text[-_TAIL:].rstrip()
    if tail.endswith("```"):
        return
    tail = _RULE_END.sub("", tail).rstrip(_DECORATION)
    last, ending = tail[-_LAST:], quote(tail[-30:])
    word = _WORD_END.search(last)
    if _OPEN_END.search(last) or (word and word[0] in _CONNECTIVES):
        yield f"ends in mid-sentence: {ending}"
    elif (broken := _BROKEN_END.search(last)) and broken[0] not in UNITS and _is_broken(broken[0], row):
        yield f"ends in the middle of a word: {ending}"
    elif word and word[0].islower() and _is_prose(tail.rpartition("\n")[2]) and _SENTENCE_END.search(text[-10 * _TAIL :]):
        yield f"ends in mid-sentence: {ending}"


def _is_prose(line: str) -> bool:
    """Whether a line is a sentence, and not a heading, an item, a row of a table, an equation, or "the answer is …"."""
    return len(line.split()) >= 3 and _NO_PROSE.search(line) is None


_INFLECTIONS = frozenset(["", "s", "es", "d", "ed", "ing", "ly", "er"])
_MOST_SEARCHED = 20_000


def _is_broken(word: str, row: list[str]) -> bool:
    """Whether `word`, which ends one of the row's texts, is only the beginning of a word there, and no word of its own."""
    begun = re.compile(rf"(?<![^\W\d_]){word}(?P<more>[^\W\d_]{{0,40}})", re.IGNORECASE)
    endings = [found["more"].lower() for text in row for found in begun.finditer(text[:_MOST_SEARCHED])]
    return endings.count("") <= 1 and not _INFLECTIONS.issuperset(endings)


# ---------------------------------------------------------------------------------------------------------- unfinished

_FULL_STOPS = (".", "!", "?", "。", "！", "？", "```")
_DIGIT = re.compile(r"\d")
_CALCULATES = re.compile(r"=\s?-?\d")
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_IMPERATIVES = re.compile(
    r"\b(?:simplify|write|give|name|list|express|state|construct|estimate|choose|select|solve|sketch|draw|design|factor|expand|answer)\b",
    re.IGNORECASE,
)
_FEWEST_WORDS = 5


def _asks_nothing(question: str) -> str | None:
    """An English question that ends, on a word, before it has asked for anything."""
    if (
        "?" in question
        or not question.isascii()
        or len(question.split()) < _FEWEST_WORDS
        or not _WORD_END.search(question.rstrip())
    ):
        return None
    if Question(question).kind is not None or _IMPERATIVES.search(question):
        return None
    return f"question: ends before it asks: {quote(question[-30:])}"


def _unfinished(solution: Solution) -> str | None:
    """Reasoning that never comes to the number that the answer states, or an answer that breaks off before any number.

    With a full stop at its end, reasoning is judged only where it calculates: a summary need not say the result.
    """
    reasoning, answer = solution.reasoning.rstrip(), solution.answer.rstrip()
    final = read_answer(solution.final_answer) if solution.final_answer is not None else None
    if isinstance(final, Number) and isinstance(final.value, Fraction):
        ended = reasoning.endswith(_FULL_STOPS)
        if _comes_to(final, reasoning[-4 * _TAIL :]) or (ended and not _CALCULATES.search(reasoning[-_MOST_SEARCHED:])):
            return None
        if not (ended and _comes_to(final, reasoning[-_MOST_SEARCHED:])):
            return f"reasoning: ends before its result: {quote(reasoning[-30:])}"
    elif final is None and not answer.endswith(_FULL_STOPS) and _DIGIT.search(reasoning[-30:]) and not _DIGIT.search(answer):
        return f"answer: ends before its result: {quote(answer[-30:])}"
    return None


def _without_unit(solution: Solution, expected: str) -> str | None:
    """A sentence that stops at its box, where the answer that is known goes on with a unit. Of 90 real answers that end on a
    box none does so in a sentence of its own words."""
    answer = solution.answer.rstrip()
    line = answer.rpartition("\n")[2]
    if not answer.endswith("}") or "\\boxed" not in line or not _is_prose(line):
        return None
    final, known = (read_answer(text) if text else None for text in (solution.final_answer, stated_answer(expected)))
    if isinstance(final, Number) and isinstance(known, Number) and known.unit and not final.unit:
        return f"answer: ends before its unit, {known.unit}: {quote(answer[-30:])}"
    return None


def _comes_to(final: Number, text: str) -> bool:
    """Whether a text states a number: in digits, as what it is rounded from, or as a word."""
    value = abs(Fraction(final.value))
    numbers = Text(text).numbers
    if any(numbers[reading] for reading in ({value, value / 100} if final.unit == "%" else {value})):
        return True
    if value in range(len(_NUMBER_WORDS)) and _NUMBER_WORDS[int(value)] in text.casefold():
        return True
    return bool(final.half_place) and any(abs(number - value) <= final.half_place for number in numbers)
