"""What requests cost: reserved before they are sent, settled when their reply is read.

The recorder that the pipeline hands to the teacher. It writes the journal, and keeps
spent + reserved <= `--max-cost` at every moment, with what is in flight counted at its worst.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import ROUND_CEILING, Decimal
from typing import Any, NamedTuple

from r1k_builder.config import BuildConfig
from r1k_builder.errors import BudgetReached, R1kError, UsageError
from r1k_builder.journal import MAYBE_BILLED, Journal, RawReply
from r1k_builder.limiter import Money
from r1k_builder.reply import UnreadableReply, read_reply
from r1k_builder.schema import Completion, Request, Usage

PICO = 10**12
"""Picodollars per dollar: prices per million tokens are whole numbers of them per token."""


class Stopped(Exception):
    """The run is ending: nothing more is sent."""


class _Asked(NamedTuple):
    """What an attempt's price depends on."""

    stage: str
    batched: bool


class Account:
    """Records the attempts and replies of one run, and what they cost. Made inside the event loop.

    Raises UsageError where a cap is asked for that can't be kept.
    """

    def __init__(self, config: BuildConfig, journal: Journal, *, leased: bool = False) -> None:
        self.stopped_by: R1kError | None = None
        """Set by the pipeline when the run is to end; from then on `sent` raises Stopped."""
        self.completion_tokens = 0
        """Tokens that this run has received, reasoning included."""
        self.replies = self.cost = self.unpriced = 0
        """Of all runs, as `Spent` has them: summed as they come, for a display that asks twice a second."""
        self._journal = journal
        self._config = config
        self._cap = check_cap(config)
        self._is_final = not leased
        """There will be no more than the cap; else that is what `allow` has allowed so far."""
        self._wanted: list[int] = []
        """What requests may cost that wait for it."""
        self._reserved: dict[int, int] = {}
        self._held = 0
        """The sum of what is reserved: a batch holds thousands of requests."""
        self._asked: dict[int, _Asked] = {}
        self._changed = asyncio.Condition()
        sums = journal.spent()
        self.replies, self.cost, self.unpriced = sums.replies, sums.cost, sums.unpriced
        self.catch_up()
        self._spent = journal.spent_at_most()
        if leased and self._cap is not None:
            self._cap = self._spent

    def catch_up(self) -> None:
        """Enter what the replies cost that are in the journal and not in its ledger: those of a run that was cut off."""
        for reply in self._journal.unentered():
            batched, paid = self._journal.is_batched(reply.attempt), self._journal.is_replayed(reply.attempt)
            self._enter(reply.attempt, _Asked(reply.stage, batched), _completion(reply), paid=paid)
        self._journal.commit()

    async def sent(self, request: Request, pair_id: str, host: str, model: str, *, batched: bool = False) -> int:
        """Reserve the worst that `request` may cost, record it, return its number.

        Waits while only what is in flight stands in the way. Raises BudgetReached where even an idle build could
        pass the cap, Stopped where the run is ending, LocalError where the journal can't be written.
        """
        most = self.worst(request, batched=batched)
        if self._cap is not None:
            await self._make_room(most or 0)
        if self.stopped_by is not None:
            raise Stopped
        attempt = self._journal.next_attempt()
        self._reserve(attempt, most or 0)
        self._asked[attempt] = _Asked(request.stage, batched)
        await self._journal.sent(attempt, request, pair_id, host, model, most, batched=batched)
        return attempt

    def expect(self, attempt: int, stage: str, most: int) -> None:
        """Take over an attempt of an earlier run, which may cost `most` picodollars and waits in a batch."""
        self._spent -= most
        self._reserve(attempt, most)
        self._asked[attempt] = _Asked(stage, batched=True)

    def answered(self, host: str, model: str, sampling: Mapping[str, Any]) -> bool:
        """Whether the journal holds a usable reply of this model at this host, with this sampling."""
        return self._journal.answered(host, model, sampling)

    async def received(self, attempt: int, status: int, body: bytes, error: str | None = None) -> None:
        """Record what came back, and free the reservation of what was surely not billed."""
        await self._journal.received(attempt, status, body, error)
        if status != 200:
            self._asked.pop(attempt)
            await self._settle(attempt, self._reserved[attempt] if error in MAYBE_BILLED else 0)

    async def read(self, attempt: int, completion: Completion | None) -> None:
        """Settle an answered attempt by its usage; without usage it counts at its worst."""
        cost = self._enter(attempt, self._asked.pop(attempt), completion)
        await self._settle(attempt, self._reserved[attempt] if cost is None else cost)

    def worst(self, request: Request, *, batched: bool = False) -> int | None:
        """The most that `request` can cost, in picodollars: a token is at least a byte, and `max_tokens` are written."""
        written, price = request.sampling.get("max_tokens"), self._config.price(request.stage, batched=batched)
        if price is None or written is None:
            return None
        read = sum(len(message["content"].encode()) + 16 for message in request.messages)
        return picodollars(price.cost(read, written))

    def _enter(self, attempt: int, asked: _Asked, completion: Completion | None, *, paid: bool = False) -> int | None:
        """What a reply cost: nothing where another build has `paid` it."""
        usage = completion.usage if completion else Usage()
        cost, price = 0 if paid else None, self._config.price(asked.stage, batched=asked.batched)
        if not paid and price is not None and usage.prompt_tokens is not None and usage.completion_tokens is not None:
            cost = picodollars(price.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens or 0))
        self.completion_tokens += usage.completion_tokens or 0
        self.replies += 1
        self.cost += cost or 0
        self.unpriced += cost is None
        self._journal.enter(attempt, completion.model if completion else None, usage, cost)
        return cost

    async def _make_room(self, most: int) -> None:
        with self._wanting(most):
            async with self._changed:
                while self.stopped_by is None and self._spent + self._held + most > (self._cap or 0):
                    if not self._reserved and self._is_final:
                        spent, cap = dollars(self._spent), dollars(self._cap or 0)
                        raise BudgetReached(
                            f"the next request could pass --max-cost: ${spent:.2f} of ${cap:.2f} are spent"
                            f" and it may cost ${dollars(most):.2f}; type r1k-build --resume --max-cost MORE"
                        )
                    await self._changed.wait()

    @contextmanager
    def _wanting(self, most: int) -> Iterator[None]:
        self._wanted.append(most)
        try:
            yield
        finally:
            self._wanted.remove(most)

    def standing(self, ahead: int, *, is_tight: bool) -> Money | None:
        """What is spent, reserved and needed, with as much as `ahead` requests more; None: there is no cap.

        Where money `is_tight` what is not needed now is given back by saying so.
        """
        if self._cap is None:
            return None
        committed, least = self._spent + self._held, min(self._wanted, default=0)
        if is_tight and (not least or self._cap < committed + least):
            self._cap = committed
        wanted = sum(self._wanted) + (0 if is_tight or not self._wanted else max(self._wanted) * ahead)
        return Money(self._spent, self._held, self._cap, least, wanted)

    async def allow(self, cap: int, *, is_final: bool) -> None:
        """Spend up to `cap` from now on; `is_final`: it will not be more."""
        self._cap, self._is_final = cap, is_final
        async with self._changed:
            self._changed.notify_all()

    def _reserve(self, attempt: int, most: int) -> None:
        self._reserved[attempt] = most
        self._held += most

    async def _settle(self, attempt: int, cost: int) -> None:
        self._spent += cost
        self._held -= self._reserved.pop(attempt)
        if self._cap is not None:
            async with self._changed:
                self._changed.notify_all()


def picodollars(amount: Decimal) -> int:
    return int((amount * PICO).to_integral_value(ROUND_CEILING))


def dollars(amount: int) -> Decimal:
    return Decimal(amount) / PICO


def _completion(reply: RawReply) -> Completion | None:
    try:
        return read_reply(reply.body, key="", host=reply.host, requested_model=reply.model)
    except UnreadableReply:
        return None


def check_cap(config: BuildConfig) -> int | None:
    """`--max-cost` in picodollars. Raises UsageError where it can't be kept: no price, or no bound on an answer."""
    if config.max_cost is None:
        return None
    for model in config.models:
        prefix = "--" if model is config.teacher else "--judge-"
        if model.known_price is None:
            raise UsageError(
                f"--max-cost needs the price of {model.host_model} at {model.host}:"
                f" add {prefix}price PROMPT,COMPLETION (dollars per million tokens)"
            )
        if model.max_tokens is None:
            raise UsageError(f"--max-cost needs a bound on each answer: add {prefix}max-tokens N")
    return picodollars(config.max_cost)
