"""Batches of source rows made ready for the dataset: read back from the journals, checked, turned into tables. Here, or by
processes side by side where there are many."""

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pyarrow as pa

from r1k_builder.accepted import Quota, up_to
from r1k_builder.benchmarks import load as load_benchmarks
from r1k_builder.children import Child, relax_collector, say, told_parent
from r1k_builder.config import BuildConfig
from r1k_builder.export import BATCH_ROWS, Batch, prepare
from r1k_builder.journals import Journals
from r1k_builder.lengths import Ruler, load_ruler
from r1k_builder.replay import end_of, flow_version, outcome
from r1k_builder.verify import Mathematics

PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MOST_PROCESSES = min(4, PROCESSORS)
BATCHES_EACH = 8
"""Batches that are worth a process, which takes half a second to start."""


class Prepared(NamedTuple):
    """A batch that can be written."""

    batch: Batch
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

    def close(self) -> None:
        self._mathematics.close()
        self._view.close()

    def submit(self, number: int) -> "Future[Prepared]":
        future: Future[Prepared] = Future()
        future.set_result(self.prepared(number))
        return future

    def prepared(self, number: int) -> Prepared:
        """The batch of source rows from position BATCH_ROWS * number, settled or not."""
        start = number * BATCH_ROWS
        examples = self._view.examples(min(start + BATCH_ROWS, self._stop), start=start)
        same = self._mathematics.same_answer
        answers = self._view.of
        outcomes = [outcome(answers(example.pair_id), self._config, example, self._benchmarks, same) for example in examples]
        damaged = [
            found.source.pair_id
            for found in outcomes
            if found.state == "failed" and self._view.is_settled(found.source.pair_id, self._version)
        ]
        return Prepared(prepare(outcomes if self._quota is None else list(up_to(self._quota, outcomes)), self._ruler), damaged)


class Preparers:
    """Prepares batches by several processes, one batch each at a time."""

    def __init__(self, count: int, journals: Sequence[Path], config: BuildConfig, ruler: Ruler) -> None:
        self.at_once = 2 * count
        task = {
            "journals": [str(path) for path in journals],
            "config": {**config.model_dump(mode="json"), "tokenizer": "none" if ruler.path is None else str(ruler.path)},
        }
        self._children = [Child(main, task) for _ in range(count)]
        self._free: SimpleQueue[Child] = SimpleQueue()
        for child in self._children:
            self._free.put(child)
        self._threads = ThreadPoolExecutor(count)

    def close(self) -> None:
        for child in self._children:
            child.process.kill()  # they keep nothing
        self._threads.shutdown(cancel_futures=True)
        for child in self._children:
            child.close(0)

    def submit(self, number: int) -> "Future[Prepared]":
        return self._threads.submit(self._prepared, number)

    def _prepared(self, number: int) -> Prepared:
        child = self._free.get()
        try:
            child.tell(number)
            said = child.answer()
            packed = child.read(said["bytes"])
        finally:
            self._free.put(child)
        return Prepared(Batch.unpack(pa.py_buffer(packed)), said["damaged"])


def preparing(
    batches: int, journals: Sequence[Path], config: BuildConfig, ruler: Ruler, quota: Quota | None
) -> Preparation | Preparers:
    """What is quickest for so many batches."""
    count = min(MOST_PROCESSES, batches // BATCHES_EACH)
    if quota is not None or count < 2:  # one would only take the place of this process
        return Preparation(journals, config, ruler, quota)
    return Preparers(count, journals, config, ruler)


def main() -> None:
    """A preparer's own process: a task on stdin, then numbers; each is answered by a line and a packed batch."""
    relax_collector()
    orders = sys.stdin.buffer
    task = json.loads(orders.readline() or "null")
    if task is None:
        return
    with told_parent(task["journals"][0]):
        config = BuildConfig.model_validate(task["config"])
        preparation = Preparation([Path(path) for path in task["journals"]], config, load_ruler(config.tokenizer))
        for order in orders:
            batch, damaged = preparation.prepared(json.loads(order))
            packed = batch.pack()
            say({"bytes": packed.size, "damaged": damaged}, packed)
        preparation.close()
