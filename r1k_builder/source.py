"""Source rows -> ForwardExample: a Hub id, a Parquet, JSON or JSONL file, a folder of Parquet files, or the embedded bank.

Rows are streamed: what is remembered of each, its identity to find exact repeats and its place while the source is shuffled,
lies in temporary files. Only a JSON array is read whole. A row that can't be used costs a line that names it and the
column at fault, never the build. Row and line numbers count from 1; text is kept to the byte but for lone surrogates.
"""

import hashlib
import json
import math
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from r1k_builder import embedded
from r1k_builder.config import EMBEDDED, BuildConfig
from r1k_builder.errors import LocalError, SourceError
from r1k_builder.schema import GEMINI_TEACHER, ForwardExample, clean_text

DEEPSEEK_TEACHER = "deepseek-r1"

LINES_PER_KIND = 20
PATIENCE = 10_000
"""Draws of the embedded bank, which never ends, without a new row of the wanted domain before it counts as exhausted."""
BATCH_ROWS = 64
READ_BUFFER = 1 << 16
_MOST_NAMES = 1000
_TAKE_A_FILE = "give --source a Parquet file that you downloaded"
_PARQUET_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError)  # the last for a column's name
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)

Note = Callable[[str], None]
"""Takes one line about the source, as soon as it is known."""
Row = dict[str, Any] | None
"""A row's columns; None where the line is not a JSON object."""


@dataclass(frozen=True)
class Source:
    """An opened source: it exists, its content is identified, and it has the columns."""

    fingerprint: str
    """Changes with the content: `sha256:<hex>` of a file's bytes, `hub:<id>@<commit>`, `embedded:<bank>:<split>:<seed>`."""
    config: BuildConfig
    note: Note
    read: Callable[["_Notes"], Iterator[tuple[str, ForwardExample]]]
    """Every usable row, with the name of its place in the source ("row 17", "line 17")."""
    patience: int | None = None
    """Rows without a new example to read before giving up; None where the source ends by itself."""

    def examples(self) -> Iterator[ForwardExample]:
        """The first `config.rows` distinct examples of `config.domain`, in source order or as `shuffle_seed` has it.

        Raising `limit` only adds examples at the end. Lines about rows that are odd, skipped or repeated go to `note`
        as they are met; past 20 of a kind, only their number, at the end. Raises SourceError where there is no example
        at all, or where the source turns out to be damaged.
        """
        notes = _Notes(self.note)
        others: Counter[str] = Counter()
        examples = self._distinct(notes, others)
        if self.config.shuffle_seed is not None and self.config.source != EMBEDDED:
            examples = _shuffled(examples, self.config.shuffle_seed)
        number = 0
        for number, example in enumerate(islice(examples, self.config.rows), 1):
            if number == self.config.rows:  # who takes just these does not come back for the end
                notes.close()
            yield example
        notes.close()
        if not number:
            raise SourceError(self._explain_emptiness(notes, others))

    def _distinct(self, notes: "_Notes", others: Counter[str]) -> Iterator[ForwardExample]:
        """Examples of the wanted domain, each once; `others` counts the domains that were passed over."""
        unused = 0
        with _scratch("CREATE TABLE seen (pair_id BLOB PRIMARY KEY) WITHOUT ROWID") as db:
            for place, example in self.read(notes):
                if unused == self.patience:
                    return
                unused += 1
                if self.config.domain not in {None, example.domain}:
                    if example.domain in others or len(others) < _MOST_NAMES:
                        others[example.domain] += 1
                    continue
                if not db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (bytes.fromhex(example.pair_id),)).rowcount:
                    notes(place, "question and solution repeat an earlier row exactly; skipped")
                    continue
                unused = 0
                yield example

    def _explain_emptiness(self, notes: "_Notes", others: Counter[str]) -> str:
        source = self.config.source
        if others:
            return (
                f"no row of {source} has the domain {self.config.domain!r}: give --domain one of {_listed(others)}, or drop it"
            )
        if notes.counts:
            return (
                f"no row of {source} can be used (see above): name other columns, --question-column NAME --answer-column NAME"
            )
        return f"{source} has no rows: give --source a dataset that has some"


def open_source(config: BuildConfig, note: Note) -> Source:
    """Find `config.source`, identify its content and find its columns.

    An existing file or folder goes before a Hub dataset of the same name. Raises SourceError, in a sentence that says
    what to type next, where the source is absent, refused, unreadable, or lacks the columns.
    """
    if config.source == EMBEDDED:
        return _open_bank(config, note)
    table = open_table(config.source)
    columns = _find_columns(table, config)
    remark = _remark_on_teacher(table, columns, config)
    if remark:
        note(remark)
    return Source(table.fingerprint, config, note, partial(_read_table, table, columns))


def _open_bank(config: BuildConfig, note: Note) -> Source:
    seed = config.shuffle_seed or 0

    def read(_: _Notes) -> Iterator[tuple[str, ForwardExample]]:
        return ((f"row {number}", example) for number, example in enumerate(embedded.rows(seed=seed, split=config.split), 1))

    return Source(f"{EMBEDDED}:{embedded.BANK_VERSION}:{config.split}:{seed}", config, note, read, PATIENCE)


@contextmanager
def _scratch(table: str) -> Iterator[sqlite3.Connection]:
    """A database in a temporary file, which is gone afterwards. Raises LocalError where that has no room."""
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA cache_size = -8192")
            db.execute(table)
            db.execute("BEGIN")
            yield db
    except sqlite3.OperationalError as error:
        trouble = f"what is remembered of the source can't be kept in a temporary file ({error})"
        raise LocalError(f"{trouble}: set TMPDIR to a folder with room") from error


class _Notes:
    """Passes lines on, at most 20 of a kind, and counts all of them."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._unsaid: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def __call__(self, place: str, problem: str) -> None:
        self.counts[problem] += 1
        if self.counts[problem] <= LINES_PER_KIND:
            self._note(f"source {place}: {problem}")
        else:
            self._unsaid[problem] += 1

    def close(self) -> None:
        """Say once how many more lines of each kind there would have been."""
        while self._unsaid:
            problem, count = self._unsaid.popitem()
            self._note(f"source: … and {count:,} more: {problem}")


# ── tables: where rows come from ──


@dataclass(frozen=True)
class Table:
    """Rows with named columns, wherever they are kept."""

    name: str
    fingerprint: str
    columns: tuple[str, ...]
    read: Callable[[list[str]], Iterator[tuple[str, Row]]]
    """The rows, each with its place, given the columns that are wanted of them."""


def open_table(source: str, configuration: str | None = None, split: str | None = None) -> Table:
    """A file, or a Hub dataset, of which `configuration` (default: its own) and `split` (default: train) can be named.

    Raises SourceError where it can't be read.
    """
    try:
        path = Path(source).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError) as error:  # no permission on the way, a name too long, no such user
        raise SourceError(f"{source} can't be read: check the path given with --source") from error
    kind = path.suffix.lower()
    if not exists:
        if not _HUB_ID.fullmatch(source) or kind in {".parquet", ".json", ".jsonl"}:
            raise SourceError(f"{source} does not exist: give --source a file that does, or a Hub id as owner/name")
        return _open_hub(source, configuration, split)
    if path.is_dir() or kind == ".parquet":
        return _open_parquet(path)
    if kind == ".jsonl":
        return _open_lines(path)
    if kind == ".json":
        return _open_array(path) if _is_array(path) else _open_lines(path)
    raise SourceError(f"{source} is none of .parquet, .json, .jsonl: convert it, for example with pandas' to_parquet")


def _open_parquet(path: Path) -> Table:
    """A file, or every `*.parquet` right in a folder, by name."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        deeper = min((file.parent for file in path.glob("*/*.parquet")), default="a file, or a folder that does")
        raise SourceError(f"{path} holds no .parquet file: give --source {deeper}")
    names = [_parquet_columns(file) for file in files]
    common = tuple(name for name in names[0] if all(name in others for others in names[1:]))

    def read(columns: list[str]) -> Iterator[tuple[str, Row]]:
        rows = (row for file in files for batch in _parquet_batches(file, columns) for row in _decode(batch))
        return ((f"row {number}", row) for number, row in enumerate(rows, 1))

    return Table(str(path), _fingerprint(files), common, read)


def _parquet_columns(path: Path) -> list[str]:
    try:
        with pq.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    except _PARQUET_ERRORS as error:
        raise _unreadable_parquet(path) from error


def _parquet_batches(path: Path, columns: list[str]) -> Iterator[Any]:
    try:
        # So memory stays flat: by default whole row groups are held, compressed, and each thread holds on to its share.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BUFFER) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False)
    except _PARQUET_ERRORS as error:
        raise _unreadable_parquet(path) from error


def _unreadable_parquet(path: Path) -> SourceError:
    return SourceError(f"{path} can't be read as Parquet (damaged, cut short, or not one): fetch or write it again")


def _decode(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow batch or table. A value that has no Python form becomes bytes that are no text."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # a writer may have called any bytes a string: then value by value
        columns = [[_value(scalar) for scalar in column] for column in batch.columns]
        rows = [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]
    yield from rows


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return b"\xff"


def _open_lines(path: Path) -> Table:
    """JSON Lines. Rows need not have the same keys: the columns are those of all rows together."""
    columns: dict[str, None] = {}
    for _, row in _lines(path):
        if row is not None and len(columns) < _MOST_NAMES:
            columns.update(dict.fromkeys(row))
    return Table(str(path), _fingerprint([path]), tuple(columns), lambda _: _lines(path))


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.isspace():
                    yield f"line {number}", _parse_object(line)
    except OSError as error:
        raise _unreadable(path, error) from error


def _parse_object(line: bytes) -> Row:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # nesting has no limit in a text that means harm
        return None
    return value if isinstance(value, dict) else None


def _is_array(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(READ_BUFFER).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError as error:
        raise _unreadable(path, error) from error


def _open_array(path: Path) -> Table:
    try:
        values = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{path} is not valid JSON: mend it, or write it as JSON Lines (.jsonl), one object a line"
        ) from error
    rows: list[Row] = [value if isinstance(value, dict) else None for value in values]
    columns = dict.fromkeys(name for row in rows if row is not None for name in row)
    numbered = partial(enumerate, rows, 1)
    return Table(str(path), _fingerprint([path]), tuple(columns), lambda _: ((f"row {n}", row) for n, row in numbered()))


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path} can't be read ({error.strerror}): check its permissions, or give another --source")


def _fingerprint(files: list[Path]) -> str:
    """SHA-256 of the file's bytes; of several files, of their digests in order."""
    digests = []
    for path in files:
        try:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise _unreadable(path, error) from error
    return f"sha256:{digests[0] if len(digests) == 1 else hashlib.sha256(' '.join(digests).encode()).hexdigest()}"


def _open_hub(repo_id: str, configuration: str | None, split: str | None) -> Table:
    """A split of a Hub dataset, at the commit that `main` is at now."""
    dataset, commit = _load_hub(repo_id, configuration, split or "train")

    def read(columns: list[str]) -> Iterator[tuple[str, Row]]:
        batches = dataset.select_columns(columns).with_format("arrow").iter(BATCH_ROWS)
        return ((f"row {number}", row) for number, row in enumerate((row for batch in batches for row in _decode(batch)), 1))

    return Table(repo_id, f"hub:{repo_id}@{commit}", tuple(dataset.column_names), read)


def _load_hub(repo_id: str, configuration: str | None, split: str) -> tuple[Any, str]:
    """The dataset, memory-mapped from the Hub library's cache, and its commit. Every failure of the Hub ends here."""
    import datasets  # takes a second, so only where it is needed
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    # The root of the errors of whichever HTTP library this huggingface_hub speaks through, httpx or httpx2.
    from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]

    try:
        commit = str(HfApi().dataset_info(repo_id).sha)
        return _load_split(repo_id, commit, configuration, split), commit
    except (GatedRepoError, datasets.exceptions.DatasetNotFoundError) as error:
        page = f"{HfApi().endpoint}/datasets/{repo_id}"
        raise SourceError(f"{repo_id} is gated: ask for access at {page}, then type `hf auth login`") from error
    except RepositoryNotFoundError as error:
        absent = f"{repo_id} is neither a file here nor a dataset on the Hub"
        raise SourceError(f"{absent}: check --source, or type `hf auth login` if it is private") from error
    except OfflineModeIsEnabled as error:
        raise SourceError(f"{repo_id} is on the Hub, and HF_HUB_OFFLINE is set: unset it, or {_TAKE_A_FILE}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise SourceError(f"the Hub answered {status} when asked for {repo_id}: try again later, or {_TAKE_A_FILE}") from error
    except (TransportError, ConnectionError) as error:
        raise SourceError(f"the Hub can't be reached for {repo_id}: check the network, or {_TAKE_A_FILE}") from error
    except (datasets.exceptions.DatasetsError, pa.ArrowException, ValueError, RuntimeError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise SourceError(f"{repo_id} can't be loaded ({reason}): {_TAKE_A_FILE}") from error


def _load_split(repo_id: str, commit: str, configuration: str | None, split: str) -> Any:
    import datasets

    configuration = configuration or datasets.get_dataset_default_config_name(repo_id, revision=commit)
    if configuration is None:
        found = _listed(datasets.get_dataset_config_names(repo_id, revision=commit))
        raise SourceError(f"{repo_id} has several configurations ({found}) and no default: choose one and {_TAKE_A_FILE}")
    splits = datasets.get_dataset_split_names(repo_id, configuration, revision=commit)
    if split not in splits:
        raise SourceError(f"{repo_id} has no split '{split}', only {_listed(splits)}: choose one and {_TAKE_A_FILE}")
    return datasets.load_dataset(repo_id, configuration, revision=commit, split=split)


# ── columns: what a row's values mean ──


class Response(NamedTuple):
    """The columns of one teacher's response, and the teacher's name where the columns imply it."""

    reasoning: str
    answer: str
    teacher: str | None


DEEPSEEK = Response("deepseek_thinking_trajectory", "deepseek_attempt", DEEPSEEK_TEACHER)
GEMINI = Response("gemini_thinking_trajectory", "gemini_attempt", GEMINI_TEACHER)
S1K_GEMINI = Response("thinking_trajectories", "attempt", GEMINI_TEACHER)
"""The original s1K, whose only traces are Gemini's."""
OWN = Response("reasoning", "answer", None)
"""A dataset that this package wrote; its `reference_answer` is the solution, its `teacher` a column."""


@dataclass(frozen=True)
class Columns:
    """Which column holds what; None where none does."""

    question: str
    solution: str
    forward: Response | None
    gemini: Response | None
    """Gemini's response beside DeepSeek's forward rows."""
    teacher: str | None
    domain: str | None
    source_type: str | None

    @property
    def wanted(self) -> list[str]:
        responses = [name for response in (self.forward, self.gemini) if response for name in response[:2]]
        names = [self.question, self.solution, *responses, self.teacher, self.domain, self.source_type]
        return list(dict.fromkeys(name for name in names if name is not None))


def _find_columns(table: Table, config: BuildConfig) -> Columns:
    if not table.columns:
        raise SourceError(f"{table.name} has no rows: give --source a dataset that has some")
    question = _require_column(table, config.question_column, ("question", "problem"))
    solution = _require_column(table, config.answer_column, ("reference_answer", "solution", "answer"))
    domain = _find_column(table, ("cot_type", "domain", "subject"))
    if config.domain is not None and domain is None:
        raise SourceError(f"{table.name} has no column of domains (cot_type, domain or subject): drop --domain")
    forward, gemini = _find_responses(table, config)
    teacher = _find_column(table, ("teacher",)) if forward is OWN else None
    return Columns(question, solution, forward, gemini, teacher, domain, _find_column(table, ("source_type", "source")))


def _find_column(table: Table, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _require_column(table: Table, named: str | None, usual: tuple[str, ...]) -> str:
    names = usual if named is None else (named,)
    found = _find_column(table, names)
    if found is None:
        lack = f"{table.name} has no column {' or '.join(names)}; it has {_listed(table.columns)}"
        raise SourceError(f"{lack}: name the right ones with --question-column NAME --answer-column NAME")
    return found


def _find_responses(table: Table, config: BuildConfig) -> tuple[Response | None, Response | None]:
    """The columns of the forward rows, and Gemini's where they are not those."""

    def find(*responses: Response) -> Response | None:
        return next((found for found in responses if {found.reasoning, found.answer} <= {*table.columns}), None)

    if "reference_answer" in table.columns and find(OWN):
        return OWN, None
    deepseek, gemini = find(DEEPSEEK), find(GEMINI, S1K_GEMINI)
    return (deepseek, gemini) if config.forward_teacher == "deepseek" else (gemini, None)


def _remark_on_teacher(table: Table, columns: Columns, config: BuildConfig) -> str | None:
    """A line for a source whose reasoning is all by the other teacher than the one asked for: it costs money."""
    other = "gemini" if config.forward_teacher == "deepseek" else "deepseek"
    there = columns.gemini is not None if other == "gemini" else DEEPSEEK.reasoning in table.columns
    if columns.forward is not None or not there:
        return None
    whose = f"source: its reasoning is {other}'s, not {config.forward_teacher}'s, so the teacher writes the forward rows"
    return f"{whose} (--forward-teacher {other} takes the source's)"


# ── rows ──


def _read_table(table: Table, columns: Columns, notes: _Notes) -> Iterator[tuple[str, ForwardExample]]:
    for place, row in table.read(columns.wanted):
        if row is None:
            notes(place, "not a JSON object; skipped")
            continue
        example = _read_row(row, columns, partial(notes, place))
        if example is not None:
            yield place, example


def _read_row(row: dict[str, Any], columns: Columns, say: Note) -> ForwardExample | None:
    question = _read_text(row.get(columns.question), columns.question, say, otherwise="skipped")
    solution = question and _read_text(row.get(columns.solution), columns.solution, say, otherwise="skipped")
    if not question or not solution:
        return None
    reasoning, answer = _read_response(row, columns.forward, say)
    gemini_reasoning, gemini_answer = _read_response(row, columns.gemini, say)
    teacher = columns.forward.teacher if columns.forward is not None else None
    if columns.teacher is not None:
        teacher = _read_text(row.get(columns.teacher), columns.teacher, say) or None
    return ForwardExample(
        question=question,
        solution=solution,
        reasoning=reasoning,
        answer=answer,
        teacher=None if reasoning is None else teacher,
        gemini_reasoning=gemini_reasoning,
        gemini_answer=gemini_answer,
        domain=_read_label(row, columns.domain, say),
        source_type=_read_label(row, columns.source_type, say),
    )


def _read_response(row: dict[str, Any], columns: Response | None, say: Note) -> tuple[str | None, str | None]:
    """Reasoning and answer, or neither: half a response is none."""
    if columns is None:
        return None, None
    reasoning, answer = (_read_text(_only(row.get(name)), name, say) for name in (columns.reasoning, columns.answer))
    if reasoning and answer:
        return reasoning, answer
    if reasoning or answer:
        there, absent = (columns.reasoning, columns.answer) if reasoning else (columns.answer, columns.reasoning)
        say(f"column {absent!r} is empty, so {there!r} is not used")
    return None, None


def _only(value: object) -> object:
    """The one entry of a list: s1K keeps its trace in one, and so did the first s1K-1.1."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _read_label(row: dict[str, Any], column: str | None, say: Note) -> str:
    return "unknown" if column is None else _read_text(row.get(column), column, say) or "unknown"


def _read_text(value: object, column: str, say: Note, otherwise: str | None = None) -> str:
    """The text that `column` holds, or "" where it is blank or no text.

    What is odd is said, and so is that the column is blank where this has a consequence, which `otherwise` names.
    """
    text, oddity = _as_text(value)
    if not text.strip():
        if oddity or otherwise:
            say(f"column {column!r} {oddity or 'is empty'}; {otherwise or 'not used'}")
        return ""
    if oddity:
        say(f"column {column!r} {oddity}")
    return text


def _as_text(value: object) -> tuple[str, str | None]:
    """`value` as text, "" where it is none, and what is odd about it."""
    match value:
        case str():
            return clean_text(value), None
        case None:
            return "", None
        case float() if not math.isfinite(value):
            return "", None if math.isnan(value) else "is infinite"
        case bool():
            return "", "is a boolean"
        case int() | float() | Decimal():
            return str(value), "is a number, taken as text"
        case bytes():
            try:
                return value.decode(), "is bytes, taken as UTF-8 text"
            except UnicodeDecodeError:
                return "", "is not UTF-8 text"
        case _:
            return "", f"is of type {type(value).__name__}, not text"


# ── shuffling ──


def _shuffled(examples: Iterable[ForwardExample], seed: int) -> Iterator[ForwardExample]:
    """`examples` in the order of the SHA-256 of seed and `pair_id`.

    The order of two examples depends on them and the seed alone, so a row added to the source, taken out, or filtered
    by domain moves no other, and what was paid for under a limit stays useful. The examples wait in a temporary file.
    """
    try:
        with tempfile.TemporaryFile() as file, _scratch("CREATE TABLE place (key BLOB, offset INTEGER)") as db:
            for example in examples:
                key = hashlib.sha256(f"{seed}:{example.pair_id}".encode()).digest()[:8]
                db.execute("INSERT INTO place VALUES (?, ?)", (key, file.tell()))
                file.write(example.model_dump_json().encode() + b"\n")
            for (offset,) in db.execute("SELECT offset FROM place ORDER BY key, offset"):
                file.seek(offset)
                yield ForwardExample.model_validate_json(file.readline())
    except OSError as error:
        trouble = f"the shuffled source can't be kept in a temporary file ({error.strerror})"
        raise LocalError(f"{trouble}: set TMPDIR to a folder with room") from error


def _listed(names: Iterable[str]) -> str:
    """Up to 20 names, quoted and shortened: they are the source's, and may be anything."""
    shown = [repr(name[:60]) for name in islice(names, 21)]
    return ", ".join(shown[:20]) + (", …" if len(shown) > 20 else "")
