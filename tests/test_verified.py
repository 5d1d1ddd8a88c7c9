"""What is asked for more evidence, counted at the wire: fresh inversions, verified rows, samples, the way back, a judge."""

import json
import math
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from r1k_builder.reviews import ReviewLog, row_digest
from tests.command import Build, Ended, journal, paid, parquet, rows, run_here, wait_until
from tests.fake_host import FakeHost, Say, serve
from tests.shop import FORWARD, Shop, write_source

MakeShop = Callable[..., Build]


@pytest.fixture
def make_shop(host: FakeHost, tmp_path: Path) -> MakeShop:
    """Makes a build of n rows, at a host that says what `say` does."""

    def make(count: int, say: Say | None = None, name: str = "r1k") -> Build:
        host.say = say or Shop().say
        return Build(host, write_source(tmp_path / "shop.jsonl", count), tmp_path / name)

    return make


@pytest.fixture
def judge() -> Iterator[FakeHost]:
    """Another host, for the judge."""
    with serve(FakeHost(say=Shop().say)) as running:
        yield running


def here(build: Build, *options: str) -> Ended:
    return build.here("--benchmarks", "none", *options)


def table(folder: Path, configuration: str = "reverse") -> list[dict[str, Any]]:
    paths = sorted((folder / configuration).glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def asked(host: FakeHost, since: int = 0) -> Counter[str]:
    """Requests by stage."""
    return Counter(exchange.stage for exchange in host.log[since:])


def statuses(folder: Path, check: str) -> Counter[str]:
    return Counter(row["verdict"][check]["status"] for row in table(folder))


def is_likely(count: int, trials: int, chance: float) -> bool:
    """Whether `count` lies within four standard deviations of a binomial's mean: 1 draw in 16,000 does not."""
    return abs(count - trials * chance) <= 4 * math.sqrt(trials * chance * (1 - chance))


# -- --until-verified ----------------------------------------------------------------------------------------------


def test_until_verified_yields_and_costs_what_arithmetic_predicts(make_shop: MakeShop) -> None:
    """A teacher that inverts properly at .45, asked up to 5 times: 1 - .55^5 of the rows, at 1 + .55 + … + .55^4 inversions."""
    count, proper, most = 200, 0.45, 5
    build = make_shop(count, Shop(rate=proper).say)
    ended = here(build, "--until-verified", str(most))
    assert ended.status == 0, ended
    assert rows(ended) == {"read": count, "accepted": count, "rejected": 0, "owed": 0}, "what is not verified is kept, too"
    verified, fails = len(table(build.folder, "reverse-verified")), 1 - proper
    assert is_likely(verified, count, 1 - fails**most)
    inversions = asked(build.host)["invert"]
    mean = sum(fails**n for n in range(most))
    spread = math.sqrt(sum((2 * n + 1) * fails**n for n in range(most)) - mean**2)
    assert abs(inversions - count * mean) <= 4 * spread * math.sqrt(count)
    assert asked(build.host)["solve"] == inversions, "each asks another question"
    attempts = table(build.folder, "attempts")
    assert len(attempts) == inversions - count, "each that was replaced is kept"
    assert {row["check"] for row in attempts} == {"agreement"}
    assert all(row["verdict"]["agreement"]["status"] == "fail" and row["text"] for row in attempts)
    assert len({row["id"] for row in attempts}) == len(attempts)
    manifest = json.loads((build.folder / ".build" / "manifest.json").read_text())
    assert manifest["steps"]["invert"]["requests"] == inversions
    assert sum(manifest["replaced"].values()) == len(attempts)


def test_more_inversions_are_asked_of_the_rows_that_fail_alone(make_shop: MakeShop) -> None:
    build = make_shop(60, Shop(rate=0.4).say)
    assert here(build).status == 0
    failing, since = 60 - len(table(build.folder, "reverse-verified")), len(build.host.log)
    assert failing > 10
    assert build.resume_here("--until-verified", "2").status == 0
    assert asked(build.host, since) == {"invert": failing, "solve": failing}
    since = len(build.host.log)
    assert build.resume_here("--until-verified", "1").status == 0
    assert len(build.host.log) == since
    assert not (build.folder / "attempts").exists()


def test_of_inversions_that_all_fail_the_best_is_kept(make_shop: MakeShop) -> None:
    """One that fails a check before one that can't be read."""
    shop = Shop(rate=0.0)

    def say(prompt: str, attempt: int) -> str | None:
        said = shop.say(prompt, attempt)
        if said is None or not said.startswith("New Question"):
            return said
        return "I would rather not." if attempt == 1 else said

    build = make_shop(1, say)
    assert here(build, "--until-verified", "2", "--attempts", "1").status == 0
    (kept,) = table(build.folder)
    (turned_down,) = table(build.folder, "attempts")
    assert kept["question"].startswith("On day 2")
    assert (turned_down["id"], turned_down["check"], turned_down["text"]) == (
        f"{kept['id']}-1",
        "format",
        "I would rather not.",
    )
    assert turned_down["question"] is None


# -- --accepted ----------------------------------------------------------------------------------------------------


def by_prompt(shop: Shop) -> Say:
    """What `shop` says at the first attempt, however often it is asked: then the rows do not depend on the run."""
    return lambda prompt, _attempt: shop.say(prompt, 1)


def test_accepted_is_the_prefix_up_to_the_nth_verified_row_at_any_concurrency(make_shop: MakeShop) -> None:
    say, made = by_prompt(Shop(rate=0.45)), []
    for concurrency in (1, 7, 64):
        build = make_shop(200, say, f"r1k-{concurrency}")
        build.host.latency = 0.002 * (concurrency > 1)
        since = len(build.host.log)
        ended = here(build, "--accepted", "30", "--concurrency", str(concurrency))
        assert ended.status == 0, ended
        verified, reverse = table(build.folder, "reverse-verified"), table(build.folder)
        assert len(verified) == 30
        assert verified[-1]["id"] == reverse[-1]["id"], "the last row is the one that makes them thirty"
        assert len(reverse) == rows(ended)["read"] == rows(ended)["accepted"]
        assert asked(build.host, since)["invert"] <= len(reverse) + 30, "little more is asked than is needed"
        made.append(parquet(build.folder))
    assert made[0] == made[1] == made[2]


def test_raising_accepted_goes_on_where_it_ended(make_shop: MakeShop) -> None:
    say = by_prompt(Shop(rate=0.5))
    build = make_shop(200, say)
    assert here(build, "--accepted", "10").status == 0
    small = parquet(build.folder)
    assert build.resume_here("--accepted", "25").status == 0
    assert len(table(build.folder, "reverse-verified")) == 25
    assert set(paid(build.folder).values()) == {1}, "nothing is asked twice"
    whole = parquet(build.folder)
    since = len(build.host.log)
    assert build.resume_here().status == 0
    assert build.resume_here("--accepted", "10").status == 0
    assert parquet(build.folder) == small
    assert len(build.host.log) == since
    assert run_here("export", str(build.folder)).status == 0
    twin = make_shop(200, say, "twin")
    assert here(twin, "--accepted", "25").status == 0
    assert parquet(twin.folder) == whole


def test_a_row_that_a_reviewer_rejects_is_replaced(make_shop: MakeShop) -> None:
    build = make_shop(200, by_prompt(Shop(rate=0.5)))
    assert here(build, "--accepted", "10").status == 0
    before = table(build.folder, "reverse-verified")
    turned_down = before[3]
    row = row_digest(*(turned_down[name] for name in ("pair_id", "question", "reasoning", "answer")))
    with ReviewLog(build.folder / ".build", "anna") as log:
        log.put(turned_down["pair_id"], row, "correct", "no")
    ended = build.resume_here()
    assert ended.status == 0, ended
    after = [found["id"] for found in table(build.folder, "reverse-verified")]
    assert after[:9] == [found["id"] for found in before if found != turned_down]
    assert len(after) == 10


def test_a_source_that_ends_before_enough_rows_are_verified(make_shop: MakeShop) -> None:
    build = make_shop(30, by_prompt(Shop(rate=0.5)))
    ended = here(build, "--accepted", "40")
    verified = len(table(build.folder, "reverse-verified"))
    assert ended.status == 3
    assert f"{40 - verified} verified rows fewer than --accepted: the source has no more rows" in ended.out
    assert rows(ended) == {"read": 30, "accepted": 30, "rejected": 0, "owed": 0}
    assert len(asked(build.host)) == 2


def test_a_source_is_read_on_as_far_as_it_takes(make_shop: MakeShop) -> None:
    """One row in 100 can be inverted: more rows are needed than are read ahead."""
    shop = Shop()

    def say(prompt: str, attempt: int) -> str | None:
        found = FORWARD.search(prompt)
        return "I would rather not." if found and int(found[1]) % 100 else shop.say(prompt, attempt)

    build = make_shop(800, say)
    ended = here(build, "--accepted", "3", "--attempts", "1")
    assert ended.status == 0, ended
    assert [row["question"].split()[3] for row in table(build.folder)] == ["200", "300", "400"]
    assert rows(ended) == {"read": 300, "accepted": 3, "rejected": 297, "owed": 0}
    with journal(build.folder) as db:
        assert db.execute("SELECT count(*) FROM source").fetchone() == (512,)


def test_an_endless_source_needs_no_limit(tmp_path: Path) -> None:
    words = ["--source", "embedded", "--teacher", "embedded", "--tokenizer", "none", "--output", str(tmp_path / "r1k")]
    ended = run_here(*words, "--accepted", "50", "--concurrency", "32")
    assert ended.status == 0, ended
    assert len(table(tmp_path / "r1k", "reverse-verified")) == 50


def test_kills_on_the_way_to_a_quota_change_nothing(make_shop: MakeShop) -> None:
    say, draw = by_prompt(Shop(rate=0.45)), random.Random(3)
    build = make_shop(150, say)
    build.host.latency = 0.05
    for number in range(5):
        since = len(build.host.log)
        process = build.resume() if number else build.start("--benchmarks", "none", "--accepted", "40", "--concurrency", "6")
        wait_until(lambda since=since: len(build.host.log) > since)  # type: ignore[misc]
        time.sleep(draw.uniform(0, 0.3))
        process.signal(signal.SIGKILL)
        process.end()
    build.host.latency = 0.0
    ended = build.resume_here()
    assert ended.status == 0, ended
    assert len(table(build.folder, "reverse-verified")) == 40
    assert set(paid(build.folder).values()) == {1}
    twin = make_shop(150, say, "twin")
    assert here(twin, "--accepted", "40").status == 0
    assert parquet(twin.folder) == parquet(build.folder)


def test_a_row_that_stays_owed_holds_nothing_up(make_shop: MakeShop) -> None:
    """It counts as not verified; the next resume may move the end of the dataset."""
    build = make_shop(60, by_prompt(Shop()))
    stuck = {"prompt": ""}

    def script(prompt: str, _attempt: int) -> str | None:
        stuck["prompt"] = stuck["prompt"] or prompt
        return "500" if prompt == stuck["prompt"] else None

    build.host.script = script
    ended = here(build, "--accepted", "20", "--retry-budget", "0.5", "--concurrency", "4")
    assert ended.status == 3
    assert rows(ended) == {"read": 21, "accepted": 20, "rejected": 0, "owed": 1}
    build.host.script = lambda _prompt, _attempt: None
    ended = build.resume_here()
    assert (ended.status, rows(ended)) == (0, {"read": 20, "accepted": 20, "rejected": 0, "owed": 0})


# -- samples, the way back, a judge --------------------------------------------------------------------------------


def test_a_resume_asks_for_what_is_new_alone(make_shop: MakeShop, judge: FakeHost) -> None:
    """Raised samples, then a judge, then the way back, then less of it all."""
    build = make_shop(8)
    assert here(build).status == 0
    plain = parquet(build.folder)
    assert asked(build.host) == {"invert": 8, "solve": 8}
    since = len(build.host.log)
    assert build.resume_here("--samples", "3").status == 0
    assert asked(build.host, since) == {"solve": 16}
    assert statuses(build.folder, "consistency") == {"pass": 8}
    since = len(build.host.log)
    more = build.resume_here("--samples", "4", "--judge", "j", "--judge-base-url", judge.url)
    assert more.status == 0, more
    assert asked(build.host, since) == {"solve": 8}
    assert asked(judge) == {"judge": 16}
    for check in ("judge_reversed", "judge_answerable", "judge_correct", "judge_leak"):
        assert statuses(build.folder, check) == {"pass": 8}
    since = len(build.host.log)
    assert build.resume_here("--cycle").status == 0
    assert asked(build.host, since) == {"cycle": 8}
    assert statuses(build.folder, "cycle") == {"pass": 8}
    since = len(build.host.log)
    assert build.resume_here("--samples", "1", "--judge", "none", "--no-cycle").status == 0
    assert parquet(build.folder) == plain
    assert (len(build.host.log), len(judge.log)) == (since, 16)


def test_the_solution_that_most_agree_on_is_kept(make_shop: MakeShop) -> None:
    """The first sample is wrong, the others are not."""
    build = make_shop(4)
    shop = Shop()

    def say(prompt: str, attempt: int) -> str | None:
        said = shop.say(prompt, attempt)
        wrong = said is not None and said.startswith("Each melon") and attempt == 1
        return "Each melon costs \\boxed{7} dollars." if wrong else said

    build.host.say = say
    assert here(build, "--samples", "3").status == 0
    for row in table(build.folder):
        assert row["final_answer"] == row["reference_answer"] != "7"
        assert row["verdict"]["consistency"] == {"status": "pass", "reason": f"2 of 3 solutions say {row['final_answer']}"}
    assert build.resume_here("--samples", "1").status == 0
    assert {row["final_answer"] for row in table(build.folder)} == {"7"}


def test_a_way_back_that_does_not_lead_back_is_no_defect(make_shop: MakeShop) -> None:
    build = make_shop(3)
    shop = Shop()
    build.host.say = lambda prompt, attempt: "It is \\boxed{5}." if "[?]" in prompt else shop.say(prompt, attempt)
    assert here(build, "--cycle").status == 0
    assert statuses(build.folder, "cycle") == {"unknown": 3}
    assert "5 came back" in table(build.folder)[0]["verdict"]["cycle"]["reason"]
    assert len(table(build.folder, "reverse-verified")) == 3


def test_a_judge_of_another_opinion_is_shown_both_answers(make_shop: MakeShop, judge: FakeHost) -> None:
    """Its own answer is wrong; shown both, it finds the row's right. Then the row's is wrong, and it says so."""
    build = make_shop(3)
    judge.say = Shop(off=1).say
    words = ("--judge", "j", "--judge-base-url", judge.url)
    assert here(build, *words).status == 0
    assert asked(judge) == {"judge": 9}
    assert statuses(build.folder, "judge_correct") == {"pass": 3}
    wrong = make_shop(3, Shop(wrong=1.0).say, "wrong")
    judge.say = Shop().say
    assert here(wrong, *words).status == 0
    assert statuses(wrong.folder, "judge_correct") == {"fail": 3}
    assert not (wrong.folder / "reverse-verified").exists()


def test_a_row_that_the_judge_fails_is_inverted_afresh(make_shop: MakeShop, judge: FakeHost) -> None:
    build = make_shop(4)
    shop, seen = Shop(), Counter[str]()

    def say(prompt: str, attempt: int) -> str | None:
        if "A problem was turned round" not in prompt:
            return shop.say(prompt, attempt)
        seen["relation"] += 1
        return json.dumps({"reversed": "no" if "On day" not in prompt else "yes", "leaks": "no"})

    judge.say = say
    build.host.say = lambda prompt, attempt: Shop(rate=2.0 - attempt).say(prompt, attempt)
    words = ("--judge", "j", "--judge-base-url", judge.url, "--until-verified", "2")
    ended = here(build, *words)
    assert ended.status == 0, ended
    assert asked(build.host)["invert"] == 8
    assert {row["check"] for row in table(build.folder, "attempts")} <= {"judge_reversed", "agreement"}
    assert len(table(build.folder, "attempts")) == 4


HOSTILE = {
    "huge": '{"reversed": "yes", "pad": "' + "x" * 200_000 + '"}',
    "deep": "[" * 30_000 + "]" * 30_000,
    "nested": '{"a":' * 4_000 + "1" + "}" * 4_000,
    "types": '{"reversed": ["yes"], "leaks": {"a": 1}, "answerable": 7, "verdicts": "A", "final_answer": [1]}',
    "format": "{} {0} {reversed!r:>{width}} %s %(x)s ${reversed}",
    "empty": "{}",
    "null": '{"reversed": null, "leaks": null, "answerable": null, "verdicts": {}}',
    "number": '{"final_answer": 1e999999, "answerable": "yes!"}',
    "prose": "I would say that yes, it is reversed.",
    "surrogate": '{"reversed": "\\ud800", "leaks": "\\udfff", "answerable": "\\ud800"}',
    "html": "<script>alert(1)</script>{{7*7}}",
    "nul": '{"reversed": "yes\u0000", "leaks": "\u0000", "answerable": "\u0000"}',
}


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_verdict_is_unknown(reply: str, make_shop: MakeShop, judge: FakeHost) -> None:
    build = make_shop(1)
    judge.say = lambda _prompt, _attempt: reply
    ended = here(build, "--judge", "j", "--judge-base-url", judge.url)
    assert ended.status == 0, ended
    for check in ("judge_reversed", "judge_answerable", "judge_correct", "judge_leak"):
        assert statuses(build.folder, check) == {"unknown": 1}, check
    assert len(table(build.folder, "reverse-verified")) == 1, "no verdict is held against a row"


# -- settings, money, keys -----------------------------------------------------------------------------------------


def test_another_template_or_judge_is_drift(make_shop: MakeShop, judge: FakeHost) -> None:
    build = make_shop(3)
    assert here(build, "--judge", "j", "--judge-base-url", judge.url).status == 0
    ended = build.resume_here("--templates", "strict")
    assert ended.status == 2
    assert "template 1: paper-invert-" in ended.err
    assert "-> strict-invert-" in ended.err
    ended = build.resume_here("--judge", "other")
    assert ended.status == 2
    assert "judge: j (judge-" in ended.err
    assert "6 requests" in ended.err
    since = len(judge.log)
    assert build.resume_here("--judge", "other", "--accept-drift").status == 0
    assert len(judge.log) == since + 6


def test_the_judge_has_its_own_key_price_and_place_in_the_budget(
    make_shop: MakeShop, judge: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = make_shop(5)
    monkeypatch.setenv("MY_JUDGE_API_KEY", "sk-judge-secret-0123")
    monkeypatch.setenv("MY_TEACHER_API_KEY", "sk-teacher-secret-0123")
    words = ("--judge", "j", "--judge-base-url", judge.url, "--judge-key-variable", "MY_JUDGE_API_KEY")
    keyed = (*words, "--key-variable", "MY_TEACHER_API_KEY", "--price", "1,2")
    ended = here(build, *keyed, "--max-cost", "10")
    assert ended.status == 2
    assert "--judge-price" in ended.err
    ended = here(build, *keyed, "--max-cost", "10", "--judge-price", "3,4", "--judge-max-tokens", "1000")
    assert ended.status == 0, ended
    assert {exchange.key for exchange in judge.log} == {"Bearer sk-judge-secret-0123"}
    assert {exchange.key for exchange in build.host.log} == {"Bearer sk-teacher-secret-0123"}
    manifest = json.loads((build.folder / ".build" / "manifest.json").read_text())
    spent = {stage: float(step["dollars"]) for stage, step in manifest["steps"].items()}
    usage = [exchange.usage for exchange in judge.log]
    assert spent["judge"] == pytest.approx(sum(3 * u["prompt_tokens"] + 4 * u["completion_tokens"] for u in usage) / 1e6)
    assert float(manifest["cost"]["dollars"]) == pytest.approx(sum(spent.values()))
    assert "judgements: 10 answered" in ended.out
    assert "| judge | 10 |" in (build.folder / "README.md").read_text()
    assert "secret" not in "".join(path.read_text("utf-8", "replace") for path in build.folder.rglob("*") if path.is_file())
    assert "judgements: 10 answered" in run_here("status", str(build.folder)).out


def test_books_that_a_crash_has_lost_are_made_again_at_each_models_price(make_shop: MakeShop, judge: FakeHost) -> None:
    build = make_shop(4)
    words = ("--price", "1,2", "--judge", "j", "--judge-base-url", judge.url, "--judge-price", "30,40")
    assert here(build, *words).status == 0
    manifest = build.folder / ".build" / "manifest.json"
    before = json.loads(manifest.read_text())["steps"]
    with closing(sqlite3.connect(build.folder / ".build" / "journal.sqlite")) as db, db:
        db.execute("DELETE FROM ledger")
    assert build.resume_here().status == 0
    assert json.loads(manifest.read_text())["steps"] == before
    assert float(before["judge"]["dollars"]) > float(before["solve"]["dollars"])


def test_an_unknown_price_of_the_judge_is_unknown(make_shop: MakeShop, judge: FakeHost) -> None:
    build = make_shop(2)
    ended = here(build, "--price", "1,2", "--judge", "j", "--judge-base-url", judge.url)
    assert ended.status == 0
    assert "judgements: 4 answered" in ended.out
    assert "cost unknown" in ended.out
    manifest = json.loads((build.folder / ".build" / "manifest.json").read_text())
    assert manifest["cost"]["dollars"] is None
    assert manifest["steps"]["judge"]["dollars"] is None
    assert manifest["steps"]["solve"]["dollars"] is not None


def test_a_dry_run_counts_every_step(make_shop: MakeShop, judge: FakeHost) -> None:
    build = make_shop(4)
    words = (
        "--samples",
        "3",
        "--cycle",
        "--judge",
        "j",
        "--judge-base-url",
        judge.url,
        "--price",
        "1,1",
        "--judge-price",
        "1,1",
    )
    ended = here(build, "--dry-run", *words)
    assert "requests to make: 28 (4 inversions, 12 solutions, 4 ways back, 8 judgements)" in ended.out, ended
    assert "expected cost: about $" in ended.out
    assert here(build, *words).status == 0
    assert asked(build.host) + asked(judge) == {"invert": 4, "solve": 12, "cycle": 4, "judge": 8}
    again = run_here("--dry-run", "--output", str(build.folder))
    assert "requests to make: 0 " in again.out
    assert "requests already paid: 28" in again.out
    more = run_here("--dry-run", "--output", str(build.folder), "--samples", "5")
    assert "requests to make: 8 (0 inversions, 8 solutions)" in more.out


def test_a_judge_that_refuses_stops_the_run_by_its_own_options(make_shop: MakeShop, judge: FakeHost) -> None:
    """What the teacher has answered is kept; the judge, put right, is asked for what is owed."""
    build = make_shop(6)
    judge.script = lambda _prompt, _attempt: "404"
    ended = here(build, "--judge", "j", "--judge-base-url", judge.url)
    assert ended.status == 4
    assert "check --judge-base-url and --judge (j)" in ended.err
    judge.script = lambda _prompt, _attempt: None
    assert build.resume_here().status == 0
    assert set(paid(build.folder).values()) == {1}
    assert statuses(build.folder, "judge_correct") == {"pass": 6}


def test_a_judge_that_is_full_does_not_slow_the_teacher_down(make_shop: MakeShop, judge: FakeHost) -> None:
    """Each host has slots of its own."""
    build = make_shop(40)
    judge.cap, judge.latency, build.host.latency = 2, 0.02, 0.02
    ended = here(build, "--judge", "j", "--judge-base-url", judge.url, "--concurrency", "16")
    assert ended.status == 0, ended
    assert build.host.most_in_flight > 8
    assert set(paid(build.folder).values()) == {1}


def test_the_embedded_solver_is_no_judge(tmp_path: Path) -> None:
    words = ("--source", "embedded", "--teacher", "embedded", "--judge", "m", "--output", str(tmp_path / "r1k"))
    ended = run_here(*words)
    assert ended.status == 2
    assert "--judge-base-url" in ended.err
