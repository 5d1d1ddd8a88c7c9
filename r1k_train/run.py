"""What SFT and DPO share: what a recipe may say beyond TRL's own classes, the rows and the model that it names, and the record
that a run leaves.
"""

import dataclasses
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config

from r1k_train import data, tiny
from r1k_train.lm_head import save_adapter_alone, show_adapted_head, untie
from r1k_train.measures import WINDOWS
from r1k_train.probe import fitting, probe_rows
from r1k_train.probing import ProbeCallback
from r1k_train.scoring import context_length

Order = Literal["mixed", "forward-first", "reverse-first", "interleaved"]
TAGS = {"forward": "Direction: forward.", "reverse": "Direction: reverse."}
"""The system turn that `direction_tag` adds."""


class RecipeError(Exception):
    """What a user can mend about a recipe or this machine, in one sentence that says what to type."""


def _field(default: Any, help: str) -> Any:  # noqa: A002  the name that argparse has
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass
class RunArguments(ScriptArguments):  # type: ignore[misc]
    """What a recipe may say beyond TRL's classes."""

    dataset_revision: str | None = _field(None, "Commit, tag or branch of a Hub dataset.")
    reasoning_format: data.ReasoningFormat = _field(  # noqa: RUF009  a dataclass field
        "s1", "s1: <|im_start|>think and answer (the paper); think: <think> tags."
    )
    answer_prefix: str = _field("", "Put before the answer in both directions.")
    max_prompt_length: int | None = _field(None, "Longer prompts are counted, and refused beyond 1 % of rows (tokens).")
    overlong: Literal["refuse", "gemini"] = _field(
        "refuse", "gemini: forward rows beyond max_length come from forward-gemini (A.4.1)."
    )
    allow_truncation: bool = _field(False, "Cut rows beyond the limits even where they are more than 1 %.")
    untie_embeddings: bool = _field(False, "Give the head its own copy of tied embeddings (Qwen2.5-3B).")
    direction_tag: bool = _field(False, "Name the direction in a system turn.")
    order: Order = _field(  # noqa: RUF009  a dataclass field
        "mixed", "Order of directions within an epoch; all but mixed keep it (no shuffling)."
    )
    forward_weight: float = _field(1.0, "Weight of forward rows in the loss.")
    reverse_weight: float = _field(1.0, "Weight of reverse rows in the loss.")
    probe_steps: int | None = _field(None, "Probe the model every so many steps, into the run's folder.")
    probe_epochs: int | None = _field(None, "Probe it every so many epochs (the paper: SFT 2, DPO 1; sections 3.2, 4.4).")
    probe_config: str = _field("probe", "The dataset's configuration that is probed.")

    def __post_init__(self) -> None:
        if min(self.forward_weight, self.reverse_weight) < 0:
            raise ValueError("forward_weight and reverse_weight may not be negative")
        if any(every is not None and every < 1 for every in (self.probe_steps, self.probe_epochs)):
            raise ValueError("probe_steps and probe_epochs are 1 or more; leave both out to probe nothing")
        if _fsdp() and (self.probe_steps or self.probe_epochs):
            raise ValueError("the probe does not run during training under FSDP: leave it out, and `probe --checkpoints` after")

    @property
    def weighted(self) -> bool:
        return self.forward_weight != 1 or self.reverse_weight != 1


def reported(command: Callable[[Sequence[str] | None], int], words: Sequence[str] | None) -> int:
    """Run a command; what its user can mend is one sentence and status 2."""
    try:
        return command(words)
    except (RecipeError, data.DataError) as error:
        if PartialState().is_main_process:
            print(f"r1k_train: {error}", file=sys.stderr)
        return 2


def parse(parser: Any, words: Sequence[str] | None) -> tuple[Any, ...]:
    """The recipe and what overrides it, as the parser's classes. Raises RecipeError for what they refuse."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        return tuple(parser.parse_args_and_config(words))
    except (OSError, yaml.YAMLError) as error:
        raise RecipeError(f"the recipe can't be read: {error}") from error
    except (ValueError, TypeError, ImportError) as error:
        hint = "" if torch.cuda.is_available() else "; there is no GPU here: --use_cpu true --bf16 false runs without one"
        raise RecipeError(f"the recipe can't run here: {' '.join(str(error).split())}{hint}") from error


def make_parser(*classes: type) -> Any:
    return TrlParser((*classes, ModelConfig))


# -- rows ----------------------------------------------------------------------------------------------------------


def load(arguments: RunArguments) -> Dataset:
    """The rows that a recipe names, as stored."""
    if arguments.dataset_name is None:
        raise RecipeError("no dataset is named: type --dataset_name r1k (a folder, a Hub id or a Parquet file)")
    return data.load_rows(arguments.dataset_name, arguments.dataset_config, arguments.dataset_revision)


def prepare(rows: Dataset, arguments: RunArguments, settings: Any, tokenizer: Any) -> tuple[Dataset, str]:
    """Rows as the trainer takes them, and what the length limits cut, in a sentence."""
    shown = shape(rows, arguments)
    found = data.lengths(shown, tokenizer)
    said = ""
    if arguments.overlong == "gemini" and settings.max_length is not None:
        if "completion" not in rows.column_names:
            raise RecipeError("--overlong gemini needs rows with a completion: preference pairs have none")
        others = data.load_rows(str(arguments.dataset_name), "forward-gemini", arguments.dataset_revision)
        fits = [sum(one) <= settings.max_length for one in found]
        rows, replaced, missing = data.without_overlong(rows, fits.__getitem__, others)
        said = f"{replaced:,} forward rows beyond {settings.max_length:,} tokens are Gemini's, {missing:,} have none; "
        shown = shape(rows, arguments)
        found = data.lengths(shown, tokenizer)
    said += data.check_lengths(
        found,
        max_length=settings.max_length,
        max_prompt_length=arguments.max_prompt_length,
        allow_truncation=arguments.allow_truncation,
    )
    keep = {"prompt", *data.RESPONSES, *(["direction"] if arguments.weighted else [])}
    shown = shown.remove_columns(sorted(set(shown.column_names) - keep))
    if arguments.order != "mixed":
        settings.train_sampling_strategy = "sequential"
    elif settings.train_sampling_strategy in {"group_by_length", "batch_rebalance"}:
        shown = shown.add_column(settings.length_column_name, [sum(one) for one in found])
    return shown, said


def shape(rows: Dataset, arguments: RunArguments) -> Dataset:
    """Rows in the order asked for, tagged if asked for, their responses rendered."""
    rows = ordered(rows, arguments.order)
    if arguments.direction_tag:
        rows = tagged(rows)
    return data.rendered(rows, arguments.reasoning_format, arguments.answer_prefix)


def add_probe(trainer: Any, arguments: RunArguments, settings: Any, tokenizer: Any) -> None:
    """Probe during training where the recipe asks for it: `probe/` in the run's folder is what `figures` draws."""
    if arguments.probe_steps is None and arguments.probe_epochs is None:
        return
    rows = data.load_rows(str(arguments.dataset_name), arguments.probe_config, arguments.dataset_revision)
    if "chosen" not in rows.column_names:
        raise RecipeError(f"{arguments.probe_config} has no pairs of responses: type --probe_config probe or preference")
    if arguments.direction_tag:
        rows = tagged(rows)
    read = probe_rows(rows, tokenizer, arguments.reasoning_format, arguments.answer_prefix)
    kept, notes = fitting(read, max(WINDOWS), False, context_length(trainer.model))
    trainer.accelerator.print(*(f"probe: {line}" for line in notes), f"probe: {len(kept)} rows", sep="\n")
    folder = Path(settings.output_dir) / "probe"
    trainer.add_callback(ProbeCallback(kept, folder, steps=arguments.probe_steps, epochs=arguments.probe_epochs))


def tagged(rows: Dataset) -> Dataset:
    """`rows` with a system turn that names each one's direction."""

    def tag(row: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": [{"role": "system", "content": TAGS[row["direction"]]}, *row["prompt"]]}

    return rows.map(tag, desc="naming directions")


def ordered(rows: Dataset, order: Order) -> Dataset:
    """All of one direction before the other, or each pair's two rows side by side; `mixed` is left to the sampler."""
    if order == "mixed":
        return rows
    if order == "interleaved":
        places: dict[str, int] = {}
        for pair_id in rows["pair_id"]:
            places.setdefault(pair_id, len(places))
        keys = [(places[pair_id], direction) for pair_id, direction in zip(rows["pair_id"], rows["direction"], strict=True)]
        return rows.select(sorted(range(len(rows)), key=keys.__getitem__))
    first = order.removesuffix("-first")
    return concatenate_datasets(
        [rows.filter(lambda row: row["direction"] == first), rows.filter(lambda row: row["direction"] != first)]
    )


def row_weights(directions: Sequence[str], arguments: RunArguments) -> list[float]:
    weight = {"forward": arguments.forward_weight, "reverse": arguments.reverse_weight}
    return [weight[direction] for direction in directions]


# -- model ---------------------------------------------------------------------------------------------------------


def check_machine(settings: Any, model: ModelConfig) -> None:
    """Refuse, before anything large is read, what can't run here; say what runs otherwise than written."""
    if model.attn_implementation == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise RecipeError(
            "flash-attn is not installed: type --attn_implementation sdpa, or pip install '.[flash]' --no-build-isolation"
        )
    if "8bit" in settings.optim and (settings.use_cpu or importlib.util.find_spec("bitsandbytes") is None):
        why = "the CPU has no 8-bit optimiser" if settings.use_cpu else "bitsandbytes is not installed"
        if PartialState().is_main_process:
            print(f"r1k_train: {why}: adamw_torch instead of {settings.optim}", file=sys.stderr)
        settings.optim = "adamw_torch"


def load_tokenizer(model: ModelConfig, rows: Dataset, arguments: RunArguments) -> Any:
    if model.model_name_or_path == tiny.NAME:
        shown = data.rendered(rows, arguments.reasoning_format, arguments.answer_prefix)
        columns = sorted(set(shown.column_names) & {"prompt", *data.RESPONSES})
        return tiny.make_tokenizer(turn["content"] for column in columns for turns in shown[column] for turn in turns)
    return _reached(model, lambda name: AutoTokenizer.from_pretrained(name, revision=model.model_revision))


def _reached(model: ModelConfig, read: Callable[[str], Any]) -> Any:
    if model.model_name_or_path is None:
        raise RecipeError("no model is named: type --model_name_or_path Qwen/Qwen2.5-7B-Instruct, a folder, or tiny")
    try:
        return read(model.model_name_or_path)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "")[:300]
        raise RecipeError(f"{model.model_name_or_path} can't be reached ({reason}): check --model_name_or_path") from error


def check_model(model: ModelConfig, untied: bool, adapter: str | None = None) -> None:
    """Refuse, from its configuration alone, a model that can't be trained as the recipe says."""
    if adapter is not None:
        try:
            on_head = "lm_head" in (PeftConfig.from_pretrained(adapter).target_modules or ())
        except (OSError, ValueError) as error:
            raise RecipeError(f"{adapter} holds no adapter that can be read: check --adapter_name_or_path") from error
    else:
        on_head = model.use_peft and "lm_head" in (model.lora_target_modules or ())
    if (on_head or untied) and sharded():
        raise RecipeError(
            "an adapter on lm_head does not train under ZeRO-3 or FSDP: type --lora_target_modules q_proj k_proj v_proj o_proj"
            " gate_proj up_proj down_proj --untie_embeddings false, or take accelerate/ddp.yaml"
        )
    if model.model_name_or_path == tiny.NAME:
        return
    config = _reached(model, lambda name: AutoConfig.from_pretrained(name, revision=model.model_revision))
    if on_head and config.get_text_config().tie_word_embeddings and not untied:
        raise RecipeError(
            f"{model.model_name_or_path} ties its head to its embeddings, so that an adapter on lm_head would change both:"
            " type --untie_embeddings true, or leave lm_head out of --lora_target_modules"
        )


def load_model(model: ModelConfig, tokenizer: Any, settings: Any, untied: bool, adapter: str | None = None) -> tuple[Any, Any]:
    """The model, and the configuration of the adapter that the trainer is to make.

    With `adapter` the model carries that one, trainable, and the second is None.
    """
    if model.model_name_or_path == tiny.NAME:
        base = tiny.make_model(tokenizer, settings.seed)
    else:
        dtype = model.dtype if model.dtype in {"auto", None} else getattr(torch, str(model.dtype))
        base = AutoModelForCausalLM.from_pretrained(
            str(model.model_name_or_path),
            revision=model.model_revision,
            dtype=dtype or "auto",
            attn_implementation=model.attn_implementation,
        )
    if untied and base.config.tie_word_embeddings:
        untie(base)
    show_adapted_head(base)
    if adapter is not None:
        return PeftModel.from_pretrained(base, adapter, is_trainable=True), None
    return base, get_peft_config(model)


# -- record --------------------------------------------------------------------------------------------------------

PACKAGES = ("r1k", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "deepspeed", "bitsandbytes")


def resolved(*parts: Any) -> dict[str, Any]:
    """What differs from its default, of all arguments: a recipe that makes the same run. Tokens of the Hub are left out."""
    found = {}
    for part in parts:
        fresh = {one.name: one for one in dataclasses.fields(part) if one.init}
        for name, one in fresh.items():
            default = one.default_factory() if callable(one.default_factory) else one.default
            value = getattr(part, name)
            if value != default and "token" not in name.replace("tokens", "") and _plain(value):
                found[name] = value.value if hasattr(value, "value") else value
    return found


def _plain(value: Any) -> bool:
    value = getattr(value, "value", value)
    return value is None or isinstance(value, (str, int, float, bool, list, dict))


def write_record(settings: Any, arguments: RunArguments, rows: Dataset, said: str, *parts: Any) -> None:
    """`recipe.yaml` and `run.json` in the run's folder, by the main process: what would make this run again."""
    if not PartialState().is_main_process:
        return
    folder = Path(settings.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(resolved(arguments, settings, *parts), sort_keys=True))
    record = {
        "versions": {name: _version(name) for name in PACKAGES},
        "dataset": {
            "name": arguments.dataset_name,
            "config": arguments.dataset_config,
            "revision": data.commit_of(rows) or arguments.dataset_revision,
            "rows": len(rows),
            "sha256": data.digest(rows),
            "lengths": said,
        },
        "seed": settings.seed,
        "processes": PartialState().num_processes,
    }
    (folder / "run.json").write_text(json.dumps(record, indent=2) + "\n")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def finish(trainer: Any, settings: Any) -> None:
    """Train, from a checkpoint if asked; save model, tokenizer and card; push if asked."""
    save_adapter_alone(trainer.model)
    trainer.train(resume_from_checkpoint=_checkpoint(settings.resume_from_checkpoint))
    trainer.save_model(settings.output_dir)
    trainer.save_state()
    if trainer.accelerator.is_main_process:
        trainer.create_model_card(model_name=Path(settings.output_dir).name)
    if settings.push_to_hub:
        trainer.push_to_hub()


def _checkpoint(asked: str | None) -> str | bool | None:
    return {"true": True, "false": False}.get(asked.lower(), asked) if isinstance(asked, str) else asked


def sharded() -> bool:
    """Whether weights are split between processes, so that none holds the head."""
    zero3: bool = is_deepspeed_zero3_enabled()  # type: ignore[no-untyped-call]
    return zero3 or _fsdp()


def _fsdp() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"
