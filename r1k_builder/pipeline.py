"""The whole flow: rows out of the journal's source, through the flows, answered by the journal or else by the teacher.

One task per row in flight, one pool of slots for requests, no barrier between stages. Whatever stops the run (a signal,
the host, the budget, the disk) stops the sending; what is in flight is waited for, `grace` seconds, and recorded.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from itertools import chain

from r1k_builder import embedded
from r1k_builder.account import Account, Stopped
from r1k_builder.config import BuildConfig
from r1k_builder.errors import Interrupted, R1kError
from r1k_builder.flow import Flow
from r1k_builder.journal import Journal
from r1k_builder.replay import FLOWS, flow_version, refused, stored
from r1k_builder.schema import Completion, Example, ForwardExample, RejectedRow, Rejection, Request
from r1k_builder.slots import Slots
from r1k_builder.teacher import Exhausted, RowRefused, Teacher

ROWS_PER_SLOT = 2
"""Rows in flight per slot: enough that one row's wait for the journal or a retry never leaves a slot idle."""


class Pipeline:
    """One run over the rows that are not settled. Its attributes are what a display shows while it goes on."""

    def __init__(self, config: BuildConfig, journal: Journal) -> None:
        self.config = config
        self.journal = journal
        self.slots = Slots(config.concurrency)
        self.account: Account | None = None
        self.teacher: Teacher | None = None
        self.version = flow_version(config)
        self.began = time.time()
        self._admitted = asyncio.Semaphore(ROWS_PER_SLOT * config.concurrency)
        self._rows: set[asyncio.Task[None]] = set()
        self._asking: dict[str, asyncio.Event] = {}
        self._draining: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Ask for everything that is owed. Raises the R1kError that stopped it, after draining."""
        self.account = Account(self.config, self.journal)
        examples = self.journal.examples(self.config.rows, unless_settled=self.version)
        first = next(examples, None)
        if first is None:
            return  # nothing is owed: no key, no host and no room on disk are needed
        self.journal.lay_ballast(self.config.concurrency)
        self._catch_signals()
        try:
            async with AsyncExitStack() as stack:
                url = self.config.teacher.url
                if url is None:
                    url = await stack.enter_async_context(embedded.serve())
                self.teacher = await stack.enter_async_context(Teacher(self.config, url, self.account, self.slots))
                await self._run_rows(chain([first], examples))
        finally:
            await self.journal.flush()
            self._release_signals()
        if self.account.stopped_by is not None:
            raise self.account.stopped_by

    def stop(self, reason: R1kError) -> None:
        """Send nothing more; drain what is in flight. A second call ends the drain."""
        assert self.account is not None  # noqa: S101  # `run` is under way
        if self.account.stopped_by is None:
            self.account.stopped_by = reason
            self._draining = asyncio.create_task(self._drain())
        elif isinstance(reason, Interrupted):
            self._cancel_rows()

    async def _run_rows(self, examples: Iterable[ForwardExample]) -> None:
        assert self.account is not None  # noqa: S101
        try:
            async with asyncio.TaskGroup() as group:
                for example in examples:
                    await self._admitted.acquire()
                    if self.account.stopped_by is not None:
                        break
                    task = group.create_task(self._run_row(example))
                    self._rows.add(task)
                    task.add_done_callback(self._row_done)
        except BaseExceptionGroup as bugs:
            raise bugs.exceptions[0] from None  # one traceback says what is wrong; its siblings say it again
        if self._draining is not None:
            await self._draining

    def _row_done(self, task: asyncio.Task[None]) -> None:
        self._rows.discard(task)
        self._admitted.release()

    async def _run_row(self, example: ForwardExample) -> None:
        """Both directions of one row, side by side; settled when both have ended."""
        drives = [self._drive(steps(example, self.config), example.pair_id) for steps in FLOWS]
        ends = await asyncio.gather(*drives, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, R1kError | Stopped | Exhausted):
                raise end
        rows = [end for end in ends if isinstance(end, Example | RejectedRow)]
        if len(rows) == len(FLOWS):
            state = "rejected" if any(isinstance(row, RejectedRow) for row in rows) else "accepted"
            self.journal.settle(example.pair_id, self.version, state)

    async def _drive(self, steps: Flow, pair_id: str) -> Example | RejectedRow:
        try:
            request = next(steps)
            while True:
                request = steps.send(await self._answer(request, pair_id))
        except StopIteration as end:
            row: Example | RejectedRow = end.value
            return row
        except R1kError as error:
            self.stop(error)  # at once: the row's other direction may have minutes to go
            raise

    async def _answer(self, request: Request, pair_id: str) -> Completion | Rejection:
        """From the journal where it was paid for, else from the teacher; a row under way goes before a new one.

        Rows that ask the same share one request.
        """
        assert self.teacher is not None  # noqa: S101
        while (known := stored(self.journal, request)) is None:
            if (asked := self._asking.get(request.key)) is None:
                break
            await asked.wait()
        else:
            return known
        self._asking[request.key] = asyncio.Event()
        try:
            return await self.teacher.complete(request, pair_id, urgency=int(request.stage == "invert"))
        except RowRefused as error:
            return refused(str(error))
        finally:
            self._asking.pop(request.key).set()

    # -- the end of a run ------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Wait for what is in flight, at most `grace` seconds; then end the rows that wait for a slot or a retry."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.slots.idle(), self.config.grace)
        self._cancel_rows()

    def _cancel_rows(self) -> None:
        for task in self._rows:
            task.cancel()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            reason = Interrupted(
                "interrupted; what was in flight has been waited for: type r1k-build --resume to go on", status
            )
            loop.add_signal_handler(number, self.stop, reason)

    def _release_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
