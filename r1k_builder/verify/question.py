"""A question taken apart: its choices, the numbers and words that it states, and what it asks for.

Every pattern works in linear time, and nothing looks at more than `MOST_CHARACTERS`.
"""

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

from r1k_builder.verify.answer import squeeze
from r1k_builder.verify.arithmetic import GREEK

Rational = Fraction | int
"""Whole numbers stay `int`, which is equal, hashes alike and is many times quicker."""

MOST_CHARACTERS = 20_000
MOST_TOKENIZED = 100_000


@dataclass(frozen=True)
class Text:
    """A text, with what is read out of it on first use."""

    text: str

    @cached_property
    def numbers(self) -> Counter[Rational]:
        """How often each number is stated, without signs; 50% counts as 50 and as 1/2."""
        numbers = Counter[Rational]()
        for stated, times in Counter(_NAMELESS.findall(self.text[:MOST_CHARACTERS])).items():
            for value in _values(stated):
                numbers[value] += times
        return numbers

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(content_words(self.text[:MOST_CHARACTERS]))

    @cached_property
    def tokens(self) -> list[str]:
        """Words, numbers and signs of mathematics, case-folded but for commands; no punctuation and no style."""
        text = self.text[:MOST_TOKENIZED]
        if "\\" not in text and text.isascii():
            return _TOKEN.findall(text.lower())  # the same, twice as quickly
        found = (_STYLE.get(token, token) for token in _TOKEN.findall(text))
        return [token if token[0] == "\\" else token.casefold() for token in found if token]

    @cached_property
    def squeezed(self) -> str:
        return squeeze(self.text[:MOST_CHARACTERS])

    @cached_property
    def folded(self) -> str:
        """Its words, case-folded, with one space between them and around them."""
        return f" {' '.join(_WORD.findall(self.text[:MOST_CHARACTERS].casefold()))} "


@dataclass(frozen=True)
class Question(Text):
    """A question; `stem` is what stands before its choices."""

    @cached_property
    def _marks(self) -> list[re.Match[str]]:
        """The marks of the choices: A, B, C and so on; none where there are fewer than three."""
        marks: list[re.Match[str]] = []
        for found in _CHOICE.finditer(self.text[:MOST_CHARACTERS]):
            if (found["round"] or found["plain"]) == _LETTERS[len(marks) : len(marks) + 1]:
                marks.append(found)
        return marks if len(marks) >= FEWEST_CHOICES else []

    @cached_property
    def choices(self) -> dict[str, str]:
        """The text of each choice by its letter."""
        ends = [mark.start() for mark in self._marks[1:]] + [len(self.text)]
        texts = [self.text[mark.end() : end].strip() for mark, end in zip(self._marks, ends, strict=False)]
        return dict(zip(_LETTERS, texts, strict=False))

    @cached_property
    def stem(self) -> Text:
        return Text(self.text[: self._marks[0].start()]) if self._marks else Text(self.text)

    @cached_property
    def kind(self) -> str | None:
        """What the first asking word asks for: `why` (reasons), `proof`, `what` (anything else); None where none is found."""
        asking = _ASKING.search(self.stem.text[-ASK_CHARACTERS:])
        return asking.lastgroup if asking else None

    @cached_property
    def asks(self) -> list[frozenset[str]]:
        """The content words of each thing asked for, in the last sentence that asks for something."""
        for sentence in reversed(_SENTENCE_END.split(self.stem.text[-ASK_CHARACTERS:])):
            if starts := [found.end() for found in _ASK.finditer(sentence)]:
                phrases = (sentence[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True))
                return [asked for phrase in phrases if (asked := _asked(phrase))]
        return []


KEPT = 256
"""Readings that are kept: the questions of a batch, forward and reverse, each of which several checks take apart."""
MOST_KEPT = 4_000
"""Characters of a question whose reading is kept: all together stay within some 20 MB, whatever the questions are."""


def read_question(text: str) -> Question:
    """`text` taken apart, once for all checks of its row. Nobody may change what is read."""
    return _read_question(text) if len(text) <= MOST_KEPT else Question(text)


_read_question = lru_cache(KEPT)(Question)


# ------------------------------------------------------------------------------------------------------------- numbers

_NUMBER = re.compile(
    r"""[\d\\](?:  # a class comes first, as most characters are then refused at once
        (?<=\\)[dtc]?frac\s?\{\s?(?P<over>\d{1,12})\s?\}\s?\{\s?(?P<under>\d{1,12})\s?\}
      | (?<=\d)(?<![\w.^].)(?<![_^]\{.)                                               # no index, no exponent
        (?:\d{0,2}(?:(?:,|\{,\})\d{3}){1,6}+(?!\d)|\d{0,19}+)(?P<decimals>\.\d{1,20}+)?
        (?:\s?(?:\\times|\\cdot|[×·*])\s?10\s?\^\s?\{?\s?(?P<power>-?\d{1,2})(?!\d)
          |\s?/\s?(?P<denominator>\d{1,12}+)(?!\d|\.\d)
          |(?P<percent>\s?\\?%))?)""",
    re.VERBOSE,
)
_NAMELESS = re.compile(re.sub(r"\(\?P<\w+>", "(?:", _NUMBER.pattern), re.VERBOSE)
"""The same without groups: `findall` is then several times quicker, and texts say the same number many times."""
_WHOLE_END = re.compile(r"[^\d,{}]")
_GROUPING = re.compile(r"[,{}]")


def number_spans(text: str, value: Rational) -> list[tuple[int, int]]:
    """Where `text` states a number, without its sign and its percent."""
    places = (found for found in _NUMBER.finditer(text[:MOST_CHARACTERS]) if value in _values(found[0]))
    return [(found.start(), found.start("percent") if found["percent"] else found.end()) for found in places]


def _values(stated: str) -> tuple[Rational, ...]:
    """The values of what `_NUMBER` finds."""
    if stated.isdecimal():
        return (int(stated),)
    found = _NUMBER.fullmatch(stated)
    if found is None:
        return ()
    if found["over"]:
        return (Fraction(int(found["over"]), int(found["under"])),) if int(found["under"]) else ()
    whole = _GROUPING.sub("", _WHOLE_END.split(stated, maxsplit=1)[0])
    value: Rational = Fraction(whole + found["decimals"]) if found["decimals"] else int(whole)
    if found["power"]:
        value *= Fraction(10) ** int(found["power"])
    if found["denominator"]:
        return (Fraction(value) / int(found["denominator"]),) if int(found["denominator"]) else (value,)
    return (value, Fraction(value) / 100) if found["percent"] else (value,)


# -------------------------------------------------------------------------------------------------------------- tokens

_TOKEN = re.compile(r"\\[A-Za-z]+|[^\W\d_]+|\d+(?:\.\d+)?|[^\w\s.,;:!?\"'“”‘’`()\[\]{}$*\\-]|(?<![^\W\d_])-|-(?![^\W\d_])")
_STYLE = {"\\left": "", "\\right": "", "\\text": "", "\\mathrm": "", "\\dfrac": "\\frac", "\\tfrac": "\\frac"}


# --------------------------------------------------------------------------------------------------------------- words

_WORD = re.compile(r"[^\W_]+")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_FUNCTION_WORDS_TEXT = """
    a A an the this that these those it its they their there and or but if then so as of in on at by to for from with without
    into onto over under between is are was were be been being has have had having do does did can could will would shall
    should may might must not no which what who whose whom when where why how many much all any each every both some such than
    other another using use used given let take assume consider suppose find determine calculate compute evaluate show prove
    derive express state please following value values answer question i I you we
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_WORDS_TEXT.split())


def content_words(text: str) -> list[str]:
    """The words that carry content, in order: no function words, no commands of LaTeX but Greek letters.

    Words are case-folded and lose the s of the plural; Greek and single letters, which may be symbols, keep their case.
    """
    text = _COMMAND.sub(lambda found: f" {found[1]} " if found[1] in GREEK else " ", text)
    found = (word for word in _WORD.findall(text) if not word.isdigit())
    words = (word if len(word) == 1 or word in GREEK else word.casefold() for word in found)
    return [_singular(word) for word in words if word not in _FUNCTION_WORDS]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


# ------------------------------------------------------------------------------------------------------------- choices

FEWEST_CHOICES = 3
_LETTERS = "ABCDEFGHIJ"
_CHOICE = re.compile(r"(?:^[ \t]*+|(?<=\s))[(\[](?P<round>[A-J])[)\]]|^[ \t]*+(?P<plain>[A-J])[.):](?=\s)", re.MULTILINE)

# ---------------------------------------------------------------------------------------------------------------- asks

ASK_CHARACTERS = 1500
"""How far from the end of its stem a question asks."""

_WHAT = r"""what|how\ (?:many|much|long|far|fast|old|large|big|high|tall|deep|often|likely)
    |find|determine|calculate|compute|evaluate|derive|identify|solve\ for"""
_ASK = re.compile(rf"\b(?:{_WHAT}|which|who|where)\b", re.IGNORECASE | re.VERBOSE)
_ASKING = re.compile(  # "which" inside a sentence relates more often than it asks
    rf"""\b(?: (?P<why>why|explain|discuss|describe|elaborate
                       |how\ (?:do|does|did|is|are|can|could|would|might|should|has|have))
             | (?P<proof>prove|show\ that|demonstrate|verify\ that|disprove|justify)
             | (?P<what>{_WHAT}|(?<![a-z,]\ )(?:which|who|where)) )\b""",
    re.IGNORECASE | re.VERBOSE,
)
_SENTENCE_END = re.compile(r"[.?!。？！](?=\s|$)|\n\s*+\n")
_CLAUSE_END = re.compile(
    r"""[,;:]\s|[?]|\b(?:if|given|when|where|such\ that|that|who|whose|with|assuming|provided|so\ that|in\ order|under
                         |after|before)\b""",
    re.IGNORECASE | re.VERBOSE,
)


def _asked(phrase: str) -> frozenset[str]:
    """The content words from an asking word to the end of its clause."""
    end = _CLAUSE_END.search(phrase)
    return frozenset(content_words(phrase[: end.start()] if end else phrase))
