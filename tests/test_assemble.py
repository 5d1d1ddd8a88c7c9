"""The dataset made behind a run: out of order, in a process of its own, through the ends of either process."""

import asyncio
import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from r1k_builder import assemble
from r1k_builder import files as files_module
from r1k_builder.assemble import NICE, Assembly, Follower, Made, assembled
from r1k_builder.columns import EXAMPLES
from r1k_builder.config import BuildConfig, TeacherConfig
from r1k_builder.errors import LocalError, UsageError
from r1k_builder.export import BATCH_ROWS, staging
from r1k_builder.journal import Journal
from r1k_builder.replay import flow_version
from r1k_builder.schema import ForwardExample
from tests.command import Build, parquet, rows, run_here, wait_until
from tests.fake_host import FakeHost

ROWS = 3 * BATCH_ROWS + 10
TEACHER = TeacherConfig(base_url="http://127.0.0.1:9/v1", model="m")
CONFIG = BuildConfig(source="rows.jsonl", teacher=TEACHER, tokenizer="none")
ROOT = Path(__file__).parents[1]


def row(number: int) -> ForwardExample:
    texts = {"reasoning": f"Adding {number}.", "answer": rf"\boxed{{{2 * number}}}", "teacher": "t"}
    return ForwardExample(question=f"What is {number} + {number}?", solution=f"{2 * number}", **texts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose journal has source rows with a response of their own, and no answers."""
    path = tmp_path / "r1k"
    (path / ".build").mkdir(parents=True)
    with closing(Journal(place(path))) as journal:
        journal.add_source(0, map(row, range(ROWS)))
    return path


def place(folder: Path) -> Path:
    return folder / ".build" / "journal.sqlite"


def settle(folder: Path, numbers: list[int], config: BuildConfig = CONFIG) -> None:
    async def record(journal: Journal) -> None:
        for number in numbers:
            journal.settle(row(number).pair_id, flow_version(config), "rejected")
        await journal.flush()

    with closing(Journal(place(folder))) as journal:
        asyncio.run(record(journal))


def files(made: Made) -> dict[str, bytes]:
    return parquet(made.stage)


def stages(folder: Path) -> list[Path]:
    return list((folder / ".build").glob("export-*"))


@pytest.fixture
def assembly(folder: Path) -> Iterator[Assembly]:
    with staging(folder, CONFIG) as writer, Assembly(writer, [place(folder)], CONFIG) as running:
        yield running


# -- in order, out of order ----------------------------------------------------------------------------------------


def test_rows_that_settle_in_any_order_give_the_same_bytes(folder: Path, assembly: Assembly) -> None:
    order = random.Random(3).sample(range(ROWS), ROWS)
    steps = 0
    for start in range(0, ROWS, 20):
        settle(folder, order[start : start + 20])
        while assembly.step():
            steps += 1
    assert -(-ROWS // BATCH_ROWS) <= steps <= 2 * -(-ROWS // BATCH_ROWS), "each is taken in once, and written once"
    made = files(assembly.finish())
    assert len(made) > 0
    assert made == made_at_once(folder)


def made_at_once(folder: Path) -> dict[str, bytes]:
    """The dataset of a copy, as staging removes what else is staged."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("export-*"))
    with assembled(copy, [place(copy)], CONFIG) as made:
        return files(made)


def waiting(assembly: Assembly) -> list[Path]:
    """The batches that are prepared and wait for their turn."""
    return sorted(assembly._writer.stage.glob("*.batch"))


def test_a_batch_waits_for_its_last_row(folder: Path, assembly: Assembly) -> None:
    settle(folder, list(range(1, 2 * BATCH_ROWS)))
    assert assembly.step(), "the second batch is whole"
    assert not assembly.step()
    assert [path.name for path in waiting(assembly)] == ["1.batch"]
    settle(folder, [0])
    assert assembly.step()
    assert not assembly.step()
    assert waiting(assembly) == []


def test_batches_that_wait_take_less_room_where_there_are_many(
    folder: Path, assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(folder, list(range(1, 3 * BATCH_ROWS)))
    while assembly.step():
        room = sum(path.stat().st_size for path in waiting(assembly))
        monkeypatch.setattr(assemble, "PACKED_FROM", room - 1)  # from the second on
    plain, packed = (path.stat().st_size for path in waiting(assembly))
    assert packed < 0.9 * plain, "texts of a few words"
    settle(folder, [0, *range(3 * BATCH_ROWS, ROWS)])
    assert files(assembly.finish()) == made_at_once(folder)


def test_rows_of_a_batch_that_waits_are_read_when_they_settle(
    folder: Path, assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[int]] = []
    monkeypatch.setattr(assembly._preparation, "ahead", lambda positions: read.append([*positions]))
    settle(folder, [3, 4])
    assert not assembly.step()
    assert read == [], "what had settled before may be too much"
    settle(folder, [7, *range(BATCH_ROWS, 2 * BATCH_ROWS), 5, 2 * BATCH_ROWS])
    assert assembly.step(), "the second batch is whole"
    assert read == [[7, 5], [2 * BATCH_ROWS]]
    assert not assembly.step()
    assert len(read) == 2


def test_gaps_in_the_source_hold_up_nothing_and_lose_no_row(folder: Path) -> None:
    gaps = [3, *range(BATCH_ROWS, 2 * BATCH_ROWS)]
    with closing(sqlite3.connect(place(folder))) as db:
        db.executemany("DELETE FROM source WHERE position = ?", [(number,) for number in gaps])
        db.commit()
    left = [number for number in range(ROWS) if number not in gaps]
    settle(folder, left)
    with staging(folder, CONFIG) as writer, Assembly(writer, [place(folder)], CONFIG) as assembly:
        assert sum(iter(assembly.step, False)) == 3
        assert assembly.finish().manifest["rows"]["read"] == len(left)


def test_a_limit_ends_the_last_batch(folder: Path) -> None:
    config = CONFIG.model_copy(update={"limit": BATCH_ROWS + 5})
    settle(folder, list(range(config.rows or 0)), config)
    with staging(folder, config) as writer, Assembly(writer, [place(folder)], config) as assembly:
        assert sum(iter(assembly.step, False)) == 2
        assert assembly.finish().manifest["rows"]["read"] == config.rows


# -- the process ---------------------------------------------------------------------------------------------------


def test_a_follower_makes_what_this_process_makes(folder: Path) -> None:
    settle(folder, list(range(BATCH_ROWS + 7)))
    with Follower(folder, place(folder), CONFIG) as follower:
        wait_until(lambda: bool(stages(folder)))
        settle(folder, list(range(BATCH_ROWS + 7, ROWS - 5)))
        counted: list[dict[str, Any]] = []
        made = follower.finish(counted.append)
        found = files(made)
        assert made.stage.exists()
    (said,) = counted
    assert {**said, "configs": None} == {**{name: made.manifest[name] for name in said}, "configs": None}
    for name in ("forward", "reverse", "reverse-verified"):
        assert said["configs"][name]["rows"] == made.manifest["configs"][name]["rows"]
    assert not made.stage.exists()
    with assembled(folder, [place(folder)], CONFIG) as here:
        assert found == files(here)
        assert made.manifest == here.manifest
        assert made.damaged == here.damaged == [row(number).pair_id for number in range(ROWS - 5)]


def test_a_follower_stands_back_behind_the_process_that_asks(folder: Path) -> None:
    """In one session with it: Linux shares processors out by session first, and by priority within each."""
    with Follower(folder, place(folder), CONFIG) as follower:
        pid = follower.process.pid
        assert os.getsid(pid) == os.getsid(0)
        wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + NICE)
        assert os.getpgid(pid) == pid, "a Ctrl-C reaches it"


def test_a_follower_that_is_not_wanted_any_more_leaves_nothing(folder: Path) -> None:
    with Follower(folder, place(folder), CONFIG) as follower:
        wait_until(lambda: bool(stages(folder)))
    assert follower.process.returncode == 0
    assert stages(folder) == []


PARENT = """
import sys
from pathlib import Path
from r1k_builder.assemble import Follower
from r1k_builder.config import BuildConfig
folder = Path(sys.argv[1])
with Follower(folder, folder / ".build" / "journal.sqlite", BuildConfig.model_validate_json(sys.argv[2])) as follower:
    print(follower.process.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("started", [False, True])
def test_a_follower_ends_when_its_parent_is_killed(started: bool, folder: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(folder), CONFIG.model_dump_json()]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        if started:
            wait_until(lambda: bool(stages(folder)))
        parent.kill()
    wait_until(lambda: not is_running(pid))
    assert stages(folder) == []


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended and waits for its parent to notice does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_killed_follower_leaves_is_swept_by_the_next(folder: Path) -> None:
    with Follower(folder, place(folder), CONFIG) as follower:
        wait_until(lambda: bool(stages(folder)))
        follower.process.kill()
        with pytest.raises(LocalError, match=r"killed by signal 9.*--resume"):
            follower.finish()
    assert len(stages(folder)) == 1
    with staging(folder, CONFIG) as writer:
        assert stages(folder) == [writer.stage]


def test_a_bug_in_the_follower_is_seen(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(place(folder))) as db:
        db.execute("UPDATE source SET example = '[]'")
        db.commit()
    with Follower(folder, place(folder), CONFIG) as follower, pytest.raises(RuntimeError, match="ended with status 1"):
        follower.finish()
    assert "Traceback" in capfd.readouterr().err
    assert stages(folder) == []


def test_what_the_user_can_mend_comes_as_a_sentence(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    config = CONFIG.model_copy(update={"tokenizer": str(tmp_path / "tokenizer.json")})
    with Follower(folder, place(folder), config) as follower, pytest.raises(UsageError, match="can't be read as a tokenizer"):
        follower.finish()
    with (
        Follower(folder, tmp_path / "none" / "journal.sqlite", CONFIG) as follower,
        pytest.raises(LocalError, match="--output"),
    ):
        follower.finish()
    assert capfd.readouterr().err == ""


def test_a_shelf_gives_back_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "PACKED_FROM", 5_000)
    draw = random.Random(1)
    records = [pa.py_buffer(bytes([number]) * draw.randrange(1, 1_000)) for number in range(50)]
    shelf = files_module.Shelf(tmp_path)
    shelf.extend(records[:25])
    shelf.extend(records[25:])
    assert [shelf.read(place) for place in range(50)] == records
    packed = shelf._offsets[-1]
    assert 5_000 < packed < 7_500 < sum(record.size for record in records), "the later ones in less room"
    shelf.close()


def test_a_full_disk_is_raised_however_much_waits_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every file at once, and more row groups than there is room for: nobody waits for room for ever."""

    def full(_file: object, _data: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(files_module._DigestedFile, "write", full)
    monkeypatch.setattr(files_module, "GROUP_BYTES", 1)
    table = pa.Table.from_pylist([{"id": str(number)} for number in range(10)], EXAMPLES)
    written = files_module.ConfigFiles(tmp_path)

    def write() -> None:
        for number in range(100 * files_module.WORK_AT_HAND):
            written.write(("forward", "reverse")[number % 2], table)

    with pytest.raises(OSError, match="no space left"):
        write()
    with pytest.raises(OSError, match="no space left"):
        written.finish()
    written.close()


def test_a_full_disk_fails_no_closing(tmp_path: Path) -> None:
    """With /dev/full for the shelf's file: what is buffered can't be written when it is closed."""
    script = """
        import os, sys
        from pathlib import Path
        import pyarrow as pa
        from r1k_builder.files import Shelf
        shelf = Shelf(Path(sys.argv[1]))
        os.dup2(os.open("/dev/full", os.O_RDWR), shelf._file.fileno())
        shelf.extend([pa.py_buffer(b"text")])
        shelf.close()
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(tmp_path)], cwd=ROOT, check=True)


# -- a build -------------------------------------------------------------------------------------------------------


def test_a_build_with_a_follower_and_an_export_without_give_the_same_bytes(
    host: FakeHost, questions: Callable[[int], Path], tmp_path: Path
) -> None:
    host.latency = 0.05
    build = Build(host, questions(600), tmp_path / "r1k")
    ended = build.here("--concurrency", "40")
    assert ended.status == 0, ended
    assert rows(ended)["read"] == 600
    followed = parquet(build.folder)
    for path in build.folder.glob("*/*.parquet"):
        path.unlink()
    assert run_here("export", str(build.folder)).status == 0
    assert parquet(build.folder) == followed
    assert stages(build.folder) == []
