"""A host that fails in every way that hosts do: no row is lost, no budget passed, no key shown, and the run says what to do."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from r1k_builder.teacher import Secret, read_retry_after
from tests.command import Build, Ended, journal, paid, parquet, rows, run_here, wait_until
from tests.fake_host import Exchange, FakeHost, Script, no_faults, random_faults, serve

MakeBuild = Callable[..., Build]


@pytest.fixture
def make_build(host: FakeHost, questions: Callable[..., Path], tmp_path: Path) -> MakeBuild:
    """Makes a build of n rows."""
    return lambda count: Build(host, questions(count), tmp_path / "r1k")


def always(fault: str) -> Script:
    return lambda _prompt, _attempt: fault


def at_first(fault: str, attempts: int = 1) -> Script:
    """`fault` for the first attempts at each prompt."""
    return lambda _prompt, attempt: fault if attempt <= attempts else None


def is_quiet(ended: Ended) -> bool:
    """Nothing on the screen is a programmer's."""
    return not any(sign in ended.out + ended.err for sign in ("Traceback", "Error(", "Exception", "r1k_builder/"))


def responses(folder: Path) -> Counter[str]:
    """How the attempts in the journal ended: by status, or by the name of what happened."""
    with journal(folder) as db:
        found = db.execute("SELECT coalesce(error, CAST(status AS TEXT)) FROM attempt LEFT JOIN reply ON attempt = id")
        return Counter("in flight" if name is None else name for (name,) in found)


# -- faults that pass ----------------------------------------------------------------------------------------------


def test_five_percent_of_everything(make_build: MakeBuild) -> None:
    build = make_build(150)
    build.host.script = random_faults(0.05, ("429", "500", "drop", "cut", "junk", "empty", "length", "unparsable"))
    ended = build.here("--retry-budget", "2", "--concurrency", "32")
    counts = rows(ended)
    assert counts["read"] == 150 == counts["accepted"] + counts["rejected"] + counts["owed"]
    assert ended.status == (3 if counts["owed"] else 0)
    assert is_quiet(ended)
    build.host.script = no_faults
    resumed = build.resume_here()
    assert (resumed.status, is_quiet(resumed)) == (0, True)
    after = rows(resumed)
    assert after["owed"] == 0
    assert after["rejected"] == counts["rejected"], "a row that was rejected stays so"
    assert after["accepted"] == counts["accepted"] + counts["owed"]


PASSING = ("408", "409", "429", "500", "503", "drop", "cut", "garbage", "encoding", "junk", "error", "blank", "resource")


def one_of(names: Sequence[str], prompt: str) -> str:
    return names[int(prompt, 16) % len(names)]


def test_passing_faults_are_tried_again_and_kept(make_build: MakeBuild) -> None:
    build = make_build(40)
    build.host.script = lambda prompt, attempt: one_of(PASSING, prompt) if attempt == 1 else None
    ended = build.here()
    assert (ended.status, rows(ended)["accepted"], is_quiet(ended)) == (0, 40, True)
    assert {exchange.fault for exchange in build.host.log} == {*PASSING, None}
    assert len(build.host.log) == 160 == responses(build.folder).total(), "every attempt is in the journal"
    build.host.script = no_faults
    twin = Build(build.host, build.source, build.folder.with_name("twin"))
    assert twin.here().status == 0
    assert parquet(build.folder) == parquet(twin.folder)


def test_faults_that_do_not_pass_leave_the_rows_owed(make_build: MakeBuild) -> None:
    build = make_build(40)
    build.host.script = lambda prompt, _attempt: one_of(PASSING, prompt)
    ended = build.here("--retry-budget", "1")
    assert (ended.status, is_quiet(ended)) == (3, True), ended
    assert rows(ended) == {"read": 40, "accepted": 0, "rejected": 0, "owed": 40}
    assert {exchange.fault for exchange in build.host.log} == set(PASSING)
    assert f"r1k-build --resume --output {build.folder}" in ended.out
    build.host.script = no_faults
    resumed = build.resume_here()
    assert (resumed.status, rows(resumed)["accepted"]) == (0, 40)


def test_a_host_that_never_answers_some(make_build: MakeBuild) -> None:
    build = make_build(100)
    build.host.script = random_faults(0.02, ("hang",))
    ended = build.here("--idle-timeout", "1", "--concurrency", "16")
    assert (ended.status, rows(ended)["accepted"], is_quiet(ended)) == (0, 100, True)
    assert responses(build.folder)["timeout"] == sum(exchange.fault == "hang" for exchange in build.host.log) > 0


def test_blank_lines_keep_a_request_alive_up_to_the_deadline(make_build: MakeBuild) -> None:
    """Half a second of blank lines and then a body pass an idle timeout of 0.3 s; blank lines for ever end at the deadline."""
    build = make_build(5)
    build.host.script = always("keep-alive")
    ended = build.here("--idle-timeout", "0.3")
    assert (ended.status, rows(ended)["accepted"]) == (0, 5)
    assert len(build.host.log) == 10
    build.host.script = at_first("blanks")
    ended = build.here("--overwrite", "--idle-timeout", "0.3", "--deadline", "1")
    assert (ended.status, rows(ended)["accepted"]) == (0, 5)
    assert responses(build.folder) == {"200": 10} | ({"timeout": 10} if build.host.log[10].fault == "blanks" else {})


def test_retry_after_is_honoured(make_build: MakeBuild) -> None:
    build = make_build(3)
    build.host.retry_after = "2"
    build.host.script = lambda _prompt, attempt: "429" if attempt == 1 and len(build.host.log) <= 3 else None
    assert build.here().status == 0
    asked = Counter(exchange.prompt for exchange in build.host.log)
    for prompt in (prompt for prompt, count in asked.items() if count == 2):
        first, second = (exchange.seen for exchange in build.host.log if exchange.prompt == prompt)
        assert 2.0 <= second - first < 6.0
    assert len(asked) == 6
    assert asked.total() == 9


def test_a_retry_after_beyond_the_budget_ends_the_run_at_once(make_build: MakeBuild) -> None:
    build = make_build(3)
    build.host.retry_after, build.host.script = "3000", always("429")
    began = time.monotonic()
    ended = build.here("--retry-budget", "5")
    assert ended.status == 4
    assert "asks to wait for 3000 s" in ended.err
    assert time.monotonic() - began < 10
    build.host.script = no_faults
    assert build.resume_here().status == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2", 2), ("0.5", 0.5), ("-3", 0), ("1e9", 3600), ("nan", None), ("inf", None), ("soon", None), ("", None),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Oct 99999999999 12 24:00:00", None)],
)  # fmt: skip
def test_retry_after_is_read_whatever_a_host_writes(text: str, seconds: float | None) -> None:
    assert read_retry_after(text) == seconds


CAPS = ((64, 2.0), (16, 2.0), (128, 1e9))
"""What the host takes at once, and for how many seconds."""


def test_a_cap_that_moves(make_build: MakeBuild) -> None:
    """64, then 16, then 128: no row is lost or paid twice. How much time it costs is a benchmark's matter."""
    build = make_build(200)
    host = build.host
    host.latency = 1.0

    def move() -> None:
        wait_until(lambda: bool(host.log))
        for cap, seconds in CAPS:
            host.cap = cap
            time.sleep(min(seconds, 2.0))

    mover = threading.Thread(target=move)
    mover.start()
    ended = build.here("--concurrency", "128", "--retry-budget", "60")
    mover.join()
    assert (ended.status, rows(ended)["accepted"], is_quiet(ended)) == (0, 200, True)
    assert set(host.answered.values()) == {1}
    assert sum(exchange.fault == "429" for exchange in host.log) < 400, "refusals don't come in floods"


# -- answers that can't be used ------------------------------------------------------------------------------------


def test_unusable_answers_are_sampled_again_up_to_attempts_and_kept(make_build: MakeBuild) -> None:
    build = make_build(3)
    build.host.script = always("unparsable")
    ended = build.here("--attempts", "4")
    assert (ended.status, rows(ended)["rejected"]) == (0, 3)
    assert responses(build.folder) == {"200": 12}
    with journal(build.folder) as db:
        assert db.execute("SELECT count(*) FROM request").fetchone() == (12,)
    assert build.resume_here().status == 0
    assert len(build.host.log) == 12, "a rejected row is not asked again"
    build.host.script = no_faults
    resumed = build.resume_here("--attempts", "5")
    assert (resumed.status, rows(resumed)["accepted"]) == (0, 3), "one more sample each"
    assert len(build.host.log) == 12 + 3 + 3


def test_a_truncated_answer_is_asked_again_with_twice_the_tokens(make_build: MakeBuild) -> None:
    build = make_build(1)
    build.host.script = at_first("length", 2)
    assert build.here("--max-tokens", "100").status == 0
    assert [exchange.sampling["max_tokens"] for exchange in build.host.log] == [100, 200, 200, 100, 200, 200]


def test_a_censored_answer_rejects_its_row(make_build: MakeBuild) -> None:
    build = make_build(6)
    some = {exchange.prompt for exchange in probe(build)[:2]}
    build.host.script = lambda prompt, _attempt: "filter" if prompt in some else None
    ended = build.here()
    assert (ended.status, rows(ended)) == (0, {"read": 6, "accepted": 4, "rejected": 2, "owed": 0})
    assert "2 × refused-by-host: finish_reason" in ended.out


def probe(build: Build) -> list[Exchange]:
    """The inversions that a build asks for, by building it elsewhere."""
    assert Build(build.host, build.source, build.folder.with_name("probe")).here("--concurrency", "1").status == 0
    found, build.host.log = build.host.log, []
    build.host.attempts.clear()
    firsts = [exchange for exchange in found if exchange.stage == "invert"]
    assert len({exchange.prompt for exchange in firsts}) == len(found) // 2
    return firsts


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "advice"), [("401", "key"), ("402", "add credit"), ("403", "key"), ("404", "--model")])
def test_a_refusal_of_the_account_stops_the_run(fault: str, advice: str, make_build: MakeBuild) -> None:
    build = make_build(40)
    build.host.script = lambda _prompt, _attempt: fault if len(build.host.log) > 20 else None
    ended = build.here("--concurrency", "4")
    assert (ended.status, is_quiet(ended)) == (4, True)
    assert f"answered {fault}" in ended.err
    assert advice in ended.err
    assert "--resume" in ended.err
    assert len(build.host.log) <= 28, "nothing more is sent"
    before = paid(build.folder).total()
    build.host.script = no_faults
    resumed = build.resume_here()
    assert (resumed.status, rows(resumed)["accepted"]) == (0, 40)
    assert paid(build.folder).total() == 80
    assert before >= 18
    assert set(build.host.answered.values()) == {1}


def test_a_refusal_stops_the_run_at_once(host: FakeHost, tmp_path: Path) -> None:
    """Not only when the other direction of the refused row has been answered."""
    source = tmp_path / "qa.jsonl"
    source.write_text("".join(f'{{"question": "What is {n} + {n}?", "answer": "{2 * n}"}}\n' for n in range(40)))
    host.latency, host.script = 1.5, lambda _prompt, _attempt: "402" if host.log[-1].stage == "invert" else None
    ended = Build(host, source, tmp_path / "r1k").here("--concurrency", "8")
    assert ended.status == 4
    refused = next(exchange.seen for exchange in host.log if exchange.fault)
    assert not [exchange for exchange in host.log if exchange.seen > refused + 1]


def test_an_empty_account_in_the_body_of_a_200_stops_the_run_too(make_build: MakeBuild) -> None:
    """As OpenRouter says it."""
    build = make_build(40)
    build.host.script = lambda _prompt, _attempt: "error-402" if len(build.host.log) > 20 else None
    ended = build.here("--concurrency", "4", "--retry-budget", "5")
    assert ended.status == 4, ended
    assert "add credit" in ended.err
    assert len(build.host.log) <= 28


@pytest.mark.parametrize("concurrency", [1, 64])
def test_nothing_but_400_stops_the_run_and_rejects_no_row(concurrency: int, make_build: MakeBuild) -> None:
    """The settings are wrong, not the rows; and they stay unrejected however often that is tried."""
    build = make_build(12)
    build.host.script = always("400")
    words = ("--concurrency", str(concurrency))
    for ended in (build.here(*words), build.resume_here(*words), build.resume_here(*words)):
        assert (ended.status, is_quiet(ended)) == (4, True), ended
        assert "refused the first 5 requests with 400" in ended.err or concurrency > 5
        assert "--model" in ended.err
    build.host.script = no_faults
    resumed = build.resume_here()
    assert (resumed.status, rows(resumed)["accepted"]) == (0, 12), resumed


@pytest.mark.parametrize("fault", ["400", "422", "413", "error-400"])
def test_a_repeated_refusal_of_one_request_rejects_its_row_alone(fault: str, make_build: MakeBuild) -> None:
    build = make_build(10)
    bad = probe(build)[7].prompt
    build.host.script = lambda prompt, _attempt: fault if prompt == bad else None
    ended = build.here("--concurrency", "2")
    assert (ended.status, rows(ended)) == (0, {"read": 10, "accepted": 9, "rejected": 1, "owed": 0}), ended
    assert "1 × refused-by-host" in ended.out
    assert sum(exchange.prompt == bad for exchange in build.host.log) == 2
    seen = len(build.host.log)
    assert build.resume_here().status == 0
    assert len(build.host.log) == seen
    assert run_here("export", str(build.folder)).status == 0


def test_a_single_400_does_not_reject(make_build: MakeBuild) -> None:
    build = make_build(10)
    bad = probe(build)[7].prompt
    build.host.script = lambda prompt, attempt: "400" if prompt == bad and attempt == 1 else None
    ended = build.here("--concurrency", "2")
    assert (ended.status, rows(ended)["accepted"]) == (0, 10)


# -- no connection -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_drops_at_first_do_not_hang_up_on_answers_under_way(make_build: MakeBuild) -> None:
    """Half of the requests are cut after 11 s, the others are answered after 12: the host is slow, not unreachable."""
    build = make_build(20)
    build.host.latency = 11.0

    def script(_prompt: str, _attempt: int) -> str | None:
        if len(build.host.log) > 20:
            build.host.latency = 0.0
            return None
        return "cut" if len(build.host.log) % 2 else "slow"

    build.host.script = script
    ended = build.here("--concurrency", "20", "--grace", "1")
    assert ended.status == 0, ended
    assert responses(build.folder) == {"cut": 10, "200": 40}


def test_a_host_that_goes_away_and_comes_back(questions: Callable[..., Path], tmp_path: Path) -> None:
    """Within the retry budget nobody need do a thing."""
    with serve(FakeHost(latency=0.1)) as host:
        build = Build(host, questions(60), tmp_path / "r1k")
        process = build.start("--concurrency", "8", "--retry-budget", "30")
        wait_until(lambda: len(host.log) > 30)
    port = int(host.url.split(":")[2].split("/")[0])
    time.sleep(1)
    with serve(FakeHost(), port) as again:
        ended = process.end(60)
    assert (ended.status, rows(ended)["accepted"], is_quiet(ended)) == (0, 60, True)
    assert len(again.log) > 0


# -- money ---------------------------------------------------------------------------------------------------------


def billed(log: list[Exchange], prompt: int, completion: int, cached: int) -> Decimal:
    """Dollars that a host asks for what it has generated, at prices per million tokens."""
    total = 0
    for usage in (exchange.usage for exchange in log if exchange.usage):
        hit = usage["prompt_cache_hit_tokens"]
        total += (usage["prompt_tokens"] - hit) * prompt + hit * cached + usage["completion_tokens"] * completion
    return Decimal(total) / 10**6


@pytest.mark.parametrize("faults", [(), ("cut", "500", "length", "unparsable", "junk", "empty", "resource")])
def test_a_budget_is_never_passed(faults: tuple[str, ...], make_build: MakeBuild) -> None:
    build = make_build(60)
    build.host.script, build.host.latency = random_faults(0.05, faults), 0.02
    ended = build.here("--concurrency", "16", "--price", "100,1000,10", "--max-tokens", "150", "--max-cost", "5")
    assert (ended.status, is_quiet(ended)) == (5, True), ended
    assert "--max-cost" in ended.err
    cost = billed(build.host.log, 100, 1000, 10)
    assert 4 < cost <= 5
    build.host.script = no_faults
    ended = build.resume_here("--max-cost", "7")
    assert ended.status == 5
    assert cost < billed(build.host.log, 100, 1000, 10) <= 7
    ended = build.resume_here("--max-cost", "100")
    assert (ended.status, rows(ended)["owed"]) == (0, 0)
    if not faults:
        assert set(build.host.answered.values()) == {1}
        assert f"${billed(build.host.log, 100, 1000, 10):.2f}" in ended.out


def test_a_budget_counts_what_a_kill_cut_off(make_build: MakeBuild) -> None:
    """What was in flight may have been billed: it counts at its worst until the end."""
    build = make_build(60)
    build.host.latency = 0.3
    process = build.start("--concurrency", "8", "--price", "100,1000", "--max-tokens", "150", "--max-cost", "5")
    wait_until(lambda: len(build.host.log) > 8)
    process.signal(9)
    process.end()
    build.host.latency = 0.0
    assert build.resume_here().status == 5
    assert billed(build.host.log, 100, 1000, 100) <= 5


def test_a_budget_without_a_price(make_build: MakeBuild) -> None:
    build = make_build(2)
    ended = build.here("--max-cost", "5")
    assert (ended.status, "--price" in ended.err, build.host.log) == (2, True, [])
    ended = build.here("--max-cost", "5", "--price", "1,1", "--max-tokens", "none")
    assert (ended.status, "--max-tokens" in ended.err, build.host.log) == (2, True, [])


# -- one answer, many rows -----------------------------------------------------------------------------------------


def test_rows_that_ask_the_same_share_one_answer(host: FakeHost, tmp_path: Path) -> None:
    """Two solutions to one question, without reasoning: the forward request is one and the same."""
    source = tmp_path / "qa.jsonl"
    source.write_text("".join(f'{{"question": "What is 1 + 1?", "answer": "{n}"}}\n' for n in range(8)))
    host.latency = 0.2
    build = Build(host, source, tmp_path / "r1k")
    ended = build.here()
    assert (ended.status, rows(ended)["accepted"]) == (0, 8)
    assert set(host.answered.values()) == {1}, "an answer is paid for once"


# -- the key -------------------------------------------------------------------------------------------------------

KEY = "sk-or-v1/0123456789+abcdef=="


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "PHP's": lambda text: text.replace("/", "\\/"),
    ".NET's": lambda text: text.replace("+", "\\u002B"),
    "all escaped": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
    "in a URL": lambda text: quote_plus(text),
}
"""How a host may write a key that it echoes."""
FAULTS = ["401", "400", "500", "error", "cut"]
ECHOED = [
    *((fault, "as it is") for fault in FAULTS),
    *((fault, spelling) for fault in ("401", "error") for spelling in SPELLINGS),
]


def places(key: str, folder: Path) -> list[str]:
    """The files under `folder` that hold `key`, plainly or as a host may write it."""
    spellings = [key.split("/")[1].encode(), *(spell(key).encode() for spell in SPELLINGS.values())]
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in files if any(spelling in path.read_bytes() for spelling in spellings)]


@pytest.mark.parametrize(("fault", "spelling"), dict.fromkeys(ECHOED))
def test_the_key_shows_nowhere_when_the_host_echoes_it_in_errors(
    fault: str, spelling: str, make_build: MakeBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    build = make_build(20)
    build.host.spell = SPELLINGS[spelling]
    build.host.script = lambda prompt, _attempt: fault if int(prompt, 16) % 3 == 0 else None
    ended = build.here("--key-variable", "MY_KEY", "--retry-budget", "1", "--concurrency", "3")
    assert {exchange.key for exchange in build.host.log} == {f"Bearer {KEY}"}
    assert any(exchange.fault for exchange in build.host.log)
    assert ended.status in (0, 3, 4)
    assert places(KEY, build.folder) == []
    assert KEY not in ended.out + ended.err


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_key_shows_nowhere_when_answers_hold_it(
    spelling: str, make_build: MakeBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the dataset either, nor in the requests made from an answer; and what is exported was what was asked."""
    monkeypatch.setenv("MY_KEY", KEY)
    build = make_build(5)
    build.host.echo, build.host.spell = True, SPELLINGS[spelling]
    ended = build.here("--key-variable", "MY_KEY")
    assert (ended.status, rows(ended)["accepted"]) == (0, 5), ended
    assert places(KEY, build.folder) == []
    assert KEY not in ended.out + ended.err
    whole = parquet(build.folder)
    assert run_here("export", str(build.folder)).status == 0
    assert parquet(build.folder) == whole


@pytest.mark.parametrize("key", ["sk-verysecret123456789", KEY])
def test_a_key_is_found_however_it_is_written(key: str) -> None:
    secret = Secret(key)
    for spell in SPELLINGS.values():
        for depth in range(3):
            said = '{"error": "' + spell(key) + ' is wrong"}'
            for _ in range(depth):
                said = json.dumps({"error": said})
            found = secret.without(f"{said} {spell(key)} 5 \\u00b0".encode())
            assert found.count(b"[key]") == 2
            assert spell(key).encode() not in found
    other = f"{key[:-1]} is not it: \\u0041 \\/ %2B &#43;".encode()
    assert secret.without(other) == other


def test_the_key_shows_nowhere_while_a_build_runs(make_build: MakeBuild) -> None:
    build = make_build(5)
    build.host.script = always("hang")
    process = build.start("--key-variable", "MY_KEY", MY_KEY=KEY)
    wait_until(lambda: len(build.host.log) == 5)
    time.sleep(0.2)
    assert places(KEY, build.folder) == []
    assert KEY.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    process.signal(9)
    process.end()
    assert places(KEY, build.folder) == []


@pytest.mark.parametrize("key", ["ключ", "two\nlines", "two words", "“quoted”", '"quoted"', "back\\slash"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(
    key: str, make_build: MakeBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", key)
    ended = make_build(2).here("--key-variable", "MY_KEY")
    assert ended.status == (0 if key == "two words" else 2), ended  # which a header can hold
    assert is_quiet(ended)
    assert key not in ended.out + ended.err


def test_a_missing_key_stops_before_a_request(make_build: MakeBuild) -> None:
    build = make_build(2)
    ended = build.here("--key-variable", "MY_KEY")
    assert (ended.status, "MY_KEY" in ended.err, build.host.log) == (2, True, [])


# -- what is no fault of the request's -----------------------------------------------------------------------------


def test_the_retry_budget_counts_no_waiting_for_a_slot(make_build: MakeBuild) -> None:
    """One slot, and each answer takes a third of the budget: the last request queues for many times of it, then fails once."""
    build = make_build(6)
    build.host.latency = 0.4
    build.host.script = at_first("500")
    ended = build.here("--retry-budget", "1.2", "--concurrency", "1")
    assert (ended.status, rows(ended)["accepted"]) == (0, 6), ended


def test_a_row_that_the_host_refuses_is_rejected_by_a_build_that_has_answers(
    host: FakeHost, questions: Callable[..., Path], tmp_path: Path
) -> None:
    """Though nothing else is asked in the run that meets it."""
    source = questions(4)
    assert Build(host, source, tmp_path / "r1k").here("--limit", "3").status == 0
    host.script = always("400")
    ended = run_here("--resume", "--limit", "4", "--output", str(tmp_path / "r1k"))
    assert (ended.status, rows(ended)) == (0, {"read": 4, "accepted": 3, "rejected": 1, "owed": 0}), ended
    assert "refused-by-host" in ended.out


def test_other_sampling_that_the_host_refuses_stops_the_run_and_rejects_no_row(make_build: MakeBuild) -> None:
    """Answers of the old settings say nothing of the new ones."""
    build = make_build(6)
    assert build.here().status == 0
    build.host.script = always("400")
    ended = build.resume_here("--temperature", "1.9", "--accept-drift")
    assert ended.status == 4, ended
    assert "check --model and the sampling options" in ended.err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://127.0.0.1/v1", "is no http:// or https:// URL"),
        ("127.0.0.1:8000", "is no http:// or https:// URL"),
        ("http:///v1", "is no http:// or https:// URL"),
        ("http://user:sesame-opens@127.0.0.1:8000/v1", "holds a user name or password"),
        ("http://127.0.0.1:8000/v1?key=sesame-opens", "has a query or a fragment"),
    ],
)
def test_a_base_url_that_is_none_is_refused_at_once_and_not_repeated(
    url: str, said: str, questions: Callable[..., Path], tmp_path: Path
) -> None:
    for option in ("--base-url", "--judge-base-url"):
        judge = ["--judge", "m", "--base-url", "http://127.0.0.1:9/v1"] if "judge" in option else []
        words = ["--source", str(questions(1)), "--model", "m", "--output", str(tmp_path / "r1k"), *judge, option, url]
        ended = run_here(*words)
        assert (ended.status, is_quiet(ended)) == (2, True), ended
        assert said in ended.err
        assert "sesame" not in ended.err
        assert not (tmp_path / "r1k").exists()


def test_a_dry_run_of_overwriting_counts_nothing_as_paid(make_build: MakeBuild) -> None:
    build = make_build(3)
    assert build.here().status == 0
    assert "requests to make: 0" in build.resume_here("--dry-run").out
    anew = build.here("--overwrite", "--dry-run").out
    assert "already paid: 0" in anew
    assert "requests to make: 6" in anew


def test_another_preset_forgets_the_old_host(make_build: MakeBuild) -> None:
    build = make_build(3)
    assert build.here("--price", "1,2").status == 0
    said = build.resume_here("--teacher", "fireworks", "--dry-run").out
    assert build.host.url not in said.split("asked of:")[1].splitlines()[0]
    assert "teacher.price: none" in said
