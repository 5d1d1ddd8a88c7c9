"""Adaptive concurrency: how many requests may be in flight, learned from what the host refuses.

A refusal (429, 503) that arrives while n others are in flight shows that the host takes n: the limit becomes n.
After a pause it is probed upwards, one more request per success, which doubles the limit in each round trip.
So a cap costs about one refusal a second, and one that is lifted is filled within a few round trips.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HOLD = 1.0
"""Seconds without growth after a refusal, unless the host names a longer time."""


class Slots:
    """At most `limit` holders at once, the most urgent first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = most
        self.in_flight = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._hold_until = 0.0
        self._closed_until = 0.0

    @asynccontextmanager
    async def take(self, urgency: int) -> AsyncIterator[None]:
        """Hold a slot; the lowest `urgency` goes first, equals in the order they came."""
        await self._acquire(urgency)
        try:
            yield
        finally:
            self.in_flight -= 1
            self._wake()

    async def _acquire(self, urgency: int) -> None:
        if not self._waiting and self._open():
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._order), turn))
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was handed over just before
                self.in_flight -= 1
                self._wake()
            raise

    def succeeded(self) -> None:
        """The host answered: probe one higher, unless it refused something a moment ago."""
        if self.limit < self.most and time.monotonic() >= self._hold_until and self.in_flight >= self.limit:
            self.limit += 1

    def refused(self, retry_after: float | None) -> None:
        """The host refused the request whose slot is still held."""
        now = time.monotonic()
        others = self.in_flight - 1
        self.limit = max(1, min(self.limit, others))
        self._hold_until = now + max(HOLD, retry_after or 0.0)
        if others == 0 and retry_after:
            # Nothing else is in flight, so it is the rate that is too high: any request now would be refused too.
            self._closed_until = now + retry_after
            asyncio.get_running_loop().call_later(retry_after, self._wake)

    def _open(self) -> bool:
        return self.in_flight < self.limit and time.monotonic() >= self._closed_until

    def _wake(self) -> None:
        while self._waiting and self._open():
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
