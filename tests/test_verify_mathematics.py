"""Formulas compared by math-verify in a process of its own: what is asked of it, what it says, and its bounds."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1k_builder.errors import LocalError
from r1k_builder.schema import ForwardExample, ReverseQuestion, Solution
from r1k_builder.verify import mathematics as mathematics_module
from r1k_builder.verify.answer import same_answer
from r1k_builder.verify.inverse import Pair, check_reversed
from r1k_builder.verify.mathematics import Mathematics, _formula
from r1k_builder.verify.response import check_agreement
from tests.command import wait_until


@pytest.fixture(scope="module")
def mathematics() -> Iterator[Mathematics]:
    with Mathematics() as running:
        yield running


COMPARED = [
    (r"x \in", "5", None),
    (r"(0,1) \cup (2,3)", r"(2,3)\cup(0,1)", True),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", True),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&5\end{bmatrix}", False),
    ("y = 2x + 1", "2x - y + 1 = 0", True),
    (r"|x-1|", r"|1-x|", True),
    (r"\log_2 8", "3", True),
    (r"\log_2 8", "4", False),
    (r"\binom{10}{3}", "120", True),
    ("x<5", "x<6", None),  # two relations that it can't bring together may still be one
    (r"2\pi r", r"2\pi R", None),
    (r"\log_2 r", r"\log_2 R", None),
    ("1,2,\\ldots,n", "1,2,n", None),
    ("y'+y=0", "y=-y'", None),
    ("x = \\log_2 8", "y = \\log_2 8", None),
    (r"5", r"x \equiv 5 \pmod{7}", None),
]


@pytest.mark.parametrize(("one", "other", "same"), COMPARED)
def test_formulas(mathematics: Mathematics, one: str, other: str, same: bool | None) -> None:
    assert mathematics.same_answer(one, other) is same
    assert mathematics.same_answer(other, one) is same


def test_words_are_never_compared_as_products_of_letters(mathematics: Mathematics) -> None:
    assert same_answer("GOATHERDS", "GREAT DOSH") is False
    for one, other in (
        ("GOATHERDS + 1", "GREAT DOSH + 1"),
        ("an old rat + 1", "a tranold + 1"),
        (r"\text{live}^2", r"\text{evil}^2"),
    ):
        assert _formula(one) == _formula(other) == ""
        assert mathematics.same_answer(one, other) is None
    assert _formula("CH_3CH_2OH + 2") == ""


def test_what_is_read_by_type_starts_no_process() -> None:
    with Mathematics() as idle:
        assert idle.same_answer("0.5", r"\frac{1}{2}") is True
        assert idle.same_answer("17 m", "18 m") is False
        assert idle.same_answer("x = 5", "y = 5") is None
        assert idle.same_answer("He would rather walk.", "She ran.") is None
        assert idle._process is None


def test_checks_take_formulas_in(mathematics: Mathematics) -> None:
    source = ForwardExample(question="Where is the square of x - 2 more than 1?", solution=r"\boxed{x<1 \text{ or } x>3}")
    asked = ReverseQuestion("Which set is it where a number is below 1 or above 3?", r"\boxed{(-\infty,1)\cup(3,\infty)}")
    answer = r"It is \boxed{(3,\infty) \cup (-\infty, 1)}."
    solved = Solution("So it is.", answer, r"(3,\infty) \cup (-\infty, 1)")
    assert check_agreement(Pair(source, asked, solved)).status == "unknown"
    assert check_agreement(Pair(source, asked, solved, mathematics.same_answer)).status == "pass"
    again = ForwardExample(question="Where is the square of x - 2 more than 1?", solution=r"\boxed{(-\infty,1)\cup(3,\infty)}")
    unknown_again = check_reversed(Pair(again, asked, solved, mathematics.same_answer), copied=False)
    assert unknown_again.status == "fail"
    assert "the same unknown again" in (unknown_again.reason or "")


# ----------------------------------------------------------------------------------------------------------- out of bounds

BOMBS = [
    "9^{9^{9^9}}", "9^9^9^9", "(9^9)^(9^9)", "100000000!", "((10!)!)!", r"\binom{10^9}{10^8}", "2^{99999999}", "1" * 250,
    "(" * 100 + "x" + ")" * 100, r"\frac{" * 40 + "x" + "}{2}" * 40, r"\sqrt{" * 60 + "2" + "}" * 60,
    "x^{" * 90 + "2" + "}" * 90, r"\sum_{k=1}^{10^{12}} \frac{1}{k}", r"\int_0^1 e^{x^2}\sin(x^3) dx",
    r"__import__('os').system('touch /tmp/executed')",
    r"\write18{touch executed}", r"\input{/etc/passwd}", "{0.__class__}", "%s%n", "\x00", "$" * 300, "{" * 300, "\\" * 299,
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_known_bombs_are_screened_by_their_size(bomb: str) -> None:
    with Mathematics() as idle:
        assert idle.same_answer(bomb, r"\log_2 8") is None
        assert idle._process is None


RUNAWAYS = ["9^{9^{9^9}}", "100000000!", r"\binom{10^9}{10^8}", "(" * 100 + "x" + ")" * 100, "x^{" * 90 + "2" + "}" * 90]


def test_what_slips_through_is_killed_and_the_next_pair_compared() -> None:
    """The screen left out: the worker's own bounds in processor time and memory."""
    with Mathematics(seconds=1) as bounded:
        for bomb in RUNAWAYS:
            assert bounded._ask(bomb, "x + 1") is None, bomb
        process = bounded._process
        assert bounded.same_answer(r"\log_2 8", "3") is True
        assert bounded._process is process, "the bombs have killed children alone"


def test_nothing_that_is_parsed_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    with Mathematics(seconds=5) as bounded:
        for code in (
            f"__import__('os').mkdir('{mark}')",
            f"[].__class__.__base__ or open('{mark}','w')",
            f"\\write18{{touch {mark}}}",
        ):
            assert bounded._ask(code, "x") is not True
    assert not mark.exists()


def test_a_killed_process_gives_unknown_and_is_started_again() -> None:
    with Mathematics(seconds=60) as bounded:
        assert bounded.same_answer(r"\log_2 8", "3") is True
        first = bounded._process
        assert first is not None
        kill = threading.Timer(0.3, os.killpg, (first.pid, signal.SIGKILL))
        kill.start()
        assert bounded._ask("9^{9^{9^9}}", "1") is None
        kill.join()
        assert bounded.same_answer(r"\log_2 16", "4") is True
        assert bounded._process is not first


def test_it_ends_with_its_parent() -> None:
    """Its standard input is the parent's: closed, however the parent ends, it ends too."""
    bounded = Mathematics()
    assert bounded.same_answer(r"\log_2 8", "3") is True
    process = bounded._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    wait_until(lambda: process.poll() == 0)
    bounded.close()
    assert process.stdout is not None
    assert process.stdout.closed


# ----------------------------------------------------------------------------------------------------- its start and end


def test_a_process_that_is_killed_as_it_starts_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(mathematics_module, "__file__", str(tmp_path / "mathematics.py"))
    with Mathematics() as killed, pytest.raises(LocalError, match=r"killed by signal 9.*--resume"):
        killed.same_answer(r"\log_2 8", "3")


def test_a_process_whose_parent_has_ended_says_nothing() -> None:
    worker = Path(mathematics_module.__file__).with_name("worker.py")
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-P", str(worker), "1"], stdout=write, stderr=subprocess.PIPE, check=True)
    os.close(write)
    assert ended.stderr == b""
