"""The columns of every configuration, and rows as Arrow tables of them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from operator import attrgetter
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from r1k_builder.schema import CHECKS, CheckResult, Message, PreferencePair, Provenance, RejectedRow, Verdict

STRING = pa.string()
TURNS = pa.list_(pa.struct([("role", STRING), ("content", STRING)]))
VERDICT = pa.struct([(check, pa.struct([("status", STRING), ("reason", STRING)])) for check in CHECKS])
PROVENANCE = pa.struct(
    [(name, pa.int64() if info.annotation == (int | None) else STRING) for name, info in Provenance.model_fields.items()]
)
COLUMN_TYPES = {
    "prompt": TURNS,
    "completion": TURNS,
    "chosen": TURNS,
    "rejected": TURNS,
    "num_tokens": pa.int32(),
    "verdict": VERDICT,
    "provenance": PROVENANCE,
}
"""Columns that are not strings."""


def _schema(names: Iterable[str]) -> pa.Schema:
    return pa.schema([(name, COLUMN_TYPES.get(name, STRING)) for name in names])


EXAMPLES = _schema([
    "id", "pair_id", "direction", "prompt", "completion", "question", "reasoning", "answer", "final_answer",
    "reference_answer", "domain", "source_type", "teacher", "num_tokens", "verdict", "provenance",
])  # fmt: skip
PREFERENCES = _schema(PreferencePair.model_fields)
PROBE_NAMES = [{"chosen": "preferred", "rejected": "dispreferred"}.get(name, name) for name in PREFERENCES.names]
REJECTED = _schema(RejectedRow.model_fields)
INTEGER = pa.int64()
COMPLETIONS = pa.schema([
    ("key", STRING), ("pair_id", STRING), ("stage", STRING), ("messages", TURNS), ("model", STRING), ("sampling", STRING),
    ("sample", pa.int32()), ("host", STRING), ("host_model", STRING), ("returned_model", STRING), ("status", pa.int32()),
    ("reply", STRING), ("digest", STRING), ("prompt_tokens", INTEGER), ("cached_tokens", INTEGER),
    ("completion_tokens", INTEGER), ("reasoning_tokens", INTEGER), ("sent", pa.float64()), ("received", pa.float64()),
    ("cost", pa.float64()),
])  # fmt: skip
"""`sent` and `received` in seconds since the epoch, `cost` in US dollars (null: unknown)."""

SCHEMAS = {
    "reverse": EXAMPLES,
    "reverse-verified": EXAMPLES,
    "forward": EXAMPLES,
    "forward-gemini": EXAMPLES,
    "mixed": EXAMPLES,
    "mixed-500": EXAMPLES,
    "preference": PREFERENCES,
    "preference-control": PREFERENCES,
    "probe": pa.schema([field.with_name(name) for field, name in zip(PREFERENCES, PROBE_NAMES, strict=True)]),
    "rejected": REJECTED,
    "attempts": REJECTED,
    "completions": COMPLETIONS,
}
"""The configurations in the card's order; the first that has rows is the default."""

FEW_VALUES = [
    "direction", "prompt.list.element.role", "completion.list.element.role", "chosen.list.element.role",
    "rejected.list.element.role", "preferred.list.element.role", "dispreferred.list.element.role",
    "domain", "source_type", "teacher", "check", "stage", "messages.list.element.role", "model", "sampling", "host",
    "host_model", "returned_model", "status", "sample",
    *(f"verdict.{check}.status" for check in CHECKS),
    *(f"provenance.{name}" for name in PROVENANCE.names if name not in {"invert_key", "solve_key"}),
]  # fmt: skip
"""Columns worth a Parquet dictionary."""
WITH_STATISTICS = ["id", "pair_id", "direction", "domain", "source_type", "num_tokens", "key", "stage"]


# ----- tables


def table_of(schema: pa.Schema, rows: Sequence[object], **given: list[Any]) -> pa.Table:
    """`rows` as a table of `schema`: each column from the attribute of its name, or from `given`."""
    if not rows:
        return schema.empty_table()
    columns = (given.get(field.name) or list(map(attrgetter(field.name), rows)) for field in schema)
    arrays = [_array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Built column by column, which is many times faster than from one dict a row."""
    if kind == TURNS:
        return _turns(values)
    if kind == VERDICT:
        return _verdicts(values)
    if kind == PROVENANCE:
        return _struct(kind, (list(map(attrgetter(name), values)) for name in kind.names))
    return pa.array(values, kind)


def _struct(kind: pa.StructType, columns: Iterable[list[Any]]) -> pa.StructArray:
    arrays = [_array(values, field.type) for values, field in zip(columns, kind, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def _turns(conversations: Sequence[list[Message]]) -> pa.ListArray:
    offsets = pa.array([0, *accumulate(len(conversation) for conversation in conversations)], pa.int32())
    messages = list(chain.from_iterable(conversations))
    turns = _struct(TURNS.value_type, ([message["role"] for message in messages], [message["content"] for message in messages]))
    return pa.ListArray.from_arrays(offsets, turns, type=TURNS)


def _verdicts(verdicts: Sequence[Verdict]) -> pa.StructArray:
    """A check that has left no result counts as not run."""
    not_run = CheckResult(status="not-run")
    checks = []
    for check in VERDICT:
        results = [verdict.get(check.name, not_run) for verdict in verdicts]
        checks.append(_struct(check.type, ([result.status for result in results], [result.reason for result in results])))
    return pa.StructArray.from_arrays(checks, fields=list(VERDICT))


def with_results(table: pa.Table, check: str, results: Sequence[CheckResult]) -> pa.Table:
    """`table` with another result of one check in each row's `verdict`."""
    column = table.schema.get_field_index("verdict")
    verdicts = table["verdict"].combine_chunks()
    columns = verdicts.flatten()
    place = VERDICT.get_field_index(check)
    columns[place] = _struct(VERDICT.field(place).type, ([r.status for r in results], [r.reason for r in results]))
    return table.set_column(column, table.schema.field(column), pa.StructArray.from_arrays(columns, fields=list(VERDICT)))


def statuses(verdicts: pa.ChunkedArray, check: str) -> list[str]:
    """Of each row, what one check has found."""
    found: list[str] = pc.struct_field(verdicts, [check, "status"]).to_pylist()
    return found


def where(table: pa.Table, kept: list[bool]) -> pa.Table:
    return table if all(kept) else table.filter(pa.array(kept, pa.bool_()))


T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def contents(conversations: pa.ChunkedArray) -> Iterator[pa.Buffer]:
    """The text of each message, in UTF-8."""
    return (text.as_buffer() for text in pc.struct_field(pc.list_flatten(conversations), "content"))


def assistant_turns(texts: Sequence[pa.Buffer]) -> pa.ListArray:
    """One assistant turn for each text in UTF-8."""
    offsets = pa.array(accumulate((text.size for text in texts), initial=0), pa.int32())
    contents = pa.StringArray.from_buffers(len(texts), offsets.buffers()[1], pa.py_buffer(b"".join(texts)))
    turns = pa.StructArray.from_arrays([pa.array(["assistant"] * len(texts), STRING), contents], fields=list(TURNS.value_type))
    return pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), turns, type=TURNS)
