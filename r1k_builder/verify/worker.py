"""The process that compares formulas by math-verify: a script, started by `mathematics.py` alone.

It says "ready", reads pairs of formulas as JSON lines, and answers each with a line: same, different or unknown. Each pair is
compared by a child of its own, forked from a process that has imported everything and compared the examples below, so that
no verdict depends on the pairs before it. A child is bounded in processor time and memory, and can't write a file.

Formulas are hostile: only math-verify's parser of LaTeX is used; its reader of plain expressions has Python evaluate them.
"""

import json
import logging
import math
import os
import resource
import signal
import sys
from collections.abc import Iterable
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, Expr, FiniteSet, Interval, MatrixBase, Rational, Tuple

MOST_BYTES = 1_000_000_000
"""Address space of one comparison, 150 MB of which is there before it."""

NEAR = 1 / 200
"""`answer.NEAR`: numbers that differ by less may differ by rounding."""
EQUAL = 1e-6
"""Formulas whose values differ by less, relative to the larger, are not told apart."""

SAME, DIFFERENT, UNKNOWN = 80, 81, 82
"""Exit statuses of a child."""
NAMES = {SAME: "same", DIFFERENT: "different"}

LATEX = [LatexExtractionConfig()]

WARMING = (
    (r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}"), (r"\sin^2 x+\cos^2 x", "1"), (r"(0,1]\cup\{2,3\}", "[0,1)"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&x\\3&5\end{bmatrix}"), ("y=2x", "2x-y=0"),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt6}"), ("x>3", "x<4"), (r"e^{x}\ln 2", r"e^{2x} \log_3 x"), ("1,2", "2,3"),
    (r"\binom{n}{2}", "n!"),
)  # fmt: skip
"""Fills caches and imports what is imported late, which makes a comparison several times quicker."""


def compare(one: str, other: str) -> int:
    """SAME as math-verify finds, whichever is taken for the key; DIFFERENT by their values; else UNKNOWN."""
    a, b = read(one), read(other)
    if a is None or b is None:
        return UNKNOWN
    if verify(a, b, timeout_seconds=None) and verify(b, a, timeout_seconds=None):
        return SAME
    return DIFFERENT if apart(a, b) else UNKNOWN


def read(formula: str) -> Any:
    """A formula as a sympy object; None where it can't be parsed."""
    found = parse(f"${formula}$", LATEX, fallback_mode="no_fallback", parsing_timeout=None)
    return next((part for part in found if isinstance(part, (Basic, MatrixBase))), None)


def apart(a: Any, b: Any) -> bool:
    """Whether two objects of one kind differ in their values. What can't be simplified to the same need not differ."""
    if isinstance(a, MatrixBase) and isinstance(b, MatrixBase):
        return bool(a.shape == b.shape) and any(map(apart, a, b))
    if isinstance(a, Tuple) and isinstance(b, Tuple):
        return len(a) == len(b) and any(map(apart, a, b))
    if isinstance(a, Interval) and isinstance(b, Interval):
        return any(map(apart, a.args[:2], b.args[:2]))
    if isinstance(a, FiniteSet) and isinstance(b, FiniteSet):
        return len(a) == len(b) and (_has_stranger(a, b) or _has_stranger(b, a))
    return isinstance(a, Expr) and isinstance(b, Expr) and _differ(a, b)


def _has_stranger(items: Iterable[Any], others: Iterable[Any]) -> bool:
    """Whether one of `items` differs from all of `others`."""
    return any(all(apart(item, other) for other in others) for item in items)


def _differ(a: Any, b: Any) -> bool:
    """Numbers, with room for rounding; formulas of the same symbols, where these stand for numbers, at two points."""
    names = sorted({symbol.name for symbol in a.free_symbols})
    if names != sorted({symbol.name for symbol in b.free_symbols}):
        return False
    for first in (3, 5) if names else (0,):
        numbers = {name: Rational(first + 7 * place, 2 * place + 3) for place, name in enumerate(names)}
        one, other = (complex(x.subs({symbol: numbers[symbol.name] for symbol in x.free_symbols}).evalf()) for x in (a, b))
        size = max(abs(one), abs(other))
        if not math.isfinite(size) or abs(one - other) <= (EQUAL if names else NEAR) * size:
            return False
    return True


def bounded(one: str, other: str, seconds: int) -> int:
    """The exit status of a child that compares, for `seconds` of processor time at most.

    Any but SAME and DIFFERENT means unknown: -9 where it was killed, say."""
    child = os.fork()
    if child == 0:
        status = UNKNOWN
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
            status = compare(one, other)
        except BaseException:  # noqa: BLE001, S110  # whatever a formula brings about: recursion, want of memory, a bug of sympy's
            pass
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    seconds = int(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable()  # it warns that its own timeouts are off
    for pair in WARMING:
        compare(*pair)
    try:
        print(f"ready: sympy {sympy.__version__}", flush=True)  # noqa: T201  # the answers to the parent
    except BrokenPipeError:  # it has ended meanwhile
        os._exit(0)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    for line in sys.stdin.buffer:
        one, other = json.loads(line)
        print(NAMES.get(bounded(one, other, seconds), "unknown"), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
