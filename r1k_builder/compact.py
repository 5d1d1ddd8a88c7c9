"""A journal in less room: the same rows in a new file, replies and source rows packed, put in the old one's place."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from r1k_builder.database import DERIVED, PACKED, PRIMARY, connect, local_error, make_tables
from r1k_builder.errors import LocalError
from r1k_builder.packing import pack, unpack
from r1k_builder.salvage import open_sound
from r1k_builder.sync import sync

TEXTS = {"reply": "body", "source": "example"}
"""The columns that are packed; each has its checksum beside it."""


class Compacted(NamedTuple):
    """Sizes in bytes."""

    before: int
    after: int


def compact(path: Path, note: Callable[[str], None]) -> Compacted:
    """Write the journal at `path` anew beside itself and put that in its place. Hold the journal's lock.

    The new file is durable and compared before the old one goes, by one rename: after a kill at any instant either is there,
    whole. What is packed already stays as it is. Raises LocalError where the disk has no room for both, or where somebody is
    reading.
    """
    beside = path.with_name(path.name + ".compacting")
    beside.unlink(missing_ok=True)
    open_sound(path, note).close()
    before = path.stat().st_size
    try:
        with closing(connect(path)) as db:
            _end_wal(db, path)
            _copy(db, beside)
    except sqlite3.Error as error:
        beside.unlink(missing_ok=True)
        raise local_error(error, path) from None
    sync(beside)
    beside.replace(path)
    sync(path.parent)
    return Compacted(before, path.stat().st_size)


def _end_wal(db: sqlite3.Connection, path: Path) -> None:
    """Fold the WAL in, for a WAL beside another file than its own would spoil that; and let nobody else in."""
    try:
        (mode,) = db.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError:
        mode = ""
    if mode != "delete":
        raise LocalError(f"{path} is being read: wait for what reads it, then type r1k-build compact again")
    db.execute("PRAGMA locking_mode = EXCLUSIVE")


def _copy(db: sqlite3.Connection, beside: Path) -> None:
    with closing(sqlite3.connect(beside, isolation_level=None)) as new:
        make_tables(new, PACKED)
    db.create_function("packed", 2, _packed, deterministic=True)
    db.execute("ATTACH ? AS new", (str(beside),))
    db.execute("PRAGMA new.synchronous = OFF")  # it is synced as a whole, before it counts
    db.execute("BEGIN")
    for table in (*PRIMARY, *DERIVED):
        columns = [name for _, name, *_ in db.execute(f"PRAGMA main.table_info({table})")]
        values = ", ".join(f"packed({name}, checksum)" if name == TEXTS.get(table) else name for name in columns)
        # By rowid, so that the rows of `settled` keep the order in which a follower reads them.
        db.execute(f"INSERT INTO new.{table} SELECT {values} FROM main.{table} ORDER BY rowid")  # noqa: S608  # names of ours
        (mine,), (theirs,) = (db.execute(f"SELECT count(*) FROM {schema}.{table}").fetchone() for schema in ("main", "new"))  # noqa: S608
        if mine != theirs:
            raise LocalError(f"{beside}: {theirs} of {mine} rows of {table} were written; check the disk")
    db.execute("COMMIT")
    (finding,) = db.execute("PRAGMA new.quick_check(1)").fetchone()
    if finding != "ok":
        raise LocalError(f"{beside} came out damaged ({finding}): check the disk")
    db.execute("DETACH new")


def _packed(content: bytes | str, checksum: int) -> bytes | str:
    """`content` packed; as it is where it is packed already, or damaged."""
    stored = content.encode() if isinstance(content, str) else content
    if unpack(stored, checksum) != stored:
        return content
    shorter = pack(stored)
    return content if shorter is stored else shorter
