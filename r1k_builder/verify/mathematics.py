"""Formulas that the typed comparison can't read, compared by math-verify in a process of its own, bounded from outside.

math-verify reads products of letters into words and finds GOATHERDS = GREAT DOSH; it drops case, primes and dots, and 2πr is
2πR to it. So it is asked of mathematics alone: of formulas that are made of the signs below and say nothing in words.
"""

import json
import os
import re
import select
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Self

from r1k_builder.errors import LocalError
from r1k_builder.verify.answer import named, read_answer, same_answer, undelimited
from r1k_builder.verify.arithmetic import GREEK

MOST_CHARACTERS = 300
MOST_DEPTH = 8
"""Brackets in brackets: a parser's time grows fast with them."""
MOST_SECONDS = 10
"""Processor time of one comparison; a real one takes some hundredths of a second, so no verdict depends on the machine."""
ENDING = 1.0
"""Seconds that a process which says nothing more is given to end by itself."""
MOST_WAITING = 300.0
"""Seconds for an answer, whatever the load: a process that says nothing for so long is stuck."""


class Mathematics:
    """`same_answer`, with formulas compared too. Its process starts with the first of them, in about a second."""

    def __init__(self, seconds: int = MOST_SECONDS) -> None:
        """`seconds` of processor time for one comparison."""
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._compare = lru_cache(maxsize=4096)(self._ask)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def same_answer(self, one: str, other: str) -> bool | None:
        """By type where both can be read so, else as mathematics. Symmetrical; the same whatever was compared before."""
        same = same_answer(one, other)
        if same is not None or (read_answer(one) is not None and read_answer(other) is not None):
            return same
        names = {name for name in (named(one), named(other)) if name}
        formulas = sorted([_formula(one), _formula(other)])
        if len(names) > 1 or not all(formulas) or _differ_in_case(*formulas):
            return None
        return self._compare(*formulas)

    def close(self) -> None:
        """End the process; a later comparison starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # with the child that compares
        with process:
            pass

    def _ask(self, one: str, other: str) -> bool | None:
        process = self._process = self._process or _start(self._seconds)
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([one, other]).encode() + b"\n")  # type: ignore[union-attr]  # it is a pipe
            process.stdin.flush()  # type: ignore[union-attr]
        answer = _line(process)
        if not answer:  # killed, for want of memory perhaps, or silent
            self.close()
        return {b"same\n": True, b"different\n": False}.get(answer)


def _start(seconds: int) -> subprocess.Popen[bytes]:
    """The process, when it is ready. Raises LocalError where it was killed meanwhile, RuntimeError where it does not start, and
    has said why on stderr."""
    worker = Path(__file__).with_name("worker.py")
    process = subprocess.Popen(  # noqa: S603  # our own code
        [sys.executable, "-P", str(worker), str(seconds)],  # -P: the folder's modules are named like libraries
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # so that neither a Ctrl-C nor what is killed here reaches another's processes
        env={**os.environ, "PYTHONHASHSEED": "0"},  # sympy's paths depend on it
    )
    if not _line(process).startswith(b"ready"):
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING)
        status = process.poll()
        process.kill()
        with process:
            pass
        if status is not None and status < 0:
            raise LocalError(
                f"the process that compares formulas was killed by signal {-status}, for want of memory perhaps:"
                " type r1k-build --resume to go on (what is answered is not asked again)"
            )
        raise RuntimeError(f"math-verify's process has ended with status {process.returncode}")
    return process


def _line(process: subprocess.Popen[bytes]) -> bytes:
    """What it says next; nothing where it has ended, or says nothing for MOST_WAITING."""
    says = process.stdout
    assert says is not None  # noqa: S101  # it is a pipe
    ready, _, _ = select.select([says], [], [], MOST_WAITING)
    return says.readline() if ready else b""  # lines are written whole


# ---------------------------------------------------------------------------------------------------- what is mathematics

_PLAIN_TEXT = """
    pi frac dfrac tfrac cfrac sqrt cdot times div pm left right infty sin cos tan cot sec csc arcsin arccos arctan sinh cosh
    tanh ln log exp cup cap le leq ge geq lt gt ne neq binom displaystyle quad qquad
"""
_COMMANDS = frozenset(_PLAIN_TEXT.split()) | GREEK
"""What may stand behind a backslash: the commands that math-verify was seen to read right."""
_SIGNS = str.maketrans({
    "−": "-", "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "×": "\\times ", "·": "\\cdot ", "∪": "\\cup ",
})  # fmt: skip
_MATRIX = re.compile(r"\\(?:begin|end)\{[pbvBV]?matrix\}")
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_MADE_OF = re.compile(r"[A-Za-z0-9\s.,;:+*/=<>|!^_&(){}\[\]-]*+")
_TELLING = re.compile(r"[\d+*/=<>|^(\[-]|\\[A-Za-z]")
_WORD = re.compile(r"[A-Za-z]{3}")
_CHEMICAL = re.compile(r"[A-Z][a-z]?(?:_?\{?\d{1,4}\}?)?[A-Z]")
_HUGE = re.compile(
    r"""\d{41}                                                    # a number of so many digits
      | \^\s*\{?\s*-?\d{4}                                        # a power like x^1000
      | \d\s*[)}]*\s*\^\s*[({]*\s*\d+\s*[)}]*\s*\^                # a tower of numbers
      | (?:\d{4}|[)}\]!])\s*!                                     # a factorial of a large number, or of who knows what
      | \\binom\s*(?:\{[^{}]*\}\s*)?\{[^{}]*(?:\d{4}|\^)          # a choice among so many
      | \.\.""",
    re.VERBOSE,
)


@lru_cache(maxsize=2048)
def _formula(text: str) -> str:
    """A final answer as LaTeX that math-verify may be asked about; "" where it is anything else, or too much."""
    if len(text) > MOST_CHARACTERS:
        return ""
    formula = undelimited(text).translate(_SIGNS)
    commands = _COMMAND.findall(_MATRIX.sub(" ", formula))
    if any(len(command) > 1 and command not in _COMMANDS for command in commands):
        return ""
    letters = _COMMAND.sub(" ", _MATRIX.sub(" ", formula))
    if not _MADE_OF.fullmatch(letters) or not _TELLING.search(formula) or _WORD.search(letters) or _CHEMICAL.search(letters):
        return ""
    return "" if _HUGE.search(formula) or _depth(formula) > MOST_DEPTH else formula


def _depth(formula: str) -> int:
    depth = deepest = 0
    for sign in formula:
        depth += (sign in "({[") - (sign in ")}]")
        deepest = max(depth, deepest)
    return deepest


_SINGLE = re.compile(r"[A-Za-z]")


def _differ_in_case(one: str, other: str) -> bool:
    """Whether one has a letter that the other has in the other case alone: r and R are two things, and one to math-verify."""
    a, b = (set(_SINGLE.findall(_COMMAND.sub(" ", formula))) for formula in (one, other))
    return any(letter.swapcase() in b - a for letter in a - b)
