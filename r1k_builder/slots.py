"""Adaptive concurrency: how many requests may be in flight, learned from what the host refuses.

When refusals (429, 503) are more than a stray few, one that arrives while n others are in flight shows that the host
takes n: the limit becomes n. After a pause it is probed upwards, one more request per success, which doubles the limit
in each round trip. So a cap costs a handful of refusals a second, one that is lifted is filled within a few round trips,
and a host that refuses at random is not mistaken for one that is full.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HOLD = 1.0
"""Seconds without growth after the limit has shrunk, unless the host names a longer time."""

LONGEST_PAUSE = 60.0
"""Seconds for which one Retry-After may hold up the other rows."""

TOLERATED = 0.2
"""Share of refusals up to which they are taken for chance. Over a cap every request is refused, at once."""

MEMORY = 16
"""Outcomes over which that share is averaged, exponentially."""


class Slots:
    """At most `limit` holders at once, the most urgent first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = most
        self.in_flight = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._refused = 0.0
        self._hold_until = 0.0
        self._closed_until = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Return once no request is in flight."""
        await self._idle.wait()

    @asynccontextmanager
    async def take(self, urgency: int) -> AsyncIterator[None]:
        """Hold a slot; the lowest `urgency` goes first, equals in the order they came."""
        await self._acquire(urgency)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, urgency: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._order), turn))
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was handed over just before
                self._release()
            raise

    def _release(self) -> None:
        self.in_flight -= 1
        self._wake()
        if self.in_flight == 0:
            self._idle.set()

    def succeeded(self) -> None:
        """The host answered: probe one higher, unless the limit shrank a moment ago."""
        self._refused -= self._refused / MEMORY
        if self.limit < self.most and time.monotonic() >= self._hold_until and self.in_flight >= self.limit:
            self.limit += 1

    def refused(self, retry_after: float | None) -> None:
        """The host refused the request whose slot is still held."""
        self._refused += (1 - self._refused) / MEMORY
        now = time.monotonic()
        others = self.in_flight - 1
        if self._refused > TOLERATED:
            self.limit = max(1, min(self.limit, others))
            self._hold_until = now + max(HOLD, retry_after or 0.0)
        if others == 0 and retry_after:
            # Nothing else is in flight, so it is the rate that is too high: any request now would be refused too.
            pause = min(retry_after, LONGEST_PAUSE)
            self._closed_until = now + pause
            asyncio.get_running_loop().call_later(pause, self._wake)

    def _open(self) -> bool:
        return self.in_flight < self.limit and time.monotonic() >= self._closed_until

    def _wake(self) -> None:
        while self._waiting and self._open():
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self.in_flight += 1
                self._idle.clear()
                turn.set_result(None)
