"""What the runs of a study have left in its folder, as rows."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from r1k_train.measures import SETS
from r1k_train.study.design import ROTATED, Settings, result_file, run_names, thirds
from r1k_train.study.estimates import Cells, Row, cells


@dataclass(frozen=True)
class Run:
    """All bases' runs of one name. `answers`: a row a question. `margins`: a row a question with its ALPs."""

    name: str
    answers: tuple[Row, ...]
    margins: tuple[Row, ...]
    parameters: int
    seconds: float

    def of(self, rows: tuple[Row, ...], name: str) -> Iterator[Row]:
        return (row for row in rows if row["direction"] in SETS[name])

    def accuracy(self, name: str) -> Cells:
        """On T_f, T_r or T_m."""
        return cells(self.of(self.answers, name), lambda row: float(row["solved"]))

    def alp(self, name: str, measure: str) -> Cells:
        """`alp+`, `alp-` or `margin`, in nats a token."""
        return cells(self.of(self.margins, name), lambda row: row[measure])

    def share(self, outcome: str, name: str = "T_m") -> Cells:
        """Of sampled answers."""
        return cells(self.of(self.answers, name), lambda row: float(row["sampled"] == outcome))

    def seen_as(self, part: str) -> "Run":
        """The questions whose relation a rotation shows in `both` directions, in their `own` alone, or in the `other` alone."""
        answers, margins = (tuple(row for row in rows if row["part"] == part) for rows in (self.answers, self.margins))
        return Run(self.name, answers, margins, self.parameters, 0)


@dataclass(frozen=True)
class Results:
    """A study whose runs have all ended."""

    folder: Path
    settings: Settings

    @cached_property
    def runs(self) -> dict[str, Run]:
        """In the order in which a base makes them, all rotations together. Raises FileNotFoundError where one is missing."""
        found: dict[str, list[dict[str, Any]]] = {}
        for name in run_names(self.settings):
            files = [result_file(self.folder / f"base-{number}", name) for number in range(self.settings.bases)]
            found.setdefault(ROTATED if name.startswith(ROTATED) else name, []).extend(
                json.loads(file.read_text()) for file in files
            )
        return {name: _run(name, parts) for name, parts in found.items()}

    @property
    def seconds(self) -> float:
        """CPU time of all runs."""
        return sum(run.seconds for run in self.runs.values())


def _run(name: str, found: list[dict[str, Any]]) -> Run:
    answers: list[Row] = []
    margins: list[Row] = []
    for one in found:
        part = _parts(one)
        relations = {answer["pair_id"]: answer["relation"] for answer in one["answers"]}
        answers += [{**row, "base": one["base"], "part": part(row["relation"], row["direction"])} for row in one["answers"]]
        for (pair_id, direction), alps in _sides(one["scores"]).items():
            relation = relations[pair_id]
            margins.append({
                "base": one["base"], "relation": relation, "direction": direction, "part": part(relation, direction),
                "alp+": alps["preferred"], "alp-": alps["dispreferred"], "margin": alps["preferred"] - alps["dispreferred"],
            })  # fmt: skip
    return Run(name, tuple(answers), tuple(margins), found[0]["parameters"], sum(one["seconds"] for one in found))


def _parts(one: Mapping[str, Any]) -> Callable[[str, str], str | None]:
    """How a run's training has shown a question's relation and direction."""
    if not one["run"].startswith(ROTATED):
        return lambda _relation, _direction: None
    turn = int(one["run"].split()[1]) - 1
    shown = thirds(one["relations"], turn)
    return lambda relation, direction: {"both": "both", direction: "own"}.get(shown[relation], "other")


def _sides(scores: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, float]]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        found.setdefault((score["pair_id"], score["direction"]), {})[score["response"]] = score["alp"]
    return found
