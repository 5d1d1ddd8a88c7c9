"""Makes the dataset while the run goes on: batches of settled rows are read back from the journal, turned into tables and
written, in a thread that works while the teacher thinks.

A row that is still owed holds up the writing of what stands behind it, not its preparation: prepared batches wait in a
scratch file. What is left when the run ends is done then. The bytes do not depend on what was done when.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from r1k_builder.config import BuildConfig
from r1k_builder.export import BATCH_ROWS, Batch, DatasetWriter, Shelf
from r1k_builder.journal import JournalView
from r1k_builder.replay import flow_version, outcome

POLL = 0.5
"""Seconds between two looks at what has settled."""


class Assembly:
    """Brings the rows of a journal into a DatasetWriter, in source order. The source must be in the journal."""

    def __init__(self, writer: DatasetWriter, journal: Path, config: BuildConfig) -> None:
        self.damaged: list[str] = []
        """Settled rows (their pair_id) whose replies can't be read any more: they are owed again."""
        self.writer = writer
        self._config = config
        self._view = JournalView(journal)
        self._version = flow_version(config)
        self._rows = min(self._view.source_length(), config.rows or 2**62)
        self._settled: Counter[int] = Counter()
        self._seen = 0
        self._next = 0
        self._shelf = Shelf(writer.stage)
        self._places: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="assembly", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._stop()
        self._shelf.close()
        self._view.close()

    def follow(self) -> None:
        """Begin to work behind the run."""
        self._thread.start()

    def finish(self) -> None:
        """Stop following and bring in all that is left. Raises what went wrong in the thread."""
        self._stop()
        if self._error is not None:
            raise self._error
        for number in range(self._next, -(-self._rows // BATCH_ROWS)):
            self.writer.put(self._unshelve(number) if number in self._places else self._prepare(number))

    def _stop(self) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _follow(self) -> None:
        try:
            while not self._ended.wait(POLL):
                for number in self._completed():
                    self._take(number)
                    if self._ended.is_set():
                        break
        except BaseException as error:  # noqa: BLE001  # raised again by `finish`, in the thread that can act on it
            self._error = error

    def _completed(self) -> Iterable[int]:
        """The batches whose last row has settled since the last look."""
        completed = []
        while page := self._view.settled_after(self._seen, self._version, self._rows):
            for self._seen, position in page:  # the next page starts after this one's last row
                number = position // BATCH_ROWS
                self._settled[number] += 1
                if self._settled[number] == min(BATCH_ROWS, self._rows - number * BATCH_ROWS):
                    completed.append(number)
        return completed

    def _take(self, number: int) -> None:
        """Write a batch if its turn has come, and those that waited for it; else let it wait."""
        batch = self._prepare(number)
        if number != self._next:
            self._places[number] = len(self._places)
            self._shelf.extend([batch.pack()])
            return
        self.writer.put(batch)
        self._next += 1
        while self._next in self._places:
            self.writer.put(self._unshelve(self._next))
            self._next += 1

    def _unshelve(self, number: int) -> Batch:
        return Batch.unpack(self._shelf.read(self._places[number]))

    def _prepare(self, number: int) -> Batch:
        start = number * BATCH_ROWS
        examples = self._view.examples(min(start + BATCH_ROWS, self._rows), start=start)
        outcomes = [outcome(self._view, self._config, example) for example in examples]
        self.damaged += [
            found.source.pair_id
            for found in outcomes
            if found.state == "failed" and self._view.is_settled(found.source.pair_id, self._version)
        ]
        return self.writer.prepare(outcomes)
