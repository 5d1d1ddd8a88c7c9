"""What survives a kill, a torn or damaged file, a full disk, a signal, a change of settings: every answer paid for."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from r1k_builder.assemble import Follower
from tests.command import Build, Ended, Running, journal, lost, paid, parquet, rows, run_here, wait_until
from tests.fake_host import FakeHost, Script, no_faults, random_faults, serve

Questions = Callable[..., Path]
MakeBuild = Callable[..., Build]


@pytest.fixture
def make_build(host: FakeHost, questions: Questions, tmp_path: Path) -> MakeBuild:
    """Makes a build of n rows."""
    return lambda count, **options: Build(host, questions(count, **options), tmp_path / "r1k")


def finish(build: Build) -> Ended:
    """Resume to the end, at a host that has become well and fast."""
    build.host.latency, build.host.script = 0.0, no_faults
    ended = build.resume_here()
    assert ended.status == 0, ended
    return ended


def undisturbed(build: Build) -> dict[str, bytes]:
    """The dataset of the same rows from the same host, built in one go. `build` itself must have ended."""
    twin = Build(build.host, build.source, build.folder.with_name("undisturbed"))
    ended = twin.here()
    assert ended.status == 0, ended
    return parquet(twin.folder)


def asked_since(host: FakeHost, moment: int) -> Counter[str]:
    """The prompts that came in after the log had `moment` entries."""
    return Counter(exchange.prompt for exchange in host.log[moment:])


def always(fault: str) -> Script:
    return lambda _prompt, _attempt: fault


# -- kill -9 -------------------------------------------------------------------------------------------------------


def kill(process: Running, ready: Callable[[], bool], delay: float) -> Ended:
    """Kill a run some time after it is `ready`."""
    wait_until(lambda: ready() or not process.running)
    time.sleep(delay)
    process.signal(signal.SIGKILL)
    ended = process.end()
    assert ended.status == -signal.SIGKILL, ended
    return ended


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_in_a_row_lose_nothing_and_ask_nothing_twice(kills: int, make_build: MakeBuild) -> None:
    """At random instants of the asking, at a host that fails now and then. Each resume names what the last kill cut off."""
    build, draw = make_build(8 * kills), random.Random(kills)
    host = build.host
    host.latency, host.script = 0.15, random_faults(0.02, ("429", "500", "drop", "cut"))
    in_flight = 0
    for number in range(kills):
        seen, before = len(host.log), paid(build.folder) if number else Counter[str]()
        process = build.resume() if number else build.start("--concurrency", "6")
        ended = kill(process, lambda seen=seen: len(host.log) > seen, draw.uniform(0, 0.4))  # type: ignore[misc]
        assert not before.keys() & asked_since(host, seen), "a committed answer was asked again"
        if in_flight:
            assert f"{in_flight} requests were in flight when the last run ended" in ended.err, ended
        in_flight = lost(build.folder).total()
    seen, before = len(host.log), paid(build.folder)
    assert len(before) > 3 * kills
    assert rows(finish(build)) == {"read": 8 * kills, "accepted": 8 * kills, "rejected": 0, "owed": 0}
    assert not before.keys() & asked_since(host, seen)
    assert set(paid(build.folder).values()) == {1}, "the journal holds two answers to one request"
    assert parquet(build.folder) == undisturbed(build)
    with journal(build.folder) as db:
        assert db.execute("SELECT count(*) FROM ledger").fetchone() == (16 * kills,), "each answer is paid for in the books"


@pytest.mark.parametrize(("number", "statuses"), [(signal.SIGKILL, {-9}), (signal.SIGINT, {130}), (signal.SIGTERM, {143, -15})])
def test_ends_from_the_first_moment_to_the_last(number: int, statuses: set[int], make_build: MakeBuild) -> None:
    """Wherever a run stands when it is ended (reading the source, asking, writing the dataset), it can be resumed."""
    build, draw = make_build(300), random.Random(8)
    seen = Counter[int]()
    for _ in range(6):
        process = build.resume() if (build.folder / ".build" / "journal.sqlite").exists() else build.start()
        time.sleep(draw.uniform(0.05, 1.2))
        process.signal(number)
        ended = process.end()
        assert ended.status in {0, *statuses}, ended
        assert "Traceback" not in ended.err
        seen[ended.status] += 1
    assert seen[0] < 6
    finish(build)
    assert parquet(build.folder) == undisturbed(build)
    assert not list((build.folder / ".build").glob("export-*"))


@pytest.mark.parametrize("left", ["an empty file", "a database without tables", "tables without rows"])
def test_a_kill_while_the_journal_is_made(left: str, make_build: MakeBuild) -> None:
    """Neither an empty journal nor half of one keeps the folder from being built in."""
    build = make_build(2)
    path = build.folder / ".build" / "journal.sqlite"
    path.parent.mkdir(parents=True)
    path.touch()
    if left != "an empty file":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA journal_mode = WAL")
            if left != "a database without tables":
                db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        db.close()
    ended = build.here()
    assert ended.status == 0, ended
    assert rows(ended)["accepted"] == 2


def test_what_was_in_flight_is_counted_with_what_it_may_have_cost(make_build: MakeBuild) -> None:
    build = make_build(20)
    build.host.script = always("hang")
    words = ("--concurrency", "7", "--price", "1000,1000", "--max-tokens", "1000")
    kill(build.start(*words), lambda: len(build.host.log) == 7, 0.2)
    assert lost(build.folder).total() == 7
    build.host.script = no_faults
    ended = build.resume_here()
    assert ended.status == 0
    # 1,000 tokens at most for each answer, and as many for its prompt as it has bytes: $7 and something
    assert "7 requests were in flight when the last run ended: they are asked again; they may have cost up to $" in ended.err
    cost = float(ended.err.split("up to $")[1].split()[0])
    assert 7 < cost < 35
    assert "in flight" not in build.resume_here().err


# -- damage --------------------------------------------------------------------------------------------------------


def test_a_torn_wal_tail_costs_its_last_group_alone(make_build: MakeBuild) -> None:
    build = make_build(60)
    build.host.latency = 0.05
    kill(build.start("--concurrency", "4"), lambda: len(build.host.log) > 60, 0.0)
    whole = paid(build.folder)
    wal = build.folder / ".build" / "journal.sqlite-wal"
    os.truncate(wal, wal.stat().st_size - 5000)
    left, seen = paid(build.folder), len(build.host.log)
    assert len(whole) - 4 <= len(left) <= len(whole)
    finish(build)
    assert not left.keys() & asked_since(build.host, seen)
    assert parquet(build.folder) == undisturbed(build)


PAGE = 8192


def damage(path: Path, text: bytes, nth: int = 0) -> None:
    """Fill the page that holds `text` (its nth place in the file) with zeros."""
    content, where = path.read_bytes(), -1
    for _ in range(nth + 1):
        where = content.index(text, where + 1)
    with path.open("r+b") as file:
        file.seek(where // PAGE * PAGE)
        file.write(bytes(PAGE))


@pytest.mark.parametrize(
    ("text", "costs"),
    [
        pytest.param(b'"chat.completion"', True, id="replies"),
        pytest.param(b"What is 30 + 30?", False, id="source"),
        pytest.param(b"CREATE TABLE", True, id="schema"),
        pytest.param(b'"messages":', False, id="requests"),
        pytest.param(b"source_ended", False, id="meta"),
    ],
)
def test_a_damaged_page_is_named_and_only_what_is_missing_is_asked_again(
    text: bytes, costs: bool, make_build: MakeBuild
) -> None:
    build = make_build(60)
    assert build.here().status == 0
    path, whole, seen = build.folder / ".build" / "journal.sqlite", parquet(build.folder), len(build.host.log)
    assert not path.with_name("journal.sqlite-wal").exists(), "the WAL is folded in when a build ends"
    damage(path, text)
    ended = build.resume_here()
    assert ended.status == 0, ended
    assert str(path) in ended.err
    assert "damaged" in ended.err
    assert parquet(build.folder) == whole
    asked = asked_since(build.host, seen)
    assert (len(asked) > 0) == costs
    assert len(asked) < 60 or text == b"CREATE TABLE"
    assert set(asked.values()) <= {1}
    assert list(path.parent.glob("journal.sqlite.damaged-1"))
    assert "journal.sqlite is damaged" not in build.resume_here().err


def test_damage_within_a_long_source_row_is_mended_from_the_source(make_build: MakeBuild) -> None:
    """Zeros in the last page of a long text leave the file's structure whole: only the content can show it."""
    build = make_build(3, extra=" really" * 4000)
    assert build.here().status == 0
    whole = parquet(build.folder)
    damage(build.folder / ".build" / "journal.sqlite", b'"source_type":"tests"', 1)
    ended = build.resume_here()
    assert ended.status == 0, ended
    assert parquet(build.folder) == whole


def test_a_journal_whose_source_rows_are_away_is_still_this_build(make_build: MakeBuild) -> None:
    """As a kill leaves it between the reading back of a damaged journal and the reading of its source."""
    build = make_build(3)
    assert build.here().status == 0
    whole = parquet(build.folder)
    with closing(sqlite3.connect(build.folder / ".build" / "journal.sqlite")) as db, db:
        db.execute("DELETE FROM source")
        db.execute("DELETE FROM meta WHERE name IN ('source', 'source_ended')")
    ended = build.resume_here()
    assert ended.status == 0, ended
    assert parquet(build.folder) == whole
    assert len(build.host.log) == 6


def test_a_damaged_manifest_is_made_anew(make_build: MakeBuild) -> None:
    build = make_build(3)
    assert build.here().status == 0
    manifest = build.folder / ".build" / "manifest.json"
    whole = manifest.read_text()
    for torn in (whole[: len(whole) // 2], ""):
        manifest.write_text(torn)
        ended = build.resume_here()
        assert ended.status == 0, ended
        assert json.loads(manifest.read_text())["config"] == json.loads(whole)["config"]
    assert len(build.host.log) == 6


def test_a_journal_and_a_manifest_damaged_together_go_on_with_settings_named_again(make_build: MakeBuild) -> None:
    build = make_build(3)
    assert build.here().status == 0
    whole, state = parquet(build.folder), build.folder / ".build"
    (state / "manifest.json").write_text("{torn")
    damage(state / "journal.sqlite", b"source_ended")  # where the settings stand, too
    bare = build.resume_here()
    assert bare.status == 2
    assert "name the build's settings again" in bare.err
    again = build.here("--resume")
    assert again.status == 0, again
    assert parquet(build.folder) == whole
    assert len(build.host.log) == 6


def begun(state: Path) -> bool:
    """Whether the reading back of a damaged journal shows on disk."""
    return any(state.glob("*.salvag*")) or any(state.glob("*.damaged*"))


def test_a_kill_while_a_damaged_journal_is_read_back_loses_nothing(make_build: MakeBuild) -> None:
    build, draw = make_build(300), random.Random(5)
    assert build.here().status == 0
    path, whole, seen = build.folder / ".build" / "journal.sqlite", parquet(build.folder), len(build.host.log)
    damage(path, b'"chat.completion"')
    build.host.script = always("hang")
    for _ in range(4):
        kill(build.resume(), lambda: begun(path.parent), draw.uniform(0, 0.1))
    finish(build)
    assert parquet(build.folder) == whole
    assert len(asked_since(build.host, seen)) < 60


# -- a full disk ---------------------------------------------------------------------------------------------------


class SmallDisk:
    """A file system of a size of its own."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._mount(path, f"size={size}")

    def _mount(self, path: Path, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs permission to mount a small tmpfs ({done.stderr.strip()})")

    def resize(self, size: int) -> None:
        self._mount(self.path, f"remount,size={size}")

    def fill(self, but: int = 0) -> Path:
        """Use up all space but `but` bytes; returns the file that takes it."""
        space = os.statvfs(self.path)
        filler = self.path / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - but))
        return filler


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """Makes a file system of so many bytes."""
    path = tmp_path / "disk"
    path.mkdir()
    yield lambda size: SmallDisk(path, size)
    subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)


def says_full(ended: Ended) -> bool:
    """A command has ended with one sentence that says what to do about a full disk."""
    assert "Traceback" not in ended.err
    assert "full" in ended.err
    assert "free some space" in ended.err
    return ended.status == 6


@pytest.mark.parametrize(("concurrency", "size"), [(1, 30_000), (16, 30_000), (4, 120_000)])
def test_a_full_disk_stops_the_build_and_costs_no_answer(
    concurrency: int, size: int, make_build: MakeBuild, small_disk: Callable[[int], SmallDisk]
) -> None:
    build = make_build(60)
    disk = small_disk(2_000_000 + 25 * size + concurrency * 120_000)
    build.folder = disk.path / "r1k"
    build.host.size, build.host.latency = size, 0.02
    ended = build.here("--concurrency", str(concurrency))
    assert says_full(ended), ended
    answered = {exchange.prompt for exchange in build.host.log if exchange.status == 200}
    assert 10 < len(answered) < 120
    assert paid(build.folder).keys() == answered, "also what was in flight when the disk became full"
    assert says_full(build.resume_here())
    disk.resize(200_000_000)
    finish(build)
    assert set(build.host.answered.values()) == {1}, "nothing was asked twice"
    assert parquet(build.folder) == undisturbed(build)


def test_a_follower_on_a_full_disk_makes_room_for_answers(
    make_build: MakeBuild, small_disk: Callable[[int], SmallDisk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has staged lies on the same disk, and it would go on to fill it."""
    monkeypatch.setattr("r1k_builder.build.FOLLOWED_ROWS", 1)
    build = make_build(200)
    kept: list[bool] = []
    close = Follower.close

    def closing_first(follower: Follower) -> None:
        kept.append((build.folder / ".build" / "journal.ballast").exists())
        close(follower)

    monkeypatch.setattr(Follower, "close", closing_first)
    disk = small_disk(16_000_000)
    build.folder = disk.path / "r1k"
    build.host.size, build.host.latency = 60_000, 0.05
    assert says_full(build.here("--concurrency", "16"))
    answered = {exchange.prompt for exchange in build.host.log if exchange.status == 200}
    assert 10 < len(answered) < 400
    assert paid(build.folder).keys() == answered
    assert kept[0], "it has ended before the room that is kept for answers was used"
    assert list((build.folder / ".build").glob("export-*")) == []
    disk.resize(400_000_000)
    finish(build)
    assert set(build.host.answered.values()) == {1}, "nothing was asked twice"
    assert parquet(build.folder) == undisturbed(build)


def test_a_disk_that_is_full_from_the_start(make_build: MakeBuild, small_disk: Callable[[int], SmallDisk]) -> None:
    build = make_build(3)
    disk = small_disk(1_000_000)
    build.folder = disk.path / "r1k"
    filler = disk.fill()
    assert says_full(build.here())
    assert build.host.log == []
    filler.unlink()
    assert build.here().status == 0


@pytest.mark.parametrize("space", [0, 20_000, 60_000, 120_000])
def test_a_disk_that_is_full_when_the_dataset_is_written(
    space: int, make_build: MakeBuild, small_disk: Callable[[int], SmallDisk]
) -> None:
    build = make_build(50)
    disk = small_disk(20_000_000)
    build.folder, build.host.size = disk.path / "r1k", 5000
    assert build.here().status == 0
    before, card = parquet(build.folder), (build.folder / "README.md").read_bytes()
    filler = disk.fill(but=space)
    assert says_full(run_here("export", str(build.folder), "--limit", "40"))
    assert (parquet(build.folder), (build.folder / "README.md").read_bytes()) == (before, card), "whole or not at all"
    filler.unlink()
    assert run_here("export", str(build.folder), "--limit", "40").status == 0
    assert parquet(build.folder) != before


def test_a_disk_without_room_to_read_a_damaged_journal_back(
    make_build: MakeBuild, small_disk: Callable[[int], SmallDisk]
) -> None:
    build = make_build(50)
    disk = small_disk(20_000_000)
    build.folder, build.host.size = disk.path / "r1k", 20_000
    assert build.here().status == 0
    whole, seen = parquet(build.folder), len(build.host.log)
    damage(build.folder / ".build" / "journal.sqlite", b'"chat.completion"')
    filler = disk.fill(but=500_000)
    assert says_full(build.resume_here())
    filler.unlink()
    finish(build)
    assert parquet(build.folder) == whole
    assert len(asked_since(build.host, seen)) < 20


# -- a second builder, and signals ---------------------------------------------------------------------------------


def test_a_second_builder_is_refused_and_the_first_goes_on(make_build: MakeBuild) -> None:
    build = make_build(20)
    build.host.latency = 0.3
    first = build.start("--concurrency", "4")
    wait_until(lambda: len(build.host.log) > 2)
    for second in (build.resume_here(), run_here("export", str(build.folder)), build.here("--overwrite")):
        assert second.status == 6
        assert f"process {first.pid}" in second.err
        assert f"r1k-build status {build.folder}" in second.err
    build.host.latency = 0.0
    ended = first.end()
    assert (ended.status, rows(ended)["accepted"]) == (0, 20)
    assert set(build.host.answered.values()) == {1}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_what_is_in_flight(number: int, status: int, make_build: MakeBuild) -> None:
    build = make_build(20)
    build.host.latency = 1.0
    process = build.start("--concurrency", "4", "--grace", "20")
    wait_until(lambda: len(build.host.log) == 4)
    process.signal(number)
    ended = process.end(15)
    assert ended.status == status, ended
    assert "Traceback" not in ended.err
    assert "r1k-build --resume" in ended.err
    assert str(build.folder) in ended.err, "the line to type names the folder"
    assert (len(build.host.log), paid(build.folder).total(), lost(build.folder).total()) == (4, 4, 0)
    assert "4 answers recorded" in ended.out
    with journal(build.folder) as db:
        assert db.execute("SELECT count(*) FROM ledger").fetchone() == (4,), "each is in the ledger, too"
    assert "in flight when" not in finish(build).err
    assert set(build.host.answered.values()) == {1}


def test_a_signal_waits_no_longer_than_the_grace(make_build: MakeBuild) -> None:
    build = make_build(20)
    build.host.latency = 30.0
    process = build.start("--concurrency", "4", "--grace", "0.5")
    wait_until(lambda: len(build.host.log) == 4)
    process.signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.end(20).status == 143
    assert 0.4 < time.monotonic() - began < 10
    assert lost(build.folder).total() == 4
    assert "4 requests were in flight" in finish(build).err


def test_a_second_interrupt_ends_at_once(make_build: MakeBuild) -> None:
    build = make_build(20)
    build.host.latency = 30.0
    process = build.start("--concurrency", "4", "--grace", "60")
    wait_until(lambda: len(build.host.log) == 4)
    process.signal(signal.SIGINT)
    time.sleep(1)
    assert process.running
    process.signal(signal.SIGINT)
    ended = process.end(10)
    assert ended.status == 130
    assert "Traceback" not in ended.err


def test_an_interrupt_ends_the_waiting_for_retries(make_build: MakeBuild) -> None:
    """Nothing is in flight, but rows wait out the host's Retry-After."""
    build = make_build(4)
    build.host.retry_after, build.host.script = "60", always("429")
    process = build.start("--grace", "30")
    wait_until(lambda: len(build.host.log) == 4)
    time.sleep(0.3)
    process.signal(signal.SIGINT)
    assert process.end(10).status == 130


# -- drift ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--temperature", "0.1", "temperature: 0.6 -> 0.1"),
        ("--top-p", "none", "top_p: 0.95 -> none"),
        ("--max-tokens", "500", "max_tokens: 32768 -> 500"),
        ("--model", "other", "model: m -> other"),
    ],
)
def test_a_changed_setting_is_refused_by_name_then_accepted(option: str, value: str, says: str, make_build: MakeBuild) -> None:
    build = make_build(6)
    assert build.here().status == 0
    whole = parquet(build.folder)
    ended = build.resume_here(option, value)
    assert ended.status == 2
    assert says in ended.err
    assert "12 requests" in ended.err
    assert "--accept-drift" in ended.err
    assert len(build.host.log) == 12
    assert build.resume_here().status == 0, "a refusal changes nothing"
    assert build.resume_here("--accept-drift", option, value).status == 0
    assert len(build.host.log) == 24
    assert paid(build.folder).total() == 24, "old replies stay"
    assert parquet(build.folder) != whole
    old = says.split(": ")[1].split(" -> ")[0]
    assert build.resume_here("--accept-drift", option, old).status == 0
    assert len(build.host.log) == 24, "what was paid for under the old settings is not asked again"
    assert parquet(build.folder) == whole


def edit(source: Path, number: int, **changes: str) -> None:
    """Change one row of a JSONL source."""
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    lines[number] |= changes
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_changed_source_row_is_refused_then_asked_alone(make_build: MakeBuild) -> None:
    build = make_build(6)
    assert build.here().status == 0
    edit(build.source, 2, question="What is 5 + 6?")
    ended = build.resume_here()
    assert ended.status == 2
    assert "source: " in ended.err
    assert "2 requests" in ended.err
    assert len(build.host.log) == 12
    ended = build.resume_here("--accept-drift")
    assert (ended.status, rows(ended)["read"]) == (0, 6)
    assert len(build.host.log) == 14
    assert parquet(build.folder) == undisturbed(build)


def test_drift_is_refused_where_the_source_is_gone(make_build: MakeBuild) -> None:
    """The rows are in the journal, and so are the settings they were asked with."""
    build = make_build(6)
    assert build.here().status == 0
    build.source.unlink()
    assert build.resume_here().status == 0
    ended = build.resume_here("--temperature", "0.1")
    assert ended.status == 2, ended
    assert "temperature: 0.6 -> 0.1" in ended.err
    assert len(build.host.log) == 12


def test_an_empty_first_try_holds_nobody_to_its_settings(make_build: MakeBuild) -> None:
    build = make_build(2)
    empty = build.source.with_name("empty.jsonl")
    empty.write_text("")
    assert Build(build.host, empty, build.folder).here("--temperature", "0.1").status == 2
    assert build.here().status == 0


def test_what_is_no_drift(make_build: MakeBuild) -> None:
    build = make_build(4)
    assert build.here("--limit", "2").status == 0
    with serve(FakeHost()) as other:
        ended = build.resume_here("--base-url", other.url, "--concurrency", "2", "--grace", "1", "--deadline", "60")
        assert ended.status == 0, ended
        assert other.log == []
        assert build.resume_here("--limit", "4").status == 0
        assert len(other.log) == 4
    assert len(build.host.log) == 4


def test_limit_is_a_prefix_that_grows_and_shrinks(make_build: MakeBuild) -> None:
    build = make_build(8)
    assert build.here("--limit", "3").status == 0
    small = parquet(build.folder)
    assert rows(build.resume_here("--limit", "6"))["accepted"] == 6
    assert len(build.host.log) == 12, "the new rows alone"
    assert rows(build.resume_here("--limit", "3"))["read"] == 3
    assert parquet(build.folder) == small
    assert paid(build.folder).total() == 12, "nothing is deleted"
    assert rows(build.resume_here("--limit", "none"))["accepted"] == 8
    assert len(build.host.log) == 16
    assert parquet(build.folder) == undisturbed(build)


# -- export, status, overwrite -------------------------------------------------------------------------------------


def test_export_needs_neither_host_nor_source(questions: Questions, tmp_path: Path) -> None:
    with serve(FakeHost()) as host:
        build = Build(host, questions(30), tmp_path / "r1k")
        assert build.here().status == 0
    whole = parquet(build.folder)
    build.source.unlink()
    for path in build.folder.iterdir():
        if path.name != ".build":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    ended = run_here("export", str(build.folder))
    assert (ended.status, rows(ended)["accepted"]) == (0, 30)
    assert parquet(build.folder) == whole
    assert (build.folder / "README.md").exists()


def test_an_export_of_fewer_rows_does_not_shrink_the_build(make_build: MakeBuild) -> None:
    build = make_build(6)
    assert build.here().status == 0
    ended = run_here("export", str(build.folder), "--limit", "2")
    assert (ended.status, rows(ended)["read"]) == (0, 2)
    ended = build.resume_here()
    assert (ended.status, rows(ended)["read"]) == (0, 6)


def test_status_while_a_build_runs_and_after_a_kill(make_build: MakeBuild) -> None:
    build = make_build(30)
    build.host.script = lambda prompt, attempt: "hang" if attempt == 1 and int(prompt, 16) % 3 == 0 else None
    process = build.start("--concurrency", "5", "--idle-timeout", "600")
    wait_until(lambda: len(build.host.log) - build.host.answered.total() >= 5)
    time.sleep(0.3)
    running = run_here("status", str(build.folder))
    process.signal(signal.SIGKILL)
    process.end()
    assert running.status == 0
    assert "building, run 1 (under way)" in running.out
    assert "5 in flight" in running.out
    assert f"{build.host.answered.total()} answered" in running.out
    after = run_here("status", str(build.folder))
    assert "not running, run 1 (killed)" in after.out
    assert "0 in flight, 5 cut off or lost" in after.out
    assert f"r1k-build --resume --output {build.folder}" in after.out
    finish(build)
    assert "30 accepted + 0 rejected + 0 owed" in run_here("status", str(build.folder)).out


def test_overwrite_keeps_the_old_journal_aside(make_build: MakeBuild) -> None:
    build = make_build(4)
    assert build.here().status == 0
    assert build.here("--temperature", "0.1").status == 2, "a folder that holds a build is not built in"
    for number in (1, 2):
        ended = build.here("--overwrite", "--temperature", f"0.{number}")
        assert (ended.status, rows(ended)["accepted"]) == (0, 4)
        aside = build.folder / ".build" / f"replaced-{number}"
        assert str(aside) in ended.err
        with sqlite3.connect(aside / "journal.sqlite") as db:
            assert db.execute("SELECT count(*) FROM reply").fetchone() == (8,)
        db.close()
    assert len(build.host.log) == 24
    assert paid(build.folder).total() == 8


def test_overwriting_a_killed_build_keeps_its_wal(make_build: MakeBuild) -> None:
    build = make_build(30)
    build.host.latency = 0.05
    kill(build.start("--concurrency", "4"), lambda: len(build.host.log) > 30, 0.0)
    answers = paid(build.folder)
    build.host.latency = 0.0
    assert build.here("--overwrite").status == 0
    with journal(build.folder) as db, sqlite3.connect(build.folder / ".build" / "replaced-1" / "journal.sqlite") as old:
        assert db.execute("SELECT count(*) FROM reply").fetchone() == (60,)
        assert old.execute("SELECT count(*) FROM reply WHERE status = 200").fetchone() == (answers.total(),)
    old.close()
