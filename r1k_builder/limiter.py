"""One limit and one budget for the shards of a build: what each may use, and how both are known again after a loss.

Every shard says at short intervals what it holds and what it could use, and is told what it may hold until it says so again.
All of the state is in these reports: a limiter that has just started knows within a moment what the one before it knew.
A shard shrinks by itself when the host refuses; only the limiter lets it grow, by one request at first. So the host's cap
is passed by no more requests than there are shards.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from r1k_builder.slots import HOLD

EXPIRY = 5.0
"""Seconds after its last report until what a shard held goes to the others. A process that is killed holds no connection."""

DOUBLING = 0.5
"""Seconds without a refusal after which a limit that was passed before grows by twice as much at a time."""


class Use(NamedTuple):
    """What a shard holds of an endpoint, and could use."""

    held: int
    """Slots, as many as it was given; fewer where the host refused some."""
    in_flight: int
    waiting: int
    """Requests without a slot."""
    shrunk: int
    """How often the host's refusals made it shrink, since it began."""
    limit: int = 0
    """Of all shards together, as the limiter last said; 0: not known."""


class Money(NamedTuple):
    """What a shard has spent, and could spend, in picodollars."""

    spent: int
    """For certain or at worst, by its journal."""
    reserved: int
    """For what is in flight, at worst."""
    allowance: int
    """Up to where it may go, spent and reserved together."""
    least: int = 0
    """What the next request needs; 0: none waits."""
    wanted: int = 0
    """What it could use at once."""


class Report(NamedTuple):
    shard: str
    uses: Mapping[str, Use]
    """By endpoint."""
    money: Money | None = None
    """None: there is no budget to keep."""


class Lease(NamedTuple):
    slots: Mapping[str, int]
    """By endpoint: the requests that may be in flight."""
    limits: Mapping[str, int]
    """Of all shards together, to be said again."""
    allowance: int = 0
    is_tight: bool = False
    """What is not needed at once is to be given back."""
    is_final: bool = False
    """There will be no more."""


@dataclass
class _Share:
    use: Use
    lease: int
    heard: float

    @property
    def demand(self) -> int:
        return self.use.in_flight + self.use.waiting

    @property
    def taken(self) -> int:
        """What it may have in flight: it learns of a smaller lease only now."""
        return max(self.lease, self.use.held, self.use.in_flight)


class Limit:
    """The adaptive limit of one endpoint, shared by `shards`."""

    def __init__(self, most: int, shards: int, now: float) -> None:
        self.limit = most
        self._most = most
        self._shards = shards
        self._began = now
        self._hold_until = 0.0
        self._shares: dict[str, _Share] = {}

    def lease(self, shard: str, use: Use, now: float) -> int:
        """How many requests `shard` may have in flight until its next report."""
        self._shares = {name: share for name, share in self._shares.items() if now - share.heard < EXPIRY}
        before = self._shares.pop(shard, None)
        others = sum(share.taken for share in self._shares.values())
        if before is None and use.limit:  # it knows a limit that this limiter has not known
            self.limit = min(self.limit, use.limit)
            self._hold_until = now + HOLD
        if before is not None and use.shrunk > before.use.shrunk:
            self.limit = max(1, min(self.limit, others + use.held))
            self._hold_until = now + HOLD
        self._grow(use, others, now)
        share = self._shares[shard] = _Share(use, 0, now)
        silent = self._shards - len(self._shares) if now - self._began < EXPIRY else 0
        kept = silent * (self.limit // self._shards)  # those that have not reported may hold that already
        share.lease = max(0, min(self._part(share, silent), self.limit - others - kept))
        return share.lease

    def leave(self, shard: str) -> None:
        """What a shard held that has ended goes to the others at once."""
        self._shares.pop(shard, None)

    def _grow(self, use: Use, others: int, now: float) -> None:
        """Probe upwards where all that may be in flight is, and more waits."""
        is_full = use.in_flight >= use.held and use.waiting and others + use.held >= self.limit
        if self.limit < self._most and is_full and now >= self._hold_until:
            step = 2 ** min(12, int((now - self._hold_until) / DOUBLING))
            self.limit = min(self._most, self.limit + max(1, min(step, use.held)))

    def _part(self, share: _Share, silent: int) -> int:
        """The part of one share: what it can use, where there is enough; else so much that all get the same who use that up.

        `silent` shards are taken for such as could use any number.
        """
        left = self.limit
        demands = sorted([*(other.demand for other in self._shares.values()), *[self.limit] * silent])
        for served, demand in enumerate(demands):
            equal = math.ceil(left / (len(demands) - served))
            if demand > equal:
                return min(share.demand, equal)
            left -= demand
        return share.demand + left // len(demands)


class Budget:
    """`cap` picodollars for `shards` shards: the sum of their allowances never passes it."""

    def __init__(self, cap: int, shards: int) -> None:
        self._cap = cap
        self._shards = shards
        self._known: dict[str, Money] = {}

    @property
    def spent(self) -> int:
        return sum(money.spent for money in self._known.values())

    def lease(self, shard: str, money: Money) -> tuple[int, bool, bool]:
        """The allowance of `shard`, whether money is tight, and whether there will be no more.

        An allowance is never lowered: what a shard gives back it has given back before it reports. One that is not heard
        of keeps its own until its journal has been read again; and nothing is given out before every shard was heard.
        """
        money = money._replace(allowance=max(money.allowance, money.spent + money.reserved))
        self._known[shard] = money
        heard = len(self._known) == self._shards
        free = max(0, self._cap - sum(known.allowance for known in self._known.values())) if heard else 0
        need = money.spent + money.reserved + money.wanted - money.allowance
        least = money.spent + money.reserved + money.least - money.allowance
        given = max(0, min(need, free // self._shards))
        if least > given:
            given = least if least <= free else 0
        self._known[shard] = money._replace(allowance=money.allowance + given)
        tight = free - given < sum(known.wanted for known in self._known.values())
        return money.allowance + given, tight, heard and least > free and self._nothing_comes_back()

    def _nothing_comes_back(self) -> bool:
        return all(known.allowance == known.spent for known in self._known.values())


class Limiter:
    """The limits of every endpoint and the budget, for the shards of one build."""

    def __init__(self, most: int, shards: int, cap: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._most = most
        self._shards = shards
        self._limits: dict[str, Limit] = {}
        self.budget = None if cap is None else Budget(cap, shards)

    def report(self, report: Report) -> Lease:
        """Take in what a shard holds, and say what it may hold."""
        now, slots = self._clock(), {}
        for endpoint, use in report.uses.items():
            limit = self._limits.setdefault(endpoint, Limit(self._most, self._shards, self._began))
            slots[endpoint] = limit.lease(report.shard, use, now)
        limits = {endpoint: self._limits[endpoint].limit for endpoint in slots}
        if self.budget is None or report.money is None:
            return Lease(slots, limits)
        return Lease(slots, limits, *self.budget.lease(report.shard, report.money))

    def leave(self, shard: str, money: Money | None) -> None:
        """A shard has ended, having spent what `money` says."""
        for limit in self._limits.values():
            limit.leave(shard)
        if self.budget is not None and money is not None:
            self.budget.lease(shard, money._replace(reserved=0, allowance=money.spent, least=0, wanted=0))
