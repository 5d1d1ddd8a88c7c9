"""The tests' one fake, at the wire: an OpenAI-compatible host on loopback, in a thread, that misbehaves on demand.

It answers both templates as a function of the prompt alone, so every run meets the same teacher. A `Script` decides,
from the prompt's number and the attempt, what goes wrong; the log says what was asked and what was answered.
"""

import asyncio
import collections
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

STATUSES = ("400", "401", "402", "403", "404", "408", "409", "413", "422", "429", "500", "503")
"""Faults that are an HTTP status, with a body that echoes the API key."""

FAULTS = {
    **{status: f"answers {status}" for status in STATUSES},
    "drop": "breaks the connection off before a byte",
    "cut": "breaks it off in the midst of the body",
    "garbage": "answers what is not HTTP",
    "encoding": "names an encoding that the body does not have",
    "junk": "answers 200 with another program's error page",
    "error": "answers 200 with an error in place of a completion",
    "error-402": "the same, and the error is that the account is empty",
    "error-400": "the same, and the error is the request's",
    "blank": "answers 200 with blank lines alone",
    "blanks": "sends blank lines and never ends",
    "keep-alive": "sends blank lines, then the completion: no fault",
    "slow": "takes a second longer: no fault",
    "hang": "never answers",
    "empty": "a completion without an answer",
    "length": "a truncated completion",
    "resource": "a completion that the host has broken off",
    "filter": "a completion that the host has censored",
    "unparsable": "a completion that holds no reverse question",
}
"""What a script may name."""

INVERSION = "reverse the roles"
"""Words of template 1 that template 2 does not have."""

OTHERS = {
    "A problem was turned round": "judge",
    "You are given a problem": "judge",
    "[?]": "cycle",
    "Write its inverse": "invert",
}
"""Words of the prompts that are ours, and their stages."""

Script = Callable[[str, int], str | None]
"""(the prompt's hash in hex, which attempt at it this is, from 1) -> a fault's name, or None for a good answer.
The exchange that is decided on is the log's last."""

Say = Callable[[str, int], str | None]
"""(the prompt's text, which attempt at it this is, from 1) -> the answer's text, or None for one made up from its hash."""


def no_faults(_prompt: str, _attempt: int) -> str | None:
    return None


def random_faults(rate: float, names: tuple[str, ...], seed: int = 0) -> Script:
    """Each of `names` at probability `rate`, as a function of prompt and attempt."""

    def script(prompt: str, attempt: int) -> str | None:
        draw = int(hashlib.sha256(f"{seed}{prompt}{attempt}".encode()).hexdigest()[:8], 16) / 2**32
        index = int(draw / rate)
        return names[index] if index < len(names) else None

    return script


@dataclass
class Exchange:
    prompt: str
    """Hash of the prompt's text."""
    stage: str
    """`invert`, `solve`, `cycle` or `judge`."""
    sampling: dict[str, Any]
    key: str
    """The Authorization header."""
    seen: float
    """When it came in, by `time.monotonic`."""
    status: int = 0
    fault: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    """Tokens that a host would bill, also for an answer that did not arrive."""


@dataclass
class FakeHost:
    """What the host does and what it saw. Counts are of one host's life."""

    script: Script = no_faults
    latency: float = 0.0
    cap: int = 0
    """429 where more than this many are in flight; 0: no cap."""
    retry_after: str = "0.05"
    size: int = 0
    """Characters of reasoning in each answer, at least."""
    say: Say = lambda _prompt, _attempt: None
    """What to answer to a prompt's text at this attempt; None: as `complete` has it."""
    echo: bool = False
    """Answers, too, quote the API key."""
    spell: Callable[[str], str] = str
    """How the JSON that quotes the key writes it."""
    url: str = ""
    log: list[Exchange] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    attempts: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def answered(self) -> collections.Counter[str]:
        """Good answers per distinct request (prompt and sampling)."""
        good = (e for e in self.log if e.status == 200 and e.fault is None)
        return collections.Counter(f"{e.prompt}{json.dumps(e.sampling, sort_keys=True)}" for e in good)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/chat/completions", self.chat)]

    def hear(self, body: dict[str, Any], key: str) -> Exchange:
        """Log what is asked for with the Authorization header `key`."""
        prompt = body["messages"][-1]["content"]
        number = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
        sampling = {name: value for name, value in body.items() if name != "messages"}
        stage = "invert" if INVERSION in prompt else next((name for words, name in OTHERS.items() if words in prompt), "solve")
        exchange = Exchange(number, stage, sampling, key, time.monotonic())
        self.log.append(exchange)
        self.attempts[number] += 1
        return exchange

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = body["messages"][-1]["content"]
        exchange = self.hear(body, request.headers.get("Authorization", ""))
        number = exchange.prompt
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        fault = "429" if self.cap and self.in_flight > self.cap else self.script(number, self.attempts[number])
        exchange.fault = fault
        try:
            if fault in STATUSES:
                return self._refuse(exchange, fault)
            if fault in {"drop", "garbage", "hang", "blanks"}:
                return await self._break(request, fault)
            payload = self.completion(body["model"], prompt, exchange)
            await asyncio.sleep(self.latency + (fault == "slow"))
            return await self._answer(request, payload, exchange)
        finally:
            self.in_flight -= 1

    def _refuse(self, exchange: Exchange, fault: str) -> web.Response:
        exchange.status = int(fault)
        headers = {"Retry-After": self.retry_after} if fault == "429" else {}
        error = {"error": {"message": f"no: {fault} {exchange.key}", "code": fault}}
        body = self._quoting(error, exchange.key)
        return web.Response(body=body, content_type="application/json", status=int(fault), headers=headers)

    async def _break(self, request: web.Request, fault: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "blanks":
            await response.prepare(request)
            while True:
                await response.write(b"\n")
                await asyncio.sleep(0.05)
        transport = request.transport
        assert transport is not None
        if fault == "garbage":
            assert isinstance(transport, asyncio.WriteTransport)
            transport.write(b"220 mail.example.org ESMTP\r\n\r\n")
            transport.close()
        else:
            transport.abort()
        return response

    def completion(self, model: str, prompt: str, exchange: Exchange) -> bytes:
        content = complete(model, prompt, exchange.prompt, exchange.fault)
        exchange.usage = content["usage"]
        message = content["choices"][0]["message"]
        if exchange.fault is None and (said := self.say(prompt, self.attempts[exchange.prompt])) is not None:
            message |= {"content": said, "reasoning_content": f"Let me work it out. {said[-60:]}"}
        if self.size:
            message["reasoning_content"] = (exchange.prompt * (self.size // 64 + 1))[: self.size]
        if self.echo:
            message["content"] = f"(asked with {exchange.key}) {message['content']} ({exchange.key})"
            message["reasoning_content"] += exchange.key
            content["model"] += exchange.key
        if exchange.fault and exchange.fault.startswith("error"):
            code = int(exchange.fault.removeprefix("error").removeprefix("-") or 502)
            content = {"error": {"code": code, "message": f"no: {exchange.key}"}}
        return self._quoting(content, exchange.key)

    def _quoting(self, content: dict[str, Any], key: str) -> bytes:
        """`content` as JSON, in which the key is spelled as this host does."""
        return json.dumps(content).replace(key, self.spell(key)).encode()

    async def _answer(self, request: web.Request, payload: bytes, exchange: Exchange) -> web.StreamResponse:
        fault = exchange.fault
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if fault == "encoding":
            response.headers["Content-Encoding"] = "gzip"
        await response.prepare(request)
        if fault == "cut":
            await response.write(payload[: len(payload) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        if fault == "keep-alive":
            for _ in range(10):
                await response.write(b"\n")
                await asyncio.sleep(0.05)
        exchange.status = 200
        await response.write({"junk": b"<html>502 Bad Gateway</html>", "blank": b"\n\n\n"}.get(fault or "", payload))
        await response.write_eof()
        return response


Host = TypeVar("Host", bound=FakeHost)


def complete(model: str, prompt: str, number: str, fault: str | None) -> dict[str, Any]:
    """The body of a 200: a reverse question, or a solution, made from the prompt's hash."""
    content = f"The sum is $\\frac{{1}}{{2}}$ of {number[:6]}.\n\n\\boxed{{{int(number[:4], 16)}}}"
    if INVERSION in prompt:
        content = f"New Question: Which number gives {int(number[:8], 16)}?\n\nNew Answer: {int(number[8:12], 16)}"
    finish = {"length": "length", "resource": "insufficient_system_resource", "filter": "content_filter"}.get(
        fault or "", "stop"
    )
    if fault == "empty":
        content = ""
    if fault == "unparsable":
        content = "I would rather not."
    message = {"role": "assistant", "content": content, "reasoning_content": f"Let me see: {number}. " * 3}
    usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 100, "prompt_cache_hit_tokens": 10}
    return {
        "id": f"chatcmpl-{number[:12]}",
        "object": "chat.completion",
        "created": 1,
        "model": f"{model}-as-served",
        "system_fingerprint": "fp_fake",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage,
    }


@contextmanager
def serve(host: Host, port: int = 0) -> Iterator[Host]:
    """`host` on a port of loopback (0: a free one), in a thread of its own; its `url` is set."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    app = web.Application(client_max_size=2**26)
    app.add_routes(host.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        host.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    def run() -> None:
        loop.run_until_complete(start())
        loop.call_soon(started.set)
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(10)
    try:
        yield host
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
