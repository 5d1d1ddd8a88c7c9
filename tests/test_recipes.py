"""Every recipe through the real parser, every accelerate file through accelerate's own."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from r1k_train import dpo, sft

RECIPES = Path(__file__).parents[1] / "r1k_train" / "recipes"
FILES = sorted([*RECIPES.glob("sft/*.yaml"), *RECIPES.glob("dpo/*.yaml"), *RECIPES.glob("tiny/*.yaml")])
HERE = ["--use_cpu", "true", "--bf16", "false"]


def parsed(path: Path) -> Any:
    command = dpo if "dpo" in (path.parent.name, path.stem) else sft
    return command.make_parser().parse_args_and_config(["--config", str(path), *HERE])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_recipe(path: Path) -> None:
    arguments, settings, model = parsed(path)
    written = yaml.safe_load(path.read_text())
    for name, value in written.items():
        if name in {"use_cpu", "bf16", "report_to"}:  # the first two are HERE; "none" is parsed to nothing
            continue
        holder = next(part for part in (arguments, settings, model) if hasattr(part, name))
        found = getattr(holder, name)
        assert getattr(found, "value", found) == value, name
    # TRL's default is 0.05: with it, two processes do not give the losses of one
    assert not written.get("use_peft") or written["lora_dropout"] == 0


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name != "tiny"], ids=lambda path: path.stem)
def test_each_value_of_a_paper_recipe_says_where_it_is_from(path: Path) -> None:
    if path.stem == "released-code":
        return
    exempt = {"dataset_name", "output_dir", "logging_steps", "save_strategy", "save_steps", "save_only_model", "report_to"}
    for line in path.read_text().splitlines():
        name = line.split(":")[0]
        assert line.startswith("#") or "  # " in line or name in exempt, line


def test_the_papers_values() -> None:
    _, settings, model = parsed(RECIPES / "sft" / "7b.yaml")
    assert (model.lora_r, model.lora_alpha, model.lora_target_modules[-1]) == (256, 512, "lm_head")
    assert (settings.learning_rate, settings.adam_beta2, settings.weight_decay) == (3e-4, 0.95, 1e-6)
    assert settings.lr_scheduler_type == "cosine_with_restarts"
    assert settings.get_warmup_steps(1000) == 50
    _, settings, _ = parsed(RECIPES / "dpo" / "7b.yaml")
    assert (settings.beta, settings.max_steps, settings.learning_rate, settings.gradient_accumulation_steps) == (
        0.6,
        200,
        5e-7,
        4,
    )


@pytest.mark.parametrize("path", sorted(RECIPES.glob("accelerate/*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_it(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16"
    assert not config.use_cpu


def test_the_slurm_script_is_shell() -> None:
    subprocess.run(["bash", "-n", str(RECIPES / "accelerate" / "train.slurm")], check=True)


def test_the_table_names_recipes_that_exist() -> None:
    text = (RECIPES / "README.md").read_text()
    for folder, letter in (("sft", "S/"), ("dpo", "P/")):
        for word in text.split():
            if word.startswith(letter):
                name = word.removeprefix(letter).rstrip("`")
                for size in ("7b", "14b"):
                    assert (RECIPES / folder / name.replace("SIZE", size)).exists(), word
