"""A damaged journal: named, moved aside, and replaced by a copy of all of it that can be read."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from r1k_builder.database import FORMAT, PACKED, PRIMARY, connect, local_error, make_tables
from r1k_builder.errors import LocalError
from r1k_builder.packing import unpack


def open_sound(path: Path, note: Callable[[str], None], *, shared: bool | None = None) -> sqlite3.Connection:
    """Open the journal; where pages are damaged, name them and go on with a copy of all that can be read."""
    salvaged = path.with_name(path.name + ".salvaged")
    if salvaged.exists():
        _put_in_place(salvaged, path)  # a salvage that was finished but for its renames
    existed = path.exists()
    try:
        db = connect(path, shared=shared)
        finding = db.execute("PRAGMA quick_check(1)").fetchone()[0] if existed else "ok"
    except sqlite3.DatabaseError as error:
        finding = str(error)
    try:
        if finding != "ok":
            note(f"{path} is damaged ({' '.join(str(finding).split())})")
            _salvage(path, salvaged, note)
            db = connect(path, shared=shared)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, FORMAT, PACKED):
            raise LocalError(f"{path} is of format {version}, written by another version of r1k: use that one, or --overwrite")
        make_tables(db, version or FORMAT)
        _forget_damaged_source(db, path, note)
    except sqlite3.Error as error:
        raise local_error(error, path) from None
    return db


def _forget_damaged_source(db: sqlite3.Connection, path: Path, note: Callable[[str], None]) -> None:
    """Where a source row is not what was written, have the source read anew."""
    for position, checksum, content in db.execute("SELECT position, checksum, CAST(example AS BLOB) FROM source"):
        if unpack(content, checksum) is None:
            note(f"{path}: source row {position + 1} is damaged; the source is read again")
            db.execute("DELETE FROM meta WHERE name = 'source'")
            return


def _version_of(path: Path) -> int:
    """The version of a damaged journal, from its header; PACKED, which covers both, where that says none."""
    with path.open("rb") as file:
        found = int.from_bytes(file.read(64)[60:64])
    return found if found in (FORMAT, PACKED) else PACKED


def _salvage(path: Path, salvaged: Path, note: Callable[[str], None]) -> None:
    """Copy all that can be read to `salvaged`, whole or not at all, and put that in the damaged file's place."""
    beside = path.with_name(path.name + ".salvaging")
    beside.unlink(missing_ok=True)
    rescued = {}
    most = path.stat().st_size // 512  # no row of ours, with what belongs to it, is smaller
    try:
        with closing(sqlite3.connect(beside, isolation_level=None)) as db:
            make_tables(db, _version_of(path))
            with closing(sqlite3.connect(path, isolation_level=None)) as damaged:
                for table in PRIMARY:
                    rescued[table] = _rescue(damaged, db, table, most)
            # Without its attempt a reply has no request; without all of its rows the source has gaps.
            db.execute("DELETE FROM reply WHERE attempt NOT IN (SELECT id FROM attempt)")
            db.execute("DELETE FROM meta WHERE name IN ('source', 'source_ended')")
    except sqlite3.Error:
        beside.unlink(missing_ok=True)
        raise
    beside.rename(salvaged)
    aside = _put_in_place(salvaged, path)
    note(
        f"{rescued['source']} source rows, {rescued['attempt']} attempts and {rescued['reply']} replies were read back from it;"
        f" only what is missing is asked again (the damaged file stays as {aside})"
    )


def _put_in_place(salvaged: Path, path: Path) -> Path:
    """Move the damaged journal aside and the salvaged one in; begun again after a kill, it ends the same."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists() and path.exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    salvaged.rename(path)
    return aside


def _rescue(damaged: sqlite3.Connection, db: sqlite3.Connection, table: str, most: int) -> int:
    """Copy every readable row of `table`, by rowid (up to `most` where the last can't be read); return how many."""
    rescued = 0
    columns = len(db.execute(f"SELECT * FROM {table} LIMIT 0").description)  # noqa: S608  # a constant of ours
    try:
        (last,) = damaged.execute(f"SELECT max(rowid) FROM {table}").fetchone()  # noqa: S608
    except sqlite3.DatabaseError:
        last = most
    insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608
    db.execute("BEGIN")
    for rowid in range((last or 0) + 1):
        try:
            row = damaged.execute(f"SELECT * FROM {table} WHERE rowid = ?", (rowid,)).fetchone()  # noqa: S608
        except sqlite3.DatabaseError:
            continue
        if row is not None and (table != "reply" or unpack(row[-1], row[-2]) is not None):
            rescued += db.execute(insert, row).rowcount
    db.execute("COMMIT")
    return rescued
