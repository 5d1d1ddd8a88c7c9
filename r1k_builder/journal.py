"""The durable record of everything asked and answered: one SQLite file in the output folder's `.build/`.

    source    the rows read, in order: what a resume or an export needs no source for
    request   canonical JSON of each request, under its SHA-256
    attempt   written before a request is sent
    reply     the raw bytes that came back, written before they are parsed, priced or judged
    ledger    tokens and cost of each reply: derived, recomputed where it is missing
    settled   rows whose flow has ended: derived, spares a resume the re-reading
    replayed  attempts that another build made and paid: whose replies were taken from it
    batch     the batches that were handed to a host, and how far each is known to have come
    batched   attempts that are sent in a batch, and in which (none yet: it is being gathered)

`database.py` has these tables. A shard's journal holds the source rows of its share alone, at their places in the source.

An attempt without a reply was in flight when its run ended, but for one in a batch: that waits at the host. Writes are
grouped: an operation waits at most `GROUP_WAIT` for company, then the group is committed (fsync) off the event loop.
"""

import asyncio
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from r1k_builder.database import connect, disk_full, local_error
from r1k_builder.packing import unpack
from r1k_builder.reply import is_bad_request
from r1k_builder.salvage import open_sound
from r1k_builder.schema import ForwardExample, Request, Usage

GROUP_WAIT = 0.004
"""Seconds that a group waits for more operations; with the commit itself well under the promised 50 ms."""

BALLAST = 512 * 1024
BALLAST_PER_SLOT = 256 * 1024
"""Bytes set aside, and per slot, so that a full disk can't cost an answer: one that waits for its commit, and the next."""

PAGE = 64
"""Source rows that are read at a time."""

MAYBE_BILLED = ("timeout", "cut")
"""Errors after which the host may have worked, and billed, all the same (`lost` counts them)."""


class RawReply(NamedTuple):
    """A reply of status 200 as it came, with what provenance needs."""

    attempt: int
    host: str
    model: str
    body: bytes
    stage: str = ""
    """What was asked, where that is needed."""


class StoredReply(NamedTuple):
    """All that the journal knows of a reply; `cost` in picodollars (None: unknown), whoever paid it."""

    key: str
    stage: str
    content: str
    """The request's canonical JSON."""
    pair_id: str
    host: str
    host_model: str
    status: int
    returned_model: str | None
    body: bytes
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    sent: float
    received: float
    cost: int | None


class Batch(NamedTuple):
    """Requests that were handed to a host in one file."""

    id: int
    host: str
    model: str
    tag: str
    """Given to the host with the batch, to know it by."""
    digest: str
    """SHA-256 of the file."""
    made: float
    file: str | None = None
    """The file's id at the host."""
    remote: str | None = None
    """The batch's id at the host; None where it is not known whether it was made."""
    requests: int = 0
    """How many of its requests have no answer yet."""


class Waiting(NamedTuple):
    """An attempt in a batch that has no answer yet."""

    attempt: int
    key: str
    stage: str
    most: int
    """What it may cost, in picodollars."""


class Spent(NamedTuple):
    """Sums over the ledger. Costs are in picodollars (1e-12 $), so that every price is a whole number a token."""

    replies: int
    prompt: int
    cached: int
    completion: int
    reasoning: int
    cost: int
    unpriced: int
    """Replies without a known cost: usage missing, or price unknown."""


SUMS = (
    "count(*), coalesce(sum(prompt), 0), coalesce(sum(cached), 0), coalesce(sum(completion), 0), coalesce(sum(reasoning), 0),"
    " coalesce(sum(cost), 0), coalesce(sum(cost IS NULL), 0)"
)
"""The columns of a `Spent`."""


class Lost(NamedTuple):
    """Attempts that were sent and have no reply."""

    attempts: int
    most: int
    """What they may have cost, at worst, in picodollars."""


WAITING = (
    "FROM batch JOIN batched ON batched.batch = batch.id JOIN attempt ON attempt.id = batched.attempt"
    " JOIN request USING (key) LEFT JOIN reply ON reply.attempt = attempt.id"
    " WHERE batch.ended IS NULL AND file IS NOT NULL AND reply.attempt IS NULL"
)
"""The attempts that wait for an answer in a batch. One whose file never reached the host was never sent."""


@dataclass
class _Group:
    """Operations that are committed together."""

    operations: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None


class JournalView:
    """A journal opened for reading alone, also while a build writes it. Raises LocalError where it can't be opened."""

    def __init__(self, path: Path, note: Callable[[str], None] = lambda _: None, *, shared: bool | None = None) -> None:
        self.path = path
        self._note = note
        self._db = connect(path, read_only=True, shared=shared)

    def get(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def source_length(self, stop: int | None = None) -> int:
        """How many source rows there are before position `stop`."""
        return int(self._db.execute("SELECT count(*) FROM source WHERE position < ?", (stop or 2**62,)).fetchone()[0])

    def source_read(self) -> int:
        """The position up to which the source has been read; a shard holds few of the rows before it."""
        return int(self.get("source_read") or self.source_length())

    def asked_length(self) -> int:
        """The position behind the last source row that anything was asked for."""
        query = "SELECT coalesce(max(position), -1) + 1 FROM source WHERE pair_id IN (SELECT pair_id FROM attempt)"
        return int(self._db.execute(query).fetchone()[0])

    def answered(self, host: str, model: str, sampling: Mapping[str, Any]) -> bool:
        """Whether a model at a host has answered any request of this sampling with tokens that it counted."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM attempt JOIN ledger ON ledger.attempt = attempt.id"
            " JOIN request ON request.key = attempt.key"
            " WHERE host = ? AND attempt.model = ? AND completion > 0 AND json_extract(content, '$.sampling') = json(?))"
        )
        return bool(
            self._db.execute(query, (host, model, json.dumps(dict(sampling), sort_keys=True, ensure_ascii=False))).fetchone()[0]
        )

    def begun(self) -> bool:
        """Whether a build has read or asked anything. Its source rows alone may be away, while they are read anew."""
        return bool(self._db.execute("SELECT EXISTS (SELECT 1 FROM source) OR EXISTS (SELECT 1 FROM attempt)").fetchone()[0])

    def examples(
        self, stop: int | None = None, *, start: int = 0, unless_settled: str | None = None
    ) -> Iterator[ForwardExample]:
        """The source rows from position `start` to `stop`, in order, without those settled under the flow `unless_settled`."""
        return (example for _, example in self.placed_examples(stop, start=start, unless_settled=unless_settled))

    def placed_examples(
        self, stop: int | None = None, *, start: int = 0, unless_settled: str | None = None
    ) -> Iterator[tuple[int, ForwardExample]]:
        """The same, each with its position."""
        after = start - 1
        query = (
            "SELECT position, checksum, CAST(example AS BLOB) FROM source WHERE position > ? AND position < ? AND NOT EXISTS"
            " (SELECT 1 FROM settled WHERE settled.pair_id = source.pair_id AND settled.flow = ?) ORDER BY position LIMIT ?"
        )
        rows = [(after, 0, b"")] * PAGE
        while len(rows) == PAGE:
            rows = self._db.execute(query, (after, stop or 2**62, unless_settled, PAGE)).fetchall()
            for after, checksum, content in rows:  # the next page starts after this one's last row
                yield after, ForwardExample.model_validate_json(unpack(content, checksum) or content)

    def placed_states(self, flow: str, stop: int) -> Iterator[tuple[int, str | None]]:
        """The position of each source row before `stop`, in order, and its state under `flow` (None: it is owed)."""
        query = (
            "SELECT position, state FROM source LEFT JOIN settled ON settled.pair_id = source.pair_id AND flow = ?"
            " WHERE position < ? ORDER BY position"
        )
        return iter(self._db.execute(query, (flow, stop)))

    def settled_after(self, mark: int, flow: str, stop: int) -> list[tuple[int, int]]:
        """Some of the rows before position `stop` that settled under `flow` after `mark`: the new mark and the position."""
        query = (
            "SELECT settled.rowid, position FROM settled JOIN source USING (pair_id)"
            " WHERE settled.rowid > ? AND flow = ? AND position < ? ORDER BY settled.rowid LIMIT 10000"
        )
        return list(self._db.execute(query, (mark, flow, stop)))

    def rows_per_batch(self, size: int, stop: int) -> dict[int, int]:
        """How many source rows there are in each batch of `size` positions, counted from 0, that lie before position `stop`."""
        query = "SELECT position / ?, count(*) FROM source WHERE position < ? GROUP BY 1 ORDER BY 1"
        return dict(self._db.execute(query, (size, stop)))

    def is_settled(self, pair_id: str, flow: str) -> bool:
        query = "SELECT 1 FROM settled WHERE pair_id = ? AND flow = ?"
        return self._db.execute(query, (pair_id, flow)).fetchone() is not None

    def replies(self, key: str) -> list[RawReply]:
        """Every sound reply of status 200 to the request `key`, oldest first. A damaged one is named and left out."""
        query = (
            "SELECT attempt.id, host, model, checksum, body FROM attempt JOIN reply ON reply.attempt = attempt.id"
            " WHERE key = ? AND status = 200 ORDER BY attempt.id"
        )
        found = []
        for number, host, model, checksum, stored in self._db.execute(query, (key,)):
            if (body := unpack(stored, checksum)) is not None:
                found.append(RawReply(number, host, model, body))
            else:
                self._note(f"{self.path}: the reply to attempt {number} is damaged; its request counts as unanswered")
        return found

    def unentered(self) -> Iterator[RawReply]:
        """Replies that a crash kept out of the ledger."""
        missing = "SELECT attempt FROM reply WHERE status = 200 AND attempt NOT IN (SELECT attempt FROM ledger)"
        query = (
            "SELECT checksum, body, host, model, coalesce(stage, '') FROM attempt JOIN reply ON reply.attempt = id"
            " LEFT JOIN request USING (key) WHERE id = ?"
        )
        for (attempt,) in self._db.execute(missing).fetchall():
            checksum, body, host, model, stage = self._db.execute(query, (attempt,)).fetchone()
            yield RawReply(attempt, host, model, unpack(body, checksum) or body, stage)

    def spent(self) -> Spent:
        return Spent(*self._db.execute(f"SELECT {SUMS} FROM ledger").fetchone())  # noqa: S608  # a constant of ours

    def spent_by_stage(self) -> dict[str, Spent]:
        """The same, of each stage that anything was asked for."""
        query = f"SELECT stage, {SUMS} FROM ledger JOIN attempt ON id = ledger.attempt JOIN request USING (key) GROUP BY stage"  # noqa: S608
        return {stage: Spent(*sums) for stage, *sums in self._db.execute(query)}

    def in_flight(self, run: int) -> Lost:
        """Attempts of a run that have no reply: on their way now, or lost with the run. Not those in a batch."""
        query = "SELECT count(*), coalesce(sum(most), 0) FROM attempt LEFT JOIN reply ON reply.attempt = id"
        query += " WHERE reply.attempt IS NULL AND id NOT IN (SELECT attempt FROM batched) AND run = ?"
        return Lost(*self._db.execute(query, (run,)).fetchone())

    def lost(self) -> Lost:
        """Attempts of all runs without a reply, given up on, or cut off: they may have been billed."""
        query = "SELECT count(*), coalesce(sum(most), 0) FROM attempt LEFT JOIN reply ON reply.attempt = id"
        query += " WHERE (reply.attempt IS NULL AND id NOT IN (SELECT attempt FROM batched)) OR error IN ('timeout', 'cut')"
        return Lost(*self._db.execute(query).fetchone())

    def batches(self) -> list[Batch]:
        """The batches that wait at a host, or may, oldest first."""
        query = (
            "SELECT batch.id, host, model, tag, digest, made, file, remote, (SELECT count(*) FROM batched LEFT JOIN reply"
            " USING (attempt) WHERE batch = batch.id AND reply.attempt IS NULL) FROM batch"
            " WHERE ended IS NULL AND file IS NOT NULL ORDER BY id"
        )
        return [Batch(*row) for row in self._db.execute(query)]

    def waiting(self, batch: int | None = None) -> list[Waiting]:
        """The attempts that wait in a batch, or in any."""
        query = f"SELECT attempt.id, key, stage, coalesce(most, 0) {WAITING} AND ? IN (batch.id, 0)"
        return [Waiting(*row) for row in self._db.execute(query, (batch or 0,))]

    def replies_in_batches(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM ledger JOIN batched USING (attempt)").fetchone()[0])

    def is_batched(self, attempt: int) -> bool:
        return self._db.execute("SELECT 1 FROM batched WHERE attempt = ?", (attempt,)).fetchone() is not None

    def spent_at_most(self) -> int:
        """Picodollars that are spent for certain, plus the worst of what is lost, waits in a batch, or came without usage."""
        query = "SELECT coalesce(sum(coalesce(most, 0)), 0) FROM ledger JOIN attempt ON id = ledger.attempt WHERE cost IS NULL"
        (unpriced,) = self._db.execute(query).fetchone()
        (waits,) = self._db.execute(f"SELECT coalesce(sum(most), 0) {WAITING}").fetchone()  # a constant of ours
        return self.spent().cost + self.lost().most + int(waits) + int(unpriced)

    def prompt(self, key: str) -> str | None:
        """The last message of the request `key` as it was sent."""
        found = self._db.execute("SELECT content FROM request WHERE key = ?", (key,)).fetchone()
        return None if found is None else json.loads(found[0])["messages"][-1]["content"]

    def refusals(self, key: str) -> list[bytes]:
        """The bodies of the 4xx by which the host refused the request `key`, oldest first.

        Not those of a run that the host stopped by refusing everything: they say nothing of the request.
        """
        query = (
            "SELECT status, checksum, body FROM attempt JOIN reply ON reply.attempt = attempt.id"
            " LEFT JOIN run ON run.id = attempt.run"
            " WHERE key = ? AND status BETWEEN 400 AND 499 AND outcome IS NOT 'HostRefused' ORDER BY attempt.id"
        )
        found = self._db.execute(query, (key,))
        return [unpack(body, checksum) or body for status, checksum, body in found if is_bad_request(status)]

    def states(self, flow: str, limit: int | None = None) -> dict[str, int]:
        """How many of the first `limit` source rows are settled in each state under `flow`."""
        query = "SELECT state, count(*) FROM settled WHERE flow = ? GROUP BY state"
        (last,) = self._db.execute("SELECT max(position) FROM source").fetchone()
        if limit is None or last is None or last < limit:
            return dict(self._db.execute(query, (flow,)))
        query = query.replace("WHERE", "JOIN source USING (pair_id) WHERE position < ? AND")
        return dict(self._db.execute(query, (limit, flow)))

    def returned_models(self) -> dict[str, int]:
        """Replies per model that the hosts say has answered."""
        query = "SELECT coalesce(model, 'unnamed'), count(*) FROM ledger GROUP BY 1 ORDER BY 1"
        return dict(self._db.execute(query))

    def telling_attempts(self, stop: int) -> Iterator[tuple[int, str, int]]:
        """Attempts for the source rows before position `stop` whose replies decide something, in source order: those of
        status 200, and the refusals of a request for its own sake (`refusals`). Of each the row's position, the request's
        key, and its number."""
        query = (
            "SELECT position, key, attempt.id, status FROM attempt JOIN reply ON reply.attempt = attempt.id"
            " JOIN source USING (pair_id) LEFT JOIN run ON run.id = attempt.run WHERE position < ?"
            " AND (status = 200 OR status BETWEEN 400 AND 499 AND outcome IS NOT 'HostRefused')"
            " ORDER BY position, key, attempt.id"
        )
        for position, key, number, status in self._db.execute(query, (stop,)):
            if status == 200 or is_bad_request(status):
                yield position, key, number

    def stored_reply(self, attempt: int) -> StoredReply | None:
        """All of an attempt and its reply; None where the reply is damaged."""
        query = (
            "SELECT checksum, key, stage, content, pair_id, host, attempt.model, status, ledger.model, body, prompt, cached,"
            " completion, reasoning, sent, received, CASE WHEN replayed.attempt IS NULL THEN ledger.cost ELSE replayed.cost END"
            " FROM attempt JOIN reply ON reply.attempt = attempt.id JOIN request USING (key)"
            " LEFT JOIN ledger ON ledger.attempt = attempt.id LEFT JOIN replayed ON replayed.attempt = attempt.id"
            " WHERE attempt.id = ?"
        )
        checksum, *values = self._db.execute(query, (attempt,)).fetchone()
        stored = StoredReply(*values)
        body = unpack(stored.body, checksum)
        return None if body is None else stored._replace(body=body)

    def replayed_from(self) -> dict[str, int]:
        """How many replies came from which other build."""
        return dict(self._db.execute("SELECT origin, count(*) FROM replayed GROUP BY 1 ORDER BY 1"))

    def is_replayed(self, attempt: int) -> bool:
        return self._db.execute("SELECT 1 FROM replayed WHERE attempt = ?", (attempt,)).fetchone() is not None

    def asked_here(self, stop: int) -> Iterator[tuple[int, str]]:
        """Position and `pair_id` of the source rows before `stop` that have asked this build's host, or are still to ask."""
        query = (
            "SELECT position, pair_id FROM source WHERE position < ? AND (pair_id NOT IN (SELECT pair_id FROM settled)"
            " OR pair_id IN (SELECT pair_id FROM attempt WHERE id NOT IN (SELECT attempt FROM replayed))) ORDER BY position"
        )
        return iter(self._db.execute(query, (stop,)))

    def days(self) -> tuple[str, str] | None:
        """The days (UTC) of the first answer and the last."""
        query = "SELECT date(min(received), 'unixepoch'), date(max(received), 'unixepoch') FROM reply WHERE status = 200"
        first, last = self._db.execute(query).fetchone()
        return None if first is None else (first, last)

    def seconds(self) -> Iterator[tuple[str, float]]:
        """Of each answer, its stage and the seconds that it took; in a batch nobody waits for one."""
        query = (
            "SELECT stage, received - sent FROM reply JOIN attempt ON id = attempt JOIN request USING (key) WHERE status = 200"
            " AND id NOT IN (SELECT attempt FROM batched)"
        )
        return iter(self._db.execute(query))

    def tokens_since(self, moment: float) -> int:
        """Completion tokens that came in after `moment` (epoch seconds)."""
        query = "SELECT coalesce(sum(completion), 0) FROM ledger JOIN reply USING (attempt) WHERE received > ?"
        return int(self._db.execute(query, (moment,)).fetchone()[0])

    def runs(self) -> list[tuple[int, float, float | None, str | None]]:
        """Number, begin, end (epoch seconds) and outcome of each run."""
        return list(self._db.execute("SELECT id, began, ended, outcome FROM run ORDER BY id"))

    def answers_by_host(self) -> dict[str, int]:
        """How many answers each host has given to this build."""
        query = (
            "SELECT host, count(*) FROM reply JOIN attempt ON id = attempt WHERE status = 200"
            " AND id NOT IN (SELECT attempt FROM replayed) GROUP BY 1 ORDER BY 1"
        )
        return dict(self._db.execute(query))

    def responses(self) -> dict[str, int]:
        """How many attempts of this build ended how: `ok`, an HTTP status, or the name of what happened."""
        query = (
            "SELECT CASE WHEN error IS NOT NULL THEN error WHEN status = 200 THEN 'ok' ELSE status END, count(*)"
            " FROM reply WHERE attempt NOT IN (SELECT attempt FROM replayed) GROUP BY 1"
        )
        return {str(name): count for name, count in self._db.execute(query)}

    def close(self) -> None:
        self._db.close()


class Journal(JournalView):
    """The journal of one build, open for writing. Its folder's lock must be held.

    `sent` and `received` return once their record is durable. Raises LocalError where the disk is full or read-only.
    """

    def __init__(self, path: Path, note: Callable[[str], None] = lambda _: None, *, shared: bool | None = None) -> None:
        """`shared`: on a file system that other machines see (None: as the list of mounts says)."""
        self._writer = open_sound(path, note, shared=shared)
        super().__init__(path, note, shared=shared)
        self._ballast = path.with_suffix(".ballast")
        self.full = False
        """The disk is full: what is in flight can still be written (into the ballast's space), nothing new may be sent."""
        self.make_room: Callable[[], None] = lambda: None
        """Called when the disk is full, before the ballast's room is used: whoever else writes there has to stop, or would take
        it."""
        self._pending = _Group()
        self._committing: asyncio.Task[None] | None = None
        self._last, self._last_batch = (
            int(self._db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])  # noqa: S608  # of ours
            for table in ("attempt", "batch")
        )
        self.run = 0

    def set(self, name: str, value: str) -> None:
        self._now([_set(name, value)])

    def add_source(
        self, start: int, examples: Iterable[ForwardExample], holds: Callable[[str], bool] = lambda _pair_id: True
    ) -> int:
        """Append source rows from position `start`; return how many came. A row already there is written anew.

        Of a share of the source only the rows that it `holds`, by their pair_id, are kept.
        """
        count = 0
        batch: list[tuple[str, tuple[Any, ...]]] = []
        for count, example in enumerate(examples, 1):  # the count is the result
            if not holds(example.pair_id):
                continue
            content = example.model_dump_json(exclude_defaults=True)
            position = start + count - 1
            row = (position, example.pair_id, zlib.crc32(content.encode()), content)
            batch.append(("INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?)", row))
            if len(batch) == 1000:
                self._now([*batch, _set("source_read", str(position + 1))])
                batch = []
        self._now([*batch, _set("source_read", str(start + count))])
        return count

    def truncate_source(self, length: int) -> None:
        """Forget the source rows from position `length` on; no reply is touched."""
        read = min(length, self.source_read())
        self._now([("DELETE FROM source WHERE position >= ?", (length,)), _set("source_read", str(read))])

    def begin_run(self) -> Lost:
        """Open a run and return what the run before it left in flight."""
        (previous,) = self._db.execute("SELECT coalesce(max(id), 0) FROM run").fetchone()
        self.run = previous + 1
        self._now([("INSERT INTO run (id, began) VALUES (?, ?)", (self.run, time.time()))])
        return self.in_flight(previous)

    def end_run(self, outcome: str) -> None:
        self._now([("UPDATE run SET ended = ?, outcome = ? WHERE id = ?", (time.time(), outcome, self.run))])

    def next_attempt(self) -> int:
        """A number for an attempt that is about to be made."""
        self._last += 1
        return self._last

    async def sent(
        self, attempt: int, request: Request, pair_id: str, host: str, model: str, most: int | None, *, batched: bool = False
    ) -> None:
        """Record that `request` is about to be sent, and may cost `most` picodollars; return once that is durable."""
        if self.full:
            raise disk_full(self.path)
        if batched:
            self._later("INSERT INTO batched VALUES (?, NULL)", attempt)
        self._later("INSERT OR IGNORE INTO request VALUES (?, ?, ?)", request.key, request.stage, request.canonical)
        row = (attempt, self.run, request.key, pair_id, host, model, time.time(), most)
        await self._durable("INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)

    async def received(self, attempt: int, status: int, body: bytes, error: str | None = None) -> None:
        """Record what came back, before anyone reads it. `status` 0: no HTTP response; `error` names what happened."""
        row = (attempt, time.time(), status, error, zlib.crc32(body), body)
        await self._durable("INSERT INTO reply VALUES (?, ?, ?, ?, ?, ?)", *row)

    async def gathered(self, batch: Batch, attempts: Iterable[int]) -> None:
        """Record that `attempts` are about to be handed over in `batch`."""
        for attempt in attempts:
            self._later("UPDATE batched SET batch = ? WHERE attempt = ?", batch.id, attempt)
        row = (batch.id, batch.host, batch.model, batch.tag, batch.digest, batch.made)
        await self._durable("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL)", *row)

    async def handed_over(self, batch: int, file: str, remote: str | None = None) -> None:
        """Record what the host calls a batch's file, before the batch is made of it, and then the batch."""
        await self._durable("UPDATE batch SET file = ?, remote = ? WHERE id = ?", file, remote, batch)

    async def ended(self, batch: int, status: str) -> None:
        """Record that nothing more is to come from a batch."""
        await self._durable("UPDATE batch SET ended = ?, status = ? WHERE id = ?", time.time(), status, batch)

    def next_batch(self) -> int:
        """A number for a batch that is about to be made."""
        self._last_batch += 1
        return self._last_batch

    def enter(self, attempt: int, model: str | None, usage: Usage, cost: int | None) -> None:
        """Put a reply's model, tokens and cost (picodollars; None: unknown) into the ledger, with the next group."""
        tokens = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.reasoning_tokens)
        self._later("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", attempt, model, *tokens, cost)

    def take_replies(self, origin: str, replies: Iterable[tuple[Request, StoredReply]]) -> int:
        """Record replies that another build has paid for, as if they had been asked here, at no cost; return how many
        were new. Whatever interrupts it, taking them again ends the same."""
        taken = 0
        batch: list[tuple[str, tuple[Any, ...]]] = []
        for request, stored in replies:
            if self._holds(stored):
                continue
            taken += 1
            batch += self._taking(self.next_attempt(), origin, request, stored)
            if len(batch) >= 1000:
                self._now(batch)
                batch = []
        self._now(batch)
        return taken

    def _holds(self, stored: StoredReply) -> bool:
        """Whether this very exchange is here already, or the same answer to the same request."""
        query = (
            "SELECT checksum, body FROM attempt JOIN reply ON attempt = id WHERE key = ? AND status = ? AND checksum = ?"
            " AND (status = 200 OR (sent = ? AND received = ?))"  # a row is rejected by a refusal that is repeated
        )
        values = (stored.key, stored.status, zlib.crc32(stored.body), stored.sent, stored.received)
        return any(unpack(body, checksum) == stored.body for checksum, body in self._db.execute(query, values))

    def _taking(self, attempt: int, origin: str, request: Request, stored: StoredReply) -> list[tuple[str, tuple[Any, ...]]]:
        tokens = (stored.prompt_tokens, stored.cached_tokens, stored.completion_tokens, stored.reasoning_tokens)
        entered = [("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, 0)", (attempt, stored.returned_model, *tokens))]
        crc = zlib.crc32(stored.body)
        return [
            ("INSERT OR IGNORE INTO request VALUES (?, ?, ?)", (request.key, request.stage, request.canonical)),
            (
                "INSERT INTO attempt VALUES (?, 0, ?, ?, ?, ?, ?, 0)",
                (attempt, stored.key, stored.pair_id, stored.host, stored.host_model, stored.sent),
            ),
            ("INSERT INTO reply VALUES (?, ?, ?, NULL, ?, ?)", (attempt, stored.received, stored.status, crc, stored.body)),
            ("INSERT INTO replayed VALUES (?, ?, ?)", (attempt, origin, stored.cost)),
            *(entered if stored.status == 200 else []),
        ]

    def settle(self, pair_id: str, flow: str, state: str) -> None:
        """Remember, with the next group, that the row's flow has ended."""
        self._later("INSERT OR REPLACE INTO settled VALUES (?, ?, ?)", pair_id, flow, state)

    def settle_now(self, pair_ids: Mapping[str, str], flow: str) -> None:
        """As `settle`, outside the event loop; `pair_ids` with their states."""
        rows = [(pair_id, flow, state) for pair_id, state in pair_ids.items()]
        self._now([("INSERT OR REPLACE INTO settled VALUES (?, ?, ?)", row) for row in rows])

    def unsettle(self, pair_id: str) -> None:
        """The row is owed again: a reply that it rested on can't be read any more."""
        self._now([("DELETE FROM settled WHERE pair_id = ?", (pair_id,))])

    def lay_ballast(self, slots: int) -> None:
        """Keep room on disk for the answers of `slots` requests in flight. Raises LocalError on a full disk."""
        space = os.statvfs(self.path.parent)
        size = min(BALLAST + slots * BALLAST_PER_SLOT, space.f_bavail * space.f_frsize // 4)
        with self._ballast.open("wb") as file:
            if size:
                os.posix_fallocate(file.fileno(), 0, size)

    def commit(self) -> None:
        """Make what waits for the next group durable here and now."""
        group, self._pending = self._pending, _Group()
        self._now(group.operations)
        group.done.set()

    async def flush(self) -> None:
        """Return once everything written so far is durable."""
        while self._committing is not None:
            await asyncio.shield(self._committing)

    def close(self) -> None:
        """Close the file, its WAL folded in."""
        self._ballast.unlink(missing_ok=True)
        super().close()
        self._writer.close()

    async def _durable(self, statement: str, *values: Any) -> None:
        group = self._later(statement, *values)
        await group.done.wait()
        if group.error is not None:
            raise group.error

    def _later(self, statement: str, *values: Any) -> _Group:
        self._pending.operations.append((statement, values))
        if self._committing is None:
            self._committing = asyncio.get_running_loop().create_task(self._commit_groups())
        return self._pending

    async def _commit_groups(self) -> None:
        try:
            while self._pending.operations:
                await asyncio.sleep(GROUP_WAIT)
                group, self._pending = self._pending, _Group()
                try:
                    await self._commit(group.operations)
                except sqlite3.Error as error:
                    group.error = local_error(error, self.path)
                except Exception as error:  # a bug: whoever waits is to hear of it, too
                    self._roll_back()
                    group.error = error
                    raise
                finally:
                    group.done.set()
        finally:
            self._committing = None

    async def _commit(self, operations: list[tuple[str, tuple[Any, ...]]]) -> None:
        """One transaction. Statements run here and only the fsync in a thread: a thread that came back to the
        interpreter after each statement would wait for it each time."""
        try:
            self._execute(operations)
            await asyncio.to_thread(self._writer.execute, "COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL or self.full:
                raise
            self.full = True
            await asyncio.to_thread(self.make_room)
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")  # a checkpoint would take the room for another copy
            self._ballast.unlink(missing_ok=True)
            self._execute(operations)
            await asyncio.to_thread(self._writer.execute, "COMMIT")

    def _execute(self, operations: list[tuple[str, tuple[Any, ...]]]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        for statement, values in operations:
            self._writer.execute(statement, values)

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _now(self, operations: list[tuple[str, tuple[Any, ...]]]) -> None:
        """Commit at once, outside the event loop's groups."""
        try:
            self._execute(operations)
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise local_error(error, self.path) from None


def _set(name: str, value: str) -> tuple[str, tuple[Any, ...]]:
    return "INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value)


def copy_journal(path: Path, copy: Path) -> None:
    """A copy of a journal that may be at work."""
    with closing(connect(path, read_only=True)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
