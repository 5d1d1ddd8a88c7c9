"""The journal's file: its tables, how it is opened where it lies, and what SQLite refuses as a sentence."""

import os
import sqlite3
from pathlib import Path

from r1k_builder.errors import LocalError
from r1k_builder.mounts import MOUNTS, is_shared

PAGE_SIZE = 8192

FORMAT, PACKED = 1, 2
"""Versions of the tables below, without and with texts that `packing` has made shorter; a journal of another version is left
alone, as versions of r1k that know no packed texts leave one that has some."""

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS source (position INTEGER PRIMARY KEY, pair_id TEXT NOT NULL UNIQUE, checksum INTEGER NOT NULL,
    example TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY, began REAL NOT NULL, ended REAL, outcome TEXT);
CREATE TABLE IF NOT EXISTS request (key TEXT PRIMARY KEY, stage TEXT NOT NULL, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS attempt (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, key TEXT NOT NULL, pair_id TEXT NOT NULL,
    host TEXT NOT NULL, model TEXT NOT NULL, sent REAL NOT NULL, most INTEGER);
CREATE TABLE IF NOT EXISTS reply (attempt INTEGER PRIMARY KEY, received REAL NOT NULL, status INTEGER NOT NULL,
    error TEXT, checksum INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (attempt INTEGER PRIMARY KEY, model TEXT, prompt INTEGER, cached INTEGER, completion INTEGER,
    reasoning INTEGER, cost INTEGER);
CREATE TABLE IF NOT EXISTS settled (pair_id TEXT PRIMARY KEY, flow TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS replayed (attempt INTEGER PRIMARY KEY, origin TEXT NOT NULL, cost INTEGER);
CREATE TABLE IF NOT EXISTS batch (id INTEGER PRIMARY KEY, host TEXT NOT NULL, model TEXT NOT NULL, tag TEXT NOT NULL,
    digest TEXT NOT NULL, made REAL NOT NULL, file TEXT, remote TEXT, ended REAL, status TEXT);
CREATE TABLE IF NOT EXISTS batched (attempt INTEGER PRIMARY KEY, batch INTEGER);
CREATE INDEX IF NOT EXISTS attempt_key ON attempt (key);
"""
DERIVED = ("ledger", "settled")
PRIMARY = ("meta", "source", "run", "request", "attempt", "reply", "replayed", "batch", "batched")
"""The tables that hold more than can be derived."""


def make_tables(db: sqlite3.Connection, version: int) -> None:
    """What lacks of the tables, in a new file with its page size."""
    db.executescript(f"PRAGMA page_size = {PAGE_SIZE}; PRAGMA user_version = {version}; {TABLES}")


PATIENCE, SHARED_PATIENCE = 10.0, 60.0
"""Seconds to wait for another's lock; without a WAL whoever reads holds up a commit, and on a network all takes longer."""


def lies_shared(path: Path) -> bool:
    """Whether other machines may see `path`. There a WAL, which readers find by shared memory, would lose what was written."""
    try:
        return is_shared(path.resolve(), MOUNTS.read_text())
    except OSError:  # no Linux
        return False


def connect(path: Path, *, read_only: bool = False, shared: bool | None = None) -> sqlite3.Connection:
    """Open a journal's file. `shared`: on a file system that other machines see (None: as the list of mounts says)."""
    shared = lies_shared(path) if shared is None else shared
    uri = path.absolute().as_uri() + ("?mode=ro" if read_only else "")
    if read_only and not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists():
        uri += "&immutable=1"  # where nothing can be written nobody builds, and SQLite could not make the file that it shares
    try:
        db = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=SHARED_PATIENCE if shared else PATIENCE
        )
        if not read_only:
            db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            try:
                _choose_mode(db, path, "truncate" if shared else "wal")
            except LocalError:
                db.close()
                raise
            db.execute("PRAGMA synchronous = FULL")  # an answer counts as ours only when it would survive a power cut
            db.execute("PRAGMA wal_autocheckpoint = 4096")
            db.execute("PRAGMA cache_size = -16384")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        raise local_error(error, path) from None
    return db


def _choose_mode(db: sqlite3.Connection, path: Path, mode: str) -> None:
    """Raises LocalError where the file keeps another mode: a WAL can be left only while nobody else has it open."""
    try:
        (chosen,) = db.execute(f"PRAGMA journal_mode = {mode}").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        chosen = None
    if chosen != mode and mode == "wal":
        raise LocalError(f"{path} is being read: wait for what reads it, then type r1k-build --resume")
    if chosen != mode:
        raise LocalError(
            f"{path} lies on a network file system and has a WAL, which works on one machine alone: end what has it open"
            " (r1k-build status tells), then type r1k-build --resume; or build on a local disk with --output"
        )


def local_error(error: sqlite3.Error, path: Path) -> LocalError:
    """SQLite's error as a sentence that says what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_room(path)):
        return disk_full(path)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return LocalError(f"{path} can't be written: give yourself write permission there, or choose another --output")
    return LocalError(f"{path}: {error}; check the disk, then go on with r1k-build --resume")


def _no_room(path: Path) -> bool:
    """Whether the disk is as good as full: SQLite calls it an I/O error where it can't extend its shared memory."""
    try:
        space = os.statvfs(path.parent)
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < 2**16


def disk_full(path: Path) -> LocalError:
    return LocalError(f"the disk that holds {path.parent.parent} is full: free some space, then type r1k-build --resume")
