"""The journal: durable before it returns, exact after damage, never full without saying so."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from r1k_builder.errors import LocalError
from r1k_builder.journal import Journal, JournalView
from r1k_builder.schema import ForwardExample, Request, Usage


def ask(number: int) -> Request:
    return Request("solve", ({"role": "user", "content": f"question {number}"},), "model", {"max_tokens": 5})


async def exchange(journal: Journal, number: int, body: bytes = b"{}", status: int = 200) -> int:
    attempt = journal.next_attempt()
    await journal.sent(attempt, ask(number), f"pair{number}", "host", "model", 7)
    await journal.received(attempt, status, body)
    return attempt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


async def test_a_reply_can_be_read_by_another_process_once_received_returns(path: Path) -> None:
    journal = Journal(path)
    await asyncio.gather(*(exchange(journal, number, f"reply {number}".encode()) for number in range(100)))
    view = JournalView(path)
    assert [view.replies(ask(n).key)[0].body for n in (0, 99)] == [b"reply 0", b"reply 99"]
    view.close()
    journal.close()


async def test_an_attempt_is_durable_before_it_is_sent_and_lost_until_it_has_a_reply(path: Path) -> None:
    journal = Journal(path)
    journal.begin_run()
    await journal.sent(journal.next_attempt(), ask(1), "pair", "host", "model", 7)
    view = JournalView(path)
    assert view.lost() == (1, 7)
    view.close()
    journal.close()
    journal = Journal(path)
    assert journal.begin_run() == (1, 7)
    assert journal.begin_run() == (0, 0)
    journal.close()


async def test_replies_come_oldest_first_and_refusals_apart(path: Path) -> None:
    journal = Journal(path)
    await exchange(journal, 1, b"first")
    await exchange(journal, 1, b"no", status=400)
    await exchange(journal, 1, b"second")
    assert [reply.body for reply in journal.replies(ask(1).key)] == [b"first", b"second"]
    assert journal.refusals(ask(1).key) == [b"no"]
    assert journal.responses() == {"ok": 2, "400": 1}
    journal.close()


async def test_the_ledger_sums_and_names_what_is_missing(path: Path) -> None:
    journal = Journal(path)
    first, second = await exchange(journal, 1), await exchange(journal, 2)
    assert [reply.attempt for reply in journal.unentered()] == [first, second]
    journal.enter(first, "m", Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=1), 10)
    journal.enter(second, None, Usage(), None)
    await journal.flush()
    spent = journal.spent()
    assert (spent.replies, spent.prompt, spent.completion, spent.cost, spent.unpriced) == (2, 3, 4, 10, 1)
    assert journal.spent_at_most() == 10 + 7
    assert list(journal.unentered()) == []
    assert journal.returned_models() == {"m": 1, "unnamed": 1}
    journal.close()


def test_source_rows_keep_their_order_and_settled_ones_are_left_out(path: Path) -> None:
    journal = Journal(path)
    examples = [ForwardExample(question=f"q{n}", solution="s") for n in range(200)]
    assert journal.add_source(0, examples) == 200
    assert [e.question for e in journal.examples()] == [f"q{n}" for n in range(200)]
    assert [e.question for e in journal.examples(3)] == ["q0", "q1", "q2"]

    async def settle() -> None:
        journal.settle(examples[1].pair_id, "flow", "accepted")
        await journal.flush()

    asyncio.run(settle())
    assert [e.question for e in journal.examples(3, unless_settled="flow")] == ["q0", "q2"]
    assert [e.question for e in journal.examples(3, unless_settled="other flow")] == ["q0", "q1", "q2"]
    assert journal.states("flow") == {"accepted": 1}
    assert journal.states("flow", limit=1) == {}
    assert journal.states("flow", limit=2) == {"accepted": 1}
    journal.unsettle(examples[1].pair_id)
    assert journal.states("flow") == {}
    journal.truncate_source(5)
    assert journal.source_length() == 5
    journal.close()


def fill(path: Path, count: int, size: int = 6000) -> None:
    async def run() -> None:
        journal = Journal(path)
        journal.add_source(0, [ForwardExample(question=f"q{n}", solution="s" * 500) for n in range(count)])
        journal.begin_run()
        await asyncio.gather(*(exchange(journal, n, f"reply {n} ".encode() * (size // 8)) for n in range(count)))
        journal.close()

    asyncio.run(run())


def test_who_else_writes_stops_before_the_ballast_is_used(path: Path) -> None:
    made: list[bool] = []

    async def run() -> None:
        journal = Journal(path)
        journal.begin_run()
        journal.lay_ballast(1)

        def make_room() -> None:
            made.append(path.with_suffix(".ballast").exists())
            journal._writer.execute("PRAGMA max_page_count = 100000")

        journal.make_room = make_room
        pages = journal._writer.execute("PRAGMA page_count").fetchone()[0]
        journal._writer.execute(f"PRAGMA max_page_count = {pages + 4}")
        await exchange(journal, 1, b"a reply of some pages" * 5_000)
        assert journal.full
        assert len(journal.replies(ask(1).key)) == 1, "it costs no answer"
        assert not path.with_suffix(".ballast").exists()
        journal.close()

    asyncio.run(run())
    assert made == [True], "once, and before the room is free"


def test_a_damaged_page_is_named_and_all_that_can_be_read_is_kept(path: Path) -> None:
    fill(path, 300)
    size = path.stat().st_size
    with path.open("r+b") as file:  # a whole page of zeros in the middle of the replies
        file.seek(size // 2 // 8192 * 8192)
        file.write(b"\x00" * 8192)
    notes: list[str] = []
    journal = Journal(path, notes.append)
    kept = [n for n in range(300) if journal.replies(ask(n).key)]
    assert 200 <= len(kept) < 300
    assert all(journal.replies(ask(n).key)[0].body == f"reply {n} ".encode() * 750 for n in kept)
    assert "damaged" in notes[0]
    assert str(len(kept)) in notes[1]
    assert path.with_name("journal.sqlite.damaged-1").exists()
    journal.close()
    Journal(path, notes.append).close()
    assert len(notes) == 2, "the salvaged journal is sound"


def test_a_flipped_byte_in_a_reply_makes_it_unanswered(path: Path) -> None:
    fill(path, 50)
    content = path.read_bytes()
    where = content.index(b"reply 20 reply 20 ")
    with path.open("r+b") as file:
        file.seek(where + 3)
        file.write(b"X")
    notes: list[str] = []
    journal = Journal(path, notes.append)
    assert journal.replies(ask(20).key) == []
    assert len(journal.replies(ask(21).key)) == 1
    assert "damaged" in notes[0]
    journal.close()


def test_a_file_that_is_no_journal_is_kept_aside(path: Path) -> None:
    path.write_bytes(b"this is no database, but somebody may want it" * 100)
    notes: list[str] = []
    Journal(path, notes.append).close()
    assert path.with_name("journal.sqlite.damaged-1").read_bytes().startswith(b"this is no database")


def test_a_journal_of_another_format_is_left_alone(path: Path) -> None:
    fill(path, 2)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(LocalError, match="format 99"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_torn_wal_loses_at_most_its_tail(path: Path) -> None:
    """A process is killed between commits; its WAL is then cut as a power failure may."""
    program = (
        "import asyncio, os, signal, sys; from pathlib import Path; from tests.test_journal import *\n"
        "async def run():\n"
        "    journal = Journal(Path(sys.argv[1])); journal.begin_run()\n"
        "    for n in range(40): await exchange(journal, n, b'x' * 5000)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(run())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL
    wal = path.with_name("journal.sqlite-wal")
    os.truncate(wal, wal.stat().st_size - 3000)
    notes: list[str] = []
    journal = Journal(path, notes.append)
    kept = [n for n in range(40) if journal.replies(ask(n).key)]
    assert kept == list(range(len(kept)))
    assert len(kept) >= 38
    assert notes == []
    journal.close()


def test_a_journal_that_cant_be_opened_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="write permission"):
        Journal(tmp_path / "missing" / "journal.sqlite")


async def test_a_full_disk_keeps_what_is_in_flight_and_sends_nothing_new(path: Path) -> None:
    """The database's own page limit stands in for the disk: SQLite reports both as SQLITE_FULL."""
    journal = Journal(path)
    journal.begin_run()
    journal.lay_ballast(4)
    assert path.with_suffix(".ballast").stat().st_size == 512 * 1024 + 4 * 256 * 1024
    attempt = journal.next_attempt()
    await journal.sent(attempt, ask(1), "pair", "host", "model", None)
    limit_pages(journal, 1)
    with pytest.raises(LocalError, match=r"full.*--resume"):
        await journal.received(attempt, 200, b"x" * 100_000)
    assert not path.with_suffix(".ballast").exists(), "its room was given to the answer"
    with pytest.raises(LocalError, match="full"):
        await journal.sent(journal.next_attempt(), ask(2), "pair", "host", "model", None)
    limit_pages(journal, 2**30)
    await journal.received(attempt, 200, b"x" * 100_000)
    assert len(journal.replies(ask(1).key)) == 1
    journal.close()


def limit_pages(journal: Journal, pages: int) -> None:
    journal._writer.execute(f"PRAGMA max_page_count = {pages}")


def test_reading_needs_no_write_permission_of_the_tables(path: Path) -> None:
    fill(path, 3)
    view = JournalView(path)
    with pytest.raises(sqlite3.OperationalError):
        view._db.execute("DELETE FROM reply")
    view.close()


async def test_a_bug_in_a_commit_is_heard_by_whoever_waits(path: Path) -> None:
    """SQLite has no integer of that size: nobody may wait for it for ever, and what comes later is kept."""
    journal = Journal(path)
    journal.begin_run()
    with pytest.raises(OverflowError):
        await journal.sent(journal.next_attempt(), ask(1), "pair", "host", "model", 2**70)
    with contextlib.suppress(OverflowError):
        await journal.flush()
    attempt = journal.next_attempt()
    await journal.sent(attempt, ask(2), "pair", "host", "model", 1)
    await journal.received(attempt, 200, b"{}")
    assert len(journal.replies(ask(2).key)) == 1
    journal.close()
