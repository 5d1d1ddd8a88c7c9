"""The files of the dataset folder: written under a stage, named by their digests, put in place so that a reader finds the old
dataset or the new one."""

import errno
import hashlib
import io
import os
import re
import shlex
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock, Semaphore
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r1k_builder.card import read_card
from r1k_builder.columns import EXAMPLES, FEW_VALUES, SCHEMAS, WITH_STATISTICS
from r1k_builder.errors import LocalError
from r1k_builder.figures import FIGURES
from r1k_builder.sync import sync

GROUP_BYTES = 4_000_000
"""Rows wait until they have so many bytes together, then they are written as a row group."""
GROUP_MOST_BYTES = 16_000_000
"""A row group has more only where one row does."""
GROUP_ROWS = 1_000
"""Most rows of a row group. Even, so that no pair of rows is split."""
GROUP_TABLES = 100
"""Chunks that wait at most: a configuration that gets few rows of each would else hold many small tables."""
SHARD_ROWS = 5_000
"""A file is closed when it has so many rows: what a writer remembers of its row groups grows until then."""
HANDS = 2
"""Files that are written to at once: compression goes on outside of Python's lock."""
WORK_AT_HAND = 8
"""Row groups that are being written, or wait for it, in all files together."""

PACKED_FROM = 500_000_000
"""Bytes of scratch files from which more is packed: before, the processor is dearer than the disk."""

NO_FIGURES: Mapping[str, bytes] = {}

CARD = "README.md"
OURS = re.compile(r"train-\d{5}-of-\d{5}-[0-9a-f]{12}\.parquet")
"""Names of the Parquet files that a later export may delete."""


class Shelf:
    """Records in a scratch file, to be read in any order: 12 bytes of memory a record."""

    def __init__(self, stage: Path) -> None:
        self._file = TemporaryFile(dir=stage)  # noqa: SIM115  # `close` closes it
        self._codec = pa.Codec("lz4_raw")
        self._offsets, self._sizes = array("q", [0]), array("I")

    def close(self) -> None:
        with suppress(OSError):  # a full disk can fail the last write; what a shelf holds is needed no more
            self._file.close()

    def extend(self, records: Iterable[pa.Buffer]) -> None:
        for record in records:
            stored = self._codec.compress(record) if self._offsets[-1] > PACKED_FROM else record
            self._file.write(stored)
            self._offsets.append(self._offsets[-1] + stored.size)
            self._sizes.append(record.size)

    def __len__(self) -> int:
        return len(self._sizes)

    def read(self, place: int) -> pa.Buffer:
        start, stop = self._offsets[place : place + 2]
        self._file.flush()
        stored = os.pread(self._file.fileno(), stop - start, start)  # from any thread; writing goes on at the end
        return pa.decompress(stored, self._sizes[place], codec="lz4_raw") if start > PACKED_FROM else pa.py_buffer(stored)


class Rows:
    """Rows of both directions in a scratch file, a record for each time that some are added."""

    def __init__(self, stage: Path) -> None:
        self._shelf = Shelf(stage)
        self._starts = array("q", [0])
        """The first row of each record, and the end."""

    def close(self) -> None:
        self._shelf.close()

    def append(self, rows: pa.Table) -> None:
        self._shelf.extend(record.serialize() for record in rows.combine_chunks().to_batches())
        if rows.num_rows:
            self._starts.append(self._starts[-1] + rows.num_rows)

    def read(self, places: Iterable[int]) -> pa.Table:
        """Rows by when they were added; quickest where they go upwards."""
        numbered = ((bisect_right(self._starts, place) - 1, place) for place in places)
        rows: list[pa.RecordBatch] = []
        for number, group in groupby(numbered, key=itemgetter(0)):
            record = pa.ipc.read_record_batch(self._shelf.read(number), EXAMPLES)
            rows += (record.slice(place - self._starts[number], 1) for _, place in group)
        return pa.Table.from_batches(rows, EXAMPLES).combine_chunks()


class ConfigFiles:
    """The files of each configuration that gets rows, under `stage`: of SHARD_ROWS rows, or a batch more."""

    def __init__(self, stage: Path) -> None:
        self._stage = stage
        self._shards: dict[str, list[Shard]] = {config: [] for config in SCHEMAS}
        self._hands = ThreadPoolExecutor(HANDS)
        self._room = Semaphore(WORK_AT_HAND)

    def close(self) -> None:
        """Closes what `finish` has not: files that nobody wants, so that a full disk is no matter."""
        self._hands.shutdown(cancel_futures=True)
        for shard in chain.from_iterable(self._shards.values()):
            shard.discard()

    def write(self, config: str, table: pa.Table) -> None:
        """Adds rows."""
        if not table.num_rows:
            return
        shards = self._shards[config]
        if not shards or shards[-1].closed:
            shards.append(Shard(self._stage / config / f"{len(shards)}.parquet", SCHEMAS[config], self._hands, self._room))
        shards[-1].write(table)
        if shards[-1].rows >= SHARD_ROWS:
            shards[-1].close()

    def counts(self) -> dict[str, dict[str, int]]:
        """The rows of every configuration so far."""
        return {config: {"rows": sum(shard.rows for shard in shards)} for config, shards in self._shards.items()}

    def finish(self) -> dict[str, dict[str, Any]]:
        """Closes all files and names each by its digest; returns rows and files of every configuration, also without rows."""
        shards = list(chain.from_iterable(self._shards.values()))
        for step in (Shard.close, Shard.wait):  # they are written side by side
            for shard in shards:
                step(shard)
        return {
            config: {
                **counted,
                "files": [_named(shard, place, len(self._shards[config])) for place, shard in enumerate(self._shards[config])],
            }
            for config, counted in self.counts().items()
        }


class Shard:
    """One Parquet file. Rows wait in memory until they are enough for a row group, which one of `hands` then writes; groups go
    one after the other, as many as there is `room` for."""

    def __init__(self, path: Path, schema: pa.Schema, hands: Executor, room: Semaphore) -> None:
        self.path = path
        self.rows = 0
        self.closed = False
        self.digest = ""
        """SHA-256 of the file, once it is closed."""
        self._schema = schema
        self._hands, self._room = hands, room
        self._file: _DigestedFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._work: deque[Callable[[], None]] = deque()
        """For a hand: groups to write, then the file to close."""
        self._lock = Lock()
        """For `_work`, and for whether a hand is at it."""
        self._in_hand = False
        self._failed: Exception | None = None
        self._working: Future[None] | None = None

    def write(self, table: pa.Table) -> None:
        """Adds rows. Raises what has stopped the writing of earlier ones."""
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        self.rows += table.num_rows
        if self._waiting_bytes >= GROUP_BYTES or len(self._waiting) >= GROUP_TABLES:
            self._flush()

    def close(self) -> None:
        """Have what waits written and the file closed. Nothing can be added any more."""
        if not self.closed:
            self._flush()
            self.closed = True
            self._hand_over(self._close)

    def wait(self) -> None:
        """Wait until a file that was closed is on disk. Raises what has stopped its writing."""
        if self._working is not None:
            self._working.result()
        self._raise()

    def _flush(self) -> None:
        self._raise()
        if self._waiting:
            self._hand_over(partial(self._write, pa.concat_tables(self._waiting)))
            self._waiting.clear()
            self._waiting_bytes = 0

    def _raise(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _hand_over(self, work: Callable[[], None]) -> None:
        self._room.acquire()
        with self._lock:
            self._work.append(work)
            if not self._in_hand:
                self._in_hand = True
                self._working = self._hands.submit(self._do_work)

    def _do_work(self) -> None:
        while (work := self._next_work()) is not None:
            try:
                if self._failed is None:  # otherwise work is only taken away, so that nobody waits for room
                    work()
            except Exception as error:  # noqa: BLE001  # it is raised where the next rows come, or the end
                self._failed = error
            finally:
                self._room.release()

    def _next_work(self) -> Callable[[], None] | None:
        with self._lock:
            self._in_hand = bool(self._work)
            return self._work.popleft() if self._work else None

    def _write(self, table: pa.Table) -> None:
        if self._writer is None:
            self.path.parent.mkdir(exist_ok=True)
            self._file = _DigestedFile(self.path)
            self._writer = _writer(self._file, self._schema)
        rows_that_fit = table.num_rows * GROUP_MOST_BYTES // max(table.nbytes, 1)
        self._writer.write_table(table, row_group_size=max(2, min(GROUP_ROWS, rows_that_fit // 2 * 2)))

    def _close(self) -> None:
        if self._writer is not None and self._file is not None:
            self._writer.close()
            os.fsync(self._file.fileno())
            self._file.close()
            self.digest = self._file.digest
            self._writer = self._file = None

    def discard(self) -> None:
        """Close a file that nobody wants and nobody writes to, whatever the disk says to it."""
        for part in (self._writer, self._file):
            with suppress(OSError):
                if part is not None:
                    part.close()


class _DigestedFile(io.FileIO):
    """A file that is written from front to back, and its SHA-256 with it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "wb")
        self.path = path
        self._sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        self._sha256.update(rest)
        while rest:
            rest = rest[super().write(rest) :]
        return len(data)

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()


def _named(shard: Shard, place: int, shards: int) -> dict[str, Any]:
    named = shard.path.rename(shard.path.with_name(f"train-{place:05}-of-{shards:05}-{shard.digest[:12]}.parquet"))
    groups = pq.read_metadata(named)
    return {
        "path": f"{named.parent.name}/{named.name}",
        "sha256": shard.digest,
        "bytes": named.stat().st_size,
        "uncompressed": sum(groups.row_group(place).total_byte_size for place in range(groups.num_row_groups)),
    }


def _writer(file: _DigestedFile, schema: pa.Schema) -> pq.ParquetWriter:
    """Every option that decides the bytes is named; long texts get neither dictionaries nor statistics."""
    return pq.ParquetWriter(
        file,
        schema,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=1,
        use_dictionary=FEW_VALUES,
        write_statistics=WITH_STATISTICS,
        data_page_size=1 << 20,
        write_page_index=True,  # the Hub's viewer then reads the pages that it shows, not whole row groups
        store_schema=True,
    )


REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "it is on a read-only file system: mount it writable, or copy the folder to one",
    errno.EACCES: "it is not yours to write in: change its permissions",
    errno.EPERM: "it is not yours to write in: change its permissions",
}


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Raises LocalError for what the user can mend about the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        again = f"r1k-build export {shlex.quote(str(folder))}"
        raise LocalError(
            f"can't write the dataset to {folder}: {REMEDIES[error.errno]}, then run `{again}` (it asks no teacher)"
        ) from error


# ----- into place


def install(stage: Path, folder: Path, manifest: Mapping[str, Any], figures: Mapping[str, bytes] = NO_FIGURES) -> None:
    """Puts a staged dataset, whose files are on the disk, and the figures of its card, in place of the folder's.

    The card is the switch: until it is replaced it names the old files, which all still stand. The first card of a
    folder goes ahead of its files, so that a folder left half-way does not load as if it were whole. Then the
    Parquet files that no card names any more are deleted."""
    paths = [file["path"] for entry in manifest["configs"].values() for file in entry["files"]]
    sync(stage / CARD)
    if not _has_card(folder):
        place_card(stage, folder)
    place_files(stage, folder, paths)
    place_figures(stage, folder, figures)
    if (stage / CARD).exists():
        place_card(stage, folder)
    sweep(folder, paths)


def place_files(stage: Path, folder: Path, paths: Iterable[str]) -> None:
    """Moves the Parquet files in; they bear other names than those that are there, or have the same bytes."""
    for path in paths:
        (folder / path).parent.mkdir(exist_ok=True)
        (stage / path).replace(folder / path)
        sync((folder / path).parent)
    sync(folder)


def place_figures(stage: Path, folder: Path, figures: Mapping[str, bytes]) -> None:
    """Writes the figures, each whole or not at all; those of ours that there are no more are deleted."""
    for name, image in figures.items():
        (folder / "figures").mkdir(exist_ok=True)
        (stage / name).write_bytes(image)
        (stage / name).replace(folder / "figures" / name)
    for name in FIGURES.keys() - figures.keys():
        (folder / "figures" / name).unlink(missing_ok=True)
    with suppress(OSError):  # it holds something, or was never there
        (folder / "figures").rmdir()


def place_card(stage: Path, folder: Path) -> None:
    """Moves the card in; a README.md that is not ours, or whose sections are broken, is kept as README.md.orig."""
    card, kept = folder / CARD, folder / f"{CARD}.orig"
    if card.exists() and read_card(card) is None and not kept.exists():
        card.rename(kept)
    (stage / CARD).replace(card)
    sync(folder)


def sweep(folder: Path, paths: Iterable[str]) -> None:
    """Deletes Parquet files that an earlier export has written and `paths` does not name, and folders left empty."""
    kept = {folder / path for path in paths}
    for config in SCHEMAS:
        for path in (folder / config).glob("*.parquet"):
            if OURS.fullmatch(path.name) and path not in kept:
                path.unlink()
        with suppress(OSError):  # it holds something, or was never there
            (folder / config).rmdir()


def _has_card(folder: Path) -> bool:
    return (folder / CARD).exists() and read_card(folder / CARD) is not None
