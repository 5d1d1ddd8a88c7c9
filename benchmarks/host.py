"""A teacher to measure against: an OpenAI-compatible chat endpoint on loopback that answers both templates.

    python benchmarks/host.py --port 8900          prints its URL when it listens; --port 0 takes a free one

Latency and answer are functions of the prompt, so every client meets the same teacher.

    POST /v1/chat/completions     and GET /v1/models
    POST /_admin/reset  {...}     zero the counts; set these settings, the rest to their defaults
    POST /_admin/config {...}     change settings, keep the counts
    GET  /_admin/stats            requests, answered, repeated (answered before), refused, failed, in_flight, most_in_flight,
                                  first and last (epoch seconds of the first request and of the last answer)

Settings: `latency` (constant or lognormal), `latency_s` (the constant, or the lognormal's median), `p99_s`, `max_s`,
`seed`, `content_bytes` and `reasoning_bytes` of a solution, `cap` (429 while more requests are in flight; 0: none),
`retry_after` (seconds, with every 429), `p429`, `p500` and `pdrop` (shares of attempts that are refused, that fail, and whose
connection is broken off, by prompt and attempt). An inversion has a quarter of the reasoning.
"""

import argparse
import asyncio
import hashlib
import json
import math
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from statistics import NormalDist
from typing import Any

from aiohttp import web
from corpus import Corpus

NORMAL = NormalDist()
Z99 = NORMAL.inv_cdf(0.99)

INVERSION = b"New Question: %s Problem %d of family %d has this answer; which quantity was given?\\n\\nNew Answer: It was %d."
SOLUTION = b"%sThe answer is $\\\\boxed{%d}$."
CONCLUSION = b"So it is %d."
"""A chain that never came to its result would be damaged, and every row fail that check."""
REPLY = (
    b'{"id":"chatcmpl-%016x","object":"chat.completion","created":1767225600,"model":"benchmark","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"%s","reasoning_content":"%s"},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
    b'"completion_tokens_details":{"reasoning_tokens":%d}}}'
)


@dataclass
class Settings:
    """See the head of this file."""

    latency: str = "constant"
    latency_s: float = 0.2
    p99_s: float = 5.0
    max_s: float = 60.0
    seed: int = 1
    content_bytes: int = 6000
    reasoning_bytes: int = 20000
    cap: int = 0
    retry_after: float = 1.0
    p429: float = 0.0
    p500: float = 0.0
    pdrop: float = 0.0


@dataclass
class Counts:
    requests: int = 0
    answered: int = 0
    repeated: int = 0
    refused: int = 0
    failed: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    first: float = 0.0
    last: float = 0.0


class Host:
    def __init__(self) -> None:
        self.settings = Settings()
        self.counts = Counts()
        self._attempts: Counter[int] = Counter()
        self._answered: set[int] = set()
        self._corpus = Corpus()

    async def respond(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/v1/chat/completions":
            return await self.chat(request)
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "benchmark", "object": "model"}]})
        action = request.path.removeprefix("/_admin/")
        if action in {"reset", "config"}:
            return self.configure(json.loads(await request.read() or "{}"), reset=action == "reset")
        if action == "stats":
            return web.json_response(asdict(self.counts))
        return web.json_response({"error": {"message": f"no such path: {request.path}"}}, status=404)

    def configure(self, wanted: dict[str, Any], *, reset: bool) -> web.Response:
        unknown = wanted.keys() - {field.name for field in fields(Settings)}
        if unknown:
            return web.json_response({"error": {"message": f"unknown settings {sorted(unknown)}"}}, status=400)
        if reset:  # requests still in flight count on in the old record
            self.counts, self.settings = Counts(), Settings(**wanted)
            self._attempts, self._answered = Counter(), set()
        else:
            self.settings = Settings(**{**asdict(self.settings), **wanted})
        return web.json_response(asdict(self.settings))

    async def chat(self, request: web.BaseRequest) -> web.Response:
        messages, counts = json.loads(await request.read())["messages"], self.counts
        if not messages:  # so clients ask for a host's limits: no request for an answer
            return web.json_response({"error": {"message": "Empty input messages"}}, status=400)
        counts.first = counts.first or time.time()
        counts.requests += 1
        counts.in_flight += 1
        counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
        try:
            if 0 < self.settings.cap < counts.in_flight:
                counts.refused += 1
                return self.refuse()
            prompt = messages[-1]["content"]
            if isinstance(prompt, list):  # of parts, as some clients send it
                prompt = "".join(part.get("text", "") for part in prompt)
            number = self.number(prompt)
            fault = self.fault(number)
            if fault == "429":
                counts.refused += 1
                return self.refuse()
            await asyncio.sleep(self.latency(number))
            if fault is not None:
                counts.failed += 1
                return self.fail(request, fault)
            counts.answered += 1
            counts.repeated += number in self._answered
            self._answered.add(number)
            counts.last = time.time()
            return web.Response(body=self.reply(prompt), content_type="application/json")
        finally:
            counts.in_flight -= 1

    def refuse(self) -> web.Response:
        headers = {"Retry-After": f"{self.settings.retry_after:g}"}
        return web.json_response({"error": {"message": "Rate limit reached", "code": "429"}}, status=429, headers=headers)

    def fault(self, number: int) -> str | None:
        """What goes wrong with the next attempt at the prompt of this number."""
        settings = self.settings
        shares = {"429": settings.p429, "500": settings.p500, "drop": settings.pdrop}
        if not any(shares.values()):
            return None
        self._attempts[number] += 1
        drawn = self.number(f"{number} {self._attempts[number]}") / 2**64
        for name, share in shares.items():
            drawn -= share
            if drawn < 0:
                return name
        return None

    def fail(self, request: web.BaseRequest, fault: str) -> web.Response:
        if fault == "drop" and request.transport is not None:
            request.transport.abort()
        return web.json_response({"error": {"message": "Internal server error", "code": "500"}}, status=500)

    def number(self, prompt: str) -> int:
        """64 bits that everything about a prompt's answer follows from."""
        return int.from_bytes(hashlib.sha256(f"{self.settings.seed}:{prompt}".encode()).digest()[:8])

    def latency(self, number: int) -> float:
        """Seconds until the answer to the prompt of this number."""
        settings = self.settings
        if settings.latency == "constant":
            return settings.latency_s
        sigma = math.log(settings.p99_s / settings.latency_s) / Z99
        return min(settings.max_s, settings.latency_s * math.exp(sigma * NORMAL.inv_cdf(((number >> 11) + 0.5) / 2**53)))

    def reply(self, prompt: str) -> bytes:
        """The body of the answer to a prompt made with either template."""
        settings, number = self.settings, self.number(prompt)
        if prompt.endswith("New Answer:"):
            question = self._corpus.encoded(number, min(200, settings.content_bytes))
            content = INVERSION % (question, number >> 40, number & 0xFFF, number & 0xFFFF)
            reasoning = self._corpus.encoded(number >> 7, settings.reasoning_bytes // 4)
        else:
            content = SOLUTION % (self._corpus.encoded(number, settings.content_bytes), number & 0xFFFF)
            reasoning = self._corpus.encoded(number >> 7, settings.reasoning_bytes) + CONCLUSION % (number & 0xFFFF)
        read, thought, written = len(prompt) // 4, len(reasoning) // 4, (len(reasoning) + len(content)) // 4
        return REPLY % (number, content, reasoning, read, written, read + written, thought)


async def serve(port: int) -> None:
    """Listen on loopback until cancelled, and print the URL."""
    runner = web.ServerRunner(web.Server(Host().respond, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8900, help="0: any that is free (default: %(default)s)")
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
