"""A simulated judge: it works the bank's problems out, knows what is planted in which question, and tells the truth of it in a
given share of its words. What a real model would find is not measured by it; what the builder makes of a judge's words is."""

import hashlib
import json
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from r1k_builder.embedded.solver import solve

_PART = re.compile(r"\[(?P<name>[a-zA-Z ]+) (?P<mark>[0-9a-f]{8})\]\n(?P<text>.*?)\n\[end of (?P=name) (?P=mark)\]", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:/\d+)?")
_BOX = re.compile(r"\\boxed\{([^{}]+)\}")

NOT_REVERSED = {"not reversed", "copy", "paraphrased copy", "swapped pair"}


class Judge:
    """Of questions by their text what is planted in them ("clean" for nothing); right in `accuracy` of its verdicts."""

    def __init__(self, faults: Mapping[str, str], accuracy: float) -> None:
        self._faults = faults
        self._accuracy = accuracy

    def reply(self, prompt: str) -> str | None:
        """The verdict as JSON; None for what no judge is asked."""
        texts = {found["name"]: found["text"] for found in _PART.finditer(prompt)}
        said: dict[str, Any]
        if "inverse" in texts:
            fault = self._faults.get(texts["inverse"].strip(), "clean")
            reversed_, leaks = fault not in NOT_REVERSED, fault == "answer leaked"
            said = {"reversed": self._word(prompt, "reversed", reversed_), "leaks": self._word(prompt, "leaks", leaks)}
        elif "answer A" in texts:
            truth = _worked_out(texts["problem"])
            right = {name[-1]: _value(text) == truth for name, text in texts.items() if name.startswith("answer ")}
            words = {True: "correct", False: "wrong"}
            verdicts = {letter: words[is_right == self._honest(prompt, letter)] for letter, is_right in right.items()}
            said = {"verdicts": verdicts}
        elif "problem" in texts:
            truth = _worked_out(texts["problem"])
            own = truth if truth is None or self._honest(prompt, "answer") else truth + 1
            said = {
                "answerable": self._word(prompt, "answerable", truth is not None),
                "final_answer": None if own is None else str(own),
            }
        else:
            return None
        return json.dumps(said)

    def _word(self, prompt: str, about: str, truth: bool) -> str:
        return "yes" if truth == self._honest(prompt, about) else "no"

    def _honest(self, prompt: str, about: str) -> bool:
        """The same at every request, so that the run does not matter."""
        return int.from_bytes(hashlib.sha256(f"{about}\n{prompt}".encode()).digest()[:4]) < self._accuracy * 2**32


def _worked_out(problem: str) -> Fraction | None:
    """What the bank's solver comes to; None for what is none of its problems."""
    boxed = _BOX.search(solve(problem).content)
    return None if boxed is None else _value(boxed[1])


def _value(text: str) -> Fraction | None:
    boxed = _BOX.findall(text)
    numbers = _NUMBER.findall(boxed[-1] if boxed else text)
    return Fraction(numbers[-1] if boxed else numbers[0]) if numbers else None
