"""`--control independent`: each forward row beside a reverse row that was made from another forward row of its domain.

Pairs are joined a thousand at a time, so that what is kept does not grow with them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from r1k_builder.columns import batched
from r1k_builder.files import Rows
from r1k_builder.pair import NO_PAIR, Couple, turned

BLOCK = 1_000
"""Pairs that are joined among each other: all of s1K's. The last block has up to half as many more, or as many as there are. A
pair that is alone in its domain waits for the next block; half a block may wait."""
WRITTEN_PAIRS = 32
"""At a time."""


class Joining:
    """Takes pairs in order, and gives couples of two in the order of their forward rows; rows wait in a scratch file."""

    def __init__(self, stage: Path, write: Callable[[Sequence[Couple], pa.Table], None]) -> None:
        self._stage, self._write = stage, write
        self._waiting: list[Couple] = []
        self._rows = Rows(stage)
        """Of those that wait."""
        self._dropped = 0

    @property
    def alone(self) -> int:
        """Pairs that are left out, when all is finished: there was no other of their domain."""
        return self._dropped + len(self._waiting)

    def close(self) -> None:
        self._rows.close()

    def add(self, pairs: Sequence[Couple], rows: pa.Table) -> None:
        """The next pairs and their rows: forward, reverse, forward, reverse, …"""
        self._waiting += pairs
        self._rows.append(rows)
        while len(self._waiting) >= BLOCK + BLOCK // 2:
            self._join(BLOCK)

    def finish(self) -> None:
        """Join what still waits."""
        self._join(len(self._waiting))

    def _join(self, size: int) -> None:
        block, rows = self._waiting[:size], self._rows
        beside = turned(block)
        for places in batched((place for place in range(size) if beside[place] != NO_PAIR), WRITTEN_PAIRS):
            others = [block[beside[place]] for place in places]
            couples = [
                block[place]._replace(reverse=other.reverse, reverse_response=other.reverse_response)
                for place, other in zip(places, others, strict=True)
            ]
            self._write(couples, rows.read([row for place in places for row in (2 * place, 2 * beside[place] + 1)]))
        alone = [place for place in range(size) if beside[place] == NO_PAIR]
        kept = alone[-(BLOCK // 2) :]
        self._dropped += len(alone) - len(kept)
        left = [*kept, *range(size, len(self._waiting))]
        self._waiting = [self._waiting[place] for place in left]
        self._rows = Rows(self._stage)
        for places in batched(left, WRITTEN_PAIRS):
            self._rows.append(rows.read([row for place in places for row in (2 * place, 2 * place + 1)]))
        rows.close()
