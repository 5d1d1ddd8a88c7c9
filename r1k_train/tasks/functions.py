"""What the YAML files beside this one name: the rows of each task, and how a row's responses are scored.

Each loader takes what lm-eval hands it and gives {"test": rows} with one set of columns: `id` (of the content of the
question, so that two evaluations pair their rows), `prompt`, `gold`, `choices` (empty but for GPQA) and `kind` (`math` or
`choice`). A file may stand in for a Hub dataset: `R1K_AIME24`, `R1K_MATH500`, `R1K_GPQA_DIAMOND` and `R1K_BANK` name it
(JSON lines, JSON, CSV or Parquet with the dataset's columns; for the bank, a folder of `r1k-build` too).
"""

import atexit
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, load_dataset
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx's or httpx2's

from r1k_train.checker import Checker, first_equal, majority
from r1k_train.reading import LETTERS, choice, final_answer, split
from r1k_train.tasks import BANK

Row = dict[str, Any]

REASONING_END = "R1K_REASONING_END"
"""The variable with what ends the reasoning, where that is not `</think>`."""
GPQA_SEED = 0


class Hub(NamedTuple):
    """A benchmark's place on the Hub."""

    path: str
    split: str
    revision: str | None
    """The commit that is evaluated; None where none could be confirmed: the newest, which `origin` names."""
    name: str | None = None


HUB = {
    "aime24": Hub("simplescaling/aime24_nofigures", "train", None),  # what s1's harness reads
    "math500": Hub("HuggingFaceH4/MATH-500", "test", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"),
    # gated: accept its terms and log in, or name a file
    "gpqa_diamond": Hub("Idavidrein/gpqa", "train", "633f5ee89ab8ad4522a9f850766b73f62147ffdd", "gpqa_diamond"),
}
GOLDS = {"aime24": "26b2e319e14bdec51519f4cbb0a47ad57a80751c03b39c937514c67994cea9f2"}
"""SHA-256 of the sorted answers, one a line: what a revision that is not pinned must still hold."""


class DataMissing(ValueError):
    """A file that stands in for a dataset is not there, or not what it should be."""


def aime24(**_: Any) -> dict[str, Dataset]:
    """AIME 2024 without figures (the code of a figure is dropped; the problems stay 30)."""
    return _task(_math(row["problem"], row["answer"]) for row in _rows("aime24", ("problem", "answer")))


def math500(**_: Any) -> dict[str, Dataset]:
    """MATH-500, figures and all."""
    return _task(_item(row["problem"], str(row["answer"]), "math") for row in _rows("math500", ("problem", "answer")))


def gpqa_diamond(**_: Any) -> dict[str, Dataset]:
    """GPQA diamond with lettered choices, as s1's harness words them; their order hangs on their text and a seed alone."""
    names = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    return _task(_choices(*(str(row[name]).strip() for name in names)) for row in _rows("gpqa_diamond", names))


def bank_forward(**_: Any) -> dict[str, Dataset]:
    return _task(_item(row["question"], row["final_answer"], "math") for row in _bank("forward"))


def bank_reverse(**_: Any) -> dict[str, Dataset]:
    return _task(_item(row["question"], row["final_answer"], "math") for row in _bank("reverse"))


def _task(rows: Iterable[Row]) -> dict[str, Dataset]:
    return {"test": Dataset.from_list(list(rows))}


def _item(prompt: str, gold: str, kind: str, choices: tuple[str, ...] = ()) -> Row:
    name = hashlib.sha256(prompt.encode()).hexdigest()[:20]
    return {"id": name, "prompt": prompt, "gold": gold, "kind": kind, "choices": list(choices)}


def _math(problem: str, answer: Any) -> Row:
    without = re.sub(r"\s*\[asy\].*?\[/asy\]", "", problem, flags=re.DOTALL).strip()
    return _item(without, str(answer), "math")


def _choices(question: str, right: str, *wrong: str) -> Row:
    def place(text: str) -> bytes:
        return hashlib.sha256(json.dumps([GPQA_SEED, question, text]).encode()).digest()

    ordered = sorted((right, *wrong), key=place)
    lettered = "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, ordered, strict=True))
    return _item(f"{question}\n\n{lettered}", LETTERS[ordered.index(right)], "choice", tuple(ordered))


def _rows(name: str, columns: tuple[str, ...]) -> list[Row]:
    """The rows of the file that its variable names, else of the Hub's dataset."""
    file = _file(name)
    rows = _read(file, _variable(name)) if file else _from_hub(name)
    missing = [column for column in columns if not rows or column not in rows[0]]
    if missing:
        raise DataMissing(f"{file or HUB[name].path} lacks {', '.join(missing)}: r1k_{name} needs {', '.join(columns)}")
    if not file and name in GOLDS and GOLDS[name] != golds_digest(str(row["answer"]) for row in rows):
        raise DataMissing(
            f"{HUB[name].path} at {_commit(name)} has other answers than {name}: --file r1k_{name}=FILE names yours"
        )
    return rows


def _variable(name: str) -> str:
    return f"R1K_{name.upper()}"


def _file(name: str) -> Path | None:
    named = os.environ.get(_variable(name))
    return Path(named) if named else None


def origin(task: str) -> dict[str, str]:
    """Which data a task reads: the Hub's dataset and commit, or a file (the bank's, a folder's) and its SHA-256."""
    name = "bank" if task.startswith("r1k_bank") else task.removeprefix("r1k_")
    file = _file(name) or (BANK if name == "bank" else None)
    if file is None:
        return {"dataset": HUB[name].path, "revision": _commit(name)}
    content = freeze(file).encode() if file.is_dir() else file.read_bytes()
    return {"file": file.name, "sha256": hashlib.sha256(content).hexdigest()}


def golds_digest(golds: Iterable[str]) -> str:
    """Of answers that are integers, whatever zeros they begin with."""
    return hashlib.sha256("\n".join(sorted(str(int(gold)) for gold in golds)).encode()).hexdigest()


@cache
def _commit(name: str) -> str:
    """The pinned commit, else the newest; asked for once, so that what is named is what was read."""
    with _hub_errors(name):
        return HUB[name].revision or str(HfApi().dataset_info(HUB[name].path).sha)


def _from_hub(name: str) -> list[Row]:
    place = HUB[name]
    with _hub_errors(name):
        return list(load_dataset(place.path, place.name, split=place.split, revision=_commit(name)))


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataMissing(
            f"{HUB[name].path} can't be read from the Hub ({reason}): log in where it is gated, or --file r1k_{name}=FILE"
        ) from error


def _read(file: Path, variable: str) -> list[Row]:
    kinds = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
    if not file.is_file() or file.suffix not in kinds:
        raise DataMissing(f"{variable}={file}: there is no such file of the kinds {', '.join(kinds)}")
    if file.suffix == ".jsonl":  # as it is: datasets would guess a type per column
        return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    return list(load_dataset(kinds[file.suffix], data_files=str(file), split="train"))


def _bank(direction: str) -> list[Row]:
    """The frozen bank's rows of one direction, or those of the folder or file in R1K_BANK."""
    source = Path(os.environ.get("R1K_BANK") or BANK)
    text = freeze(source) if source.is_dir() else source.read_text()
    return [row for row in map(json.loads, text.splitlines()) if row["direction"] == direction]


def freeze(folder: Path) -> str:
    """A built folder's forward and reverse rows as JSON lines: direction, question, final answer."""
    files = [file for direction in ("forward", "reverse") for file in sorted((folder / direction).glob("*.parquet"))]
    if not files:
        raise DataMissing(
            f"{folder} has no forward or reverse rows: build one with r1k-build --source embedded --split heldout"
        )
    rows = (row for file in files for row in load_dataset("parquet", data_files=str(file), split="train"))
    kept = ({name: row[name] for name in ("direction", "question", "final_answer")} for row in rows if row["final_answer"])
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)


# -- scoring ---------------------------------------------------------------------------------------------------------


@cache
def _checker() -> Checker:
    """One worker for the whole evaluation."""
    checker = Checker()
    atexit.register(checker.close)
    return checker


def score(row: Row, responses: list[str]) -> list[Row]:
    """For each response of a row what was read in it: `answer` (None: unreadable), `correct`, `finished`, `group`.

    `correct` holds for one that equals the gold; unreadable ones are not correct and have `answer` None. `group` is the
    index of the first response with an equal answer, -1 where there is none to read.
    """
    end = os.environ.get(REASONING_END, "</think>")
    parts = [split(response, end) for response in responses]
    if row["kind"] == "choice":
        answers = [choice(part.answer, row["choices"]) for part in parts]
        correct = [answer == row["gold"] for answer in answers]
        groups = [-1 if answer is None else answers.index(answer) for answer in answers]
    else:
        stated = [final_answer(part.answer) for part in parts]
        verdicts = ["unreadable" if answer is None else _checker().compare(row["gold"], answer) for answer in stated]
        answers = [None if verdict == "unreadable" else answer for answer, verdict in zip(stated, verdicts, strict=True)]
        correct = [verdict == "equal" for verdict in verdicts]
        groups = first_equal(answers, _checker())
    return [
        {"answer": answer, "correct": right, "finished": part.finished, "group": group}
        for answer, right, part, group in zip(answers, correct, parts, groups, strict=True)
    ]


def process_results(row: Row, results: list[Any]) -> dict[str, float]:
    """lm-eval's hook: the row's metrics over its k responses.

    `accuracy` is their mean (avg@k, which estimates pass@1), `maj` whether the most frequent answer is right, `pass`
    whether any is; `unreadable` and `unfinished` are shares.
    """
    scores = score(row, _flat(results))
    return summary(scores)


def summary(scores: list[Row]) -> dict[str, float]:
    voted = majority([one["group"] for one in scores])
    count = len(scores)
    return {
        "accuracy": sum(one["correct"] for one in scores) / count,
        "maj": float(voted is not None and scores[voted]["correct"]),
        "pass": float(any(one["correct"] for one in scores)),
        "unreadable": sum(one["answer"] is None for one in scores) / count,
        "unfinished": sum(not one["finished"] for one in scores) / count,
    }


def _flat(results: list[Any]) -> list[str]:
    return [text for result in results for text in ([result] if isinstance(result, str) else result)]


def keep_all(responses: list[list[str]], _rows: list[Row]) -> list[list[str]]:
    """lm-eval's filter: every one of the k responses, where its default keeps the first."""
    return responses
