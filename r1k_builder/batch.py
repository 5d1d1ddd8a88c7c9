"""A teacher that asks in batches, as OpenAI sells them (platform.openai.com/docs/guides/batch) and others have copied it.

    POST /files                the requests, a line each      -> the file's id: recorded
    POST /batches              a batch of that file           -> the batch's id: recorded
    GET  /batches/{id}         until it has ended, within a day or two
    GET  /files/{id}/content   the answers, then the errors   -> recorded, then read as every answer is

The pipeline asks as it asks any teacher; what it asks for within a moment goes into one batch. A run may end between any two
of these steps, for as long as the host keeps what it has: the next one goes on with the batches that wait. One whose id never
arrived is looked for among the host's own, by its file, before anything is sent again; what is in no batch was never paid.
"""

import asyncio
import hashlib
import json
import math
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar
from urllib.parse import quote as quote_path
from uuid import uuid4

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from r1k_builder.config import OPENAIS_OFFER, BuildConfig, TeacherConfig
from r1k_builder.errors import HostRefused, HostUnreachable, R1kError, UsageError
from r1k_builder.folder import local_errors
from r1k_builder.journal import Batch, Journal, Waiting
from r1k_builder.reply import is_bad_request, quote
from r1k_builder.schema import Completion, Request
from r1k_builder.slots import Queue, Slots
from r1k_builder.teacher import (
    CHAT,
    UNREACHABLE_AFTER,
    Patience,
    Recorder,
    Said,
    Teacher,
    Transient,
    give_up,
    name_failure,
    read_retry_after,
)

MOST_BYTES = 200_000_000
"""Of a batch's file, at OpenAI and most others."""

TRIES = 5
"""Batches in which a run sends a request before its row is left to the next one."""

GATHERING = 0.2
"""Seconds without another request after which a batch is closed."""

SOONEST, LATEST = 0.2, 60.0
"""Seconds between two looks at the batches that wait; they grow while nothing happens."""

KEPT = 3 * 86400.0
"""Seconds after which a host may have forgotten a batch; until then it is the wrong account that does not know it."""

RECORDED_AT_ONCE = 256
"""Answers that are made durable together."""

ENDED = ("completed", "failed", "expired", "cancelled")

P = ParamSpec("P")
T = TypeVar("T")


class Standing(NamedTuple):
    """How far the host says that a batch has come."""

    status: str
    done: int
    requests: int


def check_offers(config: BuildConfig) -> None:
    """Raise UsageError where --batch is asked for of a host that is known to sell no batches."""
    for model in config.models:
        if config.batch and len(model.urls) > 1:
            raise UsageError(
                f"a batch waits at one host, and --base-url names {len(model.urls)}: give one of them, or leave --batch off"
            )
        if config.batch and model.batch_offer is None:
            option = "--teacher" if model is config.teacher else "--judge"
            raise UsageError(
                f"{model.host} sells no batches as OpenAI does: leave --batch off, or name a host that does,"
                f" with {option} novita or {option.replace('teacher', 'base-url').replace('judge', 'judge-base-url')}"
            )


def waiting_text(batches: Sequence[Batch]) -> str:
    """How many requests wait where."""
    hosts = ", ".join(sorted({batch.host for batch in batches}))
    count = f"{len(batches)} batch" + ("es" if len(batches) > 1 else "")
    return f"{sum(batch.requests for batch in batches):,} requests wait in {count} at {hosts}"


class _Unknown(HostRefused):
    """The host does not know a batch or a file."""


class Batches(Teacher):
    """A model that is asked in batches. Where `--batch` is off it waits for those under way, and asks all else online."""

    def __init__(
        self,
        config: BuildConfig,
        model: TeacherConfig,
        slots: Mapping[str, Slots],
        turns: Queue,
        recorder: Recorder,
        journal: Journal,
    ) -> None:
        super().__init__(config, model, slots, turns, recorder)
        (self._endpoint,) = self.endpoints.values()
        self.standing: dict[int, Standing] = {}
        """Of each batch that waits at the host."""
        self._journal = journal
        self._place = journal.path.parent / f"batches-{'teacher' if model is config.teacher else 'judge'}"
        """For files on their way; what is in one is in the journal, too, or still at the host."""
        self._window = (model.batch_offer or OPENAIS_OFFER).window
        self._waiting: list[Batch] = []
        self._queue: list[tuple[int, Request]] = []
        """Attempts that are in no batch yet."""
        self._out: set[str] = set()
        """The keys of all requests that are in a batch, or will be."""
        self._answers: dict[str, asyncio.Future[Completion]] = {}
        """Where rows wait for them."""
        self._queued = asyncio.Event()
        self._known = asyncio.Event()
        """What earlier runs have left in batches is known."""
        self._stopped_by: Exception | None = None
        self._reached = False

    async def __aenter__(self) -> Self:
        with local_errors(self._place):
            shutil.rmtree(self._place, ignore_errors=True)  # what a kill has left there
            self._place.mkdir()
        self._working = asyncio.create_task(self._work())
        self._working.add_done_callback(self._worked)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._working.cancel()
        await asyncio.wait([self._working])
        shutil.rmtree(self._place, ignore_errors=True)
        await super().__aexit__()

    # -- what the pipeline asks for

    def _policy(self, request: Request, patience: Patience) -> AsyncRetrying:
        if not self._config.batch:
            return super()._policy(request, patience)
        tries = stop_after_attempt(TRIES)
        return AsyncRetrying(retry=retry_if_exception_type(Transient), stop=tries, retry_error_callback=give_up)

    async def _attempt(self, request: Request, pair_id: str, urgency: int, patience: Patience) -> Completion:
        """One attempt: in the batch where the request waits already, else in the next one."""
        await self._known.wait()
        if self._stopped_by is None and request.key not in self._out:
            if not self._config.batch:
                return await super()._attempt(request, pair_id, urgency, patience)
            number = await self._recorder.sent(request, pair_id, self.host, self.model, batched=True)
            self._out.add(request.key)
            self._queue.append((number, request))
            self._queued.set()
        if self._stopped_by is not None:
            raise self._stopped_by
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._answers[request.key] = answer
        try:
            return await answer
        finally:
            del self._answers[request.key]

    def _answer(self, key: str, said: Completion | Exception) -> None:
        """Hand an answer, or what it is raised as, to the row that waits for it, if there is one."""
        self._out.discard(key)
        answer = self._answers.get(key)
        if answer is None or answer.done():
            return
        if isinstance(said, Exception):
            answer.set_exception(said)
        else:
            answer.set_result(said)

    # -- from batch to batch

    async def _work(self) -> None:
        """Close batches, hand them over, look at them, read them, until cancelled."""
        await self._take_up()
        self._known.set()
        await self._go_round()

    def _worked(self, working: asyncio.Task[None]) -> None:
        """What has stopped that, a bug too, stops all who wait and all who will."""
        error = None if working.cancelled() else working.exception()
        if isinstance(error, Exception):
            self._stopped_by = error
            for key in list(self._answers):
                self._answer(key, error)
            self._known.set()

    async def _take_up(self) -> None:
        """Go on with what earlier runs have left at the host."""
        for batch in self._journal.batches():
            if (batch.host, batch.model) != (self.host, self.model):
                continue
            if batch.remote is None:
                found = await self._patiently(self._find, batch)
                if found is None:
                    await self._journal.ended(batch.id, "never made")
                    continue
                batch = await self._named(batch, found)  # the same, with its name
            for waiting in self._journal.waiting(batch.id):
                self._recorder.expect(waiting.attempt, waiting.stage, waiting.most)
                self._out.add(waiting.key)
            self._wait_for(batch)

    async def _go_round(self) -> None:
        pause = SOONEST
        while True:
            if not self._queue:
                self._queued.clear()
                await _first_of(self._queued.wait(), pause)
            pause = min(1.5 * pause, LATEST)
            if self._queue:
                await self._gather()
                pause = SOONEST
            for batch in list(self._waiting):
                if await self._look_at(batch):
                    pause = SOONEST

    async def _gather(self) -> None:
        """Close a batch when nothing more is asked for, or as many as it takes, and hand it over."""
        asked = 0
        while asked < len(self._queue) < self._config.batch_size:
            asked = len(self._queue)
            await asyncio.sleep(GATHERING)
        while self._queue:
            await self._hand_over()

    # -- to the host

    async def _hand_over(self) -> None:
        """One batch, as large as the host takes, out of the queue. A kill at any point pays for nothing twice."""
        tag = uuid4().hex
        path = self._place / f"{tag}.jsonl"
        attempts, digest = self._write(path)
        batch = Batch(self._journal.next_batch(), self.host, self.model, tag, digest, time.time(), requests=len(attempts))
        await self._journal.gathered(batch, attempts)
        file = await self._patiently(self._upload, path)
        await self._journal.handed_over(batch.id, file)
        path.unlink()
        batch = batch._replace(file=file)
        self._wait_for(await self._named(batch, await self._make(batch)))

    def _write(self, path: Path) -> tuple[list[int], str]:
        """A file of requests from the head of the queue: their attempts, and its digest."""
        attempts: list[int] = []
        size, digest = 0, hashlib.sha256()
        with local_errors(self._place), path.open("wb") as file:
            for number, request in self._queue[: self._config.batch_size]:
                asked = {"custom_id": request.key, "method": "POST", "url": f"/v1{CHAT}", "body": self._body(request)}
                line = json.dumps(asked).encode() + b"\n"
                size += len(line)
                if attempts and size > MOST_BYTES:
                    break
                file.write(line)
                digest.update(line)
                attempts.append(number)
        del self._queue[: len(attempts)]
        return attempts, digest.hexdigest()

    async def _upload(self, path: Path) -> str:
        with path.open("rb") as file:
            form = aiohttp.FormData({"purpose": "batch"})
            form.add_field("file", file, filename=f"r1k-{path.name}", content_type="application/jsonl")
            return _identifier(await self._call("POST", "/files", data=form))

    async def _make(self, batch: Batch) -> str:
        """Have the host make a batch. Where it is not sure whether it has, it is looked for before it is asked again."""
        asked = False
        content = {
            "input_file_id": batch.file,
            "endpoint": f"/v1{CHAT}",
            "completion_window": self._window,
            "metadata": {"r1k": batch.tag, "sha256": batch.digest},
        }

        async def make() -> str:
            nonlocal asked
            if asked and (found := await self._find(batch)) is not None:
                return found
            asked = True
            try:
                made = await self._call("POST", "/batches", json=content, headers={"Idempotency-Key": batch.tag})
            except HostRefused:  # for certain, so that nothing waits there
                await self._journal.ended(batch.id, "refused")
                raise
            return _identifier(made)

        return await self._patiently(make)

    async def _find(self, batch: Batch) -> str | None:
        """The host's name of a batch that may have been made, or None where it was not."""
        after: dict[str, str] = {}
        while True:
            page = await self._call("GET", "/batches", params={"limit": "100", **after})
            data = page.get("data")
            listed = [found for found in data if isinstance(found, dict)] if isinstance(data, list) else []
            for found in listed:
                metadata = found.get("metadata")
                told = metadata.get("r1k") if isinstance(metadata, dict) else None
                if batch.file == found.get("input_file_id") or told == batch.tag:
                    return _identifier(found)
            if not listed or not page.get("has_more") or after == {"after": _identifier(listed[-1])}:
                return None
            after = {"after": _identifier(listed[-1])}

    async def _named(self, batch: Batch, remote: str) -> Batch:
        assert batch.file is not None  # noqa: S101  # a batch is made of a file
        await self._journal.handed_over(batch.id, batch.file, remote)
        return batch._replace(remote=remote)

    def _wait_for(self, batch: Batch) -> None:
        self._waiting.append(batch)
        self.standing[batch.id] = Standing("handed over", 0, batch.requests)

    # -- from the host

    async def _look_at(self, batch: Batch) -> bool:
        """Ask how far a batch has come, and take its answers where it has ended; whether it has."""
        try:
            told = await self._patiently(self._call, "GET", f"/batches/{quote_path(batch.remote or '', safe='')}")
        except _Unknown:
            if time.time() - batch.made < KEPT:
                raise
            told = {"status": "expired"}
        status = str(told.get("status")).lower()
        counts = told.get("request_counts")
        done = [counts.get(name) for name in ("completed", "failed")] if isinstance(counts, dict) else []
        self.standing[batch.id] = Standing(status[:40], sum(n for n in done if isinstance(n, int)), batch.requests)
        if status not in ENDED:
            return False
        await self._take_answers(batch, told, status)
        await self._journal.ended(batch.id, status)
        self._waiting.remove(batch)
        del self.standing[batch.id]
        if status in ("failed", "cancelled"):
            how = f"has failed ({_reason(told)})" if status == "failed" else "was cancelled"
            raise HostRefused(
                f"{self.host}: the batch {batch.remote} {how}; what it has answered is kept:"
                " type r1k-build --resume to ask for the rest"
            )
        return True

    async def _take_answers(self, batch: Batch, told: dict[str, Any], status: str) -> None:
        """Record and read every line of a batch that has ended. What it has no line for was not answered."""
        waiting = {one.key: one for one in self._journal.waiting(batch.id)}
        for kind in ("output_file_id", "error_file_id"):
            file = told.get(kind)
            if not isinstance(file, str) or not file:
                continue
            path = self._place / f"{batch.tag}-{kind}.jsonl"
            try:
                await self._patiently(self._fetch, file, path)
            except _Unknown:
                if time.time() - batch.made < KEPT:
                    raise
                continue
            await self._take(self._lines(path, waiting))
            path.unlink()
        silent = "cut" if status == "completed" else status  # where it is complete, it may be billed
        await self._take((one, Said(error=silent)) for one in waiting.values())

    def _lines(self, path: Path, waiting: dict[str, Waiting]) -> Iterator[tuple[Waiting, Said]]:
        """What a file says to requests that wait, each of which is taken out of `waiting`."""
        with path.open("rb") as file:
            for raw in file:
                try:
                    line = json.loads(self._redact(raw))
                except (ValueError, RecursionError):
                    continue
                key = line.get("custom_id") if isinstance(line, dict) else None
                one = waiting.pop(key, None) if isinstance(key, str) else None
                if one is not None:
                    yield one, _said(line)

    async def _take(self, lines: Iterator[tuple[Waiting, Said]]) -> None:
        """Make answers durable, then read them, as the teacher does with one."""
        while some := list(islice(lines, RECORDED_AT_ONCE)):
            await asyncio.gather(
                *(self._recorder.received(one.attempt, said.status, said.body, said.error) for one, said in some)
            )
            for one, said in some:
                try:
                    self._answer(one.key, await self._read(self._endpoint, one.attempt, one.key, said))
                except (Transient, R1kError) as error:
                    self._answer(one.key, error)

    async def _fetch(self, file: str, path: Path) -> None:
        """Bring a file of the host's to `path`: it can be larger than memory."""
        try:
            url = f"{self._endpoint.base}/files/{quote_path(file, safe='')}/content"
            async with self._endpoint.client.get(url) as response:
                if response.status != 200:
                    raise self._refusal(await self._refused(response), "GET", f"/files/{file}")
                with local_errors(self._place), path.open("wb") as here:
                    async for chunk in response.content.iter_chunked(2**18):
                        here.write(chunk)
        except (TimeoutError, aiohttp.ClientError) as failure:
            raise Transient(name_failure(failure)) from None

    # -- one call

    async def _patiently(self, call: Callable[P, Coroutine[Any, Any, T]], *arguments: P.args, **named: P.kwargs) -> T:
        """`call` until it works, over the retry budget; a host that was never heard of is given up sooner."""
        budget = min(self._config.retry_budget, math.inf if self._reached else UNREACHABLE_AFTER["never answered"])
        policy = AsyncRetrying(
            retry=retry_if_exception_type(Transient),
            wait=self._wait,
            stop=Patience(budget),
            retry_error_callback=self._out_of_reach,
        )
        return await policy(call, *arguments, **named)

    def _out_of_reach(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        raise HostUnreachable(
            f"{self.host} does not answer for its batches ({error}): check the network and {self._prefix}base-url,"
            " then type r1k-build --resume"
        )

    async def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        """What the host answers, as an object. Raises Transient where it is worth another call, else HostRefused."""
        try:
            calling = self._endpoint.client.request(method, self._endpoint.base + path, **content)
            async with asyncio.timeout(self._config.deadline), calling as response:
                if response.status // 100 != 2:
                    raise self._refusal(await self._refused(response), method, path)
                body = self._redact(await response.read())
        except (TimeoutError, aiohttp.ClientError) as failure:
            raise Transient(name_failure(failure)) from None
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise Transient("an unreadable answer") from None
        self._reached = True
        return found if isinstance(found, dict) else {"data": found if isinstance(found, list) else []}

    async def _refused(self, response: aiohttp.ClientResponse) -> Said:
        retry_after = read_retry_after(response.headers.get("Retry-After"))
        return Said(response.status, self._redact(await response.read()), retry_after)

    def _refusal(self, said: Said, method: str, path: str) -> Exception:
        """What an answer is raised as that says no."""
        told = f"{self.host} answered {said.status} ({quote(said.body)})"
        online = "type r1k-build --resume --no-batch to ask one by one"
        if said.status in (404, 405, 501) and (method == "POST" or path == "/batches"):
            return HostRefused(
                f"{told} to {method} {path}: it sells no batches there; check {self._prefix}base-url, or {online}"
            )
        if said.status == 404:
            advice = f"is it another account's than that of {self._variable or 'this host'}? Then type r1k-build --resume"
            return _Unknown(f"{told} to {path}: {advice}")
        if is_bad_request(said.status):
            return HostRefused(f"{told} to {method} {path}: mend what it says, then type r1k-build --resume, or {online}")
        return self._meaning(self._endpoint, said)


def _said(line: dict[str, Any]) -> Said:
    """What a line of a batch's answers says to its request."""
    response, error = line.get("response"), line.get("error")
    if isinstance(response, dict):
        status, body = response.get("status_code", 200), response.get("body")
        text = body if isinstance(body, str) else json.dumps(body)
        if isinstance(status, int) and 100 <= status <= 599:
            return Said(status, text.encode("utf-8", "surrogatepass"))
    code = error.get("code") if isinstance(error, dict) else error
    return Said(error=quote(str(code or "an empty line").encode("utf-8", "replace"))[:40])


def _reason(told: dict[str, Any]) -> str:
    """Why the host failed a batch, in its own words."""
    errors = told.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else errors
    return quote(json.dumps(listed[0] if isinstance(listed, list) and listed else errors).encode())


def _identifier(told: dict[str, Any]) -> str:
    found = told.get("id")
    if not isinstance(found, str) or not 0 < len(found) <= 200:
        raise Transient("an answer without an id")
    return found


async def _first_of(event: Awaitable[Any], seconds: float) -> None:
    try:
        await asyncio.wait_for(event, seconds)
    except TimeoutError:
        return
