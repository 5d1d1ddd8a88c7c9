"""Overlap of questions with the items of benchmarks: training on them would measure memory.

An item is found by its word 8-grams, with every number masked, so that one whose numbers were changed is found, too; the
longest run of words that is the same, numbers and all, is what a reason quotes.

    fail      most of the item, or of the question, is the other's: word for word, or with other numbers
    fail      its source is a benchmark's own, and that benchmark was not compared with
    unknown   13 words in a row are an item's and the rest is not: a stock phrase, or a borrowed part
    unknown   its source is a benchmark's own, and no item of that benchmark is like it
    unknown   a benchmark could not be reached
    pass      anything else; 8 words in a row that are an item's are named

A reverse row inherits what is found of its forward question: it says the answer.
"""

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from r1k_builder.schema import CheckResult
from r1k_builder.verify.question import Text
from r1k_builder.verify.result import NOT_RUN, PASSED, failed, quote, unknown

GRAM = 8
"""Words in a row that make an overlap: s1 (arXiv 2501.19393, section 2.2) decontaminated s1K by 8-grams."""
LONG_GRAM = 13
"""Words in a row that weigh more: GPT-3's (arXiv 2005.14165, appendix C) and most later reports' n."""
MOST = 0.6
"""Share of the shorter text's words that overlaps from which one is the other. Of s1K's questions against MATH-500 and
AIME24 those from 0.93 on are the items themselves, those up to 0.57 share no more than a phrase."""
FEWEST_WORDS = 5
"""Distinct words of three letters or more that a match holds: formulas in part are alike by chance. An item that is there
whole, word for word, is the item, whatever it is made of."""
MASK = "#"
MOST_MASKED = 3
"""Numbers of a gram that may be others: rows of numbers, as a drawing's code has them, are alike once they are masked."""
MOST_TOKENS = 4_000
"""Of a question: a longer one is no benchmark's item."""

MOST_HOLDERS = 50
"""Items that a gram leads to: one that more of them hold is a stock phrase, and an item is found by its others."""
MOST_COMPARED = 50
"""Items that a question is compared with: those that share most grams with it, rare ones counting for more."""

FAMILIES = {"gpqa": "gpqa", "aime": "aime", "math": "math"}
"""The families that a benchmark's name may tell, by the letters that begin it."""
_FAMILY_SOURCES = {
    "gpqa": re.compile(r"gpqa", re.IGNORECASE),
    "aime": re.compile(r"(?<![a-z])aime(?![a-z])", re.IGNORECASE),
    "math": re.compile(r"hendrycks|openaimath|math-?500|competition[_-]math|(?<![a-z])prm800k", re.IGNORECASE),
}
"""What in a `source_type` names the family that a benchmark is drawn from: s1K has `Idavidrein/gpqa`,
`qq8933/AIME_1983_2024` and `simplescaling/openaimath/…`, which is Hendrycks' MATH."""


_INHERITED = "its forward question: "
_ITEM = re.compile(r"(?:\d+ words in a row are )?(?P<name>[^:]{1,100}?) item \d")
_OWN_SOURCE = "its source, "


def benchmark_in(reason: str) -> str | None:
    """Which benchmark the reason of a result names; "" for a source that is a benchmark's own, None for no finding."""
    reason = reason.removeprefix(_INHERITED)
    if reason.startswith(_OWN_SOURCE):
        return ""
    item = _ITEM.match(reason)
    return item["name"] if item else None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's questions; None where it could not be reached."""

    name: str
    items: Sequence[str] | None

    @property
    def family(self) -> str:
        return next((family for start, family in FAMILIES.items() if self.name.lower().startswith(start)), self.name)


Gram = tuple[str, ...]


class _Match(NamedTuple):
    """How a question overlaps with an item; shares are of the shorter text's words."""

    item: int
    exact: float
    masked: float
    span: list[str]
    """The longest run of the item's words that is the question's, too."""


class Benchmarks:
    """An index of benchmarks; build it once."""

    def __init__(self, benchmarks: Iterable[Benchmark]) -> None:
        self._benchmarks = list(benchmarks)
        self.unreached = [benchmark.name for benchmark in self._benchmarks if benchmark.items is None]
        self._reached = {benchmark.family for benchmark in self._benchmarks if benchmark.items is not None}
        self._names: list[str] = []
        self._tokens: list[list[str]] = []
        self._holders: dict[Gram, list[int]] = {}
        """The items that hold a gram, the first of them only where it is a stock phrase."""
        for benchmark in self._benchmarks:
            for number, question in enumerate(benchmark.items or ()):
                self._add(f"{benchmark.name} item {number + 1}", Text(question).tokens)

    def _add(self, name: str, tokens: list[str]) -> None:
        item = len(self._names)
        self._names.append(name)
        self._tokens.append(tokens)
        for gram in dict.fromkeys(_grams(_masked(tokens))):
            holders = self._holders.setdefault(gram, [])
            if len(holders) < MOST_HOLDERS:
                holders.append(item)

    def check(self, question: Text, source_type: str, forward: Text | None = None) -> CheckResult:
        """What overlaps with `question`; `forward` is the forward question of a reverse row."""
        if not self._benchmarks:
            return NOT_RUN
        finding = self._overlap(question)
        if forward is not None and finding.status != "fail":
            inherited = self._overlap(forward)
            if inherited.status == "fail":
                return failed(f"{_INHERITED}{inherited.reason}")
        named = next((family for family, source in _FAMILY_SOURCES.items() if source.search(source_type[:200])), None)
        if finding.status == "fail" or named is None:
            return self._unless_unreached(finding)
        if named not in self._reached:
            return failed(f"{_OWN_SOURCE}{quote(source_type)}, is a benchmark's own, and that was not compared with")
        return unknown(f"{_OWN_SOURCE}{quote(source_type)}, is a benchmark's own, of which no item is like it")

    def _unless_unreached(self, finding: CheckResult) -> CheckResult:
        if finding.status != "pass" or not self.unreached:
            return finding
        return unknown(f"could not be compared with {', '.join(self.unreached)}")

    def _overlap(self, question: Text) -> CheckResult:
        match = self._best(question.tokens[:MOST_TOKENS])
        if match is None:
            return PASSED
        span, longest = quote(" ".join(match.span)), len(match.span)
        item = self._names[match.item]
        if match.masked >= MOST and match.exact == match.masked:
            return failed(f"{item}, {match.exact:.0%} word for word: {span}")
        if match.masked >= MOST:
            return failed(f"{item} with other numbers, {match.masked:.0%} of the words: {span}".rstrip(": "))
        if longest >= LONG_GRAM:
            return unknown(f"{longest} words in a row are {item}'s: {span}")
        return CheckResult(status="pass", reason=f"{longest} words in a row are {item}'s: {span}"[:200]) if longest else PASSED

    def _best(self, tokens: list[str]) -> _Match | None:
        """The item that overlaps most, word for word or else with masked numbers; the first of equals."""
        masked = dict.fromkeys(gram for gram in _grams(_masked(tokens)) if gram in self._holders)
        if not masked:
            return None
        shared: dict[int, float] = {}
        for gram in masked:
            holders = self._holders[gram]
            for item in holders:
                shared[item] = shared.get(item, 0.0) + 1 / len(holders)  # what few items hold tells which one it is
        exact = set(_grams(tokens))
        nearest = sorted(shared, key=lambda item: -shared[item])[:MOST_COMPARED]
        matches = (self._match(item, exact, masked.keys(), len(tokens)) for item in nearest)
        return max(matches, key=lambda match: (max(match.exact, match.masked), match.exact, len(match.span)))

    def _match(self, item: int, exact: Set[Gram], masked: Set[Gram], length: int) -> _Match:
        """`exact` and `masked` are the grams of a question of `length` words; of `masked`, those that are any item's."""
        theirs = self._tokens[item]
        as_masked, as_it_is = set[int](), set[int]()
        span, run = range(0), range(0)
        for start, (gram, hidden) in enumerate(zip(_grams(theirs), _grams(_masked(theirs)), strict=True)):
            if hidden not in masked or (gram not in exact and hidden.count(MASK) > MOST_MASKED):
                continue
            place = range(start, start + len(gram))
            as_masked.update(place)
            if gram in exact:
                as_it_is.update(place)
                run = range(run.start if run.stop == place.stop - 1 else start, place.stop)
                span = max(span, run, key=len)
        shorter = min(length, len(theirs))
        words = {theirs[place] for place in as_masked if len(theirs[place]) > 2 and theirs[place].isalpha()}
        whole = len(as_it_is) >= shorter and (shorter >= LONG_GRAM or length == len(theirs))
        telling = whole or len(words) >= FEWEST_WORDS
        exactly, nearly = (min(1.0, len(places) / shorter) if telling else 0.0 for places in (as_it_is, as_masked))
        return _Match(item, exactly, nearly, theirs[span.start : span.stop])


def _masked(tokens: Sequence[str]) -> list[str]:
    return [MASK if token[0].isdigit() else token for token in tokens]


def _grams(tokens: Sequence[str]) -> Iterable[Gram]:
    """The n-grams in order; a text of fewer words is one."""
    return zip(*(tokens[step:] for step in range(GRAM)), strict=False) if len(tokens) > GRAM else [tuple(tokens)]
