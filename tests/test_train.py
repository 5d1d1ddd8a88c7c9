"""The tiny recipes from end to end, on a folder of the embedded teacher: what is learnt, saved, resumed and refused."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from datasets import Dataset
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1k_train import data, dpo, merge, run, sft
from r1k_train.eval import merged
from r1k_train.sft import SftArguments
from tests.small_model import small_model, small_tokenizer

RECIPES = Path(__file__).parents[1] / "r1k_train" / "recipes"
PAIRS = ["--use_cpu", "true", "--dataset_name", "FOLDER", "--dataset_config", "preference"]
SHORT = ["--logging_steps", "1", "--disable_tqdm", "true", "--max_length", "512"]


class Runs(NamedTuple):
    """Folders of the three stages."""

    pretrain: Path
    sft: Path
    dpo: Path


def recipe(name: str, folder: Path, output: Path, *more: str) -> list[str]:
    return [
        "--config",
        str(RECIPES / f"tiny/{name}.yaml"),
        "--dataset_name",
        str(folder),
        "--output_dir",
        str(output),
        *SHORT,
        *more,
    ]


@pytest.fixture(scope="session")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All three stages, a few steps each."""
    made = Runs(*(tmp_path_factory.mktemp("runs") / name for name in Runs._fields))
    base = ["--model_name_or_path", str(made.pretrain)]
    few = ["--per_device_train_batch_size", "8"]
    assert sft.main(recipe("pretrain", folder, made.pretrain, "--max_steps", "12", *few)) == 0
    assert sft.main(recipe("sft", folder, made.sft, "--max_steps", "6", "--learning_rate", "3e-3", *base, *few)) == 0
    words = recipe("dpo", folder, made.dpo, "--max_steps", "6", *base, "--adapter_name_or_path", str(made.sft))
    assert dpo.main([*words, "--per_device_train_batch_size", "4", "--learning_rate", "1e-3"]) == 0
    return made


def logged(stage: Path, key: str = "loss") -> list[float]:
    history = json.loads((stage / "trainer_state.json").read_text())["log_history"]
    return [entry[key] for entry in history if key in entry]


def test_loss_falls(runs: Runs) -> None:
    for stage in (runs.pretrain, runs.sft):
        losses = logged(stage)
        assert losses[-1] < losses[0]


def test_every_matrix_of_the_adapter_has_moved(runs: Runs) -> None:
    weights = load_file(runs.sft / "adapter_model.safetensors")
    second = {name: one for name, one in weights.items() if ".lora_B." in name}
    assert len(second) == 2 * 7 + 1
    assert any("lm_head" in name for name in second)
    assert all(one.abs().max() > 0 for one in second.values())  # peft starts them at zero
    after = load_file(runs.dpo / "adapter_model.safetensors")
    assert set(after) == set(weights)
    assert all(not torch.equal(after[name], weights[name]) for name in weights)


def test_dpo_starts_at_ln_2_from_the_sft_model(runs: Runs) -> None:
    assert logged(runs.dpo)[0] == pytest.approx(math.log(2), abs=1e-5)
    assert logged(runs.dpo, "rewards/margins")[0] == pytest.approx(0, abs=1e-5)


def test_the_reference_is_the_sft_model_whatever_becomes_of_the_adapter(runs: Runs, folder: Path) -> None:
    words = ["--model_name_or_path", str(runs.pretrain), "--adapter_name_or_path", str(runs.sft)]
    arguments, settings, model = dpo.make_parser().parse_args_and_config(recipe("dpo", folder, runs.dpo, *words))
    tokenizer = AutoTokenizer.from_pretrained(runs.pretrain)
    rows = data.load_rows(str(folder), "preference").select(range(2))
    shown, _ = run.prepare(rows, arguments, settings, tokenizer)
    base, none = run.load_model(model, tokenizer, settings, False, str(runs.sft))
    assert none is None
    trainer = dpo.DirectedDPOTrainer(
        arguments=arguments, model=base, args=settings, train_dataset=shown, processing_class=tokenizer
    )
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if ".default." in name:
                parameter.add_(0.05)
    batch = trainer.data_collator([trainer.train_dataset[number] for number in range(2)])
    chosen, rejected = trainer.compute_ref_log_probs(trainer.model, batch)

    plain: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(runs.pretrain), str(runs.sft)).eval()
    for found, side in ((chosen, "chosen"), (rejected, "rejected")):
        for number, row in enumerate(shown):
            prompt, response = data.tokens(tokenizer, row["prompt"], row[side])
            with torch.no_grad():
                logps = (
                    plain(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
                )
            dense = logps.gather(1, torch.tensor(response)[:, None]).sum().item()
            assert found[number].item() == pytest.approx(dense, rel=1e-5)


def test_merged_it_says_the_same(runs: Runs, tmp_path: Path) -> None:
    assert merge.main([str(runs.dpo), str(tmp_path / "merged"), "--model", str(runs.pretrain)]) == 0
    base = AutoModelForCausalLM.from_pretrained(runs.pretrain)
    adapted: Any = PeftModel.from_pretrained(base, str(runs.dpo))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = AutoTokenizer.from_pretrained(tmp_path / "merged")("A train moves at 7 m/s for 6 s.", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, adapted(input_ids=ids).logits, atol=1e-4)
    assert merge.main([str(runs.dpo), str(tmp_path / "merged")]) == 2


def test_an_adapter_is_merged_before_it_is_evaluated(runs: Runs, tmp_path: Path) -> None:
    folder = merged(str(runs.sft), tmp_path)
    assert Path(folder).is_relative_to(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size


def test_the_record_makes_the_run_again(runs: Runs, folder: Path) -> None:
    record = json.loads((runs.sft / "run.json").read_text())
    rows = data.load_rows(str(folder), "reverse")
    assert record["dataset"]["sha256"] == data.digest(rows)
    assert record["dataset"]["rows"] == len(rows)
    assert record["versions"]["trl"]
    assert record["seed"] == 0
    written = yaml.safe_load((runs.sft / "recipe.yaml").read_text())
    assert written["lora_target_modules"][-1] == "lm_head"
    again = sft.make_parser().parse_args_and_config(["--config", str(runs.sft / "recipe.yaml")])
    arguments, settings, model = again
    assert isinstance(arguments, SftArguments)
    assert (settings.learning_rate, settings.max_steps, model.lora_r) == (3e-3, 6, 16)
    assert "sft" in (runs.sft / "README.md").read_text()


def test_resumed_it_is_the_same_bit_for_bit(runs: Runs, folder: Path, tmp_path: Path) -> None:
    words = ["--model_name_or_path", str(runs.pretrain), "--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2"]
    words += ["--per_device_train_batch_size", "4"]
    assert sft.main(recipe("sft", folder, tmp_path / "whole", *words)) == 0
    halfway = tmp_path / "whole" / "checkpoint-2"
    assert sft.main(recipe("sft", folder, tmp_path / "again", *words, "--resume_from_checkpoint", str(halfway))) == 0
    whole, again = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "again"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert logged(tmp_path / "whole") == logged(tmp_path / "again")


def test_only_the_response_is_learnt(runs: Runs, folder: Path) -> None:
    arguments, settings, _ = sft.make_parser().parse_args_and_config(recipe("sft", folder, runs.sft))
    tokenizer = AutoTokenizer.from_pretrained(runs.pretrain)
    rows = data.load_rows(str(folder), "reverse").select(range(3))
    shown, said = run.prepare(rows, arguments, settings, tokenizer)
    assert said == "all 3 rows fit in 512 tokens"
    model = AutoModelForCausalLM.from_pretrained(runs.pretrain)
    trainer = sft.DirectedSFTTrainer(model=model, args=settings, train_dataset=shown, processing_class=tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[number] for number in range(3)])
    for ids, labels, row in zip(batch["input_ids"], batch["labels"], rows, strict=True):
        learnt = tokenizer.decode(ids[labels != -100])
        response = data.response_text(row["completion"][0]["content"], "think")
        assert learnt == f"{response}<|im_end|>\n"
        assert torch.equal(ids[labels != -100], labels[labels != -100])


def test_packed_rows_train_and_each_sees_itself_alone(runs: Runs, folder: Path, tmp_path: Path) -> None:
    """Packed, the same rows give the loss that they give unpacked: nothing is seen across a row's border."""
    words = ["--model_name_or_path", str(runs.pretrain), "--max_steps", "1", "--per_device_train_batch_size", "40"]
    words += ["--learning_rate", "1e-5", "--train_sampling_strategy", "sequential"]
    assert sft.main(recipe("sft", folder, tmp_path / "apart", *words)) == 0
    assert sft.main(recipe("sft", folder, tmp_path / "packed", *words, "--packing", "true")) == 0
    apart, packed = logged(tmp_path / "apart"), logged(tmp_path / "packed")
    assert apart == pytest.approx(packed, rel=1e-4)


@pytest.mark.parametrize("loss", ["dpop", "dpo_shift", "unlikelihood"])
def test_each_loss_of_ours_trains_an_adapter(runs: Runs, folder: Path, tmp_path: Path, loss: str) -> None:
    words = ["--model_name_or_path", str(runs.pretrain), "--adapter_name_or_path", str(runs.sft), "--max_steps", "2"]
    words += ["--loss_type", loss, "--forward_weight", "0.5", "--per_device_train_batch_size", "4"]
    assert dpo.main(recipe("dpo", folder, tmp_path, *words)) == 0
    before, after = (load_file(stage / "adapter_model.safetensors") for stage in (runs.sft, tmp_path))
    assert not torch.equal(before[min(before)], after[min(after)])


def test_ours_agree_with_trl_where_both_compute(runs: Runs, folder: Path, tmp_path: Path) -> None:
    words = ["--model_name_or_path", str(runs.pretrain), "--adapter_name_or_path", str(runs.sft), "--max_steps", "2"]
    words += ["--per_device_train_batch_size", "1"]
    assert dpo.main(recipe("dpo", folder, tmp_path / "trl", *words)) == 0
    assert dpo.main(recipe("dpo", folder, tmp_path / "ours", *words, "--loss_type", "dpo_shift", "--shift_lambda", "1")) == 0
    assert logged(tmp_path / "trl") == pytest.approx(logged(tmp_path / "ours"), rel=1e-5)


def test_precomputed_reference_gives_the_same_losses(runs: Runs, folder: Path, tmp_path: Path) -> None:
    words = ["--model_name_or_path", str(runs.pretrain), "--adapter_name_or_path", str(runs.sft), "--max_steps", "2"]
    words += ["--per_device_train_batch_size", "2"]
    assert dpo.main(recipe("dpo", folder, tmp_path / "each", *words)) == 0
    assert dpo.main(recipe("dpo", folder, tmp_path / "before", *words, "--precompute_ref_log_probs", "true")) == 0
    assert logged(tmp_path / "each") == pytest.approx(logged(tmp_path / "before"), rel=1e-4)


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose configuration and tokenizer can be read, and whose weights can't."""
    path = tmp_path_factory.mktemp("models") / "torn"
    small_model().save_pretrained(path)
    small_tokenizer().save_pretrained(path)
    (path / "model.safetensors").write_bytes(b"torn")
    return path


def test_a_run_with_nothing_wrong_reads_the_weights(folder: Path, torn: Path, tmp_path: Path) -> None:
    """So what is refused in a sentence for another reason, on this model, is refused before."""
    words = recipe("sft", folder, tmp_path / "run", "--model_name_or_path", str(torn), "--max_length", "2048")
    with pytest.raises(SafetensorError):
        sft.main(words)


@pytest.mark.parametrize(
    ("command", "words", "sentence"),
    [
        (sft, ["--config", "nowhere.yaml"], "the recipe can't be read"),
        (sft, ["--use_cpu", "true"], "no dataset is named"),
        (sft, ["--use_cpu", "true", "--attn_implementation", "flash_attention_2"], "flash-attn is not installed"),
        (sft, ["--use_cpu", "true", "--dataset_name", "nowhere"], "nowhere can't be loaded"),
        (sft, ["--use_cpu", "true", "--dataset_name", "FOLDER", "--dataset_config", "backwards"], "configuration backwards"),
        (sft, ["--use_cpu", "true", "--dataset_name", "FOLDER", "--model_name_or_path", "nowhere/none"], "can't be reached"),
        (sft, ["--use_cpu", "true", "--dataset_name", "FOLDER", "--model_name_or_path", "tiny", "--max_length", "8"], "cut"),
        (sft, ["--use_cpu", "true", "--packing", "true", "--forward_weight", "2"], "packed rows have no weight"),
        (dpo, ["--use_cpu", "true", "--dataset_name", "FOLDER"], "--dataset_config preference"),
        (dpo, ["--use_cpu", "true", "--attn_implementation", "flash_attention_2"], "flash-attn is not installed"),
        (dpo, ["--use_cpu", "true", "--dataset_name", "FOLDER", "--dataset_config", "backwards"], "configuration backwards"),
        (dpo, [*PAIRS, "--model_name_or_path", "nowhere/none"], "can't be reached"),
        (dpo, [*PAIRS, "--adapter_name_or_path", "nowhere"], "holds no adapter that can be read"),
        (dpo, ["--use_cpu", "true", "--loss_type", "dpop", "ipo"], "can be combined neither"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    command: Any, words: list[str], sentence: str, folder: Path, torn: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [str(folder) if word == "FOLDER" else word for word in words]
    words = ["--model_name_or_path", str(torn), *words, "--activation_checkpointing", "false", "--output_dir", str(tmp_path)]
    assert command.main(words) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("r1k_train: ")
    assert sentence in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("command", "recipe_of_a_gpu"), [(sft, "sft/7b.yaml"), (dpo, "dpo/7b.yaml")])
def test_a_recipe_of_a_gpu_says_that_there_is_none(
    command: Any, recipe_of_a_gpu: str, torn: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--config", str(RECIPES / recipe_of_a_gpu), "--output_dir", str(tmp_path / "run")]
    words += ["--model_name_or_path", str(torn)]
    assert command.main(words) == 2
    (said,) = capfd.readouterr().err.strip().splitlines()
    assert "there is no GPU here: --use_cpu true --bf16 false runs without one" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [sft, dpo])
def test_a_dataset_without_the_columns_is_refused(
    command: Any, torn: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Dataset.from_list([{"text": "x"}]).to_parquet(tmp_path / "other.parquet")
    words = ["--dataset_name", str(tmp_path / "other.parquet"), "--use_cpu", "true", "--bf16", "false"]
    words += ["--model_name_or_path", str(torn)]
    assert command.main([*words, "--activation_checkpointing", "false", "--output_dir", str(tmp_path)]) == 2
    assert "has the columns text: training needs prompt with completion" in capfd.readouterr().err


@pytest.mark.parametrize("targets", [["lm_head"], ["q_proj", "lm_head"]])
def test_the_heads_adapter_is_refused_where_weights_are_split(
    targets: list[str], folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate launch` says FSDP by this variable; ZeRO-3 stands in test_launch.py, which starts DeepSpeed."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    words = recipe("sft", folder, tmp_path / "run", "--model_name_or_path", "nowhere/none", "--lora_target_modules", *targets)
    assert sft.main(words) == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(
        "r1k_train: an adapter on lm_head does not train under ZeRO-3 or FSDP: type --lora_target_modules q_proj"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [sft, dpo])
def test_an_unknown_key_of_a_recipe_is_named(
    command: Any, torn: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("learnin_rate: 1.0e-4\nuse_cpu: true\nactivation_checkpointing: false\n")
    assert command.main(["--config", str(path), "--model_name_or_path", str(torn)]) == 2
    assert "learnin_rate" in capfd.readouterr().err


def test_a_tied_head_is_refused_or_untied(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small_model(tied=True).save_pretrained(tmp_path / "tied")
    small_tokenizer().save_pretrained(tmp_path / "tied")
    words = ["--model_name_or_path", str(tmp_path / "tied"), "--max_steps", "2", "--per_device_train_batch_size", "2"]
    words = recipe("sft", folder, tmp_path / "run", *words, "--max_length", "2048")
    assert sft.main(words) == 2
    assert "--untie_embeddings true" in capfd.readouterr().err
    assert sft.main([*words, "--untie_embeddings", "true"]) == 0
    assert merge.main([str(tmp_path / "run"), str(tmp_path / "merged")]) == 0
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert not torch.equal(merged.lm_head.weight, merged.model.embed_tokens.weight)
