"""The probe as a callback of a real trainer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from r1k_train import data, dpo, sft
from r1k_train.ches import ches, least_alike
from r1k_train.measures import scorables, summarise, tabulate
from r1k_train.probe import probe_rows
from r1k_train.probing import ProbeCallback
from r1k_train.scoring import Scorable, score
from tests.small_model import save, small_model, small_tokenizer
from tests.test_measures import TABLE
from tests.test_probe import preferences


def train(output: Path, probe: ProbeCallback, *, steps: int, resume: bool = False) -> Any:
    torch.manual_seed(0)
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in preferences()]
    config = SFTConfig(
        output_dir=str(output), max_steps=steps, per_device_train_batch_size=2, learning_rate=0.01, use_cpu=True, bf16=False,
        report_to=[], save_steps=3, logging_steps=1, max_length=None, activation_checkpointing=False, disable_tqdm=True,
        lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = SFTTrainer(
        small_model(), config, train_dataset=Dataset.from_list(rows), processing_class=small_tokenizer(), callbacks=[probe]
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture
def rows() -> Any:
    return probe_rows(Dataset.from_list(preferences()), small_tokenizer(), "think")


def test_it_measures_before_during_and_after(rows: Any, tmp_path: Path) -> None:
    probe = ProbeCallback(rows, tmp_path / "probe", epochs=1)
    trainer = train(tmp_path / "run", probe, steps=7)
    found = json.loads((tmp_path / "probe" / "summary.json").read_text())["points"]
    assert [(point["step"], point["epoch"]) for point in found] == [(0, 0), (3, 1.0), (6, 2.0), (7, pytest.approx(7 / 3))]
    values = [point["sets"]["T_m"]["alp+"]["value"] for point in found]
    assert values[-1] > values[0], "it was trained on the preferred responses"
    records = Dataset.from_parquet(str(tmp_path / "probe" / "scores.parquet")).to_list()
    last = [record for record in records if record["step"] == 7]
    assert summarise(last)["T_m"]["margin"].value == pytest.approx(found[-1]["sets"]["T_m"]["margin"]["value"])
    assert any("probe/T_m/margin" in entry for entry in trainer.state.log_history)
    assert trainer.model.training, "measuring leaves the model in the mode of training"


def test_measuring_changes_no_weight(rows: Any, tmp_path: Path) -> None:
    often = train(tmp_path / "often", ProbeCallback(rows, tmp_path / "a", steps=1), steps=4)
    seldom = train(tmp_path / "seldom", ProbeCallback(rows, tmp_path / "b"), steps=4)
    for one, other in zip(often.model.parameters(), seldom.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_resumed_run_keeps_the_points_before_its_checkpoint(rows: Any, tmp_path: Path) -> None:
    train(tmp_path / "run", ProbeCallback(rows, tmp_path / "probe", steps=2), steps=5)
    probe = ProbeCallback(rows, tmp_path / "probe", steps=2)
    train(tmp_path / "run", probe, steps=8, resume=True)
    assert [point["step"] for point in probe.points] == [0, 2, 4, 5, 6, 8]


def test_displacement_is_said_aloud_once(rows: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe = ProbeCallback(rows, tmp_path / "probe")
    fall = {"preferred": 0.3, "dispreferred": 1.0}
    after = [{**record, "alp": record["alp"] - fall.get(str(record["response"]), 0)} for record in TABLE]  # type: ignore[operator]
    probe._summaries, probe.points = [summarise(TABLE, "8"), summarise(after, "8")], [{"step": 0}, {"step": 9}]
    probe._warn()
    said = capsys.readouterr().out
    assert said.startswith("T_f, step 9: likelihood displacement: the margin grew by 0.700")
    assert said.count("\n") == 1
    probe._summaries.reverse()
    probe._warn()
    assert capsys.readouterr().out == ""


def test_trls_evaluation_loss_of_the_same_rows_is_minus_alp(tmp_path: Path) -> None:
    """One row a batch, so that rows count alike."""
    sides = {"alp+": "chosen", "alp-": "rejected"}
    shown = data.rendered(Dataset.from_list(preferences()), "s1")
    config = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], max_length=None, per_device_eval_batch_size=1,
        activation_checkpointing=False,
        disable_tqdm=True,
    )  # fmt: skip
    evaluated = {
        name: Dataset.from_list([{"prompt": row["prompt"], "completion": row[side]} for row in shown])
        for name, side in sides.items()
    }
    trainer = SFTTrainer(
        small_model(), config, train_dataset=evaluated["alp+"], eval_dataset=evaluated, processing_class=small_tokenizer()
    )
    losses = trainer.evaluate()
    rows = probe_rows(Dataset.from_list(preferences()), small_tokenizer(), "s1")
    sequences = scorables(rows)
    found = summarise(tabulate(rows, sequences, score(small_model(), sequences)))["T_m"]
    for name in sides:
        assert losses[f"eval_{name}_loss"] == pytest.approx(-found[name].value, abs=1e-5)


# -- by recipe -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with the configurations that training and probe take, in one file each."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    Dataset.from_list(preferences()).to_parquet(str(path))
    return path


def words(saved: Path, pairs: Path, output: Path, recipe: str, *more: str) -> list[str]:
    path = Path(__file__).parents[1] / "r1k_train" / "recipes" / "tiny" / f"{recipe}.yaml"
    found = [
        "--config",
        str(path),
        "--dataset_name",
        str(pairs),
        "--output_dir",
        str(output),
        "--model_name_or_path",
        str(saved),
    ]
    return [*found, "--max_steps", "2", "--per_device_train_batch_size", "2", "--disable_tqdm", "true", *more]


def test_a_recipe_switches_the_probe_on(saved: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sft.main(words(saved, pairs, tmp_path / "sft", "sft", "--probe_steps", "1")) == 0
    assert "probe: 6 rows" in capsys.readouterr().out
    found = json.loads((tmp_path / "sft" / "probe" / "summary.json").read_text())["points"]
    assert [point["step"] for point in found] == [0, 1, 2]
    assert "probe_steps: 1" in (tmp_path / "sft" / "recipe.yaml").read_text()
    more = ["--adapter_name_or_path", str(tmp_path / "sft"), "--probe_epochs", "1"]
    assert dpo.main(words(saved, pairs, tmp_path / "dpo", "dpo", *more, "--max_steps", "3")) == 0
    after = json.loads((tmp_path / "dpo" / "probe" / "summary.json").read_text())["points"]
    assert [point["step"] for point in after] == [0, 3], "before, and after the one epoch"
    last, first = found[-1]["sets"]["T_m"], after[0]["sets"]["T_m"]
    assert first["alp+"]["value"] == pytest.approx(last["alp+"]["value"], abs=1e-4), "DPO starts where SFT has ended"
    assert sft.main(words(saved, pairs, tmp_path / "no", "sft", "--probe_steps", "0")) == 2
    assert "probe_steps and probe_epochs are 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_dpo_leaves_out_the_pairs_that_are_most_alike(
    saved: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--filter_ches", "0.34", "--lora_target_modules", "q_proj", "v_proj", "--use_peft", "true"]
    command = [word for word in words(saved, pairs, tmp_path, "dpo", *more) if word]
    recipe = Path(command[1])
    plain = tmp_path / "recipe.yaml.in"
    plain.write_text("".join(line for line in recipe.read_text().splitlines(True) if "adapter_name_or_path" not in line))
    command[1] = str(plain)
    assert dpo.main(command) == 0
    said = capsys.readouterr().out
    assert "2 of 6 pairs are left out, those with a CHES of" in said
    kept = Dataset.from_parquet(str(tmp_path / "ches.parquet")).to_list()
    gone = [row for row in kept if not row["kept"]]
    assert len(gone) == 2
    assert min(row["ches"] for row in gone) >= max(row["ches"] for row in kept if row["kept"])
    rows = probe_rows(Dataset.from_list(preferences()), small_tokenizer(), "think")
    preferred, dispreferred = (
        [Scorable(row.prompt, side.tokens) for row, side in zip(rows, sides, strict=True)]
        for sides in ([row.preferred for row in rows], [row.dispreferred for row in rows])
    )
    by_hand = ches(small_model(), preferred, dispreferred)
    assert [row["ches"] for row in kept] == pytest.approx(by_hand, rel=1e-4)
    record = json.loads((tmp_path / "run.json").read_text())["dataset"]
    assert record["rows"] == 4
    assert "2 of 6 pairs are left out" in record["lengths"]
    assert dpo.main([*command, "--filter_ches", "1"]) == 2
    assert "share of the pairs between 0 and 1" in capsys.readouterr().err


def test_of_equal_scores_the_later_goes() -> None:
    assert least_alike([3.0, 1.0, 3.0, 2.0], 0.25) == [True, True, False, True]
    assert least_alike([3.0, 1.0, 3.0, 2.0], 0.5) == [False, True, False, True]
    assert least_alike([1.0], 0.4) == [True]
