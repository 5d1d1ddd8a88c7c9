"""`accelerate launch r1k_train sft --config RECIPE`: supervised fine-tuning, of an adapter or of all weights."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from trl import SFTConfig, SFTTrainer

from r1k_train import run, tiny
from r1k_train.lm_head import head_on_labels_alone


@dataclasses.dataclass
class SftArguments(run.RunArguments):
    """What an SFT recipe may say beyond TRL's classes."""

    both_responses: bool = dataclasses.field(
        default=False, metadata={"help": "Of preference rows learn the rejected response too, as a row of its own."}
    )


class DirectedSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's, with a weight per row: the loss is Σ w·nll over all response tokens, divided by their number."""

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:
            self._signature_columns += ["weight", self.args.length_column_name]

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        weight = inputs.pop("weight", None)
        if weight is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs["use_cache"] = False
        outputs = model(**inputs, fused_lm_head=True)
        tokens = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss: Tensor = -(outputs.log_probs * weight[:, None]).sum() / torch.as_tensor(tokens).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


@dataclasses.dataclass
class Weighing:
    """A collator's batch, with each row's weight beside it where rows have one."""

    collate: Any

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self.collate(rows)
        if "weight" in rows[0]:
            batch["weight"] = torch.tensor([row["weight"] for row in rows])
        return batch


def make_parser() -> Any:
    return run.make_parser(SftArguments, SFTConfig)


def main(words: Sequence[str] | None = None) -> int:
    return run.reported(_main, words)


def _main(words: Sequence[str] | None) -> int:
    arguments, settings, model = run.parse(make_parser(), words)
    run.check_machine(settings, model)
    if arguments.weighted and settings.packing:
        raise run.RecipeError("packed rows have no weight of their own: type --packing false, or leave the weights at 1")

    rows = responses(run.load(arguments), arguments.both_responses)
    run.check_model(model, arguments.untie_embeddings)
    tokenizer = run.load_tokenizer(model, rows, arguments)
    shown, said = run.prepare(rows, arguments, settings, tokenizer)
    if arguments.weighted:
        shown = shown.add_column("weight", run.row_weights(shown["direction"], arguments))
    run.write_record(settings, arguments, rows, said, model)

    base, adapter = run.load_model(model, tokenizer, settings, arguments.untie_embeddings)
    trainer = DirectedSFTTrainer(
        model=base, args=settings, train_dataset=shown, processing_class=tokenizer, peft_config=adapter
    )
    trainer.data_collator = Weighing(trainer.data_collator)
    if model.model_name_or_path == tiny.NAME:
        head_on_labels_alone(base)
    trainer.accelerator.print(said)
    run.add_probe(trainer, arguments, settings, tokenizer)
    run.finish(trainer, settings)
    return 0


def responses(rows: Dataset, both: bool) -> Dataset:
    """Rows with a `completion`: of preference rows the chosen response, and with `both` the rejected one after it."""
    if "completion" in rows.column_names:
        if both:
            raise run.RecipeError("--both_responses needs rows with chosen and rejected: type --dataset_config preference")
        return rows
    sides = [("chosen", "rejected"), ("rejected", "chosen")][: 2 if both else 1]
    parts = [rows.remove_columns(other).rename_column(side, "completion") for side, other in sides]
    return concatenate_datasets(parts)
