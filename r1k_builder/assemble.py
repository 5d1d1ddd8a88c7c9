"""Makes the dataset from the journal, also while the run goes on: batches of settled rows are read back, turned into tables
and written, by a process of its own that works while the teacher thinks.

A row that is still owed holds up the writing of what stands behind it, not its preparation: prepared batches wait in files of
their own. What is left when the run ends is done then. The bytes do not depend on what was done when.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self

from r1k_builder import completions
from r1k_builder.accepted import Quota
from r1k_builder.children import Child, relax_collector, say, told_parent, without_pandas
from r1k_builder.config import BuildConfig
from r1k_builder.export import BATCH_ROWS, Batch, DatasetWriter, staging
from r1k_builder.files import PACKED_FROM
from r1k_builder.journals import Journals
from r1k_builder.prepare import Prepared, preparing
from r1k_builder.replay import end_of, flow_version
from r1k_builder.reviews import Reviews

POLL = 0.5
"""Seconds between two looks at what has settled."""
NICE = 10
"""By how much the follower's priority is below that of the process that asks."""
GRACE = 10.0
"""Seconds that a follower has to clear up before it is killed."""


class Made(NamedTuple):
    """A dataset that is ready to be put in place."""

    stage: Path
    manifest: Mapping[str, Any]
    """What `DatasetWriter.finish` says of it."""
    damaged: list[str]
    """Settled rows (their pair_id) whose replies can't be read any more: they are owed again."""


Counted = Callable[[dict[str, Any]], None]
"""Is told `DatasetWriter.counted` when all rows are in, before the rest of the files is made."""


def unheard(_counted: dict[str, Any]) -> None:
    pass


class Assembly:
    """Brings the rows of journals into a DatasetWriter, in source order. The source must be in the journals."""

    def __init__(self, writer: DatasetWriter, journals: Sequence[Path], config: BuildConfig) -> None:
        self._writer = writer
        self._config = config
        self._view = Journals.open(journals)
        self._version = flow_version(config)
        self._stop = end_of(self._view, config)
        reviews = Reviews.of(journals[0].parent)
        self._quota = None if config.accepted is None else Quota(config.accepted, writer.stage, reviews)
        self._owed = self._view.rows_per_batch(BATCH_ROWS, self._stop)
        self._turns = deque(self._owed)
        """Batches that are still to be written, in order."""
        self._settled: deque[int] = deque()
        """Batches that can be prepared."""
        self._seen = 0
        self._looked = False
        self._preparation = preparing(len(self._turns), journals, config, writer.ruler, self._quota)
        self._pending: dict[Future[Prepared], int] = {}
        self._early: dict[int, int] = {}
        """Batches that were prepared before their turn and wait in files, and the bytes of these."""
        self._damaged: dict[int, list[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._preparation.close()
        self._view.close()
        if self._quota is not None:
            self._quota.close()

    def step(self) -> bool:
        """Take in what has been prepared of the batches whose rows have all settled; False where there is nothing to do."""
        if not self._settled:
            self._look()
        self._submit(self._settled)
        return self._take_in()

    def finish(self, counted: Counted = unheard) -> Made:
        """Bring in all that is left, settled or not, and finish the files."""
        begun = {*self._pending.values(), *self._early}
        rest = deque(number for number in self._turns if number not in begun)
        while self._turns and not (self._quota is not None and self._quota.reached):
            self._submit(rest)
            self._take_in()
        writer = self._writer
        tells = self._preparation.report(writer.tells)
        counted(writer.counted())
        if self._config.with_completions:
            writer.add("completions", completions.tables(self._view, self._stop))
        damaged = [pair_id for number in sorted(self._damaged) for pair_id in self._damaged[number]]
        return Made(writer.stage, writer.finish(tells), damaged)

    def _look(self) -> None:
        """Find the rows that have settled since the last look. A batch is prepared when it has all of them; what there is of
        others is begun with, but for what had settled before the first look, which may be more than can be kept."""
        while page := self._view.settled_after(self._seen, self._version, self._stop):
            batches: dict[int, list[int]] = {}
            for self._seen, position in page:  # the next page starts after this one's last row
                number = position // BATCH_ROWS
                batches.setdefault(number, []).append(position)
                self._owed[number] -= 1
                if self._owed[number] == 0:
                    self._settled.append(number)
            if self._looked:
                for number, positions in batches.items():
                    if self._owed[number]:
                        self._preparation.ahead(positions)
        self._looked = True

    def _submit(self, numbers: deque[int]) -> None:
        """Have the first of some batches prepared."""
        while numbers and len(self._pending) < self._preparation.at_once:
            number = numbers.popleft()
            self._pending[self._preparation.submit(number, self._path(number), packed=self._is_crowded)] = number

    def _take_in(self) -> bool:
        """Take in what is prepared, and write the next batch, one at a time, so that the others are not kept from being
        prepared; wait for one, for POLL at most, where there is none. False where there is nothing to wait for."""
        done = wait(self._pending, 0 if self._is_next_here else POLL, FIRST_COMPLETED).done
        for future in done:
            self._take(self._pending.pop(future), future.result())
        if written := self._is_next_here:
            del self._early[self._turns[0]]
            self._put(self._load(self._turns[0]))
        return bool(done or self._pending or written)

    def _take(self, number: int, prepared: Prepared) -> None:
        if prepared.damaged:
            self._damaged[number] = prepared.damaged
        if number == self._turns[0]:
            self._put(prepared.batch or self._load(number))
            return
        if prepared.batch is not None:
            prepared.batch.save(self._path(number), packed=self._is_crowded)
        self._early[number] = self._path(number).stat().st_size

    @property
    def _is_crowded(self) -> bool:
        return sum(self._early.values()) > PACKED_FROM

    def _load(self, number: int) -> Batch:
        path = self._path(number)
        batch = Batch.load(path)
        path.unlink()
        return batch

    def _path(self, number: int) -> Path:
        """Of the file in which a batch waits."""
        return self._writer.stage / f"{number}.batch"

    @property
    def _is_next_here(self) -> bool:
        return bool(self._turns) and self._turns[0] in self._early

    def _put(self, batch: Batch) -> None:
        self._writer.put(batch)
        self._turns.popleft()


@contextmanager
def assembled(folder: Path, journals: Sequence[Path], config: BuildConfig, counted: Counted = unheard) -> Iterator[Made]:
    """The dataset of `folder`, made here and now; its stage is gone afterwards. Hold the folder's lock.

    Raises LocalError for what the file system refuses, UsageError where the tokenizer can't be read.
    """
    with staging(folder, config) as writer, Assembly(writer, journals, config) as assembly:
        yield assembly.finish(counted)


# -- beside the run ------------------------------------------------------------------------------------------------


class Follower:
    """A process that makes the dataset of `folder` behind the run that fills `journal`. Hold the folder's lock.

    It reads the journal alone. However its parent ends, it ends; its stage with it.
    """

    def __init__(self, folder: Path, journal: Path, config: BuildConfig) -> None:
        task = {"folder": str(folder), "journal": str(journal), "config": config.model_dump(mode="json")}
        self._child = Child(main, task, NICE)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self._child.process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it, and clear up what it has staged."""
        self._child.close(GRACE)

    def hurry(self) -> None:
        """Begin with what is left: nothing more will be answered."""
        self._child.tell("finish")

    def finish(self, counted: Counted = unheard) -> Made:
        """Have all that is left brought in. The stage stays until `__exit__`.

        Raises what `assembled` does; RuntimeError where the process has died of a bug, which it has printed.
        """
        self.hurry()
        counted(self._child.answer())
        answer = self._child.answer()
        return Made(Path(answer["stage"]), answer["made"], answer["damaged"])


def main() -> None:
    """The follower's own process: a task on stdin, then `"finish"`; on stdout what is counted, then what is made. JSON lines.

    The end of stdin ends it, whatever it is at.
    """
    without_pandas()
    relax_collector()
    signal.signal(signal.SIGTERM, _leave)
    orders = os.fdopen(0, "rb", buffering=0, closefd=False)  # a buffer's lock, held by the thread, would fail the exit
    task = json.loads(orders.readline() or "null")
    if task is None:
        return
    finish = threading.Event()
    threading.Thread(target=_listen, args=(orders, finish, threading.get_ident()), daemon=True).start()
    with told_parent(task["journal"]):
        folder, config = Path(task["folder"]), BuildConfig.model_validate(task["config"])
        with staging(folder, config) as writer, Assembly(writer, [Path(task["journal"])], config) as assembly:
            while not finish.wait(0 if assembly.step() else POLL):
                pass
            made = assembly.finish(say)
            say({"stage": str(made.stage), "made": made.manifest, "damaged": made.damaged})
            threading.Event().wait()  # the parent takes the stage's files, then closes stdin


def _listen(orders: Any, finish: threading.Event, main_thread: int) -> None:
    """In a thread, as it waits: pass on the order to finish; end the process when stdin does."""
    for _ in orders:
        finish.set()
    signal.pthread_kill(main_thread, signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def _leave(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)
