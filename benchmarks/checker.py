"""How often the checker is right: `python benchmarks/checker.py [--math500 FILE] [--spellings FILE ...] [--wrong]`.

The spellings are those of tests/spellings, where a README says when each file was written and what it was used for.
Beside it stand math-verify alone and string equality as lm-eval's `hendrycks_math500` has it. FILE is MATH-500 as JSON
lines with `solution` and `answer`: each solution is a response and each answer the gold; then each solution meets golds
of other problems whose value differs from its own.
"""

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lm_eval.tasks.hendrycks_math.utils import is_equiv
from math_verify import parse, verify

from r1k_train.checker import Checker
from r1k_train.reading import final_answer

SPELLINGS = sorted((Path(__file__).parents[1] / "tests" / "spellings").glob("*.jsonl"))
Judge = Callable[[str, str], bool]


def math_verify_alone(gold: str, answer: str) -> bool:
    """math-verify as its README uses it, on both sides in a box."""
    ours, theirs = (parse(f"\\boxed{{{text}}}") for text in (gold, answer))
    return bool(verify(ours, theirs))


def string_equality(gold: str, answer: str) -> bool:
    return bool(is_equiv(gold, answer))


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def spellings(path: Path, judges: dict[str, Judge], show: bool) -> None:
    rows = rows_of(path)
    print(f"{path.name}: {len(rows)} pairs, {sum(bool(row['equal']) for row in rows)} equal")
    for name, judge in judges.items():
        wrong = [row for row in rows if judge(row["gold"], row["answer"]) is not bool(row["equal"])]
        refused = sum(bool(row["equal"]) for row in wrong)
        right = 1 - len(wrong) / len(rows)
        print(f"  {name:18} {right:6.1%} right; {refused} equal refused, {len(wrong) - refused} unequal accepted")
        if show and name == "r1k":
            print("".join(f"    {row}\n" for row in wrong), end="")


def math500(path: Path, judges: dict[str, Judge], show: bool, wrong_golds: int = 2) -> None:
    rows = rows_of(path)
    draw = random.Random(0)
    others = [(row, draw.choice(rows)["answer"]) for row in rows for _ in range(wrong_golds)]
    others += [(row, _one_off(row["answer"])) for row in rows]
    unequal = [(row, gold) for row, gold in others if not _same_value(row["answer"], gold)]
    print(f"{path.name}: {len(rows)} solutions, {len(unequal)} wrong golds")
    for name, judge in judges.items():
        began = time.perf_counter()
        refused = [row for row in rows if not judge(row["answer"], _stated(row["solution"]))]
        seconds = time.perf_counter() - began
        accepted = [(gold, row["answer"]) for row, gold in unequal if judge(gold, _stated(row["solution"]))]
        share = 1 - len(refused) / len(rows)
        print(f"  {name:18} {share:6.1%} accepted, {len(accepted) / len(unequal):6.2%} of wrong golds, {seconds:.1f} s")
        if show and name == "r1k":
            print(
                *[f"    refused {row['answer']} {_stated(row['solution'])}" for row in refused],
                *[f"    accepted {pair}" for pair in accepted],
                sep="\n",
            )


def _one_off(answer: str) -> str:
    """The answer with its last digit raised by one."""
    return re.sub(r"\d(?=\D*$)", lambda digit: str((int(digit[0]) + 1) % 10), answer)


def _stated(solution: str) -> str:
    return final_answer(solution) or ""


def _same_value(one: str, other: str) -> bool:
    """String equality or math-verify, in either order, takes one for the other: such a pair is no wrong gold."""
    pairs = ((one, other), (other, one))
    return any(string_equality(*pair) or math_verify_alone(*pair) for pair in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--math500", type=Path, metavar="FILE")
    parser.add_argument("--spellings", type=Path, metavar="FILE", nargs="+", default=SPELLINGS)
    parser.add_argument("--wrong", action="store_true", help="list what the checker gets wrong")
    given = parser.parse_args()
    with Checker() as checker:
        judges: dict[str, Judge] = {
            "r1k": lambda gold, answer: checker.compare(gold, answer) == "equal",
            "math-verify": math_verify_alone,
            "string equality": string_equality,
        }
        for file in given.spellings:
            spellings(file, judges, given.wrong)
        if given.math500:
            math500(given.math500, judges, given.wrong)
    return 0


if __name__ == "__main__":
    sys.exit(main())
