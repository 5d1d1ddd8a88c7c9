"""A journal in less room: the same rows and the same answers, whatever ends the work half-way."""

import asyncio
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from r1k_builder.compact import compact
from r1k_builder.errors import LocalError
from r1k_builder.journal import Journal, JournalView
from r1k_builder.packing import pack, unpack
from r1k_builder.schema import ForwardExample
from tests.command import parquet, run_here
from tests.test_journal import ask, exchange

COUNT = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with answers that can be packed, one that can't, and a refusal."""
    path = tmp_path / "journal.sqlite"

    async def fill() -> None:
        with closing(Journal(path)) as journal:
            journal.add_source(0, [ForwardExample(question=f"q{n}", solution="why " * 500) for n in range(COUNT)])
            journal.begin_run()
            for number in range(COUNT):
                await exchange(journal, number, reply(number))
            await exchange(journal, COUNT, b"x")
            await exchange(journal, COUNT, b"no " * 100, status=400)

    asyncio.run(fill())
    return path


def reply(number: int) -> bytes:
    return f'{{"reply": "{number} is so because " }}'.encode() * 300


def content(path: Path) -> list[object]:
    """All that a build reads of a journal."""
    with closing(JournalView(path)) as view:
        bodies = [[raw.body for raw in view.replies(ask(number).key)] for number in range(COUNT + 1)]
        told = [view.stored_reply(number) for number in range(1, COUNT + 3)]
        return [
            bodies,
            view.refusals(ask(COUNT).key),
            told,
            list(view.examples()),
            view.spent(),
            view.runs(),
            view.source_read(),
        ]


def test_a_compacted_journal_says_the_same_in_less_room(path: Path) -> None:
    before = content(path)
    done = compact(path, print)
    assert done.after < done.before / 5
    assert path.stat().st_size == done.after
    assert content(path) == before
    assert compact(path, print).after == done.after, "what is packed stays as it is"
    assert [entry.name for entry in path.parent.iterdir()] == ["journal.sqlite"]


def test_a_compacted_journal_goes_on(path: Path) -> None:
    compact(path, print)

    async def go_on() -> None:
        with closing(Journal(path)) as journal:
            attempt = await exchange(journal, 500, b"plain " * 100)
            assert attempt == COUNT + 3
            stored = journal.stored_reply(1)
            assert stored is not None
            request = ask(0)
            assert journal.take_replies("elsewhere", [(request, stored)]) == 0, "it is here already"

    asyncio.run(go_on())
    with closing(JournalView(path)) as view:
        assert view.replies(ask(500).key)[0].body == b"plain " * 100
        assert view.replies(ask(7).key)[0].body == reply(7)


def test_versions_that_know_no_packed_replies_leave_it_alone(path: Path) -> None:
    """They would take each for damaged, and ask again."""
    compact(path, print)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_damaged_packed_reply_counts_as_unanswered(path: Path) -> None:
    compact(path, print)
    with closing(sqlite3.connect(path)) as db:
        (body,) = db.execute("SELECT body FROM reply WHERE attempt = 6").fetchone()
        db.execute("UPDATE reply SET body = ? WHERE attempt = 6", (body[:-9] + b"123456789",))
        db.commit()
    notes: list[str] = []
    with closing(JournalView(path, notes.append)) as view:
        assert view.replies(ask(5).key) == []
        assert len(view.replies(ask(6).key)) == 1
    assert "attempt 6 is damaged" in notes[0]


def test_pages_that_are_damaged_cost_no_other_packed_reply(path: Path) -> None:
    compact(path, print)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 8192 * 8192)
        file.write(b"\x00" * 8192)
    notes: list[str] = []
    with closing(Journal(path, notes.append)) as journal:
        kept = [number for number in range(COUNT) if journal.replies(ask(number).key)]
        assert all(journal.replies(ask(number).key)[0].body == reply(number) for number in kept)
    assert "damaged" in notes[0]


def test_what_a_killed_compaction_left_is_no_matter(path: Path) -> None:
    before = content(path)
    path.with_name("journal.sqlite.compacting").write_bytes(b"half of it")
    assert content(path) == before
    compact(path, print)
    assert content(path) == before


def test_a_journal_that_is_read_is_left_as_it_is(path: Path) -> None:
    before = content(path)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM reply").fetchone()
        with pytest.raises(LocalError, match="is being read"):
            compact(path, print)
    assert content(path) == before


@pytest.mark.parametrize("body", [b"", b"a", b"\x00" * 5, b"\xff\xff\xff\xff" + b"no frame", bytes(range(256)) * 40])
def test_packing_gives_back_every_byte(body: bytes) -> None:
    assert unpack(pack(body), zlib.crc32(body)) == body
    assert unpack(pack(body), zlib.crc32(body) ^ 1) is None


def test_the_command_packs_a_folder_whose_bytes_stay(tmp_path: Path) -> None:
    words = ["--source", "embedded", "--teacher", "embedded", "--tokenizer", "none", "--limit", "12"]
    folder = tmp_path / "r1k"
    assert run_here(*words, "--output", str(folder)).status == 0
    before = parquet(folder)
    ended = run_here("compact", str(folder))
    assert ended.status == 0, ended
    assert " MB -> " in ended.out
    assert run_here("export", str(folder)).status == 0
    assert parquet(folder) == before
