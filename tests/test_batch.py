"""Builds in batches, against a host that sells them over HTTP: the dataset of an online build, whatever comes between."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.batch_host import BatchHost
from tests.command import Build, Ended, Running, journal, parquet, rows, run_here, wait_until
from tests.fake_host import no_faults, random_faults, serve
from tests.shop import Shop, write_source

Questions = Callable[..., Path]

EVERYTHING = ("--samples", "3", "--cycle", "--judge", "j", "--judge-price", "1,1", "--until-verified", "2")


@pytest.fixture
def host() -> Iterator[BatchHost]:
    with serve(BatchHost()) as running:
        yield running


@pytest.fixture
def build(host: BatchHost, questions: Questions, tmp_path: Path) -> Build:
    """Of 8 rows, whose source has the forward reasoning: two batches, if nothing is amiss."""
    return Build(host, questions(8), tmp_path / "r1k")


def online(build: Build, host: BatchHost, *options: str) -> Build:
    """The twin of a build in batches that is asked one by one, of a host that begins anew."""
    log, host.attempts = list(host.log), type(host.attempts)()
    twin = Build(host, build.source, build.folder.with_name("online"))
    ended = twin.here(*options)
    assert ended.status == 0, ended
    host.log[:] = log
    return twin


def finish(build: Build, host: BatchHost, *options: str) -> Ended:
    """Resume to the end at a host that has become well; nothing was paid for twice."""
    host.script, host.ending, host.released = no_faults, lambda _: "completed", True
    host.refuses = lambda _call, _time: None
    ended = build.resume_here(*options)
    assert ended.status == 0, ended
    assert set(host.answered.values()) == {1}
    assert not list((build.folder / ".build").glob("batches-*"))
    return ended


def asked(build: Build) -> set[tuple[str, int, str | None]]:
    """The key of every request with how often it was answered and what that cost."""
    query = "SELECT key, count(ledger.attempt), sum(cost) FROM attempt LEFT JOIN ledger ON attempt = id GROUP BY key"
    with journal(build.folder) as db:
        return set(db.execute(query))


def handed_over(build: Build, host: BatchHost) -> bool:
    """Whether the journal knows what the host calls its batch."""
    if not host.batches:
        return False
    with journal(build.folder) as db:
        return db.execute("SELECT 1 FROM batch WHERE remote IS NOT NULL").fetchall() == [(1,)] * len(host.batches)


def stop(process: Running, ready: Callable[[], bool], number: int = signal.SIGKILL) -> Ended:
    wait_until(lambda: ready() or not process.running)
    process.signal(number)
    return process.end()


# -- the same dataset ----------------------------------------------------------------------------------------------


def test_a_build_in_batches_is_that_online_at_half_the_price(host: BatchHost, build: Build) -> None:
    price = ("--price", "1000,2000,100")
    ended = build.here("--batch", *price)
    assert ended.status == 0, ended
    assert rows(ended) == {"read": 8, "accepted": 8, "rejected": 0, "owed": 0}
    assert [len(lines) for lines in host.lines] == [8, 8], "a batch for each stage"
    assert not host.calls["list"]
    twin = online(build, host, *price)
    assert parquet(build.folder) == parquet(twin.folder)
    assert asked(build) == {(key, count, cost // 2) for key, count, cost in asked(twin)}  # type: ignore[operator]
    costs = [json.loads((b.folder / ".build" / "manifest.json").read_text())["cost"] for b in (build, twin)]
    assert 2 * float(costs[0]["dollars"]) == float(costs[1]["dollars"]) > 0
    assert [cost["replies_in_batches"] for cost in costs] == [16, 0]


def test_every_request_of_a_line_is_what_it_would_be_online(host: BatchHost, build: Build) -> None:
    assert build.here("--batch", "--limit", "1").status == 0
    (line,), _ = host.lines
    with journal(build.folder) as db:
        keys = dict(db.execute("SELECT key, content FROM request WHERE stage = 'invert'"))
    assert line["custom_id"] in keys
    asked_for = json.loads(keys[line["custom_id"]])
    assert line["body"] == {"model": "m", "messages": asked_for["messages"], **asked_for["sampling"]}
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")


def test_with_every_evidence_that_can_be_asked_for(host: BatchHost, tmp_path: Path) -> None:
    """Samples, ways back, a judge, fresh inversions: request by request, and at both models."""
    shop = Shop(rate=0.6, wrong=0.3)
    host.say = shop.say
    build = Build(host, write_source(tmp_path / "shop.jsonl", 4), tmp_path / "r1k")
    ended = build.here("--batch", "--price", "1,1", *EVERYTHING)
    assert ended.status == 0, ended
    assert all(len({line["body"]["model"] for line in lines}) == 1 for lines in host.lines), "a batch is of one model"
    twin = online(build, host, "--price", "1,1", *EVERYTHING)
    assert parquet(build.folder) == parquet(twin.folder)
    assert {key for key, *_ in asked(build)} == {key for key, *_ in asked(twin)}


def test_towards_a_number_of_verified_rows(host: BatchHost, tmp_path: Path) -> None:
    host.say = Shop(rate=0.5).say
    build = Build(host, write_source(tmp_path / "shop.jsonl", 20), tmp_path / "r1k")
    assert build.here("--batch", "--accepted", "5").status == 0
    assert parquet(build.folder) == parquet(online(build, host, "--accepted", "5").folder)


def test_a_batch_is_no_larger_than_the_host_takes(host: BatchHost, build: Build) -> None:
    ended = build.here("--batch", "--batch-size", "3")
    assert ended.status == 0, ended
    assert max(len(lines) for lines in host.lines) == 3
    assert sum(len(lines) for lines in host.lines) == 16
    assert set(host.answered.values()) == {1}


# -- stopped, killed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow), (signal.SIGKILL, -9)],
)
def test_stopped_between_submit_and_result(number: int, status: int, host: BatchHost, build: Build) -> None:
    host.released = False
    ended = stop(build.start("--batch"), lambda: handed_over(build, host), number)
    assert ended.status == status, ended
    assert "Traceback" not in ended.err
    if status > 0:
        assert f"8 requests wait in 1 batch at {host.url[7:-3]}, which goes on" in ended.out
        assert f"type r1k-build --resume --output {build.folder} to go on" in ended.err
    said = run_here("status", str(build.folder)).out
    assert f"waiting: 8 requests in batch_1 at {host.url[7:-3]} since 20" in said
    assert "0 in flight, 0 cut off or lost" in said
    plan = run_here("--dry-run", "--output", str(build.folder)).out
    assert "requests that wait in a batch: 8\nrequests to make: 8 (0 inversions, 8 solutions)" in plan
    assert "in flight when the last run ended" not in finish(build, host).err
    assert len(host.batches) == 2
    assert parquet(build.folder) == parquet(online(build, host).folder)


@pytest.mark.parametrize(
    ("call", "fault", "batches"),
    [
        # the file is there, its name never arrived: it is sent again, and costs nothing
        pytest.param("upload", "hang", 0, marks=pytest.mark.slow),
        ("make", "503", 0),  # the file's name is known, and no batch was made of it
        ("make", "hang", 1),  # a batch was made, and its name never arrived
    ],
)
def test_killed_between_upload_and_submit(call: str, fault: str, batches: int, host: BatchHost, build: Build) -> None:
    host.refuses = lambda name, _time: fault if name == call else None
    assert stop(build.start("--batch"), lambda: host.calls[call] > 0).status == -9
    assert len(host.batches) == batches
    host.files["x"] = b""
    host.batches |= {f"others-{n}": {"id": f"others-{n}", "status": "completed", "input_file_id": "x"} for n in range(5)}
    ended = finish(build, host)
    assert "in flight when the last run ended" not in ended.err, "what was never in a batch was never sent"
    assert len(host.batches) == 2 + 5
    assert parquet(build.folder) == parquet(online(build, host).folder)


def test_killed_while_the_answers_are_read(host: BatchHost, build: Build) -> None:
    host.size = 500_000  # of each answer, so that this takes a while
    stored = "SELECT count(*) FROM reply WHERE status = 200"

    def reading() -> bool:
        with journal(build.folder) as db:
            return bool(db.execute(stored).fetchone()[0])

    stop(build.start("--batch"), lambda: host.calls["fetch"] > 0 and reading())
    seen = len(host.log)
    finish(build, host)
    assert len(host.log) < seen + 9, "no more is asked than the second stage"


def test_online_again_while_a_batch_waits(host: BatchHost, build: Build) -> None:
    """Nothing that waits is asked for a second time; what comes after it is asked online."""
    host.released = False
    stop(build.start("--batch"), lambda: handed_over(build, host))
    finish(build, host, "--no-batch")
    assert len(host.batches) == 1
    assert host.most_in_flight > 0


@pytest.mark.slow
def test_a_batch_at_a_host_that_is_asked_no_more_is_named(host: BatchHost, build: Build) -> None:
    host.released = False
    stop(build.start("--batch"), lambda: handed_over(build, host))
    with serve(BatchHost()) as other:
        ended = build.resume_here("--base-url", other.url)
    assert ended.status == 0, ended
    assert f"8 requests wait in 1 batch at {host.url[7:-3]}, whom this build asks no more" in ended.err


@pytest.mark.slow
def test_a_batch_that_another_build_takes_no_answers_of_is_named(host: BatchHost, build: Build) -> None:
    host.released = False
    stop(build.start("--batch"), lambda: handed_over(build, host))
    ended = build.here("--overwrite")
    assert ended.status == 0, ended
    assert f"8 requests wait in 1 batch at {host.url[7:-3]}: it may be billed, and nobody will fetch its answers" in ended.err


# -- what goes wrong -----------------------------------------------------------------------------------------------


def test_failed_lines_are_asked_again_in_the_next_batch(host: BatchHost, questions: Questions, tmp_path: Path) -> None:
    build = Build(host, questions(40), tmp_path / "r1k")
    host.script = random_faults(0.05, ("500", "429", "missing", "error", "resource"))
    ended = build.here("--batch")
    assert ended.status == 0, ended
    assert len(host.batches) > 2
    assert {exchange.fault for exchange in host.log} == {None, "500", "429", "missing", "error", "resource"}
    assert set(host.answered.values()) == {1}
    assert all(line["custom_id"] not in {other["custom_id"] for other in lines[:n]} for lines in host.lines
               for n, line in enumerate(lines))  # fmt: skip
    host.script = no_faults
    assert parquet(build.folder) == parquet(online(build, host).folder)


def test_what_can_not_be_read_is_sampled_afresh_in_the_next_batch(host: BatchHost, build: Build) -> None:
    """As online: another sample, twice the tokens after a truncation, a rejection by what the host censors."""
    host.script = random_faults(0.15, ("unparsable", "length", "empty", "filter"), seed=3)
    ended = build.here("--batch")
    assert ended.status == 0, ended
    assert {"unparsable", "length", "filter"} <= {exchange.fault for exchange in host.log}
    twin = online(build, host)
    assert rows(ended)["rejected"] > 0
    assert parquet(build.folder) == parquet(twin.folder)
    assert asked(build) == asked(twin)


def test_a_line_that_is_refused_again_and_again_rejects_its_row(host: BatchHost, build: Build) -> None:
    refused: list[str] = []

    def script(prompt: str, _attempt: int) -> str | None:
        refused.append(prompt) if not refused else None
        return "400" if prompt == refused[0] else None

    host.script = script
    ended = build.here("--batch")
    assert ended.status == 0, ended
    assert rows(ended) == {"read": 8, "accepted": 7, "rejected": 1, "owed": 0}
    assert "refused-by-host" in ended.out


def test_a_host_that_refuses_every_line_stops_the_build(host: BatchHost, build: Build) -> None:
    host.script = lambda _prompt, _attempt: "400"
    ended = build.here("--batch")
    assert ended.status == 4, ended
    assert "refused the first 5 requests with 400" in ended.err
    assert len(host.batches) == 1
    finish(build, host)


@pytest.mark.slow
def test_a_line_that_never_works_leaves_its_row_owed(host: BatchHost, build: Build) -> None:
    host.script = lambda _prompt, _attempt: "500"
    ended = build.here("--batch", "--limit", "1")
    assert ended.status == 3, ended
    assert len(host.batches) == 5
    finish(build, host, "--limit", "8")


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_batch_that_ends_early_keeps_what_it_has_answered(status: str, host: BatchHost, build: Build) -> None:
    host.ending = lambda number: status if number == 1 else "completed"
    ended = build.here("--batch")
    if status == "cancelled":  # somebody meant that
        assert ended.status == 4, ended
        assert "the batch batch_1 was cancelled; what it has answered is kept: type r1k-build --resume" in ended.err
        assert "4 answers recorded" in ended.out
        ended = finish(build, host)
    assert ended.status == 0, ended
    assert [len(lines) for lines in host.lines][:2] == [8, 8]
    assert sum(len(lines) for lines in host.lines) == 20, "four are asked again"
    assert set(host.answered.values()) == {1}
    assert parquet(build.folder) == parquet(online(build, host).folder)


def test_a_batch_that_fails_says_why(host: BatchHost, build: Build) -> None:
    host.ending = lambda _: "failed"
    ended = build.here("--batch")
    assert ended.status == 4, ended
    assert (
        "the batch batch_1 has failed (too many tokens are waiting); what it has answered is kept: type r1k-build" in ended.err
    )
    assert "Traceback" not in ended.err
    finish(build, host)


def test_calls_that_fail_are_repeated_and_none_is_paid_twice(host: BatchHost, build: Build) -> None:
    """The first of each kind, in turn: an overloaded host, a connection that breaks off after the host has done it."""
    faults = {
        "upload": ["503", "cut"],
        "make": ["cut", "429"],
        "look": ["500", "cut"],
        "fetch": ["503", "cut"],
        "list": ["cut"],
    }
    host.refuses = lambda call, time: dict(enumerate(faults[call], 1)).get(time)
    ended = build.here("--batch")
    assert ended.status == 0, ended
    assert all(host.calls[call] > len(faults[call]) for call in faults), host.calls
    assert len(host.batches) == 2


def test_a_batch_that_may_have_been_made_is_not_given_up(host: BatchHost, build: Build) -> None:
    """The answer to it is lost, and the host's list then refused: who knows?"""
    host.refuses = lambda call, _time: {"make": "cut", "list": "401"}.get(call)
    ended = build.here("--batch")
    assert ended.status == 4, ended
    assert "answered 401" in ended.err
    assert "8 requests wait in 1 batch" in ended.out
    finish(build, host)
    assert len(host.batches) == 2


def test_a_host_without_batches(host: BatchHost, build: Build) -> None:
    host.sells = False
    ended = build.here("--batch")
    assert ended.status == 4, ended
    assert "Traceback" not in ended.err
    assert (
        "answered 404 (Invalid URL (POST /v1/files)) to POST /files: it sells no batches there; check --base-url" in ended.err
    )
    assert "--resume --output" in ended.err
    assert build.resume_here("--no-batch").status == 0


def test_a_batch_that_is_refused_does_not_wait(host: BatchHost, build: Build) -> None:
    host.refuses = lambda call, _time: "400" if call == "make" else None
    ended = build.here("--batch")
    assert ended.status == 4, ended
    assert "answered 400 (no: 400) to POST /batches: mend what it says" in ended.err
    assert "wait" not in ended.out
    finish(build, host)


def test_a_preset_without_batches(tmp_path: Path) -> None:
    for words in (["--teacher", "openrouter"], ["--teacher", "embedded"], ["--teacher", "novita", "--judge", "deepseek"]):
        ended = run_here("--batch", "--dry-run", "--output", str(tmp_path), *words)
        assert ended.status == 2, ended
        assert "sells no batches as OpenAI does" in ended.err


def test_a_host_out_of_reach(build: Build) -> None:
    build.host.url = "http://127.0.0.1:9/v1"
    ended = run_here(*build.words("--batch", "--retry-budget", "1"))
    assert ended.status == 7, ended
    assert "does not answer for its batches (connection)" in ended.err


def test_a_batch_that_the_host_does_not_know(host: BatchHost, build: Build) -> None:
    """It is not asked again unless it is so old that no host has it: another account's key is more likely."""
    host.released = False
    stop(build.start("--batch"), lambda: handed_over(build, host))
    batches, host.batches = host.batches, {}
    ended = build.resume_here()
    assert ended.status == 4, ended
    assert "answered 404 (no such batch) to /batches/batch_1: is it another account's" in ended.err
    host.batches = batches
    finish(build, host)


def test_a_key_that_a_host_repeats_is_kept_nowhere(host: BatchHost, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "sk-very-secret-123456")
    host.echo = True
    host.script = random_faults(0.3, ("500",))
    assert build.here("--batch", "--key-variable", "SECRET_KEY", "--with-completions").status == 0
    assert {exchange.key for exchange in host.log} == {"Bearer sk-very-secret-123456"}
    with journal(build.folder) as db:
        assert not [body for (body,) in db.execute("SELECT body FROM reply") if b"very-secret" in body]


# -- money ---------------------------------------------------------------------------------------------------------


def test_the_budget_holds_and_batches_are_as_large_as_it_allows(host: BatchHost, build: Build) -> None:
    words = ("--batch", "--price", "0,1000", "--max-tokens", "1000")  # $0.50 an answer at most, $0.05 as it comes
    ended = build.here(*words, "--max-cost", "1.65")
    assert ended.status == 0, ended
    assert max(len(lines) for lines in host.lines) == 3
    assert "$0.80" in ended.out
    build.folder = build.folder.with_name("poor")
    ended = build.here(*words, "--max-cost", "0.55")
    assert ended.status == 5, ended
    assert "$0.10 of $0.55 are spent and it may cost $0.50" in ended.err


def test_what_waits_counts_against_the_budget(host: BatchHost, build: Build) -> None:
    """Also in the next run: a batch of five is out, so that only one more request fits."""
    words = ("--price", "0,1000", "--max-tokens", "1000")
    host.released = False
    stop(build.start("--batch", *words, "--max-cost", "2.6"), lambda: handed_over(build, host))
    assert [len(lines) for lines in host.lines] == [5]
    process = build.resume("--max-cost", "3.1")
    stop(process, lambda: len(host.batches) == 2 and handed_over(build, host))
    assert [len(lines) for lines in host.lines] == [5, 1]
    finish(build, host)


def test_a_dry_run_says_what_batches_cost(host: BatchHost, build: Build) -> None:
    full, half = (run_here("--dry-run", *build.words("--price", "10,20", *batch)).out for batch in ((), ("--batch",)))
    costs = [float(re.search(r"expected cost: about \$([\d.]+)", said)[1]) for said in (full, half)]  # type: ignore[index]
    assert costs[1] == pytest.approx(costs[0] / 2, abs=0.01)
    assert "in batches of up to 50,000 requests, each answered within 24h, at 0.5 of the price online (help.openai.com" in half
    told = run_here("--dry-run", *build.words("--batch", "--batch-factor", "0.8", "--price", "10,20")).out
    assert "at 0.8 of the price online (--batch-factor)" in told
    assert not host.log
    assert not host.calls
