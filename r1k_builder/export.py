"""The dataset folder: every configuration as Parquet, and the card that `load_dataset` finds them by.

A `DatasetWriter` stages the whole folder beside the old one: batches of rows are prepared in any order and put in source
order, so that most of the work can be done while a build still waits for its teacher. `publish` then puts the folder in
place so that a reader finds the old dataset or the new one. Memory is that of a few batches, whatever the number of rows. The
same outcomes and reviews give the same Parquet bytes.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any, Self, TypeVar

import pyarrow as pa

from r1k_builder.agreement import ReviewedRow, review_report
from r1k_builder.card import merge_card, read_card, render_card
from r1k_builder.columns import (
    EXAMPLES,
    PREFERENCES,
    PROBE_NAMES,
    REJECTED,
    batched,
    statuses,
    table_of,
    where,
    with_results,
)
from r1k_builder.config import BuildConfig
from r1k_builder.control import Control
from r1k_builder.files import CARD, NO_FIGURES, ConfigFiles, Rows, install, told
from r1k_builder.joining import Joining
from r1k_builder.lengths import Ruler, load_ruler
from r1k_builder.overlap import Overlap
from r1k_builder.pair import MIXED_SIZE, PROBE_SIZE, Couple, Shortlist, mixed_subset, probe_subset
from r1k_builder.reviews import Reviews, row_digest
from r1k_builder.schema import CHECKS, RESOLVED_BY, CheckResult, Example, Outcome, RejectedRow, Verdict
from r1k_builder.sketch import Sketch
from r1k_builder.tells import Form, Tells
from r1k_builder.verify.duplicate import Duplicates, Keys, keys

BATCH_ROWS = 32
"""Source rows of a batch: one that is slow to come holds up no more than these."""
DISTINCT_NAMES = 200
"""Distinct reasons or teachers that are counted apart; hosts' texts could otherwise grow the manifest without end."""

STATUSES = ("pass", "fail", "unknown", "not-run")
IN_ORDER = ("duplicate", "human")
"""The checks that are run when rows are put, after all others."""
UNTOLD = "no fail, but an unknown"
"""Rows of `reverse-verified` that rest on what a check could not tell."""

NOBODYS = Reviews({})
"""Reviews of a build that nobody has reviewed."""

T = TypeVar("T")


@contextmanager
def staging(folder: Path, config: BuildConfig) -> Iterator["DatasetWriter"]:
    """A writer that stages the dataset of `folder` beside it; gone afterwards, with what earlier exports left behind.

    The caller holds the folder's lock. Raises LocalError for what the file system refuses, here or inside, where only the
    dataset may be at work; the folder stays as it was.
    """
    build = folder / ".build"
    stage = build / f"export-{os.getpid()}"
    try:
        with told(folder):
            build.mkdir(parents=True, exist_ok=True)
            for stale in build.glob("export-*"):
                shutil.rmtree(stale, ignore_errors=True)  # one that is about to end may be removing it, too
            stage.mkdir()
        with told(folder), DatasetWriter(stage, config, Reviews.of(build)) as writer:
            yield writer
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_dataset(outcomes: Iterable[Outcome], folder: Path, config: BuildConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Makes `folder` hold the dataset of `outcomes`, which come in source order; returns `DatasetWriter.finish`'s manifest."""
    with staging(folder, config) as writer:
        for batch in batched(outcomes, BATCH_ROWS):
            writer.put(prepare(batch, writer.ruler))
        made = writer.finish()
        publish(writer.stage, folder, made, config, facts)
    return made


def publish(
    stage: Path,
    folder: Path,
    made: Mapping[str, Any],
    config: BuildConfig,
    facts: Mapping[str, Any],
    figures: Mapping[str, bytes] = NO_FIGURES,
) -> None:
    """Makes `folder` hold the dataset that a `DatasetWriter` has finished under `stage`, whole or not at all.

    `made` is what its `finish` said, `facts` are `card.render_card`'s. Files that no export has written stay as they are;
    so does what a user has written into the card, outside its generated sections. A README.md that is not a card of ours,
    or one whose sections can't be told any more, is kept as README.md.orig.
    """
    card = render_card({**made, "figures": sorted(figures)}, config, facts, folder.resolve().name)
    present = folder / CARD
    if present.exists() and (written := read_card(present)) is not None:
        card = merge_card(card, written)
    (stage / CARD).write_text(card, encoding="utf-8")
    install(stage, folder, made, figures)


class DatasetWriter:
    """Writes every configuration under `stage`: `prepare` batches in any order and process, `put` them in source order.

    The same batches and reviews give the same bytes.
    """

    def __init__(self, stage: Path, config: BuildConfig, reviews: Reviews = NOBODYS) -> None:
        self.stage = stage
        self._reviews = reviews
        self._reviewed: dict[str, ReviewedRow] = {}
        """The reverse rows that someone has reviewed, by pair_id."""
        self._control = config.control
        self.ruler = load_ruler(config.tokenizer)
        self._tally = _Tally()
        self._sketch = Sketch()
        self._pairs = 0
        self._files = ConfigFiles(stage)
        self._joining = Joining(stage, self._write_couples)
        self._shortlist = Shortlist()
        self._listed: list[Couple] = []
        """Those on which a choice may fall."""
        self._kept = Rows(stage)
        """Theirs."""
        self._in_control = Control(stage, lambda rows: self._files.write("preference-control", rows))
        self.tells = Tells()
        """To be reported on when all batches are put."""
        self._duplicates = Duplicates(stage / "questions.sqlite")
        self._overlap = Overlap()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for part in (self._files, self._joining, self._kept, self._in_control, self._duplicates):
            part.close()

    def put(self, batch: "Batch") -> None:
        """Write the rows that need no other batch, and remember what the others need of this one."""
        rows = self._judged(self._compared(batch))
        reverse = where(rows, batch.reverse)
        self._tally.add(batch.tally)
        late = {check: statuses(reverse["verdict"], check) for check in IN_ORDER}
        found = [_worst(of_row) for of_row in zip(batch.found, *late.values(), strict=True)]
        self._tally.count_checks(late, found)
        self._sketch.add(batch.rows, batch.paired, tokens=self.ruler.tokenizer is not None)
        self._overlap.add(rows)
        write = self._files.write
        write("reverse", reverse)
        write("reverse-verified", where(reverse, [status != "fail" for status in found]))
        write("forward", where(rows, [not reverse for reverse in batch.reverse]))
        write("forward-gemini", batch.gemini)
        write("rejected", batch.rejected)
        write("attempts", batch.attempts)
        mixed = where(rows, batch.paired)
        self._pairs += len(batch.pairs)
        (self._write_couples if self._control == "none" else self._joining.add)(batch.pairs, mixed)
        for place, pair in enumerate(batch.pairs):
            if self.tells.admits(pair.forward):
                rows = mixed.slice(2 * place, 2)
                self.tells.add(pair.forward, *map(Form.of, rows["answer"].to_pylist(), rows["reasoning"].to_pylist()))
        for row in zip(batch.rows["direction"].to_pylist(), batch.rows["domain"].to_pylist(), strict=True):
            self.tells.count(*row)

    def _write_couples(self, couples: Sequence[Couple], mixed: pa.Table) -> None:
        """Rows that stand side by side: forward, reverse, forward, reverse, …"""
        self._files.write("mixed", mixed)
        self._files.write("preference", _preferences(mixed))
        self._in_control.add(couples, mixed)
        listed = [self._shortlist.admits(couple) for couple in couples]
        self._listed += compress(couples, listed)
        self._kept.append(where(mixed, [is_listed for is_listed in listed for _ in range(2)]))

    def _compared(self, batch: "Batch") -> pa.Table:
        """The batch's rows, whose questions have been held against all rows' before them."""
        columns = (batch.rows[name].to_pylist() for name in ("id", "pair_id", "question"))
        results = [self._duplicates.check(*row) for row in zip(*columns, batch.found_by, strict=True)]
        return with_results(batch.rows, "duplicate", results) if results else batch.rows

    def _judged(self, rows: pa.Table) -> pa.Table:
        """The rows with what reviewers say of the reverse ones."""
        named = zip(rows["pair_id"].to_pylist(), rows["direction"].to_pylist(), strict=True)
        places = [place for place, (pair_id, of) in enumerate(named) if of == "reverse" and pair_id in self._reviews]
        results = [CheckResult(status="not-run")] * rows.num_rows
        for place in places:
            row = rows.slice(place, 1).to_pylist()[0]
            text = [row[name] for name in ("pair_id", "question", "reasoning", "answer")]
            statuses = {check: result["status"] for check, result in row["verdict"].items()}
            self._reviewed[row["pair_id"]] = ReviewedRow(row_digest(*text), statuses)
            results[place] = self._reviews.verdict(*text) or results[place]
        return with_results(rows, "human", results) if places else rows

    def _kept_rows(self, places: Iterable[int]) -> pa.Table:
        return self._kept.read(row for place in places for row in (2 * place, 2 * place + 1))

    def add(self, config: str, tables: Iterable[pa.Table]) -> None:
        """Write rows of a configuration that has its own source."""
        for table in tables:
            self._files.write(config, table)

    def counted(self) -> dict[str, Any]:
        """What the figures are drawn from, which is known when all batches are put; `finish` says the same."""
        return {**self._tally.counts(), **self._sketch.counts(self.ruler.unit), "configs": self._files.counts()}

    def finish(self, tells: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
        """Write what is made from all pairs together, close the files, name them by their digests.

        `tells` gives the report of `self.tells`, where another process makes it meanwhile.

        Returns what the manifest says of the dataset: `rows`, `rejections`, `replaced`, `verification`, `teachers`, `configs`,
        `tokenizer`, `length_unit`, `control`, `tells`, `overlap`, `notes`, `lengths`, `domains`, `collections`, `reviews`
        (None where nobody has reviewed).
        """
        files, control = self._files, self._in_control
        self._joining.finish()
        for places in batched(mixed_subset(self._listed), BATCH_ROWS):
            files.write("mixed-500", self._kept_rows(places))
        for places in batched(probe_subset(self._listed), BATCH_ROWS):
            files.write("probe", _preferences(self._kept_rows(places)).rename_columns(PROBE_NAMES))
        control.finish()
        notes = _pair_notes(self._pairs, self._joining.alone, control.other_domain, control.without)
        return {
            **self._tally.counts(),
            **self._sketch.counts(self.ruler.unit),
            "configs": files.finish(),
            "tokenizer": self.ruler.tokenizer,
            "length_unit": self.ruler.unit,
            "control": self._control,
            "tells": (tells or self.tells.report)(),
            "overlap": self._overlap.report(self._duplicates.groups),
            "notes": [*self.ruler.notes, *notes],
            "reviews": review_report(self._reviews, self._reviewed) if self._reviews.by_reviewer else None,
        }


# ----- the first pass: rows that need no other batch


@dataclass(frozen=True)
class Batch:
    """Successive source rows, made ready: their rows in both directions, each forward row before its reverse row."""

    rows: pa.Table
    gemini: pa.Table
    rejected: pa.Table
    attempts: pa.Table
    reverse: list[bool]
    """Of each of `rows`, as the next."""
    paired: list[bool]
    pairs: list[Couple]
    found: list[str]
    """What the checks have found of each reverse row, but for those IN_ORDER: `_worst` of all."""
    found_by: list[Keys]
    """By what near-duplicates of each row's question are found."""
    tally: "_Tally"

    def save(self, path: Path, *, packed: bool = False) -> None:
        """Write it to a file, for `load`: `packed` in half the room, at the processor's expense."""
        marks = [self.reverse, self.paired]
        header = json.dumps([marks, self.pairs, self.found, self.found_by, vars(self.tally)]).encode()
        options = pa.ipc.IpcWriteOptions(compression="lz4" if packed else None)
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for table in (self.rows, self.gemini, self.rejected, self.attempts):
                with pa.ipc.new_stream(file, table.schema, options=options) as stream:
                    stream.write_table(table)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The batch in a file."""
        with pa.OSFile(str(path)) as source:
            marks, pairs, found, found_by, tally = json.loads(source.read(int.from_bytes(source.read(8), "little")))
            rows, gemini, rejected, attempts = (pa.ipc.open_stream(source).read_all() for _ in range(4))
        reverse, paired = marks
        tallied = _Tally(**{name: Counter(counted) for name, counted in tally.items()})
        couples = [Couple(*pair) for pair in pairs]
        return cls(rows, gemini, rejected, attempts, reverse, paired, couples, found, found_by, tallied)


def prepare(outcomes: Sequence[Outcome], ruler: Ruler) -> Batch:
    """Successive source rows as tables."""
    sides = [side for outcome in outcomes for side in (outcome.forward, outcome.reverse)]
    examples = [side for side in sides if isinstance(side, Example)]
    accepted = {outcome.source.pair_id for outcome in outcomes if outcome.state == "accepted"}
    rows, responses = _measured(examples, ruler)
    paired = [example.pair_id in accepted for example in examples]
    return Batch(
        rows=rows,
        gemini=_measured([outcome.gemini for outcome in outcomes if outcome.gemini is not None], ruler)[0],
        rejected=table_of(REJECTED, [side for side in sides if isinstance(side, RejectedRow)]),
        attempts=table_of(REJECTED, [attempt for outcome in outcomes for attempt in outcome.replaced]),
        reverse=[example.direction == "reverse" for example in examples],
        paired=paired,
        pairs=_couples(list(compress(examples, paired)), list(compress(responses, paired)), ruler),
        found=[_worst(_resolved(example.verdict)) for example in examples if example.direction == "reverse"],
        found_by=[keys(example.question) for example in examples],
        tally=_Tally.of(outcomes),
    )


def _resolved(verdict: Verdict) -> Iterator[str]:
    """What each check has found; what a judge has told is known."""
    for check, result in verdict.items():
        judge = verdict.get(RESOLVED_BY.get(check, ""))
        yield "pass" if result.status == "unknown" and judge is not None and judge.status == "pass" else result.status


def _worst(found: Iterable[str]) -> str:
    """`fail` where a check has failed, `unknown` where one can't tell, else `pass`."""
    among = set(found)
    return next((status for status in ("fail", "unknown") if status in among), "pass")


def _measured(examples: list[Example], ruler: Ruler) -> tuple[pa.Table, list[int]]:
    """The examples' rows, and the lengths of their assistant turns."""
    completions = [example.completion for example in examples]
    responses = ruler.measure([turns[0]["content"] for turns in completions])
    num_tokens: list[int | None] = [None] * len(examples)
    if ruler.tokenizer:
        prompts = ruler.measure([example.question for example in examples])
        num_tokens = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    return table_of(EXAMPLES, examples, completion=completions, num_tokens=num_tokens), responses


def _couples(examples: list[Example], responses: list[int], ruler: Ruler) -> list[Couple]:
    """Of the rows of pairs, which are given as forward, reverse, forward, reverse, …"""
    forward = examples[::2]
    parts = [ruler.measure([getattr(example, part) for example in forward]) for part in ("question", "reasoning", "answer")]
    lengths = map(sum, zip(*parts, strict=True))
    return [
        Couple(example.pair_id, example.pair_id, example.domain, *numbers)
        for example, *numbers in zip(forward, lengths, responses[::2], responses[1::2], strict=True)
    ]


@dataclass
class _Tally:
    """What the card and the manifest count, from the rows themselves."""

    states: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    """Inversions that another was kept instead of, by the first check that they fail."""
    forward_teachers: Counter[str] = field(default_factory=Counter)
    reverse_teachers: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    """Of the reverse rows, `check: status`; and UNTOLD."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Self:
        tally = cls(states=Counter(outcome.state for outcome in outcomes))
        for outcome in outcomes:
            for attempt in outcome.replaced:
                _count(tally.replaced, f"{attempt.check}: {_reason_class(attempt.reason)}")
            for side, teachers in ((outcome.forward, tally.forward_teachers), (outcome.reverse, tally.reverse_teachers)):
                if isinstance(side, Example):
                    _count(teachers, side.teacher or "unknown")
                    if side.direction == "reverse":
                        tally.checked.update(_checked(side.verdict))
                elif side is not None:
                    _count(tally.rejections, f"{side.check}: {_reason_class(side.reason)}")
        return tally

    def count_checks(self, late: Mapping[str, Sequence[str]], found: Sequence[str]) -> None:
        """Count what the checks IN_ORDER have found of reverse rows, and what all have."""
        for check, of_rows in late.items():
            self.checked.update(f"{check}: {status}" for status in of_rows)
        self.checked[UNTOLD] += found.count("unknown")

    def add(self, other: "_Tally") -> None:
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            for name, number in theirs.items():
                _count(mine, name, number)

    def counts(self) -> dict[str, Any]:
        states = {state: self.states[state] for state in ("accepted", "rejected", "failed")}
        return {
            "rows": {"read": self.states.total(), **states},
            "rejections": _most_common(self.rejections),
            "replaced": _most_common(self.replaced),
            "verification": {
                "checks": {check: {status: self.checked[f"{check}: {status}"] for status in STATUSES} for check in CHECKS},
                "untold": self.checked[UNTOLD],
            },
            "teachers": {"forward": _most_common(self.forward_teachers), "reverse": _most_common(self.reverse_teachers)},
        }


def _checked(verdict: Verdict) -> Iterator[str]:
    """`check: status` of all checks but those IN_ORDER."""
    for check in CHECKS:
        if check not in IN_ORDER:
            yield f"{check}: {verdict[check].status if check in verdict else 'not-run'}"


def _count(counter: Counter[str], name: str, number: int = 1) -> None:
    counter[name if name in counter or len(counter) < DISTINCT_NAMES else "others"] += number


def _reason_class(reason: str) -> str:
    """A reason up to its first colon, bracket or line's end: what it has in common with others of its kind."""
    return re.split(r"[:(\n]", reason[:100], maxsplit=1)[0].strip()


def _most_common(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


# ----- pairs


def _preferences(mixed: pa.Table) -> pa.Table:
    """The paper's two pairs of each couple, (x_f, y_f, y_r) and (x_r, y_r, y_f), from rows that alternate in direction."""
    other_row = pa.array((place ^ 1 for place in range(mixed.num_rows)), pa.int64())
    columns = {"chosen": mixed["completion"], "rejected": mixed["completion"].take(other_row)}
    return pa.table([columns[name] if name in columns else mixed[name] for name in PREFERENCES.names], schema=PREFERENCES)


def _pair_notes(pairs: int, alone: int, other_domain: int, without: int) -> list[str]:
    """What is not as the configurations' descriptions would have it."""
    joined = pairs - alone
    notes = [
        (alone > 0, f"accepted pairs left out, being alone in their domain with no other to be joined to: {alone}"),
        (0 < joined < MIXED_SIZE, f"mixed-500 holds all {joined} pairs: there are fewer than {MIXED_SIZE}"),
        (0 < joined < PROBE_SIZE, f"probe holds all {joined} pairs: there are fewer than {PROBE_SIZE}"),
        (other_domain > 0, f"rows of preference-control whose rejected response is from another domain: {other_domain}"),
        (without > 0, f"rows that preference-control lacks, as no other pair has a response to reject: {without}"),
    ]
    return [note for applies, note in notes if applies]
