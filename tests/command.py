"""r1k-build as its users run it, as a process or in this one, and what it leaves in its folder."""

import collections
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from r1k_builder import cli
from tests.fake_host import FakeHost

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["__main__", "tests.command"])


class Ended(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str


@dataclass
class Build:
    """A folder, and the source and host that it is built from."""

    host: FakeHost
    source: Path
    folder: Path

    def words(self, *options: str) -> list[str]:
        fixed = ["--base-url", self.host.url, "--model", "m", "--tokenizer", "none"]
        return ["--source", str(self.source), "--output", str(self.folder), *fixed, *options]

    def here(self, *options: str) -> Ended:
        """Build in this process."""
        return run_here(*self.words(*options))

    def resume_here(self, *options: str) -> Ended:
        return run_here("--resume", "--output", str(self.folder), *options)

    def start(self, *options: str, **environment: str) -> "Running":
        """Build in a process of its own."""
        return start(*self.words(*options), **environment)

    def resume(self, *options: str) -> "Running":
        return start("--resume", "--output", str(self.folder), *options)


def run_here(*words: str) -> Ended:
    """A command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(words)
    return Ended(status, out.getvalue(), err.getvalue())


class Running:
    """A command in a process of its own, forked from one that has imported everything, which saves seconds each time."""

    def __init__(self, words: tuple[str, ...], environment: dict[str, str]) -> None:
        self._screen = Path(tempfile.mkdtemp())
        for name in ("out", "err"):
            (self._screen / name).touch()
        self._process = FORK.Process(target=_run, args=(words, environment, str(Path.cwd()), str(self._screen)))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.exitcode is None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(self.pid, number)

    def end(self, seconds: float = 60) -> Ended:
        """Wait for it; kill it where that takes longer than `seconds`."""
        self._process.join(seconds)
        self._process.kill()
        self._process.join()
        out, err = ((self._screen / name).read_text() for name in ("out", "err"))
        shutil.rmtree(self._screen)
        assert self._process.exitcode is not None
        return Ended(self._process.exitcode, out, err)


def _run(words: tuple[str, ...], environment: dict[str, str], directory: str, screen: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(screen) / name, os.O_WRONLY), number)
    os.environ.update(environment)
    os.chdir(directory)
    sys.exit(cli.main(words))


def start(*words: str, **environment: str) -> Running:
    return Running(words, environment)


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


def parquet(folder: Path) -> dict[str, bytes]:
    """Every Parquet file of the dataset by its path: the bytes that are promised."""
    paths = (path.relative_to(folder) for path in folder.rglob("*.parquet"))
    return {str(path): (folder / path).read_bytes() for path in paths if ".build" not in path.parts}


def rows(ended: Ended) -> dict[str, int]:
    """The counts in a build's summary."""
    found = re.search(r"([\d,]+) rows read = ([\d,]+) accepted \+ ([\d,]+) rejected \+ ([\d,]+) owed", ended.out)
    assert found, ended
    names = ("read", "accepted", "rejected", "owed")
    return {name: int(count.replace(",", "")) for name, count in zip(names, found.groups(), strict=True)}


# -- what the journal holds ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def journal(folder: Path) -> Iterator[sqlite3.Connection]:
    """A copy of the journal with its WAL as they lie there, so that looking at it changes nothing."""
    with tempfile.TemporaryDirectory() as place:
        for path in (folder / ".build").glob("journal.sqlite*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, place)
        db = sqlite3.connect(Path(place) / "journal.sqlite")
        try:
            yield db
        finally:
            db.close()


PAID = "SELECT content FROM request JOIN attempt USING (key) JOIN reply ON reply.attempt = attempt.id WHERE status = 200"
LOST = (
    "SELECT content FROM request JOIN attempt USING (key) LEFT JOIN reply ON reply.attempt = attempt.id"
    " WHERE reply.attempt IS NULL AND run = (SELECT max(id) FROM run)"
)


def prompts(folder: Path, query: str) -> collections.Counter[str]:
    """How often each prompt, named as the fake host names it, is among the requests that `query` selects."""
    with journal(folder) as db:
        found = [json.loads(content)["messages"][-1]["content"] for (content,) in db.execute(query)]
    return collections.Counter(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest() for prompt in found)


def paid(folder: Path) -> collections.Counter[str]:
    """The prompts that the journal holds a reply to."""
    return prompts(folder, PAID)


def lost(folder: Path) -> collections.Counter[str]:
    """The prompts that were in flight when the last run ended."""
    return prompts(folder, LOST)
