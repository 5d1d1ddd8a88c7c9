"""A Hub on loopback: serves folders as dataset repositories to `huggingface_hub` and `datasets`, and takes pushes.

It speaks the part of the Hub's HTTP API that those libraries use to read (a repository's information, its tree, its
files) and to write (create, preupload, LFS batch, blobs, commit, branch, tag), and misbehaves on demand. Start it, then run
a client in a process of its own with `client_environment`, for both libraries read `HF_ENDPOINT` once, when they
are imported.
"""

import base64
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

TOKEN = "hf_" + "aWellKnownTokenOfTheTestHub" * 2  # opens nothing but this server


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def git_oid(content: bytes) -> str:
    """The SHA-1 by which git, and the Hub's tree, names a blob."""
    return _digest(b"blob %d\0" % len(content) + content)


def is_lfs(name: str) -> bool:
    return name.endswith((".parquet", ".png"))


@dataclass
class Commit:
    sha: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """A dataset repository: the files of `folder` as they lie there, or the commits that were pushed."""

    folder: Path | None = None
    gated: bool = False
    """Its information is public, its files are refused (403), as the Hub does it."""
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """Branches, tags (`refs/tags/…`) and pull requests (`refs/pr/…`), each with its commit."""

    @property
    def files(self) -> dict[str, bytes]:
        return self.files_at("main") or {}

    @property
    def sha(self) -> str:
        """The commit of `main`: 40 hex digits that change with the content."""
        if self.folder is None:
            return self.refs["main"]
        return _digest(json.dumps([[name, _digest(content)] for name, content in self.files.items()]).encode())

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag, a pull request or a commit names."""
        if self.folder is not None:
            return self.sha
        found = self.refs.get(revision) or self.refs.get(f"refs/tags/{revision}")
        return found or (revision if revision in self.commits else None)

    def files_at(self, revision: str) -> dict[str, bytes] | None:
        if self.folder is not None:
            paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
            return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}
        sha = self.resolve(revision)
        return None if sha is None else self.commits[sha].files

    def commit(self, revision: str, message: str, files: dict[str, bytes]) -> str:
        content = {name: git_oid(content) for name, content in files.items()}
        sha = _digest(f"{len(self.commits)} {message} {content}".encode())
        self.commits[sha] = Commit(sha, message, files)
        self.refs[revision] = sha
        return sha

    @property
    def pushed(self) -> list[Commit]:
        """The commits that clients have made, beside the first, which the Hub makes itself."""
        return list(self.commits.values())[1:]


def new_repository(*, private: bool = False, **files: bytes) -> Repository:
    """As the Hub makes one, with its .gitattributes; `files` beside it, `__` for a dot."""
    repository = Repository(private=private)
    content = {name.replace("__", "."): text for name, text in files.items()}
    repository.commit("main", "initial commit", {".gitattributes": b"*.parquet filter=lfs\n", **content})
    return repository


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path" contains `where`."""

    where: str
    status: int | None
    """An HTTP status; None: the connection is closed, a request's body half read."""
    times: int = 1
    after: int = 0
    """So many such requests are well before."""
    done: bool = False
    """Do what was asked before all goes wrong: a success whose answer is lost."""


@dataclass
class HubServer:
    """What the server holds and has been asked."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """One "METHOD /path" per request, in order of arrival."""
    faults: list[Fault] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    """LFS objects by SHA-256."""
    uploads: list[str] = field(default_factory=list)
    """SHA-256 of each blob that came in whole."""
    may_write: bool = True
    """Whether TOKEN may."""

    def reset(self) -> None:
        """As it was when it started."""
        for part in (self.repositories, self.requests, self.faults, self.blobs, self.uploads):
            part.clear()
        self.may_write = True

    def asked(self, word: str) -> int:
        """How many requests had `word` in their "METHOD /path"."""
        return sum(word in request for request in self.requests)


def client_environment(server: HubServer, home: Path, token: str | None = None) -> dict[str, str]:
    """Environment of a client process: `server` is its Hub, `home` its cache, and it has `token`, or none."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    named = {} if token is None else {"HF_TOKEN": token}
    settings = {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    settings |= {"USE_TORCH": "0"}  # which `datasets` would import, and takes seconds
    return kept | named | settings


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
    disable_nagle_algorithm = True  # else each answer, which goes out as head and body, waits 40 ms for an acknowledgement
    hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name for it)
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts, query = self._begin()
        if self._fails(parts):
            return None
        repository = self._repository(parts)
        if repository is None:
            return self._refuse(404, "RepoNotFound")
        if parts[0] == "api":
            return self._answer_api(repository, parts[4:], query)
        return self._send_file(repository, parts[4], "/".join(parts[5:]))  # datasets/owner/name/resolve/REVISION/PATH

    def do_POST(self) -> None:
        parts, query = self._begin()
        fault = self._fault()
        if fault is not None and not fault.done:
            return self._fail(fault)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self._paths_info(parts, body) if parts[4:5] == ["paths-info"] else self._write(parts, query, body)
        if fault is not None:
            return self._fail(fault)
        status, content = answer
        return self._send(status, content, {"Content-Type": "application/json"} if status == 200 else {})

    def do_PUT(self) -> None:
        parts, _ = self._begin()
        if self._fails(parts):
            return None
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = hashlib.sha256(content).hexdigest()
        if oid != parts[1]:
            return self._refuse(400, "BadBlob")
        self.hub.blobs[oid] = content
        self.hub.uploads.append(oid)
        return self._send(200, b"", {})

    def _begin(self) -> tuple[list[str], dict[str, list[str]]]:
        """The path's parts, and the query; the request is in the log."""
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        return [unquote(part) for part in url.path.strip("/").split("/")], parse_qs(url.query)

    def _repository(self, parts: list[str]) -> Repository | None:
        """The repository that a path names, where this client may see it."""
        owner = parts[2:4] if parts[0] == "api" else parts[1:3]
        found = self.hub.repositories.get("/".join(owner).removesuffix(".git"))
        return None if found is not None and found.private and self._refusal() == 401 else found

    def _refusal(self) -> int | None:
        """The status by which a client that may not write is refused."""
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401
        return None if self.hub.may_write else 403

    # -- faults

    def _fault(self) -> Fault | None:
        for fault in self.hub.faults:
            if fault.where in self.hub.requests[-1] and fault.times:
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def _fails(self, _parts: list[str]) -> bool:
        fault = self._fault()
        if fault is not None:
            self._fail(fault)
        return fault is not None

    def _fail(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.status is None:
            if not fault.done:
                self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            self.connection.close()
            return
        headers = {"Retry-After": "0"} if fault.status in {429, 503} else {}
        token = self.headers.get("Authorization", "")
        self._send(fault.status, json.dumps({"error": f"no: {token}"}).encode(), headers)

    # -- writing

    def _write(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> tuple[int, bytes]:
        if parts[:2] == ["api", "validate-yaml"]:
            return 200, b'{"errors": [], "warnings": []}'
        if (status := self._refusal()) is not None:
            return status, b'{"error": "no"}'
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        repository = self._repository(parts)
        if repository is None:
            return 404, b"{}"
        if parts[-1] == "batch":
            return 200, json.dumps(self._lfs_batch(json.loads(body))).encode()
        kind, revision = parts[4:6]
        if kind == "preupload":
            return 200, json.dumps(_preupload(repository, revision, json.loads(body))).encode()
        if kind == "branch" and revision in repository.refs:
            return 409, b'{"error": "Reference already exists"}'
        if kind == "branch":
            repository.refs[revision] = repository.refs["main"]
            return 200, b"{}"
        if kind == "tag":
            repository.refs[f"refs/tags/{json.loads(body)['tag']}"] = repository.resolve(revision) or ""
            return 200, b"{}"
        return self._commit(repository, revision, body, pull_request="create_pr" in query)

    def _create(self, wanted: dict[str, Any]) -> tuple[int, bytes]:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            return 409, b'{"error": "You already created this dataset repo"}'
        self.hub.repositories[name] = new_repository(private=wanted.get("visibility") == "private")
        return 200, json.dumps({"url": f"{self.hub.url}/datasets/{name}", "name": name}).encode()

    def _lfs_batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        objects = []
        for blob in wanted["objects"]:
            upload = {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{blob['oid']}"}}}
            objects.append(blob | ({} if blob["oid"] in self.hub.blobs else upload))
        return {"transfer": "basic", "objects": objects}

    def _commit(self, repository: Repository, revision: str, body: bytes, *, pull_request: bool) -> tuple[int, bytes]:
        header, *operations = [json.loads(line) for line in body.splitlines()]
        parent = repository.resolve(revision)
        if parent is None:
            return 404, b"{}"
        if header["value"].get("parentCommit", parent) != parent:
            return 412, b'{"error": "A commit has happened since. Please refresh and try again."}'
        files = dict(repository.commits[parent].files)
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "deletedFile":
                del files[value["path"]]
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        number = sum(name.startswith("refs/pr/") for name in repository.refs) + 1
        sha = repository.commit(f"refs/pr/{number}" if pull_request else revision, header["value"]["summary"], files)
        name = next(name for name, known in self.hub.repositories.items() if known is repository)
        page = f"{self.hub.url}/datasets/{name}"
        answer = {"success": True, "commitUrl": f"{page}/commit/{sha}", "commitOid": sha}
        return 200, json.dumps(answer | {"pullRequestUrl": f"{page}/discussions/{number}" if pull_request else None}).encode()

    # -- reading

    def _paths_info(self, parts: list[str], body: bytes) -> tuple[int, bytes]:
        repository = self._repository(parts)
        files = None if repository is None else repository.files_at(parts[5])
        if files is None:
            return 404, b"{}"
        wanted = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
        return 200, json.dumps([entry for entry in _tree(files, "", recursive=True) if entry["path"] in wanted]).encode()

    def _answer_api(self, repository: Repository, parts: list[str], query: dict[str, list[str]]) -> None:
        if parts[:1] == ["refs"]:
            return self._send_json(_refs(repository))
        files = repository.files_at(parts[1] if len(parts) > 1 else "main")
        if files is None:
            return self._refuse(404, "RevisionNotFound")
        if parts[:1] == ["tree"]:
            entries = _tree(files, "/".join(parts[2:]), recursive=query.get("recursive", ["false"])[0].lower() == "true")
            return self._send_json(entries) if entries else self._refuse(404, "EntryNotFound")
        siblings = [{"rfilename": name} for name in files]
        sha = repository.resolve(parts[1] if len(parts) > 1 else "main")
        return self._send_json(
            {"id": "owner/name", "sha": sha, "siblings": siblings, "private": repository.private, "tags": []}
        )

    def _send_file(self, repository: Repository, revision: str, name: str) -> None:
        sha, files = repository.resolve(revision), repository.files_at(revision)
        if files is None or sha is None:
            return self._refuse(404, "RevisionNotFound")
        if repository.gated:
            return self._refuse(403, "GatedRepo")
        if name not in files:
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": sha})
        return self._send(200, files[name], {"X-Repo-Commit": sha, "ETag": f'"{_digest(files[name])}"'})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code} | (headers or {}))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        whole = len(content)
        if (asked := self.headers.get("Range", "")).startswith("bytes=") and status == 200:
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(stop or whole), whole - 1)
            status, content = 206, content[first : last + 1]
            headers = headers | {"Content-Range": f"bytes {first}-{last}/{whole}"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _preupload(repository: Repository, revision: str, wanted: dict[str, Any]) -> dict[str, Any]:
    files = repository.files_at(revision) or {}
    answers = []
    for file in wanted["files"]:
        content, lfs = files.get(file["path"]), is_lfs(file["path"])
        oid = None if content is None else hashlib.sha256(content).hexdigest() if lfs else git_oid(content)
        answers.append({"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid})
    return {"files": answers}


def _refs(repository: Repository) -> dict[str, Any]:
    named = [(name, sha) for name, sha in repository.refs.items() if not name.startswith("refs/pr/")]
    tags = [
        {"name": name.removeprefix("refs/tags/"), "ref": name, "targetCommit": sha}
        for name, sha in named
        if name.startswith("refs/tags/")
    ]
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in named if not name.startswith("refs/")
    ]
    return {"branches": branches, "tags": tags, "converts": []}


def _tree(files: dict[str, bytes], folder: str, *, recursive: bool) -> list[dict[str, object]]:
    """The Hub's listing of `folder`: its files and, where not `recursive`, the folders in it."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, object]] = {}
    for name, content in files.items():
        if not name.startswith(prefix):
            continue
        child, _, rest = name[len(prefix) :].partition("/")
        if rest and not recursive:
            entries[child] = {"type": "directory", "path": prefix + child, "oid": _digest(child.encode()), "size": 0}
            continue
        entries[name] = {"type": "file", "path": name, "oid": git_oid(content), "size": len(content)}
        if is_lfs(name):
            entries[name]["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return list(entries.values())
