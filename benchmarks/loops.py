"""What one would write by hand: loops that ask what the builder asks and keep the answers in memory.

    python benchmarks/loops.py bare SOURCE.jsonl --base-url http://127.0.0.1:8900/v1 --concurrency 256

`bare` is aiohttp alone; `openai` is AsyncOpenAI with its default transport, `openai-aiohttp` with its aiohttp one. As
many workers as `--concurrency`, each inverting a row and then solving it. No journal, no retries: any failure ends it.
Prints one JSON line: epoch seconds of the `first` request and the `last` answer, and the number of `answers`.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import openai

from r1k_builder import invert, solve
from r1k_builder.config import TeacherConfig

MODEL = "benchmark"
SAMPLING = TeacherConfig().sampling

Ask = Callable[[str], Awaitable[str]]
"""A prompt to the content of its answer."""


@asynccontextmanager
async def bare(base_url: str, concurrency: int) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

        async def ask(prompt: str) -> str:
            body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **SAMPLING}
            async with session.post(f"{base_url}/chat/completions", json=body, raise_for_status=True) as response:
                reply = json.loads(await response.read())
            content: str = reply["choices"][0]["message"]["content"]
            return content

        yield ask


@asynccontextmanager
async def sdk(base_url: str, http_client: openai.DefaultAioHttpClient | None) -> AsyncIterator[Ask]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, http_client=http_client) as client:

        async def ask(prompt: str) -> str:
            reply = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": prompt}], **SAMPLING
            )
            return reply.choices[0].message.content or ""

        yield ask


CLIENTS: dict[str, Callable[[str, int], AbstractAsyncContextManager[Ask]]] = {
    "bare": bare,
    "openai": lambda base_url, _: sdk(base_url, None),
    "openai-aiohttp": lambda base_url, _: sdk(base_url, openai.DefaultAioHttpClient()),
}


async def run(client: str, rows: list[tuple[str, str]], base_url: str, concurrency: int) -> dict[str, float]:
    """Invert and solve every (question, solution)."""
    waiting, answers = iter(rows), []

    async def work(ask: Ask) -> None:
        for question, solution in waiting:
            inverted = await ask(invert.TEMPLATE.replace("{question}", question).replace("{answer}", solution))
            asked = inverted.partition("New Question:")[2].partition("New Answer:")[0].strip()
            answers.append((inverted, await ask(solve.TEMPLATE.replace("{question}", asked))))

    async with CLIENTS[client](base_url, concurrency) as ask:
        first = time.time()
        await asyncio.gather(*(work(ask) for _ in range(concurrency)))
        return {"first": first, "last": time.time(), "answers": 2 * len(answers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("source", type=Path, help="JSONL with question and solution")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--concurrency", type=int, default=256)
    options = parser.parse_args()
    with options.source.open() as lines:
        rows = [(row["question"], row["solution"]) for row in map(json.loads, lines)]
    print(json.dumps(asyncio.run(run(options.client, rows, options.base_url, options.concurrency))))


if __name__ == "__main__":
    main()
