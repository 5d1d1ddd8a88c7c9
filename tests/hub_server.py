"""A Hub on loopback: serves folders as dataset repositories to `huggingface_hub` and `datasets`.

It speaks the part of the Hub's HTTP API that those libraries use to read: a repository's information, its tree, and
its files. Start it, then run a client in a process of its own with `client_environment`, for both libraries read
`HF_ENDPOINT` once, when they are imported.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@dataclass
class Repository:
    """A dataset repository at one commit: the files of `folder`."""

    folder: Path
    gated: bool = False
    """Its information is public, its files are refused (403), as the Hub does it."""

    @property
    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()
        }

    @property
    def sha(self) -> str:
        """The commit: 40 hex digits that change with the content."""
        return _digest(json.dumps([[name, _digest(content)] for name, content in self.files.items()]).encode())


@dataclass
class HubServer:
    """What the server holds and has been asked."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """One "METHOD /path" per request, in order of arrival."""


def client_environment(server: HubServer, home: Path) -> dict[str, str]:
    """Environment of a client process: `server` is its Hub, `home` its cache, and it has no token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return kept | {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@contextmanager
def serve_hub(**repositories: Repository) -> Iterator[HubServer]:
    """A running Hub that holds `repositories`; `owner__name` names the repository `owner/name`."""
    hub = HubServer(repositories={name.replace("__", "/"): repository for name, repository in repositories.items()})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    httpd.daemon_threads = True
    hub.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name for it)
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {url.path}")
        parts = unquote(url.path).strip("/").split("/")
        is_api = parts[0] == "api"
        repository = self.hub.repositories.get("/".join(parts[2:4] if is_api else parts[1:3]))
        if repository is None:
            self._refuse(404, "RepoNotFound")
        elif is_api:
            self._answer_api(repository, parts[4:], parse_qs(url.query))
        else:  # datasets/owner/name/resolve/REVISION/PATH
            self._send_file(repository, "/".join(parts[5:]))

    def do_POST(self) -> None:
        self.hub.requests.append(f"POST {self.path}")
        parts = unquote(self.path).strip("/").split("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        repository = self.hub.repositories.get("/".join(parts[2:4]))
        if repository is None or parts[4:5] != ["paths-info"]:
            return self._refuse(404, "RepoNotFound")
        wanted = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
        return self._send_json([entry for entry in _tree(repository, "", recursive=True) if entry["path"] in wanted])

    def _answer_api(self, repository: Repository, parts: list[str], query: dict[str, list[str]]) -> None:
        if parts[:1] == ["tree"]:
            entries = _tree(repository, "/".join(parts[2:]), recursive=query.get("recursive", ["false"])[0].lower() == "true")
            return self._send_json(entries) if entries else self._refuse(404, "EntryNotFound")
        siblings = [{"rfilename": name} for name in repository.files]
        return self._send_json({"id": "owner/name", "sha": repository.sha, "siblings": siblings, "private": False, "tags": []})

    def _send_file(self, repository: Repository, name: str) -> None:
        content = repository.files.get(name)
        if repository.gated:
            self._refuse(403, "GatedRepo")
        elif content is None:
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": repository.sha})
        else:
            self._send(200, content, {"X-Repo-Commit": repository.sha, "ETag": f'"{_digest(content)}"'})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code} | (headers or {}))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _tree(repository: Repository, folder: str, *, recursive: bool) -> list[dict[str, object]]:
    """The Hub's listing of `folder`: its files and, where not `recursive`, the folders in it."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, object]] = {}
    for name, content in repository.files.items():
        if not name.startswith(prefix):
            continue
        child, _, rest = name[len(prefix) :].partition("/")
        if rest and not recursive:
            entries[child] = {"type": "directory", "path": prefix + child, "oid": _digest(child.encode()), "size": 0}
        else:
            entries[name] = {"type": "file", "path": name, "oid": _digest(content), "size": len(content)}
    return list(entries.values())
