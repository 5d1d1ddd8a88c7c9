"""What a build shows while it goes on: a live display on a terminal, plain lines elsewhere."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r1k_builder.account import dollars
from r1k_builder.config import host_of
from r1k_builder.pipeline import Pipeline

REFRESH = 0.5
"""Seconds between two looks at the pipeline on a terminal."""

SHARE = 0.02
"""Of the time, at most, that goes into looking: the rows of a large journal take a moment to count."""

LINE_EVERY = 15.0
"""Seconds between two plain lines."""


class EndpointNow(NamedTuple):
    """One of several endpoints at a moment."""

    host: str
    answered: int
    """Requests of this run."""
    in_flight: int
    limit: int
    is_resting: bool


class Snapshot(NamedTuple):
    """A build at a moment. Counts of rows come from the journal's settled rows."""

    rows: int
    accepted: int
    rejected: int
    in_flight: int
    limit: int
    retrying: int
    next_retry: float | None
    """Seconds until the first of `retrying` goes on."""
    tokens_per_second: float
    cost: int
    """Picodollars, of all runs; and so are the next two."""
    unpriced: int
    replies: int
    seconds_left: float | None
    stopping: bool
    """Nothing more is sent; what is in flight is waited for."""
    verified: str | None = None
    """With --accepted: how many of how many."""
    batches: str | None = None
    """With --batch: what waits at the host."""
    endpoints: tuple[EndpointNow, ...] = ()
    """With several --base-url."""

    @property
    def done(self) -> int:
        return self.accepted + self.rejected


def take_snapshot(pipeline: Pipeline, done_before: int) -> Snapshot:
    """`pipeline` as it stands now; `done_before` rows were settled when it began."""
    states = pipeline.journal.states(pipeline.version, pipeline.config.rows)
    rows = pipeline.journal.source_length(pipeline.config.rows)
    elapsed = max(time.time() - pipeline.began, 1e-3)
    retrying = [moment for teacher in pipeline.teachers.values() for moment in teacher.retrying.values()]
    account = pipeline.account
    done = sum(states.values())
    rate = (done - done_before) / elapsed
    quota = pipeline.quota
    if quota is not None:
        rows = min(rows, max(done, quota.rows + quota.rows_needed))  # as many as it will take, by what is known so far
    return Snapshot(
        rows=rows,
        accepted=states.get("accepted", 0),
        rejected=states.get("rejected", 0),
        in_flight=sum(slots.in_flight for slots in pipeline.slots.values()),
        limit=sum(slots.limit for slots in pipeline.slots.values()),
        retrying=len(retrying),
        next_retry=max(0.0, min(retrying) - time.time()) if retrying else None,
        tokens_per_second=(account.completion_tokens if account else 0) / elapsed,
        cost=account.cost if account else 0,
        unpriced=account.unpriced if account else 0,
        replies=account.replies if account else 0,
        seconds_left=(rows - done) / rate if rate > 0 else None,
        stopping=account is not None and account.stopped_by is not None,
        batches=_batches(pipeline) if pipeline.config.batch or pipeline.standing else None,
        endpoints=_endpoints(pipeline),
        verified=f"{quota.verified:,}/{quota.wanted:,} verified" if quota else None,
    )


def _endpoints(pipeline: Pipeline) -> tuple[EndpointNow, ...]:
    urls = pipeline.config.teacher.urls
    slots = [(url, pipeline.slots[url]) for url in urls if len(urls) > 1]
    return tuple(EndpointNow(host_of(url), at.answered, at.in_flight, at.limit, at.resting) for url, at in slots)


def summed(parts: Sequence[Snapshot]) -> Snapshot:
    """What shards of one build show together: at least one."""
    endpoints = tuple(
        EndpointNow(
            host=same[0].host,
            answered=sum(one.answered for one in same),
            in_flight=sum(one.in_flight for one in same),
            limit=sum(one.limit for one in same),
            is_resting=all(one.is_resting for one in same),
        )
        for same in zip(*(part.endpoints for part in parts), strict=False)
    )
    retries = [part.next_retry for part in parts if part.next_retry is not None]
    left = [part.seconds_left for part in parts if part.done < part.rows]
    return Snapshot(
        rows=sum(part.rows for part in parts),
        accepted=sum(part.accepted for part in parts),
        rejected=sum(part.rejected for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        limit=sum(part.limit for part in parts),
        retrying=sum(part.retrying for part in parts),
        next_retry=min(retries, default=None),
        tokens_per_second=sum(part.tokens_per_second for part in parts),
        cost=sum(part.cost for part in parts),
        unpriced=sum(part.unpriced for part in parts),
        replies=sum(part.replies for part in parts),
        seconds_left=None if None in left else max(filter(None, left), default=0.0),
        stopping=any(part.stopping for part in parts),
        endpoints=endpoints,
    )


def shares_text(answers: Mapping[str, int], said: Mapping[str, str] | None = None) -> str:
    """Each host's share of the answers, and what is `said` of it, or else their number."""
    whole = max(1, sum(answers.values()))
    said = said or {host: f"{count:,} answers" for host, count in answers.items()}
    return ", ".join(f"{host} {count / whole:.0%} ({said[host]})" for host, count in answers.items())


def _batches(pipeline: Pipeline) -> str:
    standing = pipeline.standing
    if not standing:
        return "a batch is being gathered"
    states = ", ".join(f"{count} {status}" for status, count in sorted(Counter(one.status for one in standing).items()))
    done, requests = sum(one.done for one in standing), sum(one.requests for one in standing)
    return f"batches: {states} ({done:,} of {requests:,} requests done)"


def cost_text(cost: int, unpriced: int, replies: int) -> str:
    """Picodollars as a user reads them; what is unknown is said to be."""
    if replies and unpriced == replies:
        return "cost unknown"
    text = f"${dollars(cost):.4f}" if dollars(cost) < 1 else f"${dollars(cost):,.2f}"
    return f"{text} + {unpriced} replies of unknown cost" if unpriced else text


def describe(now: Snapshot) -> str:
    """A snapshot on one line."""
    if now.stopping:
        if not now.in_flight:
            return "stopping: nothing is in flight"
        return f"stopping: {now.in_flight} requests in flight are waited for and recorded (Ctrl-C again gives them up)"
    parts = [f"{now.done:,}/{now.rows:,} rows", now.batches or f"{now.in_flight} in flight (limit {now.limit})"]
    if now.verified:
        parts.insert(0, now.verified)
    if now.rejected:
        parts.insert(1, f"{now.rejected:,} rejected")
    if now.retrying:
        parts.append(f"{now.retrying} waiting to retry (next in {now.next_retry:.0f} s)")
    cost = cost_text(now.cost, now.unpriced, now.replies)
    parts += [cost] if now.batches else [f"{now.tokens_per_second:,.0f} tokens/s", cost]
    if now.endpoints:
        answers = {one.host: one.answered for one in now.endpoints}
        said = {one.host: f"{one.in_flight} of {one.limit}" + ", resting" * one.is_resting for one in now.endpoints}
        parts.append(shares_text(answers, said))
    if now.seconds_left is not None and not now.batches:
        parts.append(f"{duration(now.seconds_left)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def done_rows(pipeline: Pipeline) -> int:
    """How many source rows have ended."""
    return sum(pipeline.journal.states(pipeline.version, pipeline.config.rows).values())


async def watch(pipeline: Pipeline, console: Console) -> None:
    """Show `pipeline` on `console` until cancelled."""
    done_before = done_rows(pipeline)

    def is_stopping() -> bool:
        return pipeline.account is not None and pipeline.account.stopped_by is not None

    await show(lambda: take_snapshot(pipeline, done_before), is_stopping, console)


Look = Callable[[], Snapshot | None]


async def show(look: Look, is_stopping: Callable[[], bool], console: Console) -> None:
    """Show what `look` sees (None: nothing yet) on `console` until cancelled."""
    if not console.is_terminal:
        await _print_lines(look, is_stopping, console)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            began = time.perf_counter()
            if (now := look()) is not None:
                live.update(_render(now), refresh=True)
            await asyncio.sleep(max(REFRESH, (time.perf_counter() - began) / SHARE))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say that `folder` is being written, while it is."""
    console = Console(stderr=True)
    said = f"writing the dataset to {folder}"
    if console.is_terminal:
        with console.status(Text(said)):
            yield
    else:
        console.print(said, highlight=False, markup=False, soft_wrap=True)
        yield


async def _print_lines(look: Look, is_stopping: Callable[[], bool], console: Console) -> None:
    """A line now and then, and one at once when the run begins to stop."""
    printed, stopping, said = time.monotonic(), False, ""
    while True:
        await asyncio.sleep(REFRESH)
        stops = is_stopping()
        if stops != stopping or time.monotonic() - printed >= LINE_EVERY:
            printed, stopping = time.monotonic(), stops
            now = look()
            line = said if now is None else describe(now)
            if line != said:  # a batch may take a day
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            said = line


def _render(now: Snapshot) -> Group:
    bar = Table.grid(padding=(0, 1))
    bar.add_row(Text(f"{now.done / max(now.rows, 1):4.0%}"), ProgressBar(total=max(now.rows, 1), completed=now.done, width=60))
    return Group(bar, Text(describe(now)))
