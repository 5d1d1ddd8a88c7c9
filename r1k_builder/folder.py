"""The output folder: its journals, locks, manifest, log. Everything of a build that is not the dataset is in `.build/`."""

import errno
import fcntl
import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from r1k_builder.errors import LocalError, R1kError, UsageError
from r1k_builder.journal import JournalView
from r1k_builder.shards import Shard

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system says that knows no hard links."""


class BuildFolder:
    """A folder that holds, or is to hold, a build; as one of its shards sees it, where one is named."""

    def __init__(self, path: Path, shard: Shard | None = None) -> None:
        self.path = path
        self.shard = shard
        self.state = path / ".build"
        suffix = shard.suffix if shard is not None else ""
        self.journal = self.state / f"journal{suffix}.sqlite"
        self._log = self.state / f"build{suffix}.log"
        self._manifest = self.state / "manifest.json"
        self._made: list[Path] = []
        """What `create` has made."""

    def journals(self) -> list[Path]:
        """Every journal that is here: the one of a build without shards, and the shards'."""
        names = {path.name.removesuffix(".salvaged") for path in self.state.glob("journal*.sqlite*")}
        return [self.state / name for name in sorted(names) if name == "journal.sqlite" or Shard.of_journal(name) is not None]

    def others(self) -> list[Path]:
        """The journals that may hold rows of this one, too: those of another split, and the one of a build without shards; for
        that, all."""
        split = None if self.shard is None else self.shard.of
        shards = ((path, Shard.of_journal(path.name)) for path in self.journals() if path != self.journal)
        return [path for path, shard in shards if shard is None or shard.of != split]

    @property
    def holds_build(self) -> bool:
        """Whether a build was begun here: a journal (of a shard: its own) has rows or attempts, or can't be read."""
        return any(_begun(path) for path in ([self.journal] if self.shard is not None else self.journals()))

    @property
    def rows_read(self) -> int:
        """Source rows that the dataset here was made of; 0 where there is none."""
        try:
            return int(self.manifest()["rows"]["read"])
        except (UsageError, LookupError, TypeError, ValueError):
            return 0

    @property
    def lacks_journal(self) -> bool:
        """Whether a dataset is here, and nothing in any journal."""
        return self.rows_read > 0 and not any(map(_begun, self.journals()))

    def create(self) -> None:
        """Make the folder. Raises UsageError where it holds something else, LocalError where it can't be written."""
        with local_errors(self.path):
            if self.path.exists() and not self.state.exists() and any(self.path.iterdir()):
                raise UsageError(f"{self.path} is not empty and holds no build: choose another --output, or empty it first")
            self._made = [path for path in (self.state, self.path, *self.path.parents) if not path.exists()]
            self.state.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who writes the dataset. Raises LocalError where another one is at work."""
        with self._held(self.state / "lock", str(self.path)):
            yield

    @contextmanager
    def building(self) -> Iterator[None]:
        """Be the only one who builds these rows: hold this journal's lock, and of a build without shards the folder's.

        Raises LocalError where another one is at work, on this journal or on one that may share rows with it: neither
        would know what the other has asked for.
        """
        with ExitStack() as held:
            if self.shard is None:
                held.enter_context(self.lock())
            held.enter_context(self._held(_lock_of(self.journal), self._described()))
            for path in self.others():
                if self.at_work(path):
                    raise LocalError(
                        f"{path.name} of {self.path} is being written, which may have rows of {self._described()}: wait for it"
                        f" (r1k-build status {self.path} tells), or choose another --output"
                    )
            try:
                yield
            except R1kError:
                self._remove_what_was_made()
                raise

    def _remove_what_was_made(self) -> None:
        """Leave no empty folder behind a build that was refused before it began. Hold the locks."""
        if self._made and self.shard is None and not self.holds_build:
            shutil.rmtree(self.state, ignore_errors=True)
            with suppress(OSError):  # something else is there by now
                for path in self._made[1:]:
                    path.rmdir()

    @contextmanager
    def holding(self, path: Path) -> Iterator[bool]:
        """Hold the lock of the journal at `path` if nobody builds there; whether it is held."""
        with ExitStack() as held:
            try:
                held.enter_context(self._held(_lock_of(path), path.name))
            except LocalError:
                yield False
            else:
                yield True

    def _described(self) -> str:
        return str(self.path) if self.shard is None else f"shard {self.shard} of {self.path}"

    @contextmanager
    def _held(self, path: Path, what: str) -> Iterator[None]:
        with local_errors(self.path):
            file = path.open("a+")
        with file:
            with local_errors(self.path):
                taken = _lock(file.fileno())
            if not taken:
                file.seek(0)
                raise LocalError(
                    f"another r1k-build (process {file.read().strip() or '?'}) is at work on {what}:"
                    f" wait for it, watch it with r1k-build status {self.path}, or choose another --output"
                )
            with local_errors(self.path):
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), f"{os.getpid()} on {socket.gethostname()}".encode())
            yield

    def at_work(self, journal: Path) -> bool:
        """Whether somebody builds into a journal of this folder right now."""
        try:
            with _lock_of(journal).open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def set_aside(self) -> Path | None:
        """Move a build's state out of the way and return where it lies: nothing paid for is deleted. Hold the locks."""
        if not self.holds_build:
            return None
        number = 1
        while (aside := self.state / f"replaced-{number}").exists():
            number += 1
        for path in filter(Path.exists, self.journals()):
            with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that one rename moves all of it
        with local_errors(self.path):
            aside.mkdir()
            for part in self.state.iterdir():
                if part.is_file() and part.name != "lock" and part.suffix != ".lock":
                    part.rename(aside / part.name)
        return aside

    def manifest(self) -> dict[str, Any]:
        """The manifest. Raises UsageError where there is none or it can't be read."""
        try:
            content = json.loads(self._manifest.read_text())
        except FileNotFoundError:
            raise UsageError(f"{self.path} holds no build: start one with  r1k-build --output {self.path}") from None
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise UsageError(f"{self._manifest} can't be read: name the build's settings again, beside --resume")
        return content

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        """Replace the manifest, whole or not at all."""
        with local_errors(self.path):
            self._beside(content).replace(self._manifest)

    def add_manifest(self, content: Mapping[str, Any]) -> bool:
        """Write the manifest where there is none; False where there is one, which may have come this very moment."""
        with local_errors(self.path):
            beside = self._beside(content)
            try:
                self._manifest.hardlink_to(beside)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                if self._manifest.exists():
                    return False
                beside.replace(self._manifest)
            finally:
                beside.unlink(missing_ok=True)
        return True

    def _beside(self, content: Mapping[str, Any]) -> Path:
        """`content` in a file of this builder's own, durable."""
        beside = self._manifest.with_name(f"manifest{self.shard.suffix if self.shard is not None else ''}.new")
        with beside.open("w") as file:
            json.dump(content, file, indent=2, sort_keys=True, default=str)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        return beside

    def log(self, line: str) -> None:
        """Append a line to the build log; a log that can't be written stops nothing."""
        try:
            with self._log.open("a") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}\n")
        except OSError:
            return


def _begun(journal: Path) -> bool:
    if not journal.exists():
        return journal.with_name(journal.name + ".salvaged").exists()  # killed between two renames
    try:
        with closing(JournalView(journal)) as view:
            return view.begun()
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode != sqlite3.SQLITE_ERROR  # that is: no table yet
    except LocalError:
        return True


def _lock_of(journal: Path) -> Path:
    return journal.with_suffix(".lock")


def _lock(descriptor: int) -> bool:
    """Take the lock, past the instant for which `locked` of another process may hold it."""
    for _ in range(10):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


@contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """What the file system refuses, as a LocalError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space, then type r1k-build --resume"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "give yourself write permission there, or choose another --output"
        else:
            advice = "choose another --output"
        raise LocalError(f"{path}: {error.strerror or error}; {advice}") from None
