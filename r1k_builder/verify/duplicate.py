"""Near-duplicates among questions: the same numbers, and four fifths of the word 3-grams in common.

MinHash finds the candidates, the 3-grams themselves decide. What has been seen lies on disk, so that memory does not grow
with the rows. A question is held against those before it, in the order in which rows stand in the dataset: the first of
a group passes, and leaving out what fails leaves one of each.
"""

import errno
import hashlib
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rensa import RMinHash

from r1k_builder.schema import CheckResult
from r1k_builder.verify.question import Text, read_question
from r1k_builder.verify.result import PASSED, failed

ALIKE = 0.8
"""Least Jaccard index of the sets of word 3-grams. At 0.8 s1K has 17 groups, all of them the same problem again; at 0.5 its
crosswords, which share their instructions, are alike."""
BANDS, HASHES_PER_BAND = 12, 4
"""1 - (1 - 0.8**4)**12: 998 in 1,000 pairs that are just alike become candidates, and of those that share half, 5 in 10."""
MOST_CANDIDATES = 50
"""Earlier questions that are looked at: no more than that share a band with one, but where a text means harm."""
_MORE_THAN_ANY = 2**63

Keys = list[int]
"""What a question may be found by: one number a band, of its numbers and its 3-grams."""


def keys(question: str) -> Keys:
    """Pure, so that questions can be prepared in any order and process."""
    text = read_question(question)
    numbers = sorted((value.numerator, value.denominator, count) for value, count in text.numbers.items())
    salt = hashlib.blake2b(repr(numbers).encode(), digest_size=16).digest()
    minhash = RMinHash(num_perm=BANDS * HASHES_PER_BAND, seed=1)
    minhash.update(list(_grams(text)))
    signature = struct.pack(f"<{BANDS * HASHES_PER_BAND}I", *minhash.digest())
    size = 4 * HASHES_PER_BAND
    bands = (signature[start : start + size] for start in range(0, len(signature), size))
    digests = (
        hashlib.blake2b(band, digest_size=8, key=salt, salt=struct.pack("<Q", n)).digest() for n, band in enumerate(bands)
    )
    return [int.from_bytes(digest, "little") - _MORE_THAN_ANY for digest in digests]


def _grams(text: Text) -> set[str]:
    tokens = text.tokens
    return {" ".join(tokens[start : start + 3]) for start in range(max(1, len(tokens) - 2))}


class Duplicates:
    """The questions of the rows so far."""

    def __init__(self, path: Path) -> None:
        """`path` is a scratch file of the caller's. It and all else here raise OSError where the disk is full."""
        with _full_disk():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
                "CREATE TABLE question"
                " (number INTEGER PRIMARY KEY, id TEXT, pair_id TEXT, question TEXT, repeated INTEGER DEFAULT 0);"
                "CREATE TABLE band (key INTEGER, number INTEGER, PRIMARY KEY (key, number)) WITHOUT ROWID;"
                "BEGIN;"  # for good: else every statement would write its pages
            )
        self._number = 0

    def close(self) -> None:
        self._db.close()

    @property
    def groups(self) -> int:
        """How many questions have been repeated, by one row or more."""
        with _full_disk():
            found: int = self._db.execute("SELECT count(*) FROM question WHERE repeated").fetchone()[0]
        return found

    def check(self, row_id: str, pair_id: str, question: str, found_by: Keys) -> CheckResult:
        """Whether a question nearly repeats an earlier row's, of another pair; `found_by` is its `keys`. Remembers it."""
        with _full_disk():
            result = self._compare(pair_id, read_question(question), found_by)
            if result.status == "fail":
                return result  # the one that it repeats stands for both
            self._number += 1
            row = (self._number, row_id, pair_id, question)
            self._db.execute("INSERT INTO question (number, id, pair_id, question) VALUES (?, ?, ?, ?)", row)
            bands = [of for key in found_by for of in (key, self._number)]
            marks = ", ".join(["(?, ?)"] * len(found_by))
            self._db.execute(f"INSERT OR IGNORE INTO band VALUES {marks}", bands)  # noqa: S608  # question marks
        return result

    def _compare(self, pair_id: str, text: Text, found_by: Keys) -> CheckResult:
        marks = ", ".join("?" * len(found_by))
        query = (
            f"SELECT number, id, question FROM question WHERE number IN (SELECT number FROM band WHERE key IN ({marks}))"  # noqa: S608
            " AND pair_id != ? ORDER BY number LIMIT ?"
        )
        for number, row_id, question in self._db.execute(query, [*found_by, pair_id, MOST_CANDIDATES]):
            other = Text(question)
            share = jaccard(_grams(text), _grams(other))
            if share >= ALIKE and text.numbers == other.numbers:
                self._db.execute("UPDATE question SET repeated = 1 WHERE number = ?", (number,))
                return failed(
                    f"nearly the question of {row_id}: {share:.2f} of the word 3-grams are shared, and the numbers are the same"
                )
        return PASSED


def jaccard(one: set[str], other: set[str]) -> float:
    """The share of two sets that is in both, of what is in either; empty sets are equal."""
    return len(one & other) / len(one | other) if one or other else 1.0


@contextmanager
def _full_disk() -> Iterator[None]:
    """SQLite's own error for a full disk as the OSError that it is."""
    try:
        yield
    except sqlite3.Error as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            raise
        raise OSError(errno.ENOSPC, "the disk is full") from error
