"""Batches of source rows made ready for the dataset: read back from the journals, checked, turned into tables. Here, or by
processes side by side where there are many."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from r1k_builder.accepted import Quota, up_to
from r1k_builder.benchmarks import load as load_benchmarks
from r1k_builder.children import Child, relax_collector, say, told_parent, without_pandas
from r1k_builder.config import BuildConfig
from r1k_builder.export import BATCH_ROWS, Batch, prepare
from r1k_builder.files import told
from r1k_builder.journals import Journals
from r1k_builder.lengths import Ruler, load_ruler
from r1k_builder.replay import end_of, flow_version, outcome
from r1k_builder.schema import ForwardExample, Outcome
from r1k_builder.tells import PARTS, Tells
from r1k_builder.verify import Mathematics

PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MOST_PROCESSES = min(4, PROCESSORS)
BATCHES_EACH = 8
"""Batches that are worth a process, which takes half a second to start."""
AHEAD_CHARACTERS = 64_000_000
"""In rows that one process keeps while others of their batches are waited for: 1,100 of s1K's."""


class Prepared(NamedTuple):
    """A batch that can be written."""

    batch: Batch | None
    """None where it is in the file that was named for it."""
    damaged: list[str]
    """Settled rows (their pair_id) whose replies can't be read any more: they are owed again."""


class Preparation:
    """Prepares batches in this process, each when it is submitted."""

    at_once = 1
    """Batches to submit before the first is taken."""

    def __init__(self, journals: Sequence[Path], config: BuildConfig, ruler: Ruler, quota: Quota | None = None) -> None:
        """With a quota, batches must be submitted in order: what one has in it depends on all before."""
        self._config, self._ruler, self._quota = config, ruler, quota
        self._view = Journals.open(journals)
        self._benchmarks = load_benchmarks(config, journals[0].parent)
        self._mathematics = Mathematics()
        self._version = flow_version(config)
        self._stop = end_of(self._view, config)
        self._ahead: dict[str, Outcome] = {}
        """By pair_id, the oldest first."""
        self._characters = 0
        """In them."""

    def close(self) -> None:
        self._mathematics.close()
        self._view.close()

    def ahead(self, positions: Sequence[int]) -> None:
        """Read and check rows of one batch that have settled, while others of it are waited for.

        Those that have waited longest are forgotten where there are too many: they are read and checked again.
        """
        for position in positions:
            for example in self._view.examples(position + 1, start=position):
                self._take_ahead(example.pair_id)  # one that has settled again
                found = self._ahead[example.pair_id] = self._outcome(example)
                self._characters += _characters(found)
        while self._characters > AHEAD_CHARACTERS:
            self._characters -= _characters(self._ahead.pop(next(iter(self._ahead))))

    def submit(self, number: int, path: Path, *, packed: bool = False) -> "Future[Prepared]":  # noqa: ARG002
        """Prepare a batch. A process of its own saves it under `path`, `packed` or not."""
        future: Future[Prepared] = Future()
        future.set_result(Prepared(*self.prepared(number)))
        return future

    def prepared(self, number: int) -> tuple[Batch, list[str]]:
        """The batch of source rows from position BATCH_ROWS * number, settled or not; and which of them are damaged."""
        start = number * BATCH_ROWS
        examples = self._view.examples(min(start + BATCH_ROWS, self._stop), start=start)
        outcomes = [self._take_ahead(example.pair_id) or self._outcome(example) for example in examples]
        damaged = [
            found.source.pair_id
            for found in outcomes
            if found.state == "failed" and self._view.is_settled(found.source.pair_id, self._version)
        ]
        return prepare(outcomes if self._quota is None else list(up_to(self._quota, outcomes)), self._ruler), damaged

    def _outcome(self, example: ForwardExample) -> Outcome:
        answers = self._view.of(example.pair_id)
        return outcome(answers, self._config, example, self._benchmarks, self._mathematics.same_answer)

    def _take_ahead(self, pair_id: str) -> Outcome | None:
        found = self._ahead.pop(pair_id, None)
        if found is not None:
            self._characters -= _characters(found)
        return found

    def report(self, tells: Tells) -> Callable[[], dict[str, Any]]:
        """What gives the report of `tells`."""
        return tells.report


def _characters(found: Outcome) -> int:
    """Of all its texts; those that two of its rows share count twice."""
    rows = (found.source, found.forward, found.reverse, found.gemini, *found.replaced)
    return sum(len(text) for row in rows if row is not None for text in vars(row).values() if isinstance(text, str))


class Preparers:
    """Prepares batches by several processes, each batch by one of them, a batch at a time."""

    def __init__(self, count: int, journals: Sequence[Path], config: BuildConfig, ruler: Ruler) -> None:
        self.at_once = 2 * count
        task = {
            "journals": [str(path) for path in journals],
            "config": {**config.model_dump(mode="json"), "tokenizer": "none" if ruler.path is None else str(ruler.path)},
        }
        self._children = [Child(main, task) for _ in range(count)]
        self._threads = [ThreadPoolExecutor(1) for _ in self._children]
        """Each asks one child and waits for the answer."""

    def close(self) -> None:
        for child in self._children:
            child.process.kill()  # they keep nothing
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)
        for child in self._children:
            child.close(0)

    def ahead(self, positions: Sequence[int]) -> None:
        number = positions[0] // BATCH_ROWS
        self._children[number % len(self._children)].tell({"ahead": positions})  # it reads this when it has answered

    def submit(self, number: int, path: Path, *, packed: bool = False) -> "Future[Prepared]":
        place = number % len(self._children)
        return self._threads[place].submit(self._prepared, self._children[place], number, path, packed)

    @staticmethod
    def _prepared(child: Child, number: int, path: Path, packed: bool) -> Prepared:
        child.tell({"batch": number, "path": str(path), "packed": packed})
        return Prepared(None, child.answer()["damaged"])

    def report(self, tells: Tells) -> Callable[[], dict[str, Any]]:
        """Each process begins with a share of the parts."""
        state, count = tells.state(), len(self._children)
        asked = [
            thread.submit(self._told, child, state, PARTS[place::count])
            for place, (thread, child) in enumerate(zip(self._threads, self._children, strict=True))
        ]
        return lambda: tells.report({part: told for answer in asked for part, told in answer.result().items()})

    @staticmethod
    def _told(child: Child, state: Sequence[Any], parts: Sequence[str]) -> dict[str, Any]:
        child.tell({"tells": state, "parts": parts})
        return child.answer()


def preparing(
    batches: int, journals: Sequence[Path], config: BuildConfig, ruler: Ruler, quota: Quota | None
) -> Preparation | Preparers:
    """What is quickest for so many batches."""
    count = min(MOST_PROCESSES, batches // BATCHES_EACH)
    if quota is not None or count < 2:  # one would only take the place of this process
        return Preparation(journals, config, ruler, quota)
    return Preparers(count, journals, config, ruler)


def main() -> None:
    """A preparer's own process: a task on stdin, then orders, each answered by a line. Batches are saved where it says."""
    without_pandas()
    relax_collector()
    orders = sys.stdin.buffer
    task = json.loads(orders.readline() or "null")
    if task is None:
        return
    journals = [Path(path) for path in task["journals"]]
    with told_parent(task["journals"][0]), told(journals[0].parent.parent):
        config = BuildConfig.model_validate(task["config"])
        preparation = Preparation(journals, config, load_ruler(config.tokenizer))
        for line in orders:
            match json.loads(line):
                case {"ahead": positions}:
                    preparation.ahead(positions)
                case {"batch": number, "path": path, "packed": packed}:
                    batch, damaged = preparation.prepared(number)
                    batch.save(Path(path), packed=packed)
                    say({"damaged": damaged})
                case {"tells": state, "parts": parts}:
                    say(Tells.of(state).told(parts))
        preparation.close()
