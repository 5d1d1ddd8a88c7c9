"""Adaptive concurrency: how many requests may be in flight, learned from what each endpoint refuses.

When refusals (429, 503) are more than a stray few, one that arrives while n others are in flight shows that the host
takes n: the limit becomes n. After a pause it is probed upwards, one more request per success, which doubles the limit
in each round trip. So a cap costs a handful of refusals a second, one that is lifted is filled within a few round trips,
and a host that refuses at random is not mistaken for one that is full.

Of several endpoints a request gets the one of which the largest share is free. One that fails rests, while another can
take its load, for twice as long each time; then one request tries it.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

HOLD = 1.0
"""Seconds without growth after the limit has shrunk, unless the host names a longer time."""

LONGEST_PAUSE = 60.0
"""Seconds for which one Retry-After may hold up the other rows."""

TOLERATED = 0.2
"""Share of refusals up to which they are taken for chance. Over a cap every request is refused, at once."""

MEMORY = 16
"""Outcomes over which that share, and the seconds of an answer, are averaged, exponentially."""

FAILURES = 3
"""Failures in a row after which an endpoint rests; one connection that can't be made is enough."""

FIRST_REST, LONGEST_REST = 1.0, 60.0
"""Seconds of the first rest, and of any."""


class Slots:
    """What one endpoint takes: at most `limit` requests at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = most
        self.in_flight = 0
        self.answered = 0
        """Requests since this was made."""
        self.shrunk = 0
        """How often refusals have lowered the limit."""
        self.seconds = 0.0
        """That an answer takes, on average; 0 before the first."""
        self.wakers: list[Callable[[], None]] = []
        """To be called when a slot may have become free."""
        self._refused = 0.0
        self._hold_until = 0.0
        self._closed_until = 0.0
        self._failures = 0
        self.rest = 0.0
        """Seconds that it is spared for after its failures; 0: it has answered since."""
        self._rests_until = 0.0
        self._trying = False
        """Something was sent to it since it began to rest."""
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Return once no request is in flight."""
        await self._idle.wait()

    def enter(self) -> None:
        """Take a slot. The first request after a rest goes alone: the next waits until it is answered, or for another rest."""
        self.in_flight += 1
        self._idle.clear()
        if self.resting:
            self._trying = True
            self._lie_down()

    def leave(self) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()
        self.wake()

    def wake(self) -> None:
        for wake in self.wakers:
            wake()

    def lend(self, slots: int) -> None:
        """Set the limit, from outside: it grows no more by itself."""
        self.most = self.limit = slots
        self.wake()

    @property
    def is_open(self) -> bool:
        return self.in_flight < self.limit and time.monotonic() >= self._closed_until

    @property
    def free(self) -> float:
        """The share of its slots that are."""
        return (self.limit - self.in_flight) / self.limit

    # -- what the host makes of the requests

    def succeeded(self, seconds: float = 0.0) -> None:
        """The host answered after `seconds`: probe one higher, unless the limit shrank a moment ago."""
        self.answered += 1
        self.seconds += (seconds - self.seconds) / min(self.answered, MEMORY)
        self._failures, self.rest, self._rests_until = 0, 0.0, 0.0
        self._refused -= self._refused / MEMORY
        if self.limit < self.most and time.monotonic() >= self._hold_until and self.in_flight >= self.limit:
            self.limit += 1

    def refused(self, retry_after: float | None) -> None:
        """The host refused the request whose slot is still held."""
        self._refused += (1 - self._refused) / MEMORY
        now = time.monotonic()
        others = self.in_flight - 1
        if self._refused > TOLERATED:
            self.shrunk += others < self.limit
            self.limit = max(1, min(self.limit, others))
            self._hold_until = now + max(HOLD, retry_after or 0.0)
        if others == 0 and retry_after:
            # Nothing else is in flight, so it is the rate that is too high: any request now would be refused too.
            pause = min(retry_after, LONGEST_PAUSE)
            self._closed_until = now + pause
            asyncio.get_running_loop().call_later(pause, self.wake)

    def failed(self, *, surely: bool = False) -> None:
        """The host gave neither an answer nor a refusal; `surely`: it was not even there."""
        self._failures += 1
        if self._trying if self.resting else surely or self._failures >= FAILURES:  # not again for what failed with the first
            self._trying = False
            self.rest = min(max(2 * self.rest, FIRST_REST), LONGEST_REST)
            self._lie_down()

    @property
    def resting(self) -> bool:
        """Whether it has failed and not answered since."""
        return self.rest > 0

    @property
    def is_ready(self) -> bool:
        """Whether it has never failed, or has rested."""
        return time.monotonic() >= self._rests_until

    def _lie_down(self) -> None:
        self._rests_until = time.monotonic() + self.rest
        asyncio.get_running_loop().call_later(self.rest, self.wake)


class Queue:
    """Requests that wait for a slot of any of `pools`, the most urgent first."""

    def __init__(self, pools: Sequence[Slots]) -> None:
        self.pools = pools
        self._waiting: list[tuple[int, int, asyncio.Future[Slots]]] = []
        self._order = itertools.count()
        for pool in pools:
            pool.wakers.append(self._wake)

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return sum(not turn.done() for _, _, turn in self._waiting)

    @property
    def resting(self) -> bool:
        """Whether there is no endpoint but such as have failed."""
        return all(pool.resting for pool in self.pools)

    @asynccontextmanager
    async def take(self, urgency: int) -> AsyncIterator[Slots]:
        """Hold a slot of the pool that it yields; the lowest `urgency` goes first, equals in the order they came."""
        slots = await self._acquire(urgency)
        try:
            yield slots
        finally:
            slots.leave()

    async def _acquire(self, urgency: int) -> Slots:
        turn: asyncio.Future[Slots] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._order), turn))
        self._wake()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was handed over just before
                turn.result().leave()
            raise

    def _wake(self) -> None:
        while self._waiting and (slots := self._freest()) is not None:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                slots.enter()
                turn.set_result(slots)

    def _freest(self) -> Slots | None:
        """Where the next request goes; None: nowhere now. Where all rest none is spared: each may be the first to be back."""
        able = self.pools if self.resting else [pool for pool in self.pools if pool.is_ready]
        free = [pool for pool in able if pool.is_open]
        return max(free, key=lambda pool: (pool.free, -pool.seconds), default=None)
