"""A source built in shares: the bytes of one build, whatever ends when, and each row's answers paid for once."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from r1k_builder.database import lies_shared
from r1k_builder.errors import LocalError, UsageError
from r1k_builder.journal import Journal, JournalView
from r1k_builder.mounts import file_system, is_shared
from r1k_builder.schema import ForwardExample
from r1k_builder.shards import Shard
from tests.command import Build, Ended, parquet, rows, run_here, wait_until
from tests.fake_host import FakeHost, serve

Questions = Callable[..., Path]

ORDER = ("--shuffle-seed", "5", "--benchmarks", "none")
"""Of the source's rows, not that of the file."""


@pytest.fixture(scope="module")
def host() -> Iterator[FakeHost]:
    """One host for all, as its address is in every row."""
    with serve(FakeHost()) as running:
        yield running


@pytest.fixture
def build(host: FakeHost, questions: Questions, tmp_path: Path) -> Build:
    host.latency = 0.0
    host.log.clear()
    return Build(host, questions(45), tmp_path / "r1k")


class AtOnce(NamedTuple):
    """What a build without shards makes of the same rows."""

    files: dict[str, bytes]
    asked: list[str]


_made: list[AtOnce] = []


@pytest.fixture
def at_once(build: Build) -> AtOnce:
    if not _made:
        twin = Build(build.host, build.source, build.folder.with_name("unsharded"))
        assert twin.here(*ORDER).status == 0
        _made.append(AtOnce(without_completions(twin), asked(build.host)))
        build.host.log.clear()
    return _made[0]


def without_completions(build: Build) -> dict[str, bytes]:
    """The bytes of the dataset but for the replies as they came, whose times are each build's own."""
    return {name: content for name, content in parquet(build.folder).items() if not name.startswith("completions/")}


def export(build: Build, *options: str) -> Ended:
    return run_here("export", str(build.folder), *options)


def status(build: Build) -> str:
    return run_here("status", str(build.folder)).out


def asked(host: FakeHost) -> list[str]:
    return sorted(exchange.prompt for exchange in host.log)


def answered(build: Build, shard: str) -> int:
    with closing(JournalView(build.folder / ".build" / f"journal-{shard}.sqlite")) as view:
        return view.responses().get("ok", 0)


def answered_elsewhere(build: Build, shard: str) -> int:
    with closing(JournalView(build.folder / ".build" / f"journal-{shard}.sqlite")) as view:
        return sum(view.replayed_from().values())


# -- shares --------------------------------------------------------------------------------------------------------


def test_each_row_is_in_exactly_one_share_and_shares_are_even() -> None:
    pair_ids = [ForwardExample(question=f"q{n}", solution="s").pair_id for n in range(3000)]
    for of in (1, 3, 16):
        held = [[shard.holds(pair_id) for shard in (Shard(i + 1, of) for i in range(of))] for pair_id in pair_ids]
        assert all(sum(row) == 1 for row in held)
        assert all(0.7 < sum(share) * of / 3000 < 1.3 for share in zip(*held, strict=True))


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "1/3/5", "-1/3", "1/99999", "٣/٤"])
def test_what_is_no_share_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(UsageError, match=r"as in --shard 2/16"):
        Shard.parse(text)


def test_a_journals_name_says_whose_it_is() -> None:
    assert Shard.of_journal("journal-2-of-3.sqlite") == Shard.parse("2/3")
    assert all(Shard.of_journal(f"journal{x}.sqlite") is None for x in ("", "-4-of-3", "-0-of-3", "-1-of-3.sqlite-wal", "-x"))


# -- the same bytes ------------------------------------------------------------------------------------------------


def test_three_shards_give_the_bytes_of_one_build(build: Build, at_once: AtOnce) -> None:
    for number in (2, 3, 1):
        ended = build.here("--resume", "--shard", f"{number}/3", "--with-completions", *ORDER)
        assert ended.status == 0, ended
        assert "r1k-build export" in ended.out
        assert parquet(build.folder) == {}, "a shard writes no dataset"
    assert asked(build.host) == at_once.asked
    ended = export(build)
    assert rows(ended) == {"read": 45, "accepted": 45, "rejected": 0, "owed": 0}
    assert ended.status == 0
    assert asked(build.host) == at_once.asked, "an export asks nothing"
    assert without_completions(build) == at_once.files
    (replies,) = (build.folder / "completions").glob("*.parquet")
    assert pq.read_table(replies)["pair_id"].to_pylist() == [
        pair_id for pair_id in pq.read_table(build.folder / "forward")["pair_id"].to_pylist() for _ in range(2)
    ], "in source order"


def test_a_limit_counts_rows_of_the_whole_source_and_can_be_raised(build: Build, at_once: AtOnce) -> None:
    for number in (1, 2):
        assert build.here("--shard", f"{number}/2", "--limit", "20", *ORDER).status == 0
    assert len(build.host.log) == 40
    assert build.resume_here("--shard", "1/2", "--limit", "none").status == 0
    ended = export(build)
    assert (ended.status, rows(ended)["read"]) == (3, 45), "the other shard has not read so far"
    assert "2/2" in ended.out
    assert build.resume_here("--shard", "2/2").status == 0, "the limit is the folder's"
    assert asked(build.host) == at_once.asked
    assert export(build).status == 0
    assert parquet(build.folder) == at_once.files


# -- ends ----------------------------------------------------------------------------------------------------------


def test_shards_at_once_one_of_them_killed_and_resumed(build: Build, at_once: AtOnce) -> None:
    build.host.latency = 0.05
    running = {number: build.start("--resume", "--shard", f"{number}/3", "--concurrency", "2", *ORDER) for number in (1, 2, 3)}
    wait_until(lambda: len(build.host.log) > 9)
    seen = status(build)
    assert "3 of 3 journals at work" in seen
    assert all(f"shard {number}/3: " in seen for number in (1, 2, 3))
    wait_until(lambda: answered(build, "2-of-3") > 5)
    running[2].signal(signal.SIGKILL)
    assert running[2].end().status == -signal.SIGKILL
    assert [running[number].end().status for number in (1, 3)] == [0, 0]
    assert "owed, run 1 (killed)" in status(build)
    assert "--shard I/N" in status(build)
    before, paid = len(build.host.log), answered(build, "2-of-3")
    build.host.latency = 0.0
    ended = build.resume_here("--shard", "2/3")
    assert ended.status == 0, ended
    asked_for = 2 * int(ended.out.split("shard 2/3: ")[1].split()[0])
    assert len(build.host.log) - before == asked_for - paid, "what was answered is not asked again"
    assert export(build).status == 0
    assert parquet(build.folder) == at_once.files


def test_a_shard_that_is_not_there_is_named_and_its_rows_are_owed(build: Build, at_once: AtOnce) -> None:
    for number in (1, 3):
        assert build.here("--shard", f"{number}/3", *ORDER).status == 0
    ended = export(build)
    assert ended.status == 3
    counts = rows(ended)
    assert counts["read"] == 45
    assert counts["owed"] == 45 - counts["accepted"] > 0
    assert "2/3" in ended.out
    assert "shard 2/3: not begun here" in status(build)
    manifest = json.loads((build.folder / ".build" / "manifest.json").read_text())
    assert manifest["state"] == "partial"
    assert f"rows: 45 = {counts['accepted']} accepted + 0 rejected + {counts['owed']} owed" in status(build)
    before = len(build.host.log)
    ended = build.resume_here()
    assert ended.status == 0, "without --shard, what any shard owes is asked for"
    assert len(build.host.log) - before == counts["owed"] * 2
    assert parquet(build.folder) == at_once.files


def test_another_split_asks_nothing_that_was_answered(build: Build, at_once: AtOnce) -> None:
    for number in (1, 2, 3):
        assert build.here("--shard", f"{number}/3", "--limit", "30", *ORDER).status == 0
    paid = len(build.host.log)
    for number in (1, 2):
        assert build.here("--resume", "--shard", f"{number}/2", "--limit", "45").status == 0
    assert len(build.host.log) == 3 * paid // 2
    assert "rows: 45 = 45 accepted" in status(build), "a row of two journals counts once"
    assert rows(export(build)) == {"read": 45, "accepted": 45, "rejected": 0, "owed": 0}
    assert parquet(build.folder) == at_once.files


def test_journals_of_two_machines_come_together_by_copying(build: Build, at_once: AtOnce) -> None:
    homes = [Build(build.host, build.source, build.folder.with_name(f"node-{number}")) for number in (1, 2)]
    for number, home in enumerate(homes, 1):
        assert home.here("--shard", f"{number}/2", *ORDER).status == 0
    (build.folder / ".build").mkdir(parents=True)
    for home in homes:
        for path in (home.folder / ".build").glob("journal-*-of-*.sqlite"):
            shutil.copy(path, build.folder / ".build")
    assert export(build).status == 0
    assert parquet(build.folder) == at_once.files


def test_a_shard_takes_of_anothers_replies_those_of_its_rows(host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    whole = Build(host, questions(8), tmp_path / "whole")
    assert whole.here("--with-completions").status == 0
    host.log.clear()
    again = Build(host, whole.source, tmp_path / "again")
    for number in (1, 2):
        assert again.here("--shard", f"{number}/2", "--replay", str(whole.folder)).status == 0
    assert host.log == []
    assert sum(answered_elsewhere(again, f"{number}-of-2") for number in (1, 2)) == 16


# -- refused -------------------------------------------------------------------------------------------------------


def test_a_shard_of_other_settings_is_refused_before_it_asks(build: Build) -> None:
    assert build.here("--shard", "1/2").status == 0
    before = len(build.host.log)
    ended = build.here("--resume", "--shard", "2/2", "--temperature", "1.0")
    assert ended.status == 2
    assert "temperature: 0.6 -> 1.0" in ended.err
    assert len(build.host.log) == before
    assert build.here("--resume", "--shard", "2/2").status == 0


def test_a_journal_of_other_settings_is_refused_by_its_name(build: Build, at_once: AtOnce) -> None:
    assert build.here("--shard", "1/2", *ORDER).status == 0
    other = Build(build.host, build.source, build.folder.with_name("other"))
    assert other.here("--shard", "2/2", "--temperature", "1.0", *ORDER).status == 0
    shutil.copy(other.folder / ".build" / "journal-2-of-2.sqlite", build.folder / ".build")
    ended = export(build)
    assert ended.status == 2
    assert "journal-2-of-2.sqlite" in ended.err
    assert "temperature: 1.0 -> 0.6" in ended.err
    assert "--shard 2/2 --accept-drift" in ended.err
    assert build.resume_here("--accept-drift", "--shard", "2/2").status == 0
    assert export(build).status == 0
    assert parquet(build.folder) == at_once.files


def test_shards_that_begin_at_once_with_different_settings_never_both_ask(build: Build) -> None:
    build.host.latency = 0.05
    one = build.start("--resume", "--shard", "1/2", "--temperature", "0.1")
    other = build.start("--resume", "--shard", "2/2", "--temperature", "0.9")
    statuses = sorted(ended.status for ended in (one.end(), other.end()))
    assert statuses == [0, 2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--shard", "1/2"], "holds a build: type r1k-build --resume"),
        (["--shard", "2/1"], "is no share"),
        (["--shard", "2/2", "--overwrite"], "--overwrite starts the whole folder anew"),
        (["--shard", "2/2", "--accepted", "5"], "--accepted counts verified rows through the whole source"),
        ([], "holds a build: type r1k-build --resume"),
    ],
)
def test_what_a_shard_can_not_do(options: list[str], says: str, build: Build) -> None:
    assert build.here("--shard", "1/2", "--limit", "4").status == 0
    ended = build.here(*options)
    assert ended.status == 2
    assert says in ended.err


def test_what_may_share_rows_is_not_built_at_once(build: Build) -> None:
    build.host.latency = 0.3
    running = build.start("--shard", "1/2", "--concurrency", "4")
    wait_until(lambda: len(build.host.log) > 0)
    for options in (["--resume", "--shard", "1/2"], ["--resume", "--shard", "1/3"], ["--resume"]):
        ended = run_here(*options, "--output", str(build.folder))
        assert ended.status == 6, ended
        assert "r1k-build status" in ended.err
    build.host.latency = 0.0
    assert running.end().status == 0


def test_each_shard_spends_its_share_of_the_budget(build: Build) -> None:
    price = ("--price", "1,1", "--max-tokens", "1000")
    ended = build.here("--shard", "1/2", "--max-cost", "0.01", *price)
    assert ended.status == 5
    assert "of --max-cost this run may spend $0.01" in ended.err or "$0.00" in ended.err
    with closing(JournalView(build.folder / ".build" / "journal-1-of-2.sqlite")) as view:
        assert 0 < view.spent_at_most() <= 5 * 10**9


def test_a_dry_run_of_a_shard_counts_its_rows_and_writes_nothing(build: Build) -> None:
    counted = []
    for number in (1, 2):
        ended = build.here("--dry-run", "--shard", f"{number}/2")
        assert ended.status == 0, ended
        counted.append(int(ended.out.split("requests to make: ")[1].split()[0]))
    assert sum(counted) == 90
    assert not build.folder.exists()


# -- where journals lie --------------------------------------------------------------------------------------------

MOUNTED = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw shared:2 - nfs4 filer:/home rw,vers=4.2
31 30 0:41 / /home/me/scratch rw - tmpfs tmpfs rw
32 22 0:42 / /mnt/my\040data rw master:3 - fuse.sshfs me@there:/ rw
33 22 0:43 / /lustre rw - lustre mds@tcp:/fs rw
34 22 8:1 / /usb rw - fuseblk /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "shared"),
    [
        ("/var/r1k", "ext4", False),
        ("/home/me/r1k/.build/journal.sqlite", "nfs4", True),
        ("/homes/me", "ext4", False),
        ("/home/me/scratch/r1k", "tmpfs", False),
        ("/mnt/my data/r1k", "fuse.sshfs", True),
        ("/lustre/r1k", "lustre", True),
        ("/usb/r1k", "fuseblk", False),
    ],
)
def test_a_network_file_system_is_told_by_the_list_of_mounts(path: str, kind: str, shared: bool) -> None:
    assert file_system(Path(path), MOUNTED) == kind
    assert is_shared(Path(path), MOUNTED) == shared


def test_what_is_no_list_of_mounts_tells_nothing() -> None:
    assert [file_system(Path("/home"), text) for text in ("", "nonsense\n\n- - -", "1 2 3 4 /home rw")] == [""] * 3


def test_a_journal_on_a_network_file_system_has_no_wal_and_takes_writes_beside_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    assert not lies_shared(path)
    with closing(Journal(path, shared=True)) as journal, closing(JournalView(path, shared=True)) as view:
        journal.add_source(0, [ForwardExample(question=f"q{n}", solution="s") for n in range(200)])
        reading = view.examples()
        next(reading)
        journal.set("name", "value")
        assert view.get("name") == "value"
        assert not list(tmp_path.glob("*-wal"))
    Journal(path).close()
    with closing(JournalView(path)) as view:
        assert view.source_length() == 200
        with pytest.raises(LocalError, match="on a network file system and has a WAL"):
            Journal(path, shared=True)
    with closing(Journal(path, shared=True)) as journal:
        assert journal.source_length() == 200
        assert path.read_bytes()[18:20] == b"\x01\x01", "the file format says that it has no WAL"
