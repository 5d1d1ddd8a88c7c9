"""Several endpoints of one model: load by free capacity, one that dies, all that die, and what is said of them."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.command import parquet, rows, run_here, start, wait_until
from tests.fake_host import FakeHost, serve

Questions = Callable[[int], Path]


@pytest.fixture
def other() -> Iterator[FakeHost]:
    with serve(FakeHost()) as running:
        yield running


def words(source: Path, folder: Path, *hosts: FakeHost) -> list[str]:
    urls = [word for host in hosts for word in ("--base-url", host.url)]
    return ["--source", str(source), "--output", str(folder), *urls, "--model", "m", "--tokenizer", "none"]


def answered(*hosts: FakeHost) -> list[int]:
    return [host.answered.total() for host in hosts]


def test_load_follows_capacity(host: FakeHost, other: FakeHost, questions: Questions, tmp_path: Path) -> None:
    host.latency, other.latency = 0.02, 0.08
    ended = run_here(*words(questions(60), tmp_path / "r1k", host, other), "--concurrency", "4")
    assert rows(ended) == {"read": 60, "accepted": 60, "rejected": 0, "owed": 0}
    quick, slow = answered(host, other)
    assert quick + slow == 120  # none was asked for twice
    assert quick > 2 * slow > 0
    assert max(host.most_in_flight, other.most_in_flight) <= 4
    manifest = json.loads((tmp_path / "r1k" / ".build" / "manifest.json").read_text())
    assert manifest["teacher"]["endpoints"] == [host.url, other.url]
    assert list(manifest["teacher"]["answers_by_host"].values()) == [
        count for _, count in sorted(zip((host.url, other.url), (quick, slow), strict=True))
    ]
    said = run_here("status", str(tmp_path / "r1k")).out
    assert re.search(rf"endpoints: 127.0.0.1:\d+ \d+% \({quick:,} answers\), 127.0.0.1:\d+ \d+% \({slow:,} answers\)", said)


def test_a_cap_at_one_sends_the_rest_to_the_other(
    host: FakeHost, other: FakeHost, questions: Questions, tmp_path: Path
) -> None:
    host.latency = other.latency = 0.03
    host.cap = 1
    ended = run_here(*words(questions(40), tmp_path / "r1k", host, other), "--concurrency", "8")
    assert rows(ended)["accepted"] == 40
    capped, free = answered(host, other)
    assert free > 3 * capped > 0


def test_one_that_dies_leaves_its_rows_to_the_other(other: FakeHost, questions: Questions, tmp_path: Path) -> None:
    other.latency = 0.02
    source = questions(60)
    with serve(FakeHost()) as dying:
        dying.latency = 0.02
        running = start(*words(source, tmp_path / "r1k", dying, other), "--concurrency", "4")
        wait_until(lambda: dying.answered.total() > 15)
    ended = running.end()  # its port is closed by now, what it had in flight cut off
    assert rows(ended) == {"read": 60, "accepted": 60, "rejected": 0, "owed": 0}
    before, after = answered(dying, other)
    assert 120 <= before + after <= 124  # asked again at most what it had in flight
    with serve(FakeHost()) as whole:
        assert rows(run_here(*words(source, tmp_path / "whole", whole)))["accepted"] == 60
    assert contents(tmp_path / "r1k") == contents(tmp_path / "whole")


def contents(folder: Path) -> list[tuple[str, str, str]]:
    """The rows of `reverse`, but for where they came from."""
    import pyarrow.parquet as pq

    (path,) = (folder / "reverse").glob("*.parquet")
    return [(row["id"], row["question"], row["answer"]) for row in pq.read_table(path).to_pylist()]


def test_one_that_only_fails_is_spared(host: FakeHost, other: FakeHost, questions: Questions, tmp_path: Path) -> None:
    other.latency = 0.02
    host.script = lambda _prompt, _attempt: "500"
    ended = run_here(*words(questions(40), tmp_path / "r1k", host, other), "--concurrency", "4")
    assert rows(ended)["accepted"] == 40
    assert other.answered.total() == 80
    assert len(host.log) < 40


@pytest.mark.slow
def test_only_where_none_answers_the_build_stops_and_goes_on(questions: Questions, tmp_path: Path) -> None:
    with ExitStack() as stack:
        dead = [stack.enter_context(serve(FakeHost())) for _ in range(2)]
    ended = start(*words(questions(4), tmp_path / "r1k", *dead), "--concurrency", "2").end()
    assert ended.status == 7
    assert re.search(r"no connection to 127.0.0.1:\d+, 127.0.0.1:\d+ for 1\d s", ended.err)
    with serve(FakeHost()) as back:
        ended = run_here("--resume", "--output", str(tmp_path / "r1k"), "--base-url", dead[0].url, "--base-url", back.url)
        assert rows(ended)["accepted"] == 4
        assert back.answered.total() == 8


def test_other_endpoints_are_no_drift(host: FakeHost, other: FakeHost, questions: Questions, tmp_path: Path) -> None:
    first = run_here(*words(questions(6), tmp_path / "r1k", host))
    before = parquet(tmp_path / "r1k")
    again = run_here("--resume", "--output", str(tmp_path / "r1k"), "--base-url", other.url, "--base-url", host.url)
    assert (first.status, again.status) == (0, 0)
    assert other.log == []
    assert parquet(tmp_path / "r1k") == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--base-url", "http://127.0.0.1:9/v1/"], "--base-url: names the same endpoint twice"),
        (["--base-url", "http://127.0.0.1:8/v1", "--batch"], "a batch waits at one host, and --base-url names 2"),
        (["--base-url", "ftp://127.0.0.1:8/v1"], "--base-url: is no http:// or https:// URL"),
    ],
)
def test_what_several_can_not_be_is_said(more: list[str], said: str, questions: Questions, tmp_path: Path) -> None:
    fixed = ["--source", str(questions(2)), "--output", str(tmp_path / "r1k"), "--model", "m", "--tokenizer", "none"]
    ended = run_here(*fixed, "--base-url", "http://127.0.0.1:9/v1", *more)
    assert ended.status == 2
    assert said in ended.err
    assert not (tmp_path / "r1k" / ".build").exists()
