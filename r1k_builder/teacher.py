"""Speaks to a model (as does `batch.py`, in batches): one request in, one completion out, whatever the host does meanwhile.

What is retried, over `retry_budget` seconds and with full jitter: connection errors, timeouts, 408, 409, 429, 5xx,
bodies that are no completion, transient finish reasons. What rejects the row: a repeated 400 or 422. What stops the
run, so that it can be resumed: 401, 402, 403, 404; nothing but 400 and 422 from the start; a host that can't be reached.
Every attempt is recorded before it is sent, and its raw reply before it is read.

One POST is all that is asked of a host, so it goes straight to aiohttp, which is also what carries the fastest transport of
the openai SDK: the SDK's own layers take several times the processor that the exchange takes.
"""

import asyncio
import math
import os
import re
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import truststore
from pydantic_core import to_json
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from r1k_builder import __version__
from r1k_builder.config import LOOPBACK, PRESETS, BuildConfig, TeacherConfig, host_of
from r1k_builder.errors import HostRefused, HostUnreachable, UsageError
from r1k_builder.reply import BAD_REQUESTS, TRANSIENT_FINISH_REASONS, UnreadableReply, quote, read_reply
from r1k_builder.schema import Completion, Request
from r1k_builder.slots import Queue, Slots

UNREACHABLE_AFTER = {"never answered": 10.0, "fell silent": 300.0}
"""Seconds of nothing but failed connections after which the run stops, by whether the host has ever answered."""

CONNECT_TIMEOUT = 30.0
"""Seconds until a connection must stand."""

CHAT = "/chat/completions"
JSON = {"Content-Type": "application/json"}

SHORTEST_SECRET = 8
"""Characters; a shorter "key" is a placeholder, and to replace it would change ordinary text."""

REFUSALS = (429, 503)
"""What a host says that has too much to do."""

FIRST_REFUSALS = 5
"""So many 400/422 before any answer mean that the settings are wrong, not the rows."""


class Recorder(Protocol):
    """Where attempts and replies are made durable."""

    def answered(self, host: str, model: str, sampling: Mapping[str, Any]) -> bool: ...
    async def sent(self, request: Request, pair_id: str, host: str, model: str, *, batched: bool = False) -> int: ...
    def expect(self, attempt: int, stage: str, most: int) -> None: ...
    async def received(self, attempt: int, status: int, body: bytes, error: str | None = None) -> None: ...
    async def read(self, attempt: int, completion: Completion | None) -> None: ...


class Patience:
    """When to retry no more: `budget` seconds after a request's first failure, its waits for a slot not counted.

    So a request that queues, or takes long, and fails is retried all the same.
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._failed: float | None = None
        self._forgiven = 0.0

    def forgive(self, seconds: float) -> None:
        """Do not count a wait that was nobody's failure."""
        if self._failed is not None:
            self._forgiven += seconds

    def __call__(self, state: RetryCallState) -> bool:
        now = time.monotonic()
        if self._failed is None:
            self._failed = now
        return now - self._failed - self._forgiven + state.upcoming_sleep >= self._budget


class RowRefused(Exception):
    """The host refuses this request for good (a repeated 400 or 422); the message is the host's own."""


class Exhausted(Exception):
    """The retry budget is spent; the row is owed to the next resume."""


class Transient(Exception):
    """Worth another attempt. `name` says what happened; `retry_after` is the host's own wish in seconds."""

    def __init__(self, name: str, retry_after: float | None = None) -> None:
        super().__init__(name)
        self.retry_after = retry_after
        self.elsewhere = False
        """Whether another endpoint can take the request at once."""


class BadRequest(Transient):
    """400 or 422: retried once, since some hosts say so when they are overloaded."""


class Said(NamedTuple):
    """How a host took a request: what it answered, or, with status 0, what happened instead."""

    status: int = 0
    body: bytes = b""
    retry_after: float | None = None
    error: str | None = None


class Endpoint:
    """One URL of a model."""

    def __init__(self, url: str, client: aiohttp.ClientSession, slots: Slots) -> None:
        self.host = host_of(url)
        self.base = url.rstrip("/")
        self.client = client
        self.slots = slots
        self.unreached = 0
        """Connections that failed since it was last heard of."""


class Teacher:
    """A model behind OpenAI-compatible endpoints: the teacher, or the judge. Made inside the event loop; use as an async
    context manager. `slots` are those of each URL, `turns` where requests wait for one of them.

    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY), but for loopback; certificates the system's (SSL_CERT_FILE).
    Raises UsageError where the key's variable is not set.
    """

    def __init__(
        self, config: BuildConfig, model: TeacherConfig, slots: Mapping[str, Slots], turns: Queue, recorder: Recorder
    ) -> None:
        self.host = model.host
        self.model = model.host_model
        self.retrying: dict[str, float] = {}
        """Requests that wait to be retried: their key, and the time (epoch seconds) at which each goes on."""
        self._key = read_api_key(model.api_key_variable)
        self._secret = Secret(self._key) if self._key and len(self._key) >= SHORTEST_SECRET else None
        self._recorder = recorder
        self._turns = turns
        self._config = config
        self._variable = model.api_key_variable
        self._prefix, self._model_option = ("--", "--model") if model is config.teacher else ("--judge-", "--judge")
        self._answered = any(recorder.answered(host, self.model, model.sampling) for host in model.hosts)
        """Whether this model at its endpoints has ever answered this build with this sampling: then a refusal is the row's, not
        the settings'."""
        self._refusals = 0
        self._heard = time.monotonic()
        self.endpoints = {at: Endpoint(url, _connect(url, self._key, config, model), at) for url, at in slots.items()}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for endpoint in self.endpoints.values():
            await endpoint.client.close()

    async def complete(self, request: Request, pair_id: str, urgency: int) -> Completion:
        """The completion of `request`; `urgency` (0 first) orders requests that wait for a slot.

        Raises RowRefused, Exhausted, HostRefused, HostUnreachable, or what the recorder raises.
        """
        patience = Patience(self._config.retry_budget)
        bad_requests = 0
        failed: Transient | None = None

        async def attempt() -> Completion:
            nonlocal bad_requests, failed
            self.retrying.pop(request.key, None)
            if failed is not None:
                failure, failed = failed, None
                raise failure
            try:
                return await self._attempt(request, pair_id, urgency, patience)
            except BadRequest as error:
                bad_requests += 1
                if bad_requests >= BAD_REQUESTS and self._answered:  # before any answer it may be the settings
                    raise RowRefused(str(error)) from None
                raise

        try:
            try:
                return await attempt()  # most need no policy: to make one for each takes the processor
            except Transient as failure:
                failed = failure
            return await self._policy(request, patience)(attempt)  # it begins with that failure
        finally:
            self.retrying.pop(request.key, None)

    def _policy(self, request: Request, patience: Patience) -> AsyncRetrying:
        """How often, and when, a request is sent again."""
        return AsyncRetrying(
            retry=retry_if_exception_type(Transient),
            wait=self._wait,
            stop=patience,
            before_sleep=lambda state: self.retrying.update({request.key: time.time() + state.upcoming_sleep}),
            retry_error_callback=give_up,
        )

    def _wait(self, state: RetryCallState) -> float:
        """Full jitter, on top of the host's own Retry-After; none where another endpoint takes over."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Transient) and error.elsewhere:
            return 0.0
        jitter: float = wait_random_exponential(multiplier=1, max=60)(state)
        asked = error.retry_after if isinstance(error, Transient) else None
        return jitter if asked is None else asked + min(jitter, 1.0)

    async def _attempt(self, request: Request, pair_id: str, urgency: int, patience: Patience) -> Completion:
        """One attempt. The slot is held until the host has answered, and not while the answer is made durable."""
        queued = time.monotonic()
        async with self._turns.take(urgency) as slots:
            endpoint = self.endpoints[slots]
            patience.forgive(time.monotonic() - queued)
            number = await self._recorder.sent(request, pair_id, endpoint.host, self.model)
            said = await self._exchange(endpoint, request)
        await self._recorder.received(number, said.status, said.body, said.error)
        self._watch(endpoint, said.error)
        try:
            return await self._read(endpoint, number, request.key, said)
        except Transient as error:
            error.elsewhere = slots.resting and not self._turns.resting
            raise

    async def _read(self, endpoint: Endpoint, number: int, key: str, said: Said) -> Completion:
        """What an endpoint said to a recorded attempt at the request `key`; what is no usable completion is raised."""
        if said.status != 200:
            raise self._meaning(endpoint, said)
        try:
            completion = read_reply(said.body, key=key, host=endpoint.host, requested_model=self.model)
        except UnreadableReply as error:
            await self._recorder.read(number, None)
            if error.status is None:
                raise Transient(f"unreadable reply: {error}") from None
            if error.status in REFUSALS:
                endpoint.slots.refused(None)
            said = said._replace(status=error.status)  # an error inside a 200, as OpenRouter sends them
            raise self._meaning(endpoint, said) from None
        await self._recorder.read(number, completion)
        if completion.finish_reason in TRANSIENT_FINISH_REASONS:
            raise Transient(f"finish_reason: {completion.finish_reason}")
        self._answered = True
        return completion

    def _body(self, request: Request) -> dict[str, Any]:
        return {"model": self.model, "messages": request.messages, **request.sampling}

    async def _exchange(self, endpoint: Endpoint, request: Request) -> Said:
        """Send, and tell the slots how the host took it."""
        content, began = to_json(self._body(request)), time.monotonic()
        try:
            posting = endpoint.client.post(endpoint.base + CHAT, data=content, headers=JSON)
            async with asyncio.timeout(self._config.deadline), posting as response:
                body = await response.read()
        except (TimeoutError, aiohttp.ClientError) as failure:
            endpoint.slots.failed(surely=name_failure(failure) == "connection")
            return Said(error=name_failure(failure))
        retry_after = read_retry_after(response.headers.get("Retry-After"))
        if response.status == 200:
            endpoint.slots.succeeded(time.monotonic() - began)
        elif response.status in REFUSALS:
            endpoint.slots.refused(retry_after)
        if response.status >= 500 and (response.status not in REFUSALS or endpoint.slots.in_flight == 1):
            endpoint.slots.failed()  # a 503 to a request that is alone says that it is not there, not that it is full
        return Said(response.status, self._redact(body), retry_after)

    def _watch(self, endpoint: Endpoint, error: str | None) -> None:
        """Stop the run where none can be reached any more. One that cuts an answer off, or keeps silent, is there."""
        if error != "connection":
            self._heard, endpoint.unreached = time.monotonic(), 0
            return
        endpoint.unreached += 1
        failures = [other.unreached for other in self.endpoints.values()]
        silence = time.monotonic() - self._heard
        patience = UNREACHABLE_AFTER["fell silent" if self._answered else "never answered"]
        if all(failures) and sum(failures) >= FIRST_REFUSALS and silence >= patience:
            raise HostUnreachable(
                f"no connection to {self.host} for {silence:.0f} s: check the network and {self._prefix}base-url,"
                " then type r1k-build --resume"
            )

    def _meaning(self, endpoint: Endpoint, said: Said) -> Exception:
        """What an endpoint's answer that is no completion is raised as."""
        status, retry_after = said.status, said.retry_after
        if said.error is not None:
            return Transient(said.error)
        quoted = quote(said.body)
        if status in (401, 402, 403, 404):
            advice = self._advice(status)
            return HostRefused(f"{endpoint.host} answered {status} ({quoted}): {advice}, then type r1k-build --resume")
        if status in (408, 409, 429) or status >= 500:
            if (retry_after or 0) > self._config.retry_budget:
                return HostRefused(
                    f"{endpoint.host} answered {status} and asks to wait for {retry_after:.0f} s, longer than --retry-budget:"
                    " type r1k-build --resume then"
                )
            return Transient(str(status), retry_after)
        if status < 400:
            return Transient(str(status))  # neither an answer nor a refusal
        self._refusals += 1
        if not self._answered and self._refusals >= FIRST_REFUSALS:
            return HostRefused(
                f"{endpoint.host} refused the first {self._refusals} requests with {status} ({quoted}):"
                f" check {self._model_option} and the sampling options, then type r1k-build --resume"
            )
        return BadRequest(quoted)

    def _advice(self, status: int) -> str:
        variable = self._variable
        if status == 402:
            return "add credit to the account"
        if status == 404:
            return f"check {self._prefix}base-url and {self._model_option} ({self.model})"
        return f"check the key in {variable}" if variable else f"name the key's variable with {self._prefix}key-variable"

    def _redact(self, body: bytes) -> bytes:
        """`body` without the API key, should a host echo it: what is read is what is recorded."""
        return body if self._secret is None else self._secret.without(body)


class Secret:
    """A key, however a host spells it: each character as it is, or escaped as JSON, HTML or a URL may have it."""

    def __init__(self, key: str) -> None:
        self._plain = key.encode()
        self._spelled = re.compile(b"".join(map(_spellings, key)))
        self._escape = _RARE_ESCAPE if re.fullmatch("[A-Za-z0-9_.~-]*", key) else _ESCAPE

    def without(self, body: bytes) -> bytes:
        """`body` with `[key]` in the key's place."""
        if self._escape.search(body) is None:
            return body.replace(self._plain, b"[key]")
        return self._spelled.sub(b"[key]", body)


_RARE_ESCAPE = re.compile(rb"\\u00(?:2[dDeE]|3[0-9]|[4-7])")
"""Of a letter, a digit or one of `-._~`: JSON alone has such, and only where it escapes everything. One stands in each key that
is not written as it is, and is found much sooner than a key."""
_ESCAPE = re.compile(rb"\\u00[2-7]|\\/|%[2-7]|&#")
"""Of any printable ASCII character."""


def _spellings(character: str) -> bytes:
    """A pattern of all ways in which a printable ASCII character is written; in JSON within JSON there are more backslashes."""
    code, plain = ord(character), re.escape(character)
    hexadecimal = "".join(f"[{digit}{digit.upper()}]" for digit in f"{code:02x}")
    ways = [plain, rf"\\{{1,8}}u00{hexadecimal}", f"%{hexadecimal}", f"&#(?:{code}|[xX]0{{0,4}}{hexadecimal});"]
    ways += [rf"\\{{1,8}}{plain}"] if character == "/" else []
    return f"(?:{'|'.join(ways)})".encode()


def read_api_key(variable: str | None) -> str | None:
    """The key that `variable` holds; None where none is needed. Raises UsageError where it is not set, or no key."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(
            f"no API key: type  export {variable}=...  and try again (or try --teacher embedded, which needs none)"
        )
    if not (key.isascii() and key.isprintable()) or {*key} & {*"\"'\\"}:
        raise UsageError(f"what {variable} holds is no API key (quotes, line breaks or other letters in it): copy it again")
    return key


def give_up(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    raise Exhausted(str(error)) from None


def _connect(base_url: str, key: str | None, config: BuildConfig, model: TeacherConfig) -> aiohttp.ClientSession:
    """A pool of connections to one host, a connection for each slot."""
    place = urlsplit(base_url)
    tls = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if place.scheme == "https" else True
    direct = place.hostname in LOOPBACK or proxy_bypass(place.hostname or "")
    idle = config.idle_timeout or PRESETS[model.preset].idle_timeout
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=config.concurrency, ssl=tls),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=idle),
        headers={
            "Authorization": f"Bearer {key or 'none'}",
            "Accept": "application/json",
            "User-Agent": f"r1k/{__version__}",
        },
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=None if direct else getproxies().get(place.scheme),
    )


def name_failure(failure: Exception) -> str:
    """`connection` where the request never reached the host; else `timeout` or `cut`, and it may be billed."""
    if isinstance(failure, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return "connection"
    return "timeout" if isinstance(failure, TimeoutError) else "cut"


def read_retry_after(value: str | None) -> float | None:
    """`Retry-After` in seconds (a number or an HTTP date), at most an hour."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), 3600.0) if math.isfinite(seconds) else None
