"""`preference-control`: the pairs of `preference` with another pair's response rejected, and no other difference.

That response is of the same direction and domain and the nearest in length. It is looked for among a thousand couples that
stand next to each other, so that all is written while rows still come, and what is kept does not grow with them.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from r1k_builder.columns import PREFERENCES, assistant_turns, batched, contents
from r1k_builder.files import Shelf
from r1k_builder.pair import NO_PAIR, Couple

POOL = 1_000
"""Couples among which a response is looked for: all of s1K's, and of more rows the first thousand, for these."""
BLOCK = 250
"""Couples that are then written at a time. Their responses are looked for among them and those before, POOL together."""
WRITTEN_ROWS = 64
"""At a time."""


class ControlResponses(NamedTuple):
    """For each couple's prompts, the couple that the rejected response comes from, or NO_PAIR."""

    forward_prompts: list[int]
    """Beside the forward prompt: whose reverse response."""
    reverse_prompts: list[int]
    """Beside the reverse prompt: whose forward response."""
    other_domain: int
    """How many of both had to be taken from another domain, there being no other pair in theirs."""


def control_responses(couples: Sequence[Couple], start: int = 0) -> ControlResponses:
    """Rejected responses for the couples from `start` on, from among all of them.

    A response is replaced by one of the same direction and domain and of the nearest length (ties: the lower pair_id) that
    belongs to neither of the couple's pairs; where the domain has none, by the nearest of any domain; NO_PAIR where there is
    none at all."""
    reverse = _Nearest([(couple.reverse_response, couple.reverse) for couple in couples], couples)
    forward = _Nearest([(couple.forward_response, couple.forward) for couple in couples], couples)
    places = range(start, len(couples))
    return ControlResponses(
        [reverse.find(place) for place in places],
        [forward.find(place) for place in places],
        reverse.other_domain + forward.other_domain,
    )


class _Nearest:
    """Finds the response of nearest length among those of one direction."""

    def __init__(self, responses: Sequence[tuple[int, str]], couples: Sequence[Couple]) -> None:
        """`responses` are length and pair_id of each couple's own."""
        self._responses, self._couples = responses, couples
        self._everywhere = sorted((*response, place) for place, response in enumerate(responses))
        self._domains: dict[str, list[tuple[int, str, int]]] = {}
        for entry in self._everywhere:
            self._domains.setdefault(couples[entry[2]].domain, []).append(entry)
        self.other_domain = 0

    def find(self, place: int) -> int:
        """The couple whose response is nearest to that of the couple at `place`."""
        couple, (length, _) = self._couples[place], self._responses[place]
        own = {couple.forward, couple.reverse}
        for pool in (self._domains[couple.domain], self._everywhere):
            start = bisect_left(pool, (length,))
            above = next((pool[at] for at in range(start, len(pool)) if pool[at][1] not in own), None)
            candidates = [entry for entry in (above, _below(pool, start, own)) if entry is not None]
            if candidates:
                self.other_domain += pool is self._everywhere
                return min(candidates, key=lambda entry: (abs(entry[0] - length), entry[1]))[2]
        return NO_PAIR


def _below(pool: Sequence[tuple[int, str, int]], stop: int, own: set[str]) -> tuple[int, str, int] | None:
    """The longest before `stop`; among equals the lowest pair_id, which is the first of their run."""
    while stop:
        start = bisect_left(pool, (pool[stop - 1][0],))
        found = next((pool[at] for at in range(start, stop) if pool[at][1] not in own), None)
        if found is not None:
            return found
        stop = start
    return None


class Control:
    """Takes couples in order and writes their control pairs, a block at a time; responses wait in a scratch file."""

    def __init__(self, stage: Path, write: Callable[[pa.Table], None]) -> None:
        self._stage, self._write = stage, write
        self._couples: list[Couple] = []
        """Some that are written, for their responses, then those that wait."""
        self._done = 0
        """How many of them are written."""
        self._named: list[pa.Table] = []
        """Of the rows that wait, all but the response."""
        self._responses = Shelf(stage)
        self._dropped = 0
        """Couples whose responses stand on the shelf before those of the first."""
        self.other_domain = 0
        """Rows whose rejected response is from another domain."""
        self.without = 0
        """Rows for which there is no response to reject."""

    def close(self) -> None:
        self._responses.close()

    def add(self, couples: Sequence[Couple], rows: pa.Table) -> None:
        """The next couples and their rows: forward, reverse, forward, reverse, …"""
        self._couples += couples
        self._named.append(rows.select(PREFERENCES.names[:4]))
        self._responses.extend(contents(rows["completion"]))
        while len(self._couples) - self._done >= (size := BLOCK if self._done else POOL):
            self._write_block(size)

    def finish(self) -> None:
        """Write what still waits."""
        if waiting := len(self._couples) - self._done:
            self._write_block(waiting)

    def _write_block(self, size: int) -> None:
        """The next couples that wait."""
        self._drop(self._done + size - POOL)
        start, stop = self._done, self._done + size
        found = control_responses(self._couples[:stop], start)
        rejected = [
            other if other == NO_PAIR else 2 * other + of_reverse
            for beside_forward, beside_reverse in zip(found.forward_prompts, found.reverse_prompts, strict=True)
            for other, of_reverse in ((beside_forward, 1), (beside_reverse, 0))
        ]
        named = pa.concat_tables(self._named)
        for rows in batched((row for row in range(2 * size) if rejected[row] != NO_PAIR), WRITTEN_ROWS):
            chosen = assistant_turns([self._response(2 * start + row) for row in rows])
            others = assistant_turns([self._response(rejected[row]) for row in rows])
            self._write(pa.table([*named.take(rows).columns, chosen, others], schema=PREFERENCES))
        self.other_domain += found.other_domain
        self.without += rejected.count(NO_PAIR)
        self._done = stop
        self._named = [named.slice(2 * size)]

    def _response(self, row: int) -> pa.Buffer:
        """Of a couple at hand: its forward row stands at twice its place, the reverse row behind it."""
        return self._responses.read(2 * self._dropped + row)

    def _drop(self, count: int) -> None:
        """Forget the first couples, and now and then their responses."""
        if count <= 0:
            return
        del self._couples[:count]
        self._done -= count
        self._dropped += count
        if self._dropped > 4 * POOL:
            old, self._responses = self._responses, Shelf(self._stage)
            self._responses.extend(old.read(place) for place in range(2 * self._dropped, len(old)))
            self._dropped = 0
            old.close()
