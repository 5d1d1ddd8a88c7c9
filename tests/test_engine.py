"""Shards on a Ray cluster: the bytes of one process, whatever is killed meanwhile, under one limit and one budget."""

import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from r1k_builder.folder import BuildFolder
from tests.command import Ended, Running, parquet, rows, run_here, start, wait_until
from tests.fake_host import FakeHost

pytest.importorskip("ray")

Questions = Callable[[int], Path]
SECONDS = 120
"""That a build on a busy machine may take: Ray itself takes ten to start."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator["Nodes"]:
    """A cluster of two nodes on this machine."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = Nodes()
    try:
        yield nodes
    finally:
        nodes.shut_down()


class Nodes:
    """A head, which is to run nothing but what a driver brings, and a worker."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        soon = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 3,
            "gcs_rpc_server_reconnect_timeout_s": 3,
        }
        node = {"object_store_memory": 80 * 2**20, "include_dashboard": False, "_system_config": soon}
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **node})
        self.worker = self._cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        self.address: str = self._cluster.address

    def kill_raylet(self) -> None:
        os.kill(self.worker.all_processes["raylet"][0].process.pid, signal.SIGKILL)

    def kill_head(self) -> None:
        """All of its processes, as when the machine goes off."""
        for kind in self._cluster.head_node.all_processes.values():
            for one in kind:
                os.kill(one.process.pid, signal.SIGKILL)

    def shut_down(self) -> None:
        self._cluster.shutdown()


def words(source: Path, folder: Path, host: FakeHost, *more: str) -> list[str]:
    fixed = ["--base-url", host.url, "--model", "m", "--tokenizer", "none", *more]
    return ["--source", str(source), "--output", str(folder), *fixed]


def on_ray(source: Path, folder: Path, host: FakeHost, *more: str, shards: int = 4) -> Running:
    return start(*words(source, folder, host, "--engine", "ray", "--shards", str(shards), "--concurrency", "8", *more))


def complete(ended: Ended, count: int) -> None:
    assert ended.status == 0, ended
    assert rows(ended) == {"read": count, "accepted": count, "rejected": 0, "owed": 0}


def log(folder: Path) -> str:
    path = folder / ".build" / "build.log"
    return path.read_text() if path.exists() else ""


def process(folder: Path, of: str) -> int:
    """The process that is `shard 2/4`, or `the limiter`, by the build's log."""
    found: list[str] = re.findall(rf"{of} is process (\d+)", log(folder))
    return int(found[-1])


def asked_again(host: FakeHost, folder: Path) -> tuple[int, int]:
    """How many answers the host has given twice, and how many attempts the journals know to be lost."""
    lost = 0
    for path in (folder / ".build").glob("journal*.sqlite"):
        with closing(sqlite3.connect(path)) as db:
            query = "SELECT count(*) FROM attempt LEFT JOIN reply ON reply.attempt = id WHERE reply.attempt IS NULL"
            lost += db.execute(query).fetchone()[0]
    return host.answered.total() - len(host.answered), lost


def same_as_one_process(source: Path, folder: Path, host: FakeHost) -> None:
    """The folder has the Parquet bytes that one process makes, asking the same host."""
    host.cap, host.latency = 0, 0.0
    alone = folder.with_name("alone")
    assert run_here(*words(source, alone, host)).status == 0
    assert parquet(folder) == parquet(alone)


def test_two_shards_make_the_bytes_of_one_process(host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    host.latency = 0.02
    source = questions(20)
    complete(on_ray(source, tmp_path / "r1k", host, shards=2).end(SECONDS), 20)
    assert host.answered.total() == len(host.answered) == 40
    assert host.most_in_flight <= 8  # --concurrency is of all shards together
    same_as_one_process(source, tmp_path / "r1k", host)


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["shard 2/4", "the limiter"])
def test_an_actor_is_killed(killed: str, host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    host.latency, folder, source = 0.1, tmp_path / "r1k", questions(300)
    running = on_ray(source, folder, host)
    wait_until(lambda: host.answered.total() > 100, SECONDS)
    os.kill(process(folder, killed), signal.SIGKILL)
    ended = running.end(SECONDS)
    complete(ended, 300)
    assert f"{killed} was lost" in ended.err
    again, lost = asked_again(host, folder)
    assert again <= lost <= 8
    assert host.most_in_flight <= 8 + 8  # those of a killed one are cut off when it is, and come again
    same_as_one_process(source, folder, host)


@pytest.mark.slow
def test_a_workers_raylet_is_killed(cluster: Nodes, host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    host.latency, folder, source = 0.2, tmp_path / "r1k", questions(600)
    running = on_ray(source, folder, host, "--ray-address", cluster.address)
    wait_until(lambda: host.answered.total() > 100, SECONDS)
    cluster.kill_raylet()
    ended = running.end(SECONDS)
    complete(ended, 600)
    assert "was lost" in ended.err
    again, lost = asked_again(host, folder)
    assert again <= lost <= 16
    same_as_one_process(source, folder, host)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [(), ("--engine", "ray", "--shards", "4")], ids=["local", "ray"])
def test_the_driver_is_killed(engine: tuple[str, ...], host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    host.latency, folder, source = 0.1, tmp_path / "r1k", questions(300)
    running = on_ray(source, folder, host)
    wait_until(lambda: host.answered.total() > 100, SECONDS)
    running.signal(signal.SIGKILL)
    running.end()
    left = BuildFolder(folder)
    wait_until(lambda: not any(map(left.at_work, left.journals())), SECONDS)  # Ray has ended the shards
    complete(start("--resume", "--output", str(folder), *engine).end(SECONDS), 300)
    again, lost = asked_again(host, folder)
    assert again <= lost <= 8
    same_as_one_process(source, folder, host)


@pytest.mark.slow
def test_the_drivers_own_node_dies(cluster: Nodes, host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    host.latency, folder, source = 0.2, tmp_path / "r1k", questions(400)
    running = on_ray(source, folder, host, "--ray-address", cluster.address)
    wait_until(lambda: host.answered.total() > 100, SECONDS)
    running.signal(signal.SIGKILL)
    cluster.kill_head()
    running.end()
    left = BuildFolder(folder)
    wait_until(lambda: not any(map(left.at_work, left.journals())), SECONDS)  # the worker has given up, too
    complete(start("--resume", "--output", str(folder), "--engine", "ray", "--shards", "4").end(SECONDS), 400)
    again, lost = asked_again(host, folder)
    assert again <= lost <= 8
    same_as_one_process(source, folder, host)


@pytest.mark.slow
def test_one_budget_for_all(host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    host.latency, folder, source = 0.05, tmp_path / "r1k", questions(120)
    limits = ("--price", "0,1000", "--max-tokens", "100", "--max-cost", "12")  # $0.1 a request: 120 of 240
    ended = on_ray(source, folder, host, *limits).end(SECONDS)
    assert ended.status == 5, ended
    assert "--max-cost: $12.00 of $12.00 are spent" in ended.err
    assert host.answered.total() == 120
    complete(
        start("--resume", "--output", str(folder), "--engine", "ray", "--shards", "4", "--max-cost", "24").end(SECONDS), 120
    )
    assert host.answered.total() == len(host.answered) == 240


@pytest.mark.slow
def test_a_host_that_refuses_the_key_stops_all(host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    host.script = lambda _prompt, _attempt: "402" if len(host.log) > 40 else None
    ended = on_ray(questions(100), tmp_path / "r1k", host).end(SECONDS)
    assert ended.status == 4, ended
    assert "shard" in ended.err
    assert "add credit" in ended.err
    host.script = lambda _prompt, _attempt: None
    complete(start("--resume", "--output", str(tmp_path / "r1k")).end(SECONDS), 100)


@pytest.mark.slow
def test_an_interrupt_is_drained(host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    host.latency, folder = 0.2, tmp_path / "r1k"
    running = on_ray(questions(200), folder, host)
    wait_until(lambda: host.answered.total() > 60, SECONDS)
    running.signal(signal.SIGINT)
    ended = running.end(SECONDS)
    assert ended.status == 130, ended
    complete(start("--resume", "--output", str(folder)).end(SECONDS), 200)
    assert asked_again(host, folder) == (0, 0)


@pytest.mark.slow
def test_the_key_is_in_nothing_that_ray_keeps(host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    key, folder = "sk-of-a-test-0123456789", tmp_path / "r1k"
    before = {path.name for path in SESSIONS.glob("session_2*")}
    running = start(
        *words(questions(10), folder, host, "--engine", "ray", "--shards", "2", "--key-variable", "A_KEY_FOR_RAY"),
        A_KEY_FOR_RAY=key,
    )
    complete(running.end(SECONDS), 10)
    assert {exchange.key for exchange in host.log} == {f"Bearer {key}"}
    sessions = [path for path in SESSIONS.glob("session_2*") if path.name not in before]
    files = [path for place in [*sessions, folder] for path in place.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if key.encode() in path.read_bytes()]


SESSIONS = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"  # noqa: S108  # where Ray keeps what it logs


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--engine", "ray"], "--engine ray needs --shards N"),
        (["--engine", "ray", "--shards", "0"], "--engine ray needs --shards N"),
        (["--shards", "4"], "--shards goes with --engine ray"),
        (["--ray-address", "auto"], "--ray-address goes with --engine ray"),
        (["--engine", "ray", "--shards", "2", "--shard", "1/2"], "--shard does not go with --engine ray"),
        (["--engine", "ray", "--shards", "2", "--batch"], "--batch does not go with --engine ray"),
        (["--engine", "ray", "--shards", "2", "--accepted", "5"], "--accepted counts verified rows"),
    ],
)
def test_what_does_not_go_with_the_engine_is_said(more: list[str], said: str, host: FakeHost, tmp_path: Path) -> None:
    ended = run_here(*words(tmp_path / "none.jsonl", tmp_path / "r1k", host, *more))
    assert ended.status == 2
    assert said in ended.err
    assert not (tmp_path / "r1k").exists()


def test_a_cluster_that_is_not_there_is_said(host: FakeHost, questions: Questions, tmp_path: Path) -> None:
    more = ["--engine", "ray", "--shards", "2", "--ray-address", "127.0.0.1:1"]
    ended = start(*words(questions(2), tmp_path / "r1k", host, *more)).end(SECONDS)
    assert ended.status == 6, ended
    assert "there is no Ray cluster at 127.0.0.1:1" in ended.err
    assert not (tmp_path / "r1k").exists()


@pytest.mark.slow
def test_a_source_that_is_not_there_stops_all_and_leaves_nothing(host: FakeHost, tmp_path: Path) -> None:
    ended = on_ray(tmp_path / "none.jsonl", tmp_path / "r1k", host).end(SECONDS)
    assert ended.status == 2, ended
    assert "none.jsonl" in ended.err
    assert not (tmp_path / "r1k").exists()
