"""The checker: equal and unequal spellings, hostile expressions, and what it may never do."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("math_verify", reason="pip install '.[eval]'")

from r1k_train.checker import LONGEST, Checker, first_equal, majority
from r1k_train.spelling import same_text

FILES = {file.stem: file for file in sorted((Path(__file__).parent / "spellings").glob("*.jsonl"))}
ROWS = {name: [json.loads(line) for line in file.read_text().splitlines()] for name, file in FILES.items()}
SPELLINGS = [row for rows in ROWS.values() for row in rows]


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    with Checker() as running:
        yield running


def wrong(rows: list[dict[str, Any]], checker: Checker) -> list[dict[str, Any]]:
    return [row for row in rows if (checker.compare(row["gold"], row["answer"]) == "equal") != row["equal"]]


def test_the_spellings_are_many_and_diverse() -> None:
    assert len({(row["gold"], row["answer"]) for row in SPELLINGS}) == len(SPELLINGS) >= 300
    assert len({row["kind"] for row in SPELLINGS}) >= 30
    assert all(0.4 < sum(row["equal"] for row in rows) / len(rows) < 0.6 for rows in ROWS.values())
    assert {f"{name}.jsonl" for name in ROWS} <= set((Path(__file__).parent / "spellings" / "README.md").read_text().split("`"))


def test_every_eighth_spelling(checker: Checker) -> None:
    few = SPELLINGS[::8]
    assert len(wrong(few, checker)) <= 0.03 * len(few)


def test_a_gold_equals_itself(checker: Checker) -> None:
    for gold in {row["gold"] for row in SPELLINGS}:
        assert checker.compare(gold, gold) == "equal"
        assert same_text(gold, f"${gold}$"), gold


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_all_spellings_and_never_below_math_verify_alone(name: str, checker: Checker) -> None:
    from math_verify import parse, verify

    def alone(row: dict[str, str]) -> bool:
        sides = (parse(f"\\boxed{{{row[side]}}}", parsing_timeout=None) for side in ("gold", "answer"))
        return bool(verify(*sides, timeout_seconds=None))

    ours = wrong(ROWS[name], checker)
    assert len(ours) <= 0.03 * len(ROWS[name]), ours
    assert len(ours) <= sum(alone(row) != row["equal"] for row in ROWS[name])


@pytest.mark.parametrize(
    "hostile",
    ["9^{9^{9^{9^{9}}}}", "(((1+x)^{999})^{999})^{999}", r"\sum_{i=1}^{10^{12}} \frac{1}{i^2}", "123456789^{987654321}"],
)
def test_hostile_expressions_end(hostile: str) -> None:
    with Checker(seconds=2) as checker:
        began = time.monotonic()
        assert checker.compare("7", hostile) in ("different", "unreadable")
        assert time.monotonic() - began < 60  # bounded at all, not fast
        assert checker.compare("1/2", "0.5") == "equal"  # a worker that had to be killed is replaced


def test_text_is_data(checker: Checker) -> None:
    for text in ("__import__('os').system('true')", "{0.__class__}", "%s%n", "\x00", "\ud800", "}{", "\\", "\\frac{", "\n\n"):
        assert checker.compare("7", text) != "equal"
    assert checker.compare("7", "7" * (LONGEST + 1)) == "unreadable"
    assert checker.compare("7", "") == "unreadable"


@pytest.mark.parametrize("part", [r"\text{m}^2 ", "A, ", "m/", "1,000,", r"[1,2) \cup ", "one hundred and ", r"\text{"])
def test_long_repetitions_are_read_in_time(part: str, checker: Checker) -> None:
    assert checker.compare("7", "5 " + part * 40 + "!") == "different"  # not given up as unreadable


def test_unreadable_is_not_different(checker: Checker) -> None:
    assert checker.compare("7", r"\text{I am not sure}") == "unreadable"
    assert checker.compare("7", "8") == "different"


def test_majority_counts_values_not_spellings(checker: Checker) -> None:
    answers = ["3", "0.5", None, r"\frac12", "1/2", "3.0"]
    groups = first_equal(answers, checker)
    assert groups == [0, 1, -1, 1, 1, 0]
    assert majority(groups) == 1
    assert majority([-1, -1]) is None
    assert majority([0, 1, 1, 0]) == 0  # the earlier one
