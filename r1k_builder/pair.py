"""Which rows go together: mixtures, preference pairs, the probe set.

Every choice is a function of the accepted pairs' ids, domains and lengths, not of the order in which answers came in; those of
`mixed-500` and `probe` not of the order of the source either, so that one with more rows changes no more than it must.
"""

import hashlib
import heapq
from bisect import insort
from collections.abc import Sequence
from typing import NamedTuple

SEED = 0
"""Of every draw in this file."""
MIXED_SIZE = 500
"""Pairs of `mixed-500`, the paper's D_0.5k."""
PROBE_SIZE = 50
"""Pairs of `probe` (the paper's section 3.2)."""

NO_PAIR = -1


class Couple(NamedTuple):
    """A forward and a reverse row that stand side by side: of one pair, or of two under `--control independent`.

    Lengths are all in one unit, tokens or characters."""

    forward: str
    """The pair_id of the forward row."""
    reverse: str
    domain: str
    forward_row: int
    """Length of the forward row: question + reasoning + answer."""
    forward_response: int
    """Length of the forward row's assistant turn."""
    reverse_response: int


def _draw(text: str) -> int:
    """A number that depends on SEED and `text` alone, uniform over 256 bits."""
    return int.from_bytes(hashlib.sha256(f"{SEED}:{text}".encode()).digest())


def turned(couples: Sequence[Couple]) -> list[int]:
    """For each couple's forward row, the couple whose reverse row shall stand beside it: another one of its domain.

    The domain's pair_ids in order, turned by a drawn number of places, so that each reverse row is used once and none meets
    its own forward row; a couple that is alone in its domain gets NO_PAIR."""
    chosen = [NO_PAIR] * len(couples)
    members: dict[str, list[int]] = {}
    for place, couple in enumerate(couples):
        members.setdefault(couple.domain, []).append(place)
    for domain, places in members.items():
        if len(places) > 1:
            places.sort(key=lambda place: couples[place].forward)
            turn = 1 + _draw(domain) % (len(places) - 1)
            for at, place in enumerate(places):
                chosen[place] = places[(at + turn) % len(places)]
    return chosen


def mixed_subset(couples: Sequence[Couple]) -> list[int]:
    """The places of the MIXED_SIZE whose pair_id draws lowest; all where there are fewer."""
    return sorted(heapq.nsmallest(MIXED_SIZE, range(len(couples)), key=lambda place: _draw(couples[place].forward)))


def probe_subset(couples: Sequence[Couple]) -> list[int]:
    """The places of the PROBE_SIZE with the shortest forward rows, ties by pair_id; all where there are fewer."""
    places = range(len(couples))
    return sorted(heapq.nsmallest(PROBE_SIZE, places, key=lambda place: (couples[place].forward_row, couples[place].forward)))


class Shortlist:
    """Tells of each couple, as it comes, whether it may still be in `mixed_subset` or `probe_subset` of all: so it is of a few
    thousand, whatever their number."""

    def __init__(self) -> None:
        self._drawn: list[tuple[int, str]] = []
        self._shortest: list[tuple[int, str]] = []

    def admits(self, couple: Couple) -> bool:
        drawn = _enters(self._drawn, MIXED_SIZE, (_draw(couple.forward), couple.forward))
        return _enters(self._shortest, PROBE_SIZE, (couple.forward_row, couple.forward)) or drawn


def _enters(least: list[tuple[int, str]], size: int, key: tuple[int, str]) -> bool:
    """Whether `key` is one of the `size` lowest so far, which `least` holds in order."""
    if len(least) == size and key >= least[-1]:
        return False
    insort(least, key)
    del least[size:]
    return True
