"""`accelerate launch r1k_train dpo --config RECIPE`: preference optimisation from an SFT adapter, or without one (Table 4)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch import Tensor
from trl import DPOConfig, DPOTrainer

from r1k_train import run
from r1k_train.ches import ches_everywhere, least_alike
from r1k_train.losses import OURS, PER_PAIR, Pairs, Strengths
from r1k_train.probe import probe_rows
from r1k_train.scoring import TOKENS_AT_ONCE, Scorable
from r1k_train.sft import Weighing


@dataclasses.dataclass
class DpoArguments(run.RunArguments):
    """What a DPO recipe may say beyond TRL's classes. `loss_type` may also name dpop, dpo_shift and unlikelihood."""

    adapter_name_or_path: str | None = dataclasses.field(
        default=None, metadata={"help": "The SFT adapter to start from; frozen, it is the reference too."}
    )
    dpop_lambda: float = dataclasses.field(default=50.0, metadata={"help": "DPOP's λ."})
    shift_lambda: float = dataclasses.field(default=0.95, metadata={"help": "DPO-Shift's f(λ); 1 is DPO."})
    filter_ches: float | None = dataclasses.field(
        default=None, metadata={"help": "Leave out this share of the pairs: those whose two responses are most alike by CHES."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.filter_ches is not None and not 0 < self.filter_ches < 1:
            raise ValueError("filter_ches is a share of the pairs between 0 and 1, as 0.5; leave it out to keep all")


class DirectedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's, with the losses of `PER_PAIR` and a weight per pair where a recipe asks for them; its own otherwise."""

    def __init__(self, *, arguments: DpoArguments, **given: Any) -> None:
        self.arguments = arguments
        super().__init__(**given)
        self.data_collator: Any = Weighing(self.data_collator)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:
            self._signature_columns += ["weight", self.args.length_column_name]

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        return super().compute_ref_log_probs(model, {name: value for name, value in inputs.items() if name != "weight"})

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        if not self.arguments.weighted and not set(self.loss_types) & set(OURS):
            return super()._compute_loss(model, inputs, return_outputs)
        weight = inputs.pop("weight", None)
        pairs = self._pairs(model, inputs)
        strengths = Strengths(self.beta, self.arguments.dpop_lambda, self.arguments.shift_lambda)
        parts = [
            share * PER_PAIR[name](pairs, strengths) for name, share in zip(self.loss_types, self.loss_weights, strict=True)
        ]
        per_pair: Tensor = torch.stack(parts).sum(dim=0)
        loss = (per_pair if weight is None else weight * per_pair).mean()
        self._note(pairs)
        return (loss, None) if return_outputs else loss

    def _pairs(self, model: Any, inputs: Any) -> Pairs:
        if self.precompute_ref_logps:
            ref_chosen, ref_rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            ref_chosen, ref_rejected = self.compute_ref_log_probs(self.ref_model or model, inputs)
        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        tokens = model(**given, labels=labels, use_cache=False, fused_lm_head=True).log_probs
        chosen, rejected = tokens.sum(dim=1).chunk(2)
        chosen_mask, rejected_mask = inputs["completion_mask"][:, 1:].chunk(2)
        return Pairs(chosen, rejected, ref_chosen, ref_rejected, tokens.chunk(2)[1], chosen_mask, rejected_mask)

    def _note(self, pairs: Pairs) -> None:
        """The metrics of TRL's that the paper's figures need."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        chosen, rejected = (self.beta * ratio.detach() for ratio in (pairs.chosen_ratio, pairs.rejected_ratio))
        found = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            "logps/chosen": pairs.chosen.detach(),
            "logps/rejected": pairs.rejected.detach(),
        }
        for name, values in found.items():
            metrics[name].append(self.accelerator.gather(values).mean().item())


def make_parser() -> Any:
    return run.make_parser(DpoArguments, DPOConfig)


def main(words: Sequence[str] | None = None) -> int:
    return run.reported(_main, words)


def _main(words: Sequence[str] | None) -> int:
    arguments, settings, model = run.parse(make_parser(), words)
    run.check_machine(settings, model)
    _check(arguments, settings)

    rows = run.load(arguments)
    if "chosen" not in rows.column_names:
        raise run.RecipeError("these rows have no chosen and rejected responses: type --dataset_config preference")
    run.check_model(model, arguments.untie_embeddings, arguments.adapter_name_or_path)
    tokenizer = run.load_tokenizer(model, rows, arguments)
    loaded = None
    filtered = ""
    if arguments.filter_ches is not None:
        loaded = run.load_model(model, tokenizer, settings, arguments.untie_embeddings, arguments.adapter_name_or_path)
        rows, filtered = _without_alike(rows, loaded[0], tokenizer, arguments, settings)
    shown, said = run.prepare(rows, arguments, settings, tokenizer)
    said = filtered + said
    if arguments.weighted:
        shown = shown.add_column("weight", run.row_weights(shown["direction"], arguments))
    run.write_record(settings, arguments, rows, said, model)

    base, adapter = loaded or run.load_model(
        model, tokenizer, settings, arguments.untie_embeddings, arguments.adapter_name_or_path
    )
    trainer = DirectedDPOTrainer(
        arguments=arguments, model=base, args=settings, train_dataset=shown, processing_class=tokenizer, peft_config=adapter
    )
    trainer.accelerator.print(said)
    run.add_probe(trainer, arguments, settings, tokenizer)
    run.finish(trainer, settings)
    return 0


def _without_alike(
    rows: Dataset, model: Any, tokenizer: Any, arguments: DpoArguments, settings: DPOConfig
) -> tuple[Dataset, str]:
    """The pairs that `filter_ches` leaves, and how many went, in a sentence; every score goes to `ches.parquet` of the run."""
    process = PartialState()
    shown = run.tagged(rows) if arguments.direction_tag else rows
    read = probe_rows(shown, tokenizer, arguments.reasoning_format, arguments.answer_prefix)
    sides = [[_cut(row.prompt, one.tokens, settings.max_length) for one in (row.preferred, row.dispreferred)] for row in read]
    preferred, dispreferred = ([pair[side] for pair in sides] for side in (0, 1))
    scores = ches_everywhere(model.to(process.device), preferred, dispreferred, process, TOKENS_AT_ONCE)
    kept = least_alike(scores, arguments.filter_ches or 0)
    if process.is_main_process:
        folder = Path(settings.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        names = rows.select_columns(["pair_id", "direction"]).to_list()
        record = [{**name, "ches": score, "kept": stays} for name, score, stays in zip(names, scores, kept, strict=True)]
        Dataset.from_list(record).to_parquet(str(folder / "ches.parquet"))
    left = rows.select([number for number, stays in enumerate(kept) if stays])
    least = min((score for score, stays in zip(scores, kept, strict=True) if not stays), default=max(scores))
    gone = len(rows) - len(left)
    return left, f"{gone:,} of {len(rows):,} pairs are left out, those with a CHES of {least:.3g} or more; "


def _cut(prompt: tuple[int, ...], response: tuple[int, ...], most: int | None) -> Scorable:
    """What the trainer will see of a sequence."""
    return Scorable(prompt[:most], response if most is None else response[: max(0, most - len(prompt))])


def _check(arguments: DpoArguments, settings: DPOConfig) -> None:
    """Refuse what the losses of `PER_PAIR` would leave out in silence, and a filter where weights are split."""
    if arguments.filter_ches is not None and run.sharded():
        raise run.RecipeError("--filter_ches needs whole weights, which ZeRO-3 and FSDP split: take accelerate/ddp.yaml")
    names = set(settings.loss_type)
    if not arguments.weighted and not names & set(OURS):
        return
    if names - set(PER_PAIR):
        raise run.RecipeError(
            f"{', '.join(sorted(names - set(PER_PAIR)))} can be combined neither with {', '.join(sorted(OURS))} nor with"
            f" direction weights: --loss_type may then be {', '.join(sorted(PER_PAIR))}"
        )
    if settings.ld_alpha is not None or settings.f_divergence_type != "reverse_kl" or settings.use_weighting:
        raise run.RecipeError("ld_alpha, f_divergence_type and use_weighting go with TRL's own losses only: leave them out")
