"""The whole flow: rows out of the journal's source, through the flows, answered by the journal or else by the teacher.

One task per row in flight, one pool of slots for requests, no barrier between stages. Whatever stops the run (a signal,
the host, the budget, the disk) stops the sending; what is in flight is waited for, `grace` seconds, and recorded.
"""

import asyncio
import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from itertools import chain

from r1k_builder.accepted import Quota
from r1k_builder.account import Account, Stopped
from r1k_builder.batch import Batches, Standing
from r1k_builder.config import EMBEDDED, BuildConfig, TeacherConfig
from r1k_builder.embedded.host import serve
from r1k_builder.errors import Interrupted, LocalError, R1kError
from r1k_builder.flow import NO_BENCHMARKS, Flow
from r1k_builder.journal import Journal
from r1k_builder.journals import Journals
from r1k_builder.replay import FLOWS, flow_version, outcome, refused, stored
from r1k_builder.schema import Completion, Example, ForwardExample, Outcome, RejectedRow, Rejection, Request
from r1k_builder.slots import Queue, Slots
from r1k_builder.teacher import Exhausted, RowRefused, Teacher
from r1k_builder.verify import Benchmarks, Mathematics

UNCOUNTED_PER_SLOT = 32
"""Rows per slot, at most, that wait behind one that has not ended, with --accepted, which counts in source order."""

ROWS_PER_SLOT = 2
"""Rows in flight per slot: enough that one row's wait for the journal or a retry never leaves a slot idle."""


class Pipeline:
    """One run over the rows that are not settled. Its attributes are what a display shows while it goes on."""

    def __init__(
        self,
        config: BuildConfig,
        journal: Journal,
        quota: Quota | None = None,
        benchmarks: Benchmarks = NO_BENCHMARKS,
        known: Journals | None = None,
        *,
        leased: bool = False,
    ) -> None:
        """`leased`: slots and budget are none at first, and what is lent later."""
        self.config = config
        self.journal = journal
        self._known = known or Journals([journal])
        """The journal, and others in which its rows may have been answered."""
        self.slots = {url: Slots(config.concurrency) for model in config.models for url in model.urls or (EMBEDDED,)}
        """Of each endpoint, by its URL: one that refuses must not slow the others down."""
        self._leased = leased
        for slots in self.slots.values() if leased else ():
            slots.lend(0)
        self._turns: dict[tuple[str, ...], Queue] = {}
        """Where the requests wait that any of the same endpoints can take."""
        self.account: Account | None = None
        self.teachers: dict[str, Teacher] = {}
        """By stage, who answers: the teacher, and for `judge` the judge."""
        self.quota = quota
        """Rows to be verified, with --accepted: counted here, it ends the run."""
        self._benchmarks = benchmarks
        self._mathematics = Mathematics()
        """As in the assembly, so that both count alike; only towards a quota is anything compared here."""
        self.version = flow_version(config)
        self.began = time.time()
        self._most = config.concurrency * max(1, len(config.teacher.urls))
        """Requests to the teacher in flight, at most."""
        self._admitted = asyncio.Semaphore(config.batch_size if config.batch else ROWS_PER_SLOT * self._most)
        self._rows: set[asyncio.Task[None]] = set()
        self._asking: dict[str, asyncio.Event] = {}
        self._draining: asyncio.Task[None] | None = None
        self._uncounted: deque[tuple[ForwardExample, asyncio.Task[None]]] = deque()
        """Rows that were begun with and do not count towards the quota yet, in source order."""
        self._ended = asyncio.Event()
        """A row has, since this was last cleared."""

    async def run(self) -> None:
        """Ask for everything that is owed. Raises the R1kError that stopped it, after draining."""
        with self._mathematics:
            await self._run()

    async def _run(self) -> None:
        self.account = Account(self.config, self.journal, leased=self._leased)
        examples = self._owed()
        first = next(examples, None)
        if first is None:
            return  # nothing is owed: no key, no host and no room on disk are needed
        self.journal.lay_ballast(self.config.concurrency * len(self.slots))
        self._catch_signals()
        try:
            async with AsyncExitStack() as stack:
                for stage, model in zip(("teacher", "judge"), self.config.models, strict=False):
                    urls = model.urls or (await stack.enter_async_context(serve()),)
                    self.teachers[stage] = await stack.enter_async_context(self._teacher(model, urls, self.account))
                await self._run_rows(chain([first], examples))
        finally:
            await self.journal.flush()
            self._release_signals()
        if self.account.stopped_by is not None:
            with contextlib.suppress(LocalError):
                self.account.catch_up()  # a drain ends when the host has answered, before all of it is in the ledger
            raise self.account.stopped_by

    def _teacher(self, model: TeacherConfig, urls: tuple[str, ...], account: Account) -> Teacher:
        """One that asks in batches where it is to, or where batches of an earlier run wait at the host."""
        names = model.urls or (EMBEDDED,)
        slots = {url: self.slots[name] for url, name in zip(urls, names, strict=True)}
        if (turns := self._turns.get(names)) is None:
            turns = self._turns[names] = Queue(list(slots.values()))
        left = any((batch.host, batch.model) == (model.host, model.host_model) for batch in self.journal.batches())
        if self.config.batch or left:
            return Batches(self.config, model, slots, turns, account, self.journal)
        return Teacher(self.config, model, slots, turns, account)

    @property
    def standing(self) -> list[Standing]:
        """How far the batches have come that wait at a host."""
        asked = (teacher for teacher in self.teachers.values() if isinstance(teacher, Batches))
        return [standing for teacher in asked for standing in teacher.standing.values()]

    @property
    def short(self) -> bool:
        """Whether the rows of the journal were too few for --accepted."""
        return self.quota is not None and not self.quota.reached

    def _owed(self) -> Iterator[ForwardExample]:
        """The source rows to go through, in order. Towards a quota those that have ended are counted, up to the first that
        is owed; from there on every row is gone through again, by the journal where it was answered."""
        if self.quota is None:
            yield from self.journal.examples(self.config.rows, unless_settled=self.version)
            return
        examples = self.journal.examples(self.config.rows)
        for example in examples:
            found = self._outcome(example)
            if found.state == "failed":
                yield example
                break
            self.quota.take(found)
            if self.quota.reached:
                return
        yield from examples

    def stop(self, reason: R1kError) -> None:
        """Send nothing more; drain what is in flight. A second call ends the drain."""
        assert self.account is not None  # noqa: S101  # `run` is under way
        if self.account.stopped_by is None:
            self.account.stopped_by = reason
            self._draining = asyncio.create_task(self._drain())
        elif isinstance(reason, Interrupted):
            self._cancel_rows()
        self._ended.set()

    async def _run_rows(self, examples: Iterable[ForwardExample]) -> None:
        assert self.account is not None  # noqa: S101
        try:
            async with asyncio.TaskGroup() as group:
                for example in examples:
                    await self._admitted.acquire()
                    if not await self._wanted() or self.account.stopped_by is not None:
                        break
                    task = group.create_task(self._run_row(example))
                    self._rows.add(task)
                    task.add_done_callback(self._row_done)
                    if self.quota is not None:
                        self._uncounted.append((example, task))
            self._count()
        except BaseExceptionGroup as bugs:
            raise bugs.exceptions[0] from None  # one traceback says what is wrong; its siblings say it again
        if self._draining is not None:
            await self._draining

    def _row_done(self, task: asyncio.Task[None]) -> None:
        self._rows.discard(task)
        self._admitted.release()
        self._ended.set()

    async def _wanted(self) -> bool:
        """Whether to begin with one more row. Towards a quota, wait until it is likely to be needed."""
        assert self.account is not None  # noqa: S101
        if self.quota is None:
            return True
        while self.account.stopped_by is None:
            self._ended.clear()
            self._count()
            if self.quota.reached:
                return False
            if len(self._uncounted) < min(self.quota.rows_needed, UNCOUNTED_PER_SLOT * self._most):
                return True
            await self._ended.wait()
        return False

    def _count(self) -> None:
        """Count the rows that have ended, in source order, towards the quota."""
        while self.quota is not None and not self.quota.reached and self._uncounted and self._uncounted[0][1].done():
            self.quota.take(self._outcome(self._uncounted.popleft()[0]))

    def _outcome(self, example: ForwardExample) -> Outcome:
        return outcome(self._known.of(example.pair_id), self.config, example, self._benchmarks, self._mathematics.same_answer)

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
        answers = self._known.of(pair_id)
        while (known := stored(answers, request)) is None:
            if (asked := self._asking.get(request.key)) is None:
                break
            await asked.wait()
        else:
            return known
        if self.quota is not None and self.quota.reached:
            raise Stopped  # this row is behind the last one of the dataset
        self._asking[request.key] = asyncio.Event()
        try:
            teacher = self.teachers["judge" if request.stage == "judge" else "teacher"]
            return await teacher.complete(request, pair_id, urgency=int(request.stage == "invert"))
        except RowRefused as error:
            return refused(str(error))
        finally:
            self._asking.pop(request.key).set()

    def waiting(self, url: str) -> int:
        """Requests that wait for a slot of this endpoint, or of another that would do as well."""
        return sum(turns.waiting for urls, turns in self._turns.items() if url in urls)

    # -- the end of a run ------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Wait for what is in flight, at most `grace` seconds; then end the rows that wait for a slot or a retry."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(slots.idle() for slots in self.slots.values())), self.config.grace)
        self._cancel_rows()

    def _cancel_rows(self) -> None:
        for task in self._rows:
            task.cancel()

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # who runs this elsewhere has them, and calls `stop`
        loop = asyncio.get_running_loop()
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            reason = Interrupted(
                "interrupted; what was in flight has been waited for: type r1k-build --resume to go on", status
            )
            loop.add_signal_handler(number, self.stop, reason)

    def _release_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
