"""The plan's arithmetic beside sizes and floors that were worked out apart from it."""

from pathlib import Path

import pytest
from peft import LoraConfig
from transformers import Qwen2Config

from r1k_train import plan

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
SEVEN = plan.Shape(28, 3584, 18944, 28, 4, 128, 152064, tied=False)
RECIPE = str(Path(plan.__file__).parent / "recipes/sft/7b.yaml")


def run_of(tokens: int, **changes: object) -> plan.Run:
    trained = SEVEN.adapter(256, TARGETS)
    run = plan.Run(
        SEVEN, rows=1, longest=tokens, trained=trained, rank=256, on_head=True, reference=False, checkpointing=True,
        optimizer_bytes=2, weight_bytes=2, gpus=4,
    )  # fmt: skip
    return run._replace(**changes)  # type: ignore[arg-type]


def test_weights_of_7b() -> None:
    assert SEVEN.weights * 2 == pytest.approx(15.2e9, rel=0.01)
    assert SEVEN.adapter(256, TARGETS) == pytest.approx(686e6, rel=0.01)


@pytest.mark.parametrize(("tokens", "tflop"), [(4000, 201), (8000, 432), (12000, 691), (20000, 1296)])
def test_flops_of_a_step(tokens: int, tflop: float) -> None:
    assert plan.flops(SEVEN, tokens, SEVEN.adapter(256, TARGETS), True, True) / 1e12 == pytest.approx(tflop, rel=0.04)


def test_peak_of_7b_at_20k() -> None:
    assert plan.peak(plan.memory(run_of(20_000))) == pytest.approx(33e9, rel=0.15)


def test_without_checkpointing_it_does_not_fit_and_the_switch_is_named() -> None:
    one = run_of(20_000, checkpointing=False)
    parts = plan.memory(one)
    assert plan.peak(parts) > 80 * plan.GIB
    assert any("--activation_checkpointing true" in how for how in plan.suggestions(one, parts, 80 * plan.GIB))


def test_zero3_spreads_what_is_not_activations() -> None:
    alone, spread = plan.memory(run_of(1000)), plan.memory(run_of(1000, zero3=True))
    assert spread["weights"] == alone["weights"] / 4
    assert spread["activations kept"] == alone["activations kept"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, tie_word_embeddings=False,
    ).save_pretrained(tmp_path)  # fmt: skip
    words = ["sft", "--config", RECIPE, "--model_name_or_path", str(tmp_path), "--rows", "4000", "8000", "--price", "2"]
    assert plan.main(words) == 0
    said = capsys.readouterr().out
    assert "fits" in said
    assert "cost" in said
    assert plan.main(["sft", "--config", RECIPE, "--model_name_or_path", str(tmp_path / "none"), "--rows", "9"]) == 2


def test_dpo_takes_rank_and_targets_from_the_adapter_or_asks_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(Path(RECIPE).parents[1] / "dpo/7b.yaml")
    Qwen2Config(
        vocab_size=1000,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=False,
    ).save_pretrained(tmp_path)
    words = [
        "dpo",
        "--config",
        recipe,
        "--model_name_or_path",
        str(tmp_path),
        "--attn_implementation",
        "sdpa",
        "--rows",
        "4000",
    ]
    adapter = str(tmp_path / "adapter")
    assert plan.main([*words, "--adapter_name_or_path", adapter]) == 2
    assert "holds no adapter yet: type --lora_r" in capsys.readouterr().err
    typed = ["--lora_r", "8", "--lora_dropout", "0", "--lora_target_modules", "q_proj", "lm_head"]
    assert plan.main([*words, "--adapter_name_or_path", adapter, *typed]) == 0
    by_hand = capsys.readouterr().out
    LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "lm_head"]).save_pretrained(adapter)
    assert plan.main([*words, "--adapter_name_or_path", adapter]) == 0
    assert capsys.readouterr().out == by_hand
