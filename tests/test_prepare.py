"""Batches prepared by processes are those that are prepared here, and a process that fails says so."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from r1k_builder import prepare
from r1k_builder.config import BuildConfig, TeacherConfig
from r1k_builder.errors import LocalError
from r1k_builder.export import BATCH_ROWS, Batch
from r1k_builder.journal import Journal
from r1k_builder.lengths import load_ruler
from r1k_builder.prepare import BATCHES_EACH, Preparation, Preparers, preparing
from r1k_builder.schema import ForwardExample, Outcome
from r1k_builder.tells import Form, Tells

CONFIG = BuildConfig(source="rows.jsonl", teacher=TeacherConfig(base_url="http://127.0.0.1:9/v1", model="m"), tokenizer="none")
RULER = load_ruler("none")
BATCHES = 3


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """One that holds source rows with a response of their own, and no answers."""
    texts = {"reasoning": "Let me add.", "answer": r"It is \boxed{2}.", "teacher": "t"}
    rows = (ForwardExample(question=f"What is {n} + 2 - {n}?", solution="2", **texts) for n in range(BATCHES * BATCH_ROWS))
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as filled:
        filled.add_source(0, rows)
    return path


@pytest.fixture
def preparers(journal: Path) -> Iterator[Preparers]:
    with closing(Preparers(2, [journal], CONFIG, RULER)) as running:
        yield running


def test_processes_prepare_what_this_one_does(journal: Path, preparers: Preparers, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.batch" for number in range(BATCHES)]
    with closing(Preparation([journal], CONFIG, RULER)) as here:
        futures = [preparers.submit(number, path, packed=number == 1) for number, path in enumerate(paths)]
        for number, future in enumerate(futures):
            batch, damaged = here.prepared(number)
            assert future.result() == (None, damaged)
            assert Batch.load(paths[number]) == batch
            assert batch.rows.num_rows == BATCH_ROWS


def test_rows_that_are_read_ahead_are_not_read_again_and_make_the_same_batch(
    journal: Path, preparers: Preparers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Preparation([journal], CONFIG, RULER)) as here:
        expected, _ = here.prepared(1)
        read: list[str] = []
        whole = Preparation._outcome

        def noted(self: Preparation, example: ForwardExample) -> Outcome:
            read.append(example.question)
            return whole(self, example)

        monkeypatch.setattr(Preparation, "_outcome", noted)
        ahead = [BATCH_ROWS + 7, BATCH_ROWS + 3]
        here.ahead(ahead)
        assert here.prepared(1) == (expected, [])
        assert len(read) == len(set(read)) == BATCH_ROWS
        assert (here._ahead, here._characters) == ({}, 0)
    preparers.ahead(ahead)
    preparers.submit(1, tmp_path / "1.batch").result()
    assert Batch.load(tmp_path / "1.batch") == expected


def test_no_more_rows_are_kept_than_there_is_room_for(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Preparation([journal], CONFIG, RULER)) as here:
        here.ahead([0])
        monkeypatch.setattr(prepare, "AHEAD_CHARACTERS", 3 * here._characters + 20)
        here.ahead(range(1, BATCH_ROWS))
        assert len(here._ahead) == 3, "the last"
        assert here._characters <= prepare.AHEAD_CHARACTERS
        kept = list(here._ahead.values())
        assert [found.source.question for found in kept] == [f"What is {n} + 2 - {n}?" for n in range(29, 32)]
        assert here.prepared(0)[0].rows.num_rows == BATCH_ROWS


def test_a_row_that_settles_again_is_kept_once(journal: Path) -> None:
    with closing(Preparation([journal], CONFIG, RULER)) as here:
        here.ahead([3])
        characters = here._characters
        here.ahead([3])
        assert (len(here._ahead), here._characters) == (1, characters)


def test_tells_are_reported_on_alike(journal: Path, preparers: Preparers) -> None:
    tells = Tells()
    for number in range(30):
        tells.count("forward", "math")
        if tells.admits(str(number)):
            tells.add(str(number), Form.of(f"So {number}.", "First."), Form.of(f"Hence {number}.", "Now."))
    with closing(Preparation([journal], CONFIG, RULER)) as here:
        assert preparers.report(tells)() == here.report(tells)() == tells.report()
    assert tells.report()["parts"]["answer_first"]["accuracy"] == 1.0


def test_a_killed_process_is_told_of_and_keeps_nobody_waiting(preparers: Preparers, tmp_path: Path) -> None:
    for child in preparers._children:
        child.process.kill()
    for future in [preparers.submit(number, tmp_path / f"{number}.batch") for number in range(BATCHES)]:
        with pytest.raises(LocalError, match=r"killed by signal 9.*--resume"):
            future.result()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_a_full_disk_is_told_of_as_a_sentence(preparers: Preparers) -> None:
    with pytest.raises(LocalError, match=r"the disk is full: free some space, then run `r1k-build export"):
        preparers.submit(0, Path("/dev/full")).result()


def test_a_bug_in_a_process_is_seen(journal: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(journal)) as db:
        db.execute("UPDATE source SET example = '[]'")
        db.commit()
    with closing(Preparers(1, [journal], CONFIG, RULER)) as preparers, pytest.raises(RuntimeError, match="status 1"):
        preparers.submit(0, tmp_path / "0.batch").result()
    assert "Traceback" in capfd.readouterr().err


def test_processes_that_are_not_wanted_any_more_end(journal: Path, tmp_path: Path) -> None:
    preparers = Preparers(2, [journal], CONFIG, RULER)
    preparers.submit(0, tmp_path / "0.batch")
    preparers.close()
    assert all(child.process.returncode is not None for child in preparers._children)


def test_few_batches_are_prepared_here(journal: Path) -> None:
    with closing(preparing(2 * BATCHES_EACH - 1, [journal], CONFIG, RULER, None)) as found:
        assert isinstance(found, Preparation)
