"""Two processes on a CPU beside one with the same global batch; each test is a minute or more."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from r1k_train import sft

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "r1k_train" / "recipes"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "model"
    words = ["--config", str(RECIPES / "tiny/pretrain.yaml"), "--dataset_name", str(folder), "--output_dir", str(path)]
    assert sft.main([*words, "--max_steps", "6", "--per_device_train_batch_size", "8", "--disable_tqdm", "true"]) == 0
    return path


def launch(cwd: Path, how: list[str], target: list[str], words: list[str], status: int = 0) -> str:
    """What was said on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", port, *how, *target, *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == status, done.stderr[-3000:]
    return done.stderr


def losses(run: Path) -> list[float]:
    history = json.loads((run / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def recipe(folder: Path, base: Path, output: Path, each: int, *more: str) -> list[str]:
    words = ["--config", str(RECIPES / "tiny/sft.yaml"), "--dataset_name", str(folder), "--model_name_or_path", str(base)]
    words += ["--output_dir", str(output), "--max_steps", "4", "--logging_steps", "1", "--learning_rate", "3e-4"]
    return [*words, "--per_device_train_batch_size", str(each), "--disable_tqdm", "true", *more]


def probed(run: Path) -> list[tuple[int, float, float]]:
    """Step, ALP(y+) and margin on T_m of each point of a run's probe."""
    points = json.loads((run / "probe" / "summary.json").read_text())["points"]
    return [(point["step"], *(point["sets"]["T_m"][name]["value"] for name in ("alp+", "margin"))) for point in points]


DDP = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
ZERO3 = ["--num_processes", "2", "--num_machines", "1", "--use_deepspeed", "--zero_stage", "3", "--dynamo_backend", "no"]
ZERO3 += ["--zero3_init_flag", "true", "--zero3_save_16bit_model", "true", "--mixed_precision", "bf16"]


def test_ddp_is_one_process_with_the_same_batch_and_resumes(folder: Path, base: Path, tmp_path: Path) -> None:
    fast, probe = ["--learning_rate", "3e-3"], ["--probe_steps", "2"]
    assert sft.main(recipe(folder, base, tmp_path / "one", 4, *fast, *probe)) == 0
    save = ["--save_strategy", "steps", "--save_steps", "2", *fast, *probe]
    launch(ROOT, DDP, ["r1k_train"], ["sft", *recipe(folder, base, tmp_path / "two", 2, *save)])
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    for one, two in zip(probed(tmp_path / "one"), probed(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, abs=1e-4)
    checkpoint = ["--resume_from_checkpoint", str(tmp_path / "two/checkpoint-2")]
    launch(tmp_path, DDP, ["-m", "r1k_train"], ["sft", *recipe(folder, base, tmp_path / "again", 2, *checkpoint, *fast)])
    assert losses(tmp_path / "again") == pytest.approx(losses(tmp_path / "two"), rel=1e-5)


SEVEN = ["--lora_target_modules", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def test_zero3_without_the_head_is_one_process(folder: Path, base: Path, tmp_path: Path) -> None:
    seven = [*SEVEN, "--probe_steps", "2"]
    assert sft.main(recipe(folder, base, tmp_path / "one", 4, *seven)) == 0
    words = recipe(folder, base, tmp_path / "two", 2, *seven, "--bf16", "true", "--dtype", "bfloat16")
    launch(ROOT, ZERO3, ["r1k_train"], ["sft", *words])
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=2e-2)
    for one, two in zip(probed(tmp_path / "one"), probed(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, abs=0.05)
    adapter = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "two"))
    moved = {name: one.abs().max().item() for name, one in adapter.named_parameters() if "lora_B" in name}
    assert min(moved.values()) > 0


def test_zero3_refuses_the_heads_adapter_in_a_sentence(folder: Path, base: Path, tmp_path: Path) -> None:
    words = recipe(folder, base, tmp_path / "run", 2, "--bf16", "true", "--dtype", "bfloat16")
    said = launch(ROOT, ZERO3, ["r1k_train"], ["sft", *words], status=1)  # the launcher's; ours is 2
    assert said.count("r1k_train: an adapter on lm_head does not train under ZeRO-3 or FSDP: type --lora_target_modules") == 1
    assert not (tmp_path / "run").exists()
