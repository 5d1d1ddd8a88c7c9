"""What a model writes when it is asked: right, nearly right, the other direction, another formula, or nothing coherent."""

import re
from typing import Literal

from r1k_train.study.rows import Item

Outcome = Literal["right", "near miss", "other direction", "other formula", "broken"]
OUTCOMES: tuple[Outcome, ...] = ("right", "near miss", "other direction", "other formula", "broken")

_EQUATION = re.compile(r"[^=\n\d]+=[^=\n]+")
_STEP = re.compile(r"-?[\d.]+[+\-×/]-?[\d.]+=-?[\d.]+")
_ANSWER = re.compile(r"(?P<number>-?\d+(?:\.\d+)?)(?P<unit>[^\d=\n].*)?")


def sort(text: str, own: Item, other: Item) -> Outcome:
    """What a response to `own`'s question is; `other` is its counterpart.

    `right`: the own equation, and the reference's number at the end. `near miss`: the own equation, another number.
    `other direction`: the counterpart's equation. `other formula`: another one. `broken`: not an equation, steps and an
    answer, each on a line.
    """
    lines = text.split("\n")
    well_made = (
        len(lines) > 2
        and _EQUATION.fullmatch(lines[0])
        and all(map(_STEP.fullmatch, lines[1:-1]))
        and _ANSWER.fullmatch(lines[-1])
    )
    if not well_made:
        return "broken"
    if lines[0] == own.equation:
        return "right" if _number(text) == _number(own.response) else "near miss"
    return "other direction" if lines[0] == other.equation else "other formula"


def solved(text: str, own: Item) -> bool:
    """Whether the last line's number is the reference's, however it was come by."""
    return (number := _number(text)) is not None and number == _number(own.response)


def _number(text: str) -> str | None:
    found = _ANSWER.fullmatch(text.rpartition("\n")[2])
    return found["number"] if found else None
