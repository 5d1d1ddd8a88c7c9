"""Shares of a source: which rows belong to which, and what its files are called."""

import re
from typing import NamedTuple, Self

from r1k_builder.errors import UsageError

MOST = 10_000


class Shard(NamedTuple):
    """The `number`-th of `of` shares of a source, counted from 1.

    A row's share follows from its `pair_id` alone: neither the order of the source nor `--limit` moves a row to another
    shard, and every row is in exactly one of the `of` shards.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, pair_id: str) -> bool:
        """Whether a row is in this share; `pair_id`, 80 bits of a SHA-256, is uniform."""
        return int(pair_id, 16) % self.of == self.number - 1

    @property
    def suffix(self) -> str:
        """What the shard's files have in their names."""
        return f"-{self.number}-of-{self.of}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`i/n` as it is typed. Raises UsageError for anything else."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text, re.ASCII)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.of <= MOST:
            raise UsageError(f"--shard {text[:40]!r} is no share: give it as i/n with i from 1 to n, as in --shard 2/16")
        return shard

    @classmethod
    def of_journal(cls, name: str) -> Self | None:
        """The shard whose journal has this file name; None for another file."""
        found = re.fullmatch(r"journal-([0-9]{1,6})-of-([0-9]{1,6})\.sqlite", name, re.ASCII)
        shard = cls(int(found[1]), int(found[2])) if found else None
        return shard if shard is not None and 1 <= shard.number <= shard.of <= MOST else None
