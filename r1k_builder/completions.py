"""The configuration `completions`: every reply of the teacher with what was asked, for others to build from; and its reading.

A row holds all of which its request's key is made, and a digest of key and reply: one that does not belong to its key is
found when it is read back. Rows stand in source order; times and cost depend on the day, so that this configuration's
bytes do, and no other's.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from r1k_builder.columns import COMPLETIONS
from r1k_builder.errors import UsageError
from r1k_builder.journal import StoredReply
from r1k_builder.journals import Journals
from r1k_builder.schema import Message, Request, clean_text

BATCH = 64
"""Replies of a table."""

PICO = 1e-12


class Recorded(NamedTuple):
    """A reply as a row of `completions` has it, with its request; `reply.cost` is in picodollars."""

    request: Request
    reply: StoredReply


def tables(journals: Journals, stop: int) -> Iterator[pa.Table]:
    """The replies to what was asked for the source rows before position `stop`: of status 200, and the refusals that
    reject a row. A body that is no text in any encoding of JSON can't be read by any parser and is left out."""
    replies = journals.telling_replies(stop)
    while batch := list(islice(replies, BATCH)):
        rows = [row for reply in batch if (row := _row(reply)) is not None]
        yield pa.Table.from_pylist(rows, schema=COMPLETIONS)


def _row(stored: StoredReply | None) -> dict[str, Any] | None:
    text = None if stored is None else _text(stored.body)
    if stored is None or text is None:
        return None
    asked = json.loads(stored.content)
    values = stored._asdict() | {
        "messages": asked["messages"],
        "model": asked["model"],
        "sampling": json.dumps(asked["sampling"], sort_keys=True, ensure_ascii=False),
        "sample": asked["sample"],
        "reply": text,
        "digest": digest(stored.key, text),
        "cost": None if stored.cost is None else round(stored.cost * PICO, 12),
    }
    return {name: values[name] for name in COMPLETIONS.names}


def _text(body: bytes) -> str | None:
    for encoding in ("utf-8", json.detect_encoding(body)):
        try:
            text = body.decode(encoding)
            text.encode()
        except UnicodeError:
            continue
        return text
    return None


def digest(key: str, reply: str) -> str:
    """What ties a reply to its request: SHA-256 of both."""
    return hashlib.sha256(f"{key}\n{reply}".encode()).hexdigest()


# -- reading back


def read(path: Path, name: str) -> Iterator[Recorded]:
    """The rows of a file of `completions`. Raises UsageError for one that is none, or whose reply is not its key's."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            if not file.schema_arrow.equals(COMPLETIONS):
                raise UsageError(
                    f"{name} has other columns than completions have: r1k-build --with-completions did not write it"
                )
            for number, row in enumerate(row for batch in file.iter_batches(BATCH) for row in batch.to_pylist()):
                yield _recorded(row, f"{name}, row {number + 1}")
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{name} can't be read as Parquet ({type(error).__name__}): fetch it again") from error


def _recorded(row: Mapping[str, Any], place: str) -> Recorded:
    try:
        sampling = json.loads(row["sampling"])
        messages = tuple(Message(role=message["role"], content=message["content"]) for message in row["messages"])
        request = Request(row["stage"], messages, row["model"], sampling, row["sample"])
        belongs = request.key == row["key"] and digest(row["key"], row["reply"]) == row["digest"]
    except (ValueError, TypeError, RecursionError):
        belongs = False
    if not belongs:
        raise UsageError(f"{place}: the reply does not belong to its request's key, so nothing was taken from there")
    as_it_stands = {name: row[name] for name in StoredReply._fields if name in row and name not in {"returned_model", "cost"}}
    return Recorded(
        request,
        StoredReply(
            **as_it_stands,
            content=request.canonical,
            returned_model=None if row["returned_model"] is None else clean_text(row["returned_model"]),
            body=row["reply"].encode(),
            cost=None if row["cost"] is None else round(row["cost"] / PICO),
        ),
    )
