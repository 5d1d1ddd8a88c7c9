"""The embedded teacher behind an OpenAI-compatible endpoint on loopback, so that it is reached as a paid host is.

    POST /v1/chat/completions     not streamed; the last user message is the prompt, sampling parameters change nothing
    GET  /v1/models

What answers is a solver, not a language model. Usage counts words between white space, not tokens.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from aiohttp import web

from r1k_builder.embedded.bank import BANK_VERSION, MODEL
from r1k_builder.embedded.solver import Reply, answer
from r1k_builder.schema import clean_text

LARGEST_BODY = 16 * 2**20
"""Bytes of a request's body; a larger one gets a 413."""

MODEL_CARD = {
    "id": MODEL,
    "object": "model",
    "created": 0,
    "owned_by": "r1k",
    "description": "A solver for the relations of r1k's embedded bank, for trying out, testing and small experiments. "
    "It is not a language model.",
}


@asynccontextmanager
async def serve(latency: float = 0.0, port: int = 0) -> AsyncIterator[str]:
    """Serves in the running loop while the context is open; yields the base URL, `http://127.0.0.1:PORT/v1`.

    `latency` is how many seconds each answer waits, `port` 0 any free one. Raises OSError where the port is taken.
    """
    runner = web.AppRunner(_application(latency), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def _application(latency: float) -> web.Application:
    async def complete(request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _error(413, f"the body is larger than {LARGEST_BODY} bytes")
        try:
            prompt = _prompt(body)
        except _BadRequestError as error:
            return _error(400, str(error))
        reply = answer(prompt)
        await asyncio.sleep(latency)
        return web.json_response(_completion(prompt, reply))

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [MODEL_CARD]})

    application = web.Application(client_max_size=LARGEST_BODY)
    application.router.add_post("/v1/chat/completions", complete)
    application.router.add_get("/v1/models", models)
    return application


class _BadRequestError(Exception):
    """The body is not a chat completion request; the message says why."""


def _prompt(body: bytes) -> str:
    """The text of the last user message."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise _BadRequestError("the body is not JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
        raise _BadRequestError("'messages' must be a list of messages")
    if request.get("stream"):
        raise _BadRequestError("this host does not stream: leave 'stream' out")
    users = [m for m in request["messages"] if isinstance(m, dict) and m.get("role") == "user"]
    if not users:
        raise _BadRequestError("'messages' holds no message of the role 'user'")
    return _text(users[-1].get("content"))


def _text(content: object) -> str:
    """A message's content: a string, or a list of text parts."""
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        if len(texts) == len(content):
            return clean_text("".join(texts))
    if not isinstance(content, str):
        raise _BadRequestError("a message's 'content' must be a string or a list of text parts")
    return clean_text(content)


def _completion(prompt: str, reply: Reply) -> dict[str, Any]:
    """The id depends on the prompt alone, as the reply does."""
    asked, reasoned, answered = (len(text.split()) for text in (prompt, reply.reasoning, reply.content))
    return {
        "id": f"chatcmpl-{sha256(prompt.encode()).hexdigest()[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "system_fingerprint": f"bank-{BANK_VERSION}",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.content, "reasoning_content": reply.reasoning},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": reasoned + answered,
            "total_tokens": asked + reasoned + answered,
            "completion_tokens_details": {"reasoning_tokens": reasoned},
        },
    }


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=status)
