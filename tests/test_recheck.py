"""`r1k-build verify`: the checks run again on a folder that is there, and what has changed."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1k_builder.recheck import Verdicts, changes, verdicts_of
from tests.command import parquet, run_here

ROWS = 30


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "r1k"
    fixed = ["--source", "embedded", "--teacher", "embedded", "--tokenizer", "none", "--benchmarks", "none"]
    ended = run_here(*fixed, "--limit", str(ROWS), "--output", str(folder))
    assert ended.status == 0, ended
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "r1k"
    shutil.copytree(built, copy)
    yield copy
    shutil.rmtree(copy)


def counts(out: str, check: str) -> list[int]:
    line = next(line for line in out.splitlines() if line.split()[:1] == [check])
    return [int(number) for number in line.split()[1:]]


def test_a_folder_that_is_as_it_was_keeps_its_bytes(folder: Path) -> None:
    before = parquet(folder)
    ended = run_here("verify", str(folder))
    assert ended.status == 0, ended
    assert "no verdict has changed" in ended.out
    assert counts(ended.out, "format") == [ROWS, 0, 0, 0]
    assert counts(ended.out, "human") == [0, 0, 0, ROWS]
    assert f"reverse-verified: {ROWS} of {ROWS} rows fail nothing, 0 of them" in ended.out
    assert parquet(folder) == before


def test_what_changes_is_told_by_check_and_row(folder: Path, tmp_path: Path) -> None:
    """An item of a benchmark that the build was not compared with, and then is no more."""
    before = parquet(folder)
    row = pq.read_table(next((folder / "reverse").iterdir())).to_pylist()[7]
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"question": row["question"]}) + "\n")
    ended = run_here("verify", str(folder), "--benchmarks", f"mine={items}")
    assert ended.status == 0, ended
    assert counts(ended.out, "contamination")[1] >= 1
    line = next(line for line in ended.out.splitlines() if line.startswith("changed: ") and "not-run -> fail" in line)
    assert "contamination: not-run -> fail" in line
    assert row["id"] in {row["id"] for row in pq.read_table(next((folder / "reverse").iterdir())).to_pylist()}
    verified = pq.read_table(next((folder / "reverse-verified").iterdir()))["id"].to_pylist()
    assert row["id"] not in verified
    assert f"reverse-verified: {len(verified)} of {ROWS} rows" in ended.out

    again = run_here("verify", str(folder), "--benchmarks", "none")
    assert "contamination: fail -> not-run" in again.out
    assert parquet(folder) == before


def test_verdicts_of_another_version_lack_checks(folder: Path) -> None:
    manifest = json.loads((folder / ".build" / "manifest.json").read_text())
    now = verdicts_of(folder, manifest["configs"])
    assert now is not None
    assert len(now) == 2 * ROWS
    path = next((folder / "reverse").iterdir())
    rows = pq.read_table(path, columns=["id", "verdict"]).to_pylist()
    for row in rows:
        del row["verdict"]["degenerate"]
    pq.write_table(pa.Table.from_pylist(rows), path)
    older = verdicts_of(folder, manifest["configs"])
    assert older is not None
    assert changes(older, now).changed == {"degenerate: not-run -> pass": ROWS}
    assert changes(now, Verdicts()).gone == changes(Verdicts(), now).new == 2 * ROWS


def test_verdicts_that_cannot_be_read_are_none_to_compare_with(folder: Path) -> None:
    next((folder / "forward").iterdir()).write_bytes(b"PAR1 is not enough")
    ended = run_here("verify", str(folder))
    assert ended.status == 0, ended
    assert "there are no earlier verdicts to compare with" in ended.out
    assert "no verdict has changed" in run_here("verify", str(folder)).out


def test_where_there_is_no_build_verify_says_how_to_start_one(tmp_path: Path) -> None:
    ended = run_here("verify", str(tmp_path))
    assert ended.status == 2
    assert "holds no build: start one with" in ended.err


def test_rows_that_are_owed_are_named(folder: Path) -> None:
    """A reply is gone from the journal, as after a salvage: the others are checked."""
    with closing(sqlite3.connect(folder / ".build" / "journal.sqlite")) as db, db:
        db.execute("DELETE FROM reply WHERE attempt = (SELECT max(attempt) FROM reply)")
    ended = run_here("verify", str(folder))
    assert ended.status == 3, ended
    assert "1 rows are owed: type r1k-build --resume --output" in ended.out
    assert "that are no more: 1" in ended.out
