"""The folders that `eval` wrote, as `report` reads them: each response right or wrong, by row and benchmark."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from r1k_train.intervals import Interval, combined, wilson
from r1k_train.paper import BENCHMARKS, Cell, placed


class ReportError(ValueError):
    """A folder that is not an evaluation."""


class Evaluation(NamedTuple):
    """An evaluation's folder as read."""

    name: str
    scorer: str
    cells: list[Cell]
    why_none: str
    tasks: dict[str, dict[str, Any]]
    """Benchmark -> the figures of `evaluation.json`."""
    rows: dict[str, dict[str, float]]
    """Benchmark -> row id -> share of its responses that are right."""
    data: dict[str, str]
    """Benchmark -> which data were asked: a Hub dataset and its commit, or a file and its SHA-256."""

    def accuracy(self, benchmark: str) -> Interval | None:
        rows = self.rows.get(benchmark)
        return wilson(sum(rows.values()) / len(rows), len(rows)) if rows else None

    def average(self) -> Interval | None:
        parts = [part for part in map(self.accuracy, BENCHMARKS) if part]
        return combined(parts, [1 / 3] * 3) if len(parts) == len(BENCHMARKS) else None


def read(folder: Path, scorer: str) -> Evaluation:
    """One evaluation; ReportError where the folder holds none, or no judge's verdicts when those are wanted."""
    try:
        said = json.loads((folder / "evaluation.json").read_text())
        tasks = {task.removeprefix("r1k_"): figures for task, figures in said["tasks"].items()}
        steps = [(step["method"], step["dataset_config"]) for step in said["model"]["steps"]]
        cells, why = placed(said["model"]["size"], steps)
        rows = {name: _rows(folder / "samples" / f"r1k_{name}.jsonl", scorer) for name in tasks}
        data = {name: _origin(said.get("data", {}).get(f"r1k_{name}", {})) for name in tasks}
        label = scorer if scorer == "math-verify" else f"judge {said['judge']['model']}, {said['judge']['mode']}"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ReportError(f"{folder} is not an evaluation ({reason}): python -m r1k_train eval MODEL --out {folder}") from error
    return Evaluation(folder.name, label, cells, why, tasks, rows, data)


def _origin(data: dict[str, Any]) -> str:
    if "dataset" in data:
        return f"{data['dataset']} at {data['revision']}"
    return f"the file {data['file']}, SHA-256 {data['sha256'][:16]}" if "file" in data else ""


def _rows(file: Path, scorer: str) -> dict[str, float]:
    field = "correct" if scorer == "math-verify" else "judged"
    shares = {}
    with file.open() as lines:
        for line in lines:
            item = json.loads(line)
            if field not in item["responses"][0]:
                raise ValueError("no judge was asked: eval --judge gpt-4o-mini")
            shares[item["id"]] = sum(response[field] for response in item["responses"]) / len(item["responses"])
    return shares


def named_apart(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Folders of one name get a number."""
    names = [one.name for one in evaluations]
    return [
        one if names.count(one.name) == 1 else one._replace(name=f"{one.name} ({number})")
        for number, one in enumerate(evaluations, 1)
    ]
