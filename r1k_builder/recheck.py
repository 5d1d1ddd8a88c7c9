"""What checking a dataset again has changed: the verdicts that its files held before, and those that they hold now.

They are compared on disk: memory does not grow with the rows.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r1k_builder.schema import CHECKS

CONFIGS = ("forward", "reverse", "rejected")
"""The configurations that together hold every row once."""
STATUSES = ("pass", "fail", "unknown", "not-run")
NAMED = 3
"""Rows that are named of those that have changed in one way."""


class Verdicts:
    """By a row's id, the status of each of CHECKS as its place in STATUSES; in a temporary file."""

    def __init__(self, rows: Iterable[tuple[str, bytes]] = ()) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = OFF; CREATE TABLE row (id TEXT PRIMARY KEY, verdict BLOB) WITHOUT ROWID; BEGIN"
        )
        self._db.executemany("INSERT OR REPLACE INTO row VALUES (?, ?)", rows)

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM row").fetchone()[0])

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """The rows by their id."""
        return iter(self._db.execute("SELECT id, verdict FROM row ORDER BY id"))

    def get(self, row_id: str) -> bytes | None:
        found = self._db.execute("SELECT verdict FROM row WHERE id = ?", (row_id,)).fetchone()
        return None if found is None else found[0]


def verdicts_of(folder: Path, configs: Mapping[str, Any]) -> Verdicts | None:
    """What the files of a manifest's `configs` say; None where one is missing or can't be read."""
    try:
        return Verdicts(entry for config in CONFIGS for file in _files(configs, config) for entry in _read(folder / file))
    except (OSError, pa.ArrowException):
        return None


def _files(configs: Mapping[str, Any], config: str) -> list[str]:
    return [file["path"] for file in configs.get(config, {}).get("files", ())]


def _read(path: Path) -> Iterator[tuple[str, bytes]]:
    with pq.ParquetFile(path) as file:
        known = set(file.schema_arrow.field("verdict").type.names)  # another version's may lack a check
        for batch in file.iter_batches(columns=["id", *(f"verdict.{check}.status" for check in CHECKS if check in known)]):
            verdicts = batch.column("verdict")
            columns = [
                verdicts.field(check).field("status").to_pylist() if check in known else ["not-run"] * len(batch)
                for check in CHECKS
            ]
            for row_id, *statuses in zip(batch.column("id").to_pylist(), *columns, strict=True):
                yield row_id, bytes(map(STATUSES.index, statuses))


@dataclass(frozen=True)
class Changes:
    """What differs between two sets of verdicts."""

    changed: Counter[str] = field(default_factory=Counter)
    """By `check: before -> now`."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first rows of each."""
    new: int = 0
    gone: int = 0


def changes(before: Verdicts, now: Verdicts) -> Changes:
    """What has become of each check, in the order of CHECKS."""
    counted: Counter[tuple[int, int, int]] = Counter()
    first: dict[tuple[int, int, int], list[str]] = {}
    in_both = 0
    for row_id, verdict in now:
        old_verdict = before.get(row_id)
        if old_verdict is None:
            continue
        in_both += 1
        for place, (old, new) in enumerate(zip(old_verdict, verdict, strict=True)):
            if old != new:
                counted[place, old, new] += 1
                if counted[place, old, new] <= NAMED:
                    first.setdefault((place, old, new), []).append(row_id)
    names = {change: f"{CHECKS[change[0]]}: {STATUSES[change[1]]} -> {STATUSES[change[2]]}" for change in sorted(counted)}
    return Changes(
        Counter({name: counted[change] for change, name in names.items()}),
        {name: first[change] for change, name in names.items()},
        new=len(now) - in_both,
        gone=len(before) - in_both,
    )


def report(manifest: Mapping[str, Any], before: Verdicts | None, now: Verdicts) -> str:
    """The table of the reverse rows' checks, what has changed, and what reverse-verified holds."""
    configs = manifest["configs"]
    rows = {config: configs.get(config, {}).get("rows", 0) for config in (*CONFIGS, "reverse-verified")}
    checks = {check: counts for check, counts in manifest["verification"]["checks"].items() if sum(counts.values())}
    lines = [f"checks of {rows['reverse']:,} reverse rows", _line("", STATUSES)]
    lines += [_line(check, [f"{counts[status]:,}" for status in STATUSES]) for check, counts in checks.items()]
    if before is None:
        lines.append("there are no earlier verdicts to compare with")
    else:
        lines += _changed(changes(before, now))
    untold = manifest["verification"]["untold"]
    lines.append(
        f"reverse-verified: {rows['reverse-verified']:,} of {rows['reverse']:,} rows fail nothing,"
        f" {untold:,} of them rest on an unknown; {rows['rejected']:,} rows are in rejected"
    )
    return "\n".join(lines)


def _changed(found: Changes) -> Iterator[str]:
    if not (found.changed or found.new or found.gone):
        yield "no verdict has changed"
    for change, count in found.changed.items():
        more = ", …" if count > NAMED else ""
        yield f"changed: {count:,} × {change}  ({', '.join(found.examples[change])}{more})"
    if found.new or found.gone:
        yield f"rows that were not there before: {found.new:,}; that are no more: {found.gone:,}"


def _line(name: str, cells: tuple[str, ...] | list[str]) -> str:
    return f"  {name:<18}" + "".join(f"{cell:>10}" for cell in cells)
