"""Which rows go together: mixtures, preference pairs, the probe set.

Every choice is a function of the accepted pairs' ids, domains and lengths: not of the order in which answers came
in, and not of row numbers, so that a source with more rows changes no more than it must. Pairs are named here by
their position in a `PairIndex`, which is in source order.
"""

from __future__ import annotations  # array[int] is a type for checkers alone before Python 3.12

import hashlib
import heapq
from array import array
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

SEED = 0
"""Of every draw in this file."""
MIXED_SIZE = 500
"""Pairs of `mixed-500`, the paper's D_0.5k."""
PROBE_SIZE = 50
"""Pairs of `probe` (the paper's section 3.2)."""

NO_PAIR = -1


class PairIds:
    """Ids of 20 hex digits, in 10 bytes each."""

    def __init__(self) -> None:
        self._packed = bytearray()

    def __len__(self) -> int:
        return len(self._packed) // 10

    def __getitem__(self, position: int) -> str:
        return self._packed[10 * position : 10 * position + 10].hex()

    def append(self, pair_id: str) -> None:
        self._packed += bytes.fromhex(pair_id)


@dataclass
class PairIndex:
    """What the choices need to know of each accepted pair, in source order: about 30 bytes a pair.

    Lengths are all in one unit, tokens or characters."""

    pair_ids: PairIds = field(default_factory=PairIds)
    domains: list[str] = field(default_factory=list)
    forward_rows: array[int] = field(default_factory=lambda: array("I"))
    """Length of the forward row: question + reasoning + answer."""
    forward_responses: array[int] = field(default_factory=lambda: array("I"))
    """Length of the forward row's assistant turn."""
    reverse_responses: array[int] = field(default_factory=lambda: array("I"))
    """Length of the reverse row's assistant turn."""
    _names: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pair_ids)

    def append(self, pair_id: str, domain: str, *, forward_row: int, forward_response: int, reverse_response: int) -> None:
        self.pair_ids.append(pair_id)
        self.domains.append(self._names.setdefault(domain, domain))
        self.forward_rows.append(forward_row)
        self.forward_responses.append(forward_response)
        self.reverse_responses.append(reverse_response)


def _draw(text: str) -> int:
    """A number that depends on SEED and `text` alone, uniform over 256 bits."""
    return int.from_bytes(hashlib.sha256(f"{SEED}:{text}".encode()).digest())


def partners(index: PairIndex, control: Literal["none", "independent"]) -> array[int]:
    """For each pair's forward row, the pair whose reverse row stands beside it.

    Without control its own. With `independent` another's of its domain: the domain's pair_ids in order, turned by a
    drawn number of places, so that each reverse row is used once and none meets its own forward row; a pair that is
    alone in its domain gets NO_PAIR."""
    if control == "none":
        return array("i", range(len(index)))
    members: dict[str, list[int]] = {}
    for position, domain in enumerate(index.domains):
        members.setdefault(domain, []).append(position)
    chosen = array("i", [NO_PAIR]) * len(index)
    for domain, positions in members.items():
        if len(positions) > 1:
            positions.sort(key=index.pair_ids.__getitem__)
            turn = 1 + _draw(domain) % (len(positions) - 1)
            for place, position in enumerate(positions):
                chosen[position] = positions[(place + turn) % len(positions)]
    return chosen


def mixed_subset(index: PairIndex, positions: Iterable[int]) -> frozenset[int]:
    """The MIXED_SIZE of `positions` whose pair_id draws lowest; all where there are fewer."""
    return frozenset(heapq.nsmallest(MIXED_SIZE, positions, key=lambda position: _draw(index.pair_ids[position])))


def probe_subset(index: PairIndex, positions: Iterable[int]) -> frozenset[int]:
    """The PROBE_SIZE of `positions` with the shortest forward rows, ties by pair_id; all where there are fewer."""
    return frozenset(
        heapq.nsmallest(PROBE_SIZE, positions, key=lambda position: (index.forward_rows[position], index.pair_ids[position]))
    )


class Shortlist:
    """Tells of each pair, as it comes, whether it may still be in `mixed_subset` or `probe_subset` of any that hold all
    that came: so it is of a few thousand, whatever the number of pairs."""

    def __init__(self) -> None:
        self._drawn: list[tuple[int, str]] = []
        self._shortest: list[tuple[int, str]] = []

    def admits(self, pair_id: str, forward_row: int) -> bool:
        drawn = _enters(self._drawn, MIXED_SIZE, (_draw(pair_id), pair_id))
        return _enters(self._shortest, PROBE_SIZE, (forward_row, pair_id)) or drawn


def _enters(least: list[tuple[int, str]], size: int, key: tuple[int, str]) -> bool:
    """Whether `key` is one of the `size` lowest so far, which `least` holds in order."""
    if len(least) == size and key >= least[-1]:
        return False
    insort(least, key)
    del least[size:]
    return True
