"""Does a final answer equal the reference? `equality` in a worker that is killed when its time is over.

SymPy can take hours over a hostile expression and math-verify's own limit is `signal.alarm`, which works in a main thread
only. So each comparison runs in a process of its own, which speaks JSON lines, one a question.
"""

import itertools
import json
import os
import resource
import selectors
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from r1k_train.equality import Verdict, compare
from r1k_train.spelling import same_text

SECONDS = 10.0
"""One comparison's limit; every one of MATH-500's takes under 0.1 s."""
LONGEST = 2_000
"""Characters: a final answer beyond that is no final answer, and is not parsed."""
MEMORY = 4 << 30
"""Bytes of address space for a worker."""


class Checker:
    """One worker process, started when it is first asked; use it as a context manager."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def compare(self, gold: str, answer: str) -> Verdict:
        """Equal or different in value; unreadable where the answer has no value, or comparing it takes too long."""
        if not answer.strip() or len(answer) > LONGEST:
            return "unreadable"
        if same_text(gold, answer):
            return "equal"
        for _ in range(2):  # the worker may have died of the question before, or of nothing to do with it
            reply = self._ask({"gold": gold, "answer": answer})
            if reply in ("equal", "different", "unreadable"):
                return reply  # type: ignore[return-value]
            if reply == "timeout":
                return "unreadable"
        return "unreadable"

    def _ask(self, question: dict[str, str]) -> str:
        if self._process is None:
            self._process = _start()
        asked, told = self._process.stdin, self._process.stdout
        if asked is None or told is None:
            return "dead"
        try:
            asked.write(json.dumps(question).encode() + b"\n")
            asked.flush()
        except BrokenPipeError:
            self.close()
            return "dead"
        with selectors.DefaultSelector() as ready:
            ready.register(told, selectors.EVENT_READ)
            answered = ready.select(self._seconds)
        if not answered:
            self.close()
            return "timeout"
        line = told.readline()
        if not line:
            self.close()
            return "dead"
        verdict: str = json.loads(line)
        return verdict


def _start() -> subprocess.Popen[bytes]:
    """A worker that has imported SymPy: only what it is asked afterwards counts against its time."""
    above = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (above, os.environ.get("PYTHONPATH"))))}
    process = subprocess.Popen(  # this interpreter, this module
        [sys.executable, "-m", "r1k_train.checker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    if process.stdout is None or process.stdout.readline() != b"ready\n":
        process.kill()
        process.communicate()
        raise RuntimeError("the checker's worker did not start: pip install 'r1k[eval]' brings math-verify")
    return process


def main() -> None:
    """The worker: questions on standard input, verdicts on standard output."""
    import logging

    import math_verify  # noqa: F401  # SymPy is what takes long to import

    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        question = json.loads(line)
        sys.stdout.write(json.dumps(compare(question["gold"], question["answer"])) + "\n")
        sys.stdout.flush()


# -- k samples ----------------------------------------------------------------------------------------------------


def first_equal(answers: list[str | None], checker: Checker) -> list[int]:
    """For each answer the index of the first that equals it: what maj@k counts; -1 for what could not be read."""
    groups: list[int] = []
    for place, answer in enumerate(answers):
        if answer is None:
            groups.append(-1)
            continue
        earlier = ((other, answers[other]) for other in range(place) if groups[other] == other)
        same = (other for other, text in earlier if text is not None and checker.compare(text, answer) == "equal")
        groups.append(next(same, place))
    return groups


def majority(groups: list[int]) -> int | None:
    """The index of the first answer of the largest group, the earlier one where two are as large."""
    counts = [(-len(list(same)), group) for group, same in itertools.groupby(sorted(group for group in groups if group >= 0))]
    return min(counts)[1] if counts else None


if __name__ == "__main__":
    main()
