"""How a reverse question stands to its forward question: a copy, the same unknown again, really reversed, or nobody can tell.

The signals of `reversed`, in the order in which they decide. One that is missing says nothing: a row fails on what is there.

    fail      a copy
    fail      the same unknown again: the final answers coincide, or the same thing is asked for
    fail      made from something else: hardly a word, or few of its numbers and not the answer, are the forward row's
    unknown   it asks why, or for a proof: whether that turns the question round is for a reader to say
    fail      it states the value that it asks for
    pass      it asks for what the forward question gives
    pass      it gives what the forward question asks for: likely
    unknown   anything else
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from math import ceil

from r1k_builder.schema import CheckResult, ForwardExample, ReverseQuestion, Solution
from r1k_builder.verify.answer import (
    Choice,
    Number,
    SameAnswer,
    Several,
    Truth,
    Words,
    read_answer,
    same_answer,
    squeeze,
    stated_answer,
)
from r1k_builder.verify.question import Question, Text, read_question
from r1k_builder.verify.result import failed, passed, quote, unknown

MOST_COMPARED = 100_000
"""Characters of a question: longer ones are copies only where they are equal, and are not looked through."""


@dataclass(frozen=True)
class Pair:
    """A forward row, the question made from it, and that question's solution."""

    source: ForwardExample
    asked: ReverseQuestion
    solution: Solution | None = None
    same_answer: SameAnswer = same_answer

    @cached_property
    def forward(self) -> Question:
        return read_question(self.source.question)

    @cached_property
    def reverse(self) -> Question:
        return read_question(self.asked.question)

    @cached_property
    def forward_finals(self) -> list[str]:
        """The forward final answers, the teacher's and the source's, and what stands behind them where they are choices."""
        stated = [stated_answer(text) for text in (self.source.answer, self.source.solution) if text]
        finals = dict.fromkeys(final for final in stated if final)
        chosen = [self.forward.choices.get(letter) for final in finals for letter in choice_letters(final)]
        return list(dict.fromkeys([*finals, *filter(None, chosen)]))

    @cached_property
    def final(self) -> str | None:
        """The reverse final answer."""
        return stated_answer(self.solution.answer) if self.solution else None

    @cached_property
    def told(self) -> Text:
        """Everything that the forward row says."""
        return Text("\n".join(filter(None, (self.source.question, self.source.solution, self.source.answer))))


def choice_letters(final: str) -> list[str]:
    """The letters that a final answer chooses, in order; none where it is no choice."""
    answer = read_answer(final)
    return sorted(answer.letters) if isinstance(answer, Choice) else []


# ---------------------------------------------------------------------------------------------------------------- copy

FEWEST_TOKENS = 5
"""A shorter question may stand inside another by chance."""
ALIKE = 0.8
"""Share of word 3-grams in common, of all in either, from which two questions are near-copies."""


def check_copy(pair: Pair) -> CheckResult:
    """The reverse question is not the forward question again, a piece of it, or a near-copy.

    Case, white space and punctuation do not count; signs of mathematics do. A near-copy states the same numbers, asks for the
    same and shares four fifths of the word 3-grams.
    """
    forward, reverse = pair.forward.text, pair.reverse.text
    if max(len(forward), len(reverse)) > MOST_COMPARED:
        return _copied("repeats the forward question") if forward.split() == reverse.split() else passed()
    old, new = pair.forward.tokens, pair.reverse.tokens
    if old == new and (new or forward.split() == reverse.split()):
        return _copied("repeats the forward question")
    if len(new) >= FEWEST_TOKENS and f" {' '.join(new)} " in f" {' '.join(old)} ":
        return _copied("is a piece of the forward question")
    if _alike(old, new) and pair.forward.numbers == pair.reverse.numbers and pair.forward.asks == pair.reverse.asks:
        return _copied("is the forward question with a few words changed")
    return passed()


def _copied(how: str) -> CheckResult:
    return failed(f"the reverse question {how}")


def _alike(old: list[str], new: list[str]) -> bool:
    shorter, longer = sorted((len(old), len(new)))
    if shorter < FEWEST_TOKENS or shorter < ALIKE * longer:
        return False
    one, other = ({*zip(tokens, tokens[1:], tokens[2:], strict=False)} for tokens in (old, new))
    return len(one & other) >= ALIKE * len(one | other)


# ------------------------------------------------------------------------------------------------------------ reversed


def check_reversed(pair: Pair, copied: bool) -> CheckResult:
    """The reverse question uses what the forward answer gave and asks for what the forward question gave."""
    if copied:
        return failed("a copy of the forward question")
    gives, asks = _given(pair), _asked_for(pair)
    both = gives is not None and asks is not None
    if not both and (reason := _same_unknown(pair, gives) or _foreign(pair, gives)):
        return failed(reason)
    if pair.reverse.kind in ("why", "proof"):
        return unknown("asks why" if pair.reverse.kind == "why" else "asks for a proof")
    if (reason := _leak(pair)) is not None:
        return failed(reason)
    if asks is not None:
        also = f"; gives {quote(gives)}, its answer" if gives is not None else ""
        return passed(f"asks for {quote(asks)}, which the forward question gives{also}")
    if gives is not None:
        return passed(f"likely: gives {quote(gives)}, which the forward question asks for")
    return unknown("no sign either way")


FEWEST_SIGNS = 4
"""Characters of a formula, or letters of a word, below which it stands anywhere by chance."""


def times_stated(final: str, text: Text) -> int:
    """How often a text states a final answer. Yes and no, letters and short formulas count as stated nowhere."""
    match read_answer(final):
        case Truth() | Choice():
            return 0
        case Number(value=Fraction() as value):
            return text.numbers[abs(value)]
        case Several(items=items):
            values = [item.value if isinstance(item, Number) else None for item in items]
            return min(text.numbers[abs(value)] if isinstance(value, Fraction) else 0 for value in values)
        case Words(text=words):
            return text.folded.count(f" {words} ")
    squeezed = squeeze(final)
    return text.squeezed.count(squeezed) if len(squeezed) >= FEWEST_SIGNS else 0


def _given(pair: Pair) -> str | None:
    """The forward final answer that the reverse question states and the forward question does not."""
    news = (final for final in pair.forward_finals if times_stated(final, pair.reverse))
    return next((final for final in news if not times_stated(final, pair.forward.stem)), None)


def _asked_for(pair: Pair) -> str | None:
    """The reverse final answer, where the forward question states it and the reverse question does not.

    Its choices do not count: what stands among them may well answer the forward question.
    """
    final = pair.final
    if final is None or times_stated(final, pair.reverse) or not times_stated(final, pair.forward.stem):
        return None
    return final


# -- the same unknown again

_GENERAL_TEXT = """
    number total ratio sum maximum minimum smallest largest relation relationship equation function expression quantity result
    following statement option correct true false type kind name term
"""
_GENERAL = frozenset(_GENERAL_TEXT.split())
"""Words that name no unknown by themselves."""


def _same_unknown(pair: Pair, gives: str | None) -> str | None:
    shared = next(_coinciding(pair, pair.final), None) if pair.final is not None else None
    if shared is not None:
        return f"the same unknown again: both final answers are {quote(shared)}"
    if gives is None:
        for forward in pair.forward.asks:
            for reverse in pair.reverse.asks:
                if _same_thing(forward, reverse):
                    return f"the same unknown again: both ask for {quote(' '.join(sorted(forward & reverse)))}"
    return None


def _coinciding(pair: Pair, final: str) -> Iterator[str]:
    """The forward final answers that are the reverse one. Yes and no coincide by chance; letters mean what they choose."""
    if isinstance(read_answer(final), Truth):
        return
    chosen = [text for letter in choice_letters(final) if (text := pair.reverse.choices.get(letter))]
    for forward in pair.forward_finals:
        finals = chosen if chosen and choice_letters(forward) else [final, *chosen]
        if any(pair.same_answer(forward, one) for one in finals):
            yield forward


def _same_thing(forward: frozenset[str], reverse: frozenset[str]) -> bool:
    """Whether two questions ask for one thing, or one of them for the same in more words."""
    telling = min(forward, reverse, key=len) - _GENERAL
    if forward == reverse:
        return bool(telling)
    return (forward < reverse or reverse < forward) and any(len(word) >= FEWEST_SIGNS for word in telling)


# -- made from something else

FEWEST_WORDS = 5
"""Content words of a reverse question before their share says anything."""
LEAST_SHARE = Fraction(1, 8)
"""Of the content words that the forward row has too: half the least of 30 real pairs that were read."""
FEWEST_NUMBERS = 2

_LATIN = re.compile(r"[a-z]{4,}")


def _foreign(pair: Pair, gives: str | None) -> str | None:
    told = pair.told.text[:MOST_COMPARED].casefold()
    words = {word for word in pair.reverse.words if word.isascii() and len(word) > 2}
    enough = ceil(LEAST_SHARE * len(words))
    shared = sum(1 for _ in islice((word for word in words if word in told), enough))  # no further: the row is long
    one_script = sum(1 for _ in islice(_LATIN.finditer(told), FEWEST_WORDS)) == FEWEST_WORDS
    if one_script and len(words) >= FEWEST_WORDS and shared < enough:
        return f"made from something else: {shared} of its {len(words)} content words are in the forward row"
    numbers = set(pair.reverse.numbers)
    numeric = any(isinstance(read_answer(final), Number) for final in pair.forward_finals)
    if gives is not None or not numeric or len(numbers) < FEWEST_NUMBERS:
        return None
    known = len(numbers & pair.told.numbers.keys())
    if 2 * known >= len(numbers):
        return None
    return f"made from something else: {known} of its {len(numbers)} numbers are in the forward row, and not the answer"


# -- a leak

_MEASURE = re.compile(r"(?<![\w.])\d[\d,]{0,20}(?:\.\d{1,20})?\s?[A-Za-zµμΩÅ°%$][\w/^²³·]{0,12}")
_TOLD = re.compile(r"\b(?:answer|result)\b\W{0,3}(?:is|equals|of)?\W{0,3}(\d[\d,]{0,20}(?:\.\d{1,20})?)", re.IGNORECASE)


def _leak(pair: Pair) -> str | None:
    """That the reverse question states its own final answer: a number, no less often than the forward question does.

    It has to be telling: of three digits, of two where the forward question has it, with its unit, or called the answer.
    """
    answer = read_answer(pair.final) if pair.final is not None else None
    if not isinstance(answer, Number) or not isinstance(answer.value, Fraction):
        return None
    value = abs(answer.value)
    often, before = pair.reverse.numbers[value], pair.forward.stem.numbers[value]
    if not often or often < before:
        return None
    if _digits(value) >= (2 if before else 3) or _called_answer(pair, value) or _measured(pair, value, answer.unit):
        return f"states the value that it asks for: {quote(pair.final or '')}"
    return None


def _digits(value: Fraction) -> int:
    """Digits of a decimal as written; those of both parts of a fraction."""
    return len(str(value.numerator)) + len(str(value.denominator).strip("10"))


def _called_answer(pair: Pair, value: Fraction) -> bool:
    called = _TOLD.finditer(pair.reverse.text[:MOST_COMPARED])
    return any(Fraction(found[1].replace(",", "")) == value for found in called)


def _measured(pair: Pair, value: Fraction, unit: str) -> bool:
    """Whether the reverse question states `value` with its unit, which may stand in the New Answer alone."""
    reference = read_answer(pair.asked.answer)
    units = {unit, reference.unit if isinstance(reference, Number) else ""} - {""}
    measures = (read_answer(found[0]) for found in _MEASURE.finditer(pair.reverse.text[:MOST_COMPARED])) if units else ()
    return any(isinstance(measure, Number) and measure.value == value and measure.unit in units for measure in measures)
