"""The tests' fake host with a batch interface, as OpenAI documents it: files, batches of them, and their answers.

A batch is answered when it is `released` and looked at; each of its lines is an exchange in the log, as if it had been asked
alone, so that what is paid for is counted alike. Scripts decide of each line, `ending` of each batch.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fake_host import STATUSES, FakeHost

PAGE = 2
"""Batches on a page of the list, at most."""


@dataclass
class BatchHost(FakeHost):
    """`files` and `batches` are what it holds, by id, in the order they were made."""

    released: bool = True
    """Whether batches are answered yet."""
    sells: bool = True
    """404 to everything about batches where not."""
    ending: Callable[[int], str] = lambda _number: "completed"
    """Which batch (from 1) -> the status that it ends in. Of one that expires or is cancelled, every other line is answered."""
    refuses: Callable[[str, int], str | None] = lambda _call, _time: None
    """(`upload`, `make`, `list`, `look` or `fetch`, which time, from 1) -> a status; `cut`, which does what is asked and breaks
    the connection off; `hang`, which does it and never answers; or None for a good answer."""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def routes(self) -> list[web.RouteDef]:
        return [
            *super().routes(),
            web.post("/v1/files", self._upload),
            web.get("/v1/files/{id}/content", self._fetch),
            web.post("/v1/batches", self._make),
            web.get("/v1/batches", self._list),
            web.get("/v1/batches/{id}", self._look),
        ]

    @property
    def lines(self) -> list[list[dict[str, Any]]]:
        """What each batch asks for."""
        return [
            [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()] for batch in self.batches.values()
        ]

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        assert form["purpose"] == "batch"
        with file.file:
            content = file.file.read()
        return await self._say("upload", request, lambda: self._keep(content))

    def _keep(self, content: bytes) -> dict[str, Any]:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = content
        return {"id": name, "object": "file", "bytes": len(content), "purpose": "batch"}

    async def _make(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        assert asked["endpoint"] == "/v1/chat/completions"
        assert asked["completion_window"] == "24h"

        def make() -> dict[str, Any]:
            name = f"batch_{len(self.batches) + 1}"
            told = {"id": name, "object": "batch", "status": "validating", "output_file_id": None, "error_file_id": None}
            total = len(self.files[asked["input_file_id"]].splitlines())
            counts = {"total": total, "completed": 0, "failed": 0}
            self.batches[name] = {**asked, **told, "key": request.headers["Authorization"], "request_counts": counts}
            return self.batches[name]

        return await self._say("make", request, make)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        names = list(reversed(self.batches))
        start = names.index(request.query["after"]) + 1 if "after" in request.query else 0
        shown = names[start : start + min(PAGE, int(request.query["limit"]))]
        more = start + len(shown) < len(names)
        data = [self.batches[name] for name in shown]
        return await self._say("list", request, lambda: {"object": "list", "data": data, "has_more": more})

    async def _look(self, request: web.Request) -> web.StreamResponse:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        if batch["status"] in ("validating", "in_progress"):
            if self.released:
                self._end(batch)
            else:
                batch["status"] = "in_progress"
        return await self._say("look", request, lambda: batch)

    def _end(self, batch: dict[str, Any]) -> None:
        """Answer the lines of a batch in a file of answers and one of errors, in another order than they were asked."""
        number = list(self.batches).index(batch["id"]) + 1
        batch["status"] = self.ending(number)
        if batch["status"] == "failed":
            batch["errors"] = {
                "data": [{"code": "token_limit_exceeded", "message": "too many tokens are waiting", "line": None}]
            }
            return
        answers: dict[str, list[str]] = {"output_file_id": [], "error_file_id": []}
        for place, line in enumerate(reversed(self.lines[number - 1])):
            told: dict[str, Any]
            if batch["status"] != "completed" and place % 2:
                told = {"response": None, "error": {"code": "batch_expired", "message": "not in time"}}
                if batch["status"] == "cancelled":
                    continue  # OpenAI has no line for those
            else:
                told = self._exchange(line["body"], batch["key"])
                if told.get("fault") == "missing":
                    continue
            good = told["response"] is not None and told["response"]["status_code"] == 200
            file = answers["output_file_id" if good else "error_file_id"]
            file.append(json.dumps({"id": f"line_{place}", "custom_id": line["custom_id"], **told}) + "\n")
        for kind, lines in answers.items():
            if lines:
                batch[kind] = self._keep("".join(lines).encode())["id"]
        done = len(answers["output_file_id"])
        batch["request_counts"] |= {"completed": done, "failed": batch["request_counts"]["total"] - done}

    def _exchange(self, body: dict[str, Any], key: str) -> dict[str, Any]:
        """What is said to one line."""
        exchange = self.hear(body, key)
        exchange.fault = self.script(exchange.prompt, self.attempts[exchange.prompt])
        if exchange.fault == "missing":
            return {"fault": "missing"}
        exchange.status = int(exchange.fault) if exchange.fault in STATUSES else 200
        content = {"error": {"message": f"no: {exchange.fault} {key}"}}
        if exchange.status == 200:
            content = json.loads(self.completion(body["model"], body["messages"][-1]["content"], exchange))
        return {"response": {"status_code": exchange.status, "request_id": "r", "body": content}, "error": None}

    async def _fetch(self, request: web.Request) -> web.StreamResponse:
        content = self.files[request.match_info["id"]]
        self.calls["fetch"] += 1
        fault = self.refuses("fetch", self.calls["fetch"])
        if fault in STATUSES:
            return web.json_response({"error": {"message": fault}}, status=int(fault))
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: len(content) // 2] if fault == "cut" else content)
        if fault == "cut":
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write_eof()
        return response

    async def _say(self, call: str, request: web.Request, act: Callable[[], dict[str, Any]]) -> web.StreamResponse:
        self.calls[call] += 1
        fault = self.refuses(call, self.calls[call])
        if not self.sells:
            return web.json_response({"error": {"message": f"Invalid URL ({request.method} {request.path})"}}, status=404)
        if fault in STATUSES:
            return web.json_response({"error": {"message": f"no: {fault}"}}, status=int(fault))
        told = act()
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "cut":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({name: value for name, value in told.items() if name != "key"})
