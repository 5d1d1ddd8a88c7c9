"""The benchmarks that questions are compared with: named, read once, and kept in the build, so that a dataset can be made
again from its folder alone, wherever the Hub is."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from r1k_builder.config import BENCHMARKS, EMBEDDED, BuildConfig
from r1k_builder.errors import SourceError, UsageError
from r1k_builder.folder import local_errors
from r1k_builder.source import open_table
from r1k_builder.verify.contamination import Benchmark, Benchmarks

QUESTION_COLUMNS = ("problem", "question", "Question", "prompt")
MOST_ITEMS = 100_000


class Known(NamedTuple):
    """Where the Hub has a benchmark."""

    repo_id: str
    configuration: str | None
    split: str


KNOWN = {
    "aime24": Known("HuggingFaceH4/aime_2024", None, "train"),
    "math500": Known("HuggingFaceH4/MATH-500", None, "test"),
    "gpqa-diamond": Known("Idavidrein/gpqa", "gpqa_diamond", "train"),
}
"""The paper's three (section 4.1)."""


def named(config: BuildConfig) -> dict[str, str]:
    """The benchmarks that a build names, each with the file or Hub id it is read from. Raises UsageError for an unknown name.

    The embedded bank, whose questions nobody evaluates on, is compared only with what is asked for.
    """
    if not config.benchmarks or (config.source == EMBEDDED and config.benchmarks == BENCHMARKS):
        return {}
    found = {}
    for part in config.benchmarks.split(","):
        name, given, where = part.strip().partition("=")
        if not given and name not in KNOWN:
            raise UsageError(
                f"--benchmarks {name!r} is not known ({', '.join(KNOWN)}): name it as {name or 'NAME'}=FILE_OR_HUB_ID"
            )
        found[name] = where if given else KNOWN[name].repo_id
    return found


def bring(config: BuildConfig, state: Path, note: Callable[[str], None]) -> None:
    """Keep the questions of each named benchmark under `state`, the build's own folder, where they are not kept yet.

    A Hub that can't be reached, or refuses, is told to `note` and tried again by the next run. Raises UsageError for a file
    that can't be read.
    """
    unreached: dict[str, list[str]] = {}
    for name, where in named(config).items():
        path = _place(state, name, where)
        if path.exists():
            continue
        try:
            questions, fingerprint = _read(name, where)
        except SourceError as error:
            if Path(where).exists() or not _is_hub_id(where):
                raise UsageError(f"benchmark {name}: {error}".replace("--source", "--benchmarks")) from error
            unreached.setdefault(str(error).partition(": ")[0].removesuffix(f" for {where}"), []).append(name)
            continue
        with local_errors(path.parent):
            path.parent.mkdir(exist_ok=True)
            beside = path.with_name(f"{path.stem}-{uuid4().hex}.new")  # a shard beside this one may write it, too
            beside.write_text(json.dumps({"name": name, "where": where, "fingerprint": fingerprint, "questions": questions}))
            beside.replace(path)
    for reason, names in unreached.items():
        note(f"questions are not compared with {', '.join(names)}, and their contamination stays unknown: {reason}")


def load(config: BuildConfig, state: Path) -> Benchmarks:
    """The named benchmarks as they are kept under `state`."""
    return Benchmarks(Benchmark(name, kept["questions"] if kept else None) for name, _, kept in _kept(config, state))


def described(config: BuildConfig, state: Path) -> dict[str, Any]:
    """For the manifest: where each named benchmark was read, its fingerprint and size; None for what could not be reached."""
    return {
        name: {
            "where": where,
            "fingerprint": kept["fingerprint"] if kept else None,
            "items": len(kept["questions"]) if kept else None,
        }
        for name, where, kept in _kept(config, state)
    }


def _kept(config: BuildConfig, state: Path) -> Iterator[tuple[str, str, Mapping[str, Any] | None]]:
    for name, where in named(config).items():
        path = _place(state, name, where)
        yield name, where, json.loads(path.read_text()) if path.exists() else None


def _place(state: Path, name: str, where: str) -> Path:
    return state / "benchmarks" / f"{hashlib.sha256(f'{name}={where}'.encode()).hexdigest()[:16]}.json"


def _is_hub_id(where: str) -> bool:
    return where.count("/") == 1 and not where.startswith((".", "/", "~"))


def _read(name: str, where: str) -> tuple[list[str], str]:
    """A benchmark's questions and the fingerprint of where they were read. Raises SourceError where they can't be."""
    known = KNOWN.get(name)
    table = open_table(where, known.configuration if known else None, known.split if known else None)
    column = next((column for column in QUESTION_COLUMNS if column in table.columns), None)
    if column is None:
        raise SourceError(
            f"{where} has none of the columns {', '.join(QUESTION_COLUMNS)}: rename the one that holds the questions"
        )
    questions: list[str] = []
    for _, row in table.read([column]):
        question = (row or {}).get(column)
        if isinstance(question, str) and question.strip() and len(questions) < MOST_ITEMS:
            questions.append(question)
    if not questions:
        raise SourceError(f"{where} holds no questions in its column {column}: give another file")
    return questions, table.fingerprint
