"""The probe during training: a callback for TRL's trainers that measures every so many steps or epochs, and says so when the
preferred responses are losing likelihood while the margin grows.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from r1k_train.measures import SETS, WINDOWS, Estimate, ProbeRow, Record, displacement, scorables, summarise, tabulate
from r1k_train.scoring import TOKENS_AT_ONCE, Scorable, TokenScores, score


class ProbeCallback(TrainerCallback):
    """Scores `rows` before the first step, then every `steps` steps and every `epochs` epochs, and at the end.

    After each it writes `scores.parquet` and `summary.json` under `output` anew, as the `probe` command does, so that figures
    can be drawn while training goes on. Its means stand in the trainer's own log, as `probe/T_m/margin` and so on.
    """

    def __init__(
        self,
        rows: Sequence[ProbeRow],
        output: Path,
        *,
        steps: int | None = None,
        epochs: int | None = None,
        windows: Sequence[int] = WINDOWS,
        answers: bool = False,
        tokens_at_once: int = TOKENS_AT_ONCE,
    ) -> None:
        self.rows = rows
        self.output = output
        self.points: list[dict[str, Any]] = []
        self._steps, self._epochs = steps, epochs
        self._windows, self._tokens_at_once = windows, tokens_at_once
        self._sequences = scorables(rows, longest=max(windows), answers=answers)
        self._records: list[Record] = []
        self._summaries: list[dict[str, dict[str, Estimate]]] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:  # noqa: ARG002
        self._resume(state)
        self._measure(args, state, more["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:  # noqa: ARG002
        if self._steps and state.global_step % self._steps == 0:
            self._measure(args, state, more["model"])

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:  # noqa: ARG002
        if self._epochs and round(state.epoch or 0) % self._epochs == 0:
            self._measure(args, state, more["model"])

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:  # noqa: ARG002
        self._measure(args, state, more["model"])

    def _resume(self, state: TrainerState) -> None:
        """Take back the points up to the checkpoint that training resumes from."""
        path = self.output / "summary.json"
        if not state.global_step or not path.exists():
            return
        self.points = [point for point in json.loads(path.read_text())["points"] if point["step"] <= state.global_step]
        kept = Dataset.from_parquet(str(self.output / "scores.parquet")).to_list()
        self._records = [record for record in kept if record["step"] <= state.global_step]
        self._summaries = [
            {name: {measure: Estimate(**found) for measure, found in sets.items()} for name, sets in point["sets"].items()}
            for point in self.points
        ]

    def _measure(self, args: TrainingArguments, state: TrainerState, model: nn.Module) -> None:
        if self.points and self.points[-1]["step"] == state.global_step:
            return  # the end of an epoch is a step, too
        process = PartialState()
        scores = everywhere(model, self._sequences, process, self._tokens_at_once)
        records = tabulate(self.rows, self._sequences, scores, self._windows)
        summary = summarise(records, str(max(self._windows)))
        run = Path(str(args.output_dir)).name
        self._records += [{"run": run, "step": state.global_step, "epoch": state.epoch, **record} for record in records]
        self._summaries.append(summary)
        plain = {name: {measure: vars(found) for measure, found in sets.items()} for name, sets in summary.items()}
        self.points.append({"run": run, "step": state.global_step, "epoch": state.epoch, "path": None, "sets": plain})
        means = {f"probe/{name}/{measure}": found.value for name, sets in summary.items() for measure, found in sets.items()}
        state.log_history.append({"step": state.global_step, "epoch": state.epoch, **means})
        if process.is_main_process:
            self._write()
            self._warn()

    def _write(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(self._records).to_parquet(str(self.output / "scores.parquet"))
        content = {"windows": list(self._windows), "window": str(max(self._windows)), "points": self.points}
        beside = self.output / "summary.json.new"
        beside.write_text(json.dumps(content, indent=2) + "\n")
        beside.replace(self.output / "summary.json")

    def _warn(self) -> None:
        for name in SETS:
            if said := displacement(self._summaries[0].get(name, {}), self._summaries[-1].get(name, {})):
                print(f"{name}, step {self.points[-1]['step']}: {said}")
                return


def everywhere(
    model: nn.Module, sequences: Sequence[Scorable], process: PartialState, tokens_at_once: int
) -> list[TokenScores]:
    """`score`, each process taking its share, the longest spread evenly; every process gets all scores.

    Under ZeRO-3 each layer is gathered from all processes whenever one runs it, so there all of them score everything.
    """
    if process.num_processes == 1 or is_deepspeed_zero3_enabled():  # type: ignore[no-untyped-call]
        return score(model, sequences, tokens_at_once=tokens_at_once)
    from accelerate.utils import gather_object

    order = sorted(range(len(sequences)), key=lambda number: -len(sequences[number]))
    mine = order[process.process_index :: process.num_processes]
    scores = score(model, [sequences[number] for number in mine], tokens_at_once=tokens_at_once)
    gathered = dict(gather_object(list(zip(mine, scores, strict=True))))
    return [gathered[number] for number in range(len(sequences))]
