"""Makes the dataset from the journal, also while the run goes on: batches of settled rows are read back, turned into tables
and written, by a process of its own that works while the teacher thinks.

A row that is still owed holds up the writing of what stands behind it, not its preparation: prepared batches wait in a
scratch file. What is left when the run ends is done then. The bytes do not depend on what was done when.
"""

import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self

from r1k_builder import completions
from r1k_builder.accepted import Quota, up_to
from r1k_builder.benchmarks import load as load_benchmarks
from r1k_builder.config import BuildConfig
from r1k_builder.database import local_error
from r1k_builder.errors import LocalError, R1kError, UsageError
from r1k_builder.export import BATCH_ROWS, Batch, DatasetWriter, staging
from r1k_builder.files import Shelf
from r1k_builder.journals import Journals
from r1k_builder.replay import end_of, flow_version, outcome
from r1k_builder.reviews import Reviews
from r1k_builder.verify import Mathematics

POLL = 0.5
"""Seconds between two looks at what has settled."""
NICE = 5
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


class Assembly:
    """Brings the rows of journals into a DatasetWriter, in source order. The source must be in the journals."""

    def __init__(self, writer: DatasetWriter, journals: Sequence[Path], config: BuildConfig) -> None:
        state = journals[0].parent
        self._writer = writer
        self._config = config
        self._view = Journals.open(journals)
        self._benchmarks = load_benchmarks(config, state)
        self._mathematics = Mathematics()
        self._version = flow_version(config)
        self._stop = end_of(self._view, config)
        self._quota = None if config.accepted is None else Quota(config.accepted, writer.stage, Reviews.of(state))
        """With it, batches are prepared in order alone: what one has in it depends on all before."""
        self._owed = self._view.rows_per_batch(BATCH_ROWS, self._stop)
        self._turns = deque(self._owed)
        """Batches that are still to be written, in order."""
        self._settled: deque[int] = deque()
        """Batches that can be prepared."""
        self._seen = 0
        self._shelf = Shelf(writer.stage)
        self._places: dict[int, int] = {}
        self._damaged: list[str] = []
        self._hand = ThreadPoolExecutor(1)
        """Writes one batch while the next is prepared: compression goes on outside of Python's lock."""
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hand.shutdown()
        self._shelf.close()
        self._mathematics.close()
        self._view.close()
        if self._quota is not None:
            self._quota.close()

    def step(self) -> bool:
        """Take in one batch whose rows have all settled; False where there is none."""
        if not self._settled:
            self._look()
        if not self._settled:
            return False
        number = self._settled.popleft()
        batch = self._prepare(number)
        if number != self._turns[0]:
            self._places[number] = len(self._places)
            self._shelf.extend([batch.pack()])
            return True
        self._put(batch)
        self._turns.popleft()
        while self._turns and self._turns[0] in self._places:
            self._put(self._unshelve(self._turns.popleft()))
        return True

    def finish(self) -> Made:
        """Bring in all that is left, settled or not, and finish the files."""
        for number in self._turns:
            if self._quota is not None and self._quota.reached:
                break
            self._put(self._unshelve(number) if number in self._places else self._prepare(number))
        self._written()
        if self._config.with_completions:
            self._writer.add("completions", completions.tables(self._view, self._stop))
        return Made(self._writer.stage, self._writer.finish(), self._damaged)

    def _put(self, batch: Batch) -> None:
        """Have the next batch written; one at a time, so that no more than two are held."""
        self._written()
        self._writing = self._hand.submit(self._writer.put, batch)

    def _written(self) -> None:
        """Wait for the batch that is being written. Raises what stopped it."""
        if self._writing is not None:
            self._writing.result()

    def _look(self) -> None:
        """Find the batches whose last row has settled since the last look."""
        while page := self._view.settled_after(self._seen, self._version, self._stop):
            for self._seen, position in page:  # the next page starts after this one's last row
                number = position // BATCH_ROWS
                self._owed[number] -= 1
                if self._owed[number] == 0:
                    self._settled.append(number)

    def _unshelve(self, number: int) -> Batch:
        return Batch.unpack(self._shelf.read(self._places[number]))

    def _prepare(self, number: int) -> Batch:
        start = number * BATCH_ROWS
        examples = self._view.examples(min(start + BATCH_ROWS, self._stop), start=start)
        same = self._mathematics.same_answer
        answers = self._view.of
        outcomes = [outcome(answers(example.pair_id), self._config, example, self._benchmarks, same) for example in examples]
        self._damaged += [
            found.source.pair_id
            for found in outcomes
            if found.state == "failed" and self._view.is_settled(found.source.pair_id, self._version)
        ]
        return self._writer.prepare(outcomes if self._quota is None else list(up_to(self._quota, outcomes)))


def relax_collector() -> None:
    """Collect cycles less often: rows come and go by the thousand and leave none behind, and looking for them takes a
    tenth of the processor."""
    gc.freeze()
    gc.set_threshold(2_000, 10, 2)


@contextmanager
def assembled(folder: Path, journals: Sequence[Path], config: BuildConfig) -> Iterator[Made]:
    """The dataset of `folder`, made here and now; its stage is gone afterwards. Hold the folder's lock.

    Raises LocalError for what the file system refuses, UsageError where the tokenizer can't be read.
    """
    with staging(folder, config) as writer, Assembly(writer, journals, config) as assembly:
        yield assembly.finish()


# -- beside the run ------------------------------------------------------------------------------------------------


class Follower:
    """A process that makes the dataset of `folder` behind the run that fills `journal`. Hold the folder's lock.

    It reads the journal alone, at a lower priority, in a session of its own so that a Ctrl-C in the terminal does not
    reach it. However its parent ends, it ends; its stage with it.
    """

    def __init__(self, folder: Path, journal: Path, config: BuildConfig) -> None:
        start = f"import os, sys; os.nice({NICE}); sys.path[:] = {sys.path!a}; from r1k_builder.assemble import main; main()"
        command = [sys.executable, "-c", start]
        pipe = subprocess.PIPE
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # more of them wait for one another, and slow the run down
        self.process = subprocess.Popen(  # noqa: S603  # our own code
            command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True
        )
        """Its standard error is ours."""
        self._tell({"folder": str(folder), "journal": str(journal), "config": config.model_dump(mode="json")})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        with self.process as process:
            with suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]  # it is a pipe; closed, it bids the process end
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()

    def hurry(self) -> None:
        """Begin with what is left: nothing more will be answered."""
        self._tell("finish")

    def finish(self) -> Made:
        """Have all that is left brought in. The stage stays until `__exit__`.

        Raises what `assembled` does; RuntimeError where the process has died of a bug, which it has printed.
        """
        self.hurry()
        said = self.process.stdout.readline()  # type: ignore[union-attr]  # it is a pipe
        if not said.endswith(b"\n"):
            self._explain_end()
        answer = json.loads(said)
        if "error" in answer:
            raise (LocalError if answer["local"] else UsageError)(answer["error"])
        return Made(Path(answer["stage"]), answer["made"], answer["damaged"])

    def _tell(self, line: Any) -> None:
        with suppress(BrokenPipeError):  # it has ended: `finish` says of what
            self.process.stdin.write(json.dumps(line).encode() + b"\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]

    def _explain_end(self) -> NoReturn:
        status = self.process.wait()
        if status < 0:
            raise LocalError(
                f"the process that makes the dataset was killed by signal {-status}, for want of memory perhaps:"
                " type r1k-build --resume to make the dataset (what is answered is not asked again)"
            )
        raise RuntimeError(f"the process that makes the dataset has ended with status {status}")


def main() -> None:
    """The follower's own process: a task on stdin, then `"finish"`; one answer on stdout, all in JSON lines.

    The end of stdin ends it, whatever it is at.
    """
    relax_collector()
    signal.signal(signal.SIGTERM, _leave)
    orders = os.fdopen(0, "rb", buffering=0, closefd=False)  # a buffer's lock, held by the thread, would fail the exit
    task = json.loads(orders.readline() or "null")
    if task is None:
        return
    finish = threading.Event()
    threading.Thread(target=_listen, args=(orders, finish, threading.get_ident()), daemon=True).start()
    try:
        folder, config = Path(task["folder"]), BuildConfig.model_validate(task["config"])
        with staging(folder, config) as writer, Assembly(writer, [Path(task["journal"])], config) as assembly:
            while not finish.wait(0 if assembly.step() else POLL):
                pass
            made = assembly.finish()
            _answer({"stage": str(made.stage), "made": made.manifest, "damaged": made.damaged})
            threading.Event().wait()  # the parent takes the stage's files, then closes stdin
    except R1kError as error:
        _answer({"error": str(error), "local": isinstance(error, LocalError)})
    except sqlite3.Error as error:
        _answer({"error": str(local_error(error, Path(task["journal"]))), "local": True})


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


def _answer(answer: Mapping[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the parent has gone
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
