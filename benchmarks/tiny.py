"""The tiny recipes from end to end on a CPU: what is learnt, in what time, and whether each stage leaves what it should.

Builds a folder of the embedded teacher and one of the bank's held-out half, runs `pretrain` on two processes of one thread
each (they are faster than one process of two), then `sft`, `dpo` and `merge` as they would be typed, and `eval` on the held-out
half: a response is an exact match where its final answer equals the gold. Beside it stands the accuracy of the best constant
answer, which is the most frequent one of the held-out half itself. The halves hold the same relations with other values: no set
of values is in both. docs/training has what came out.

  python benchmarks/tiny.py --work DIR       all of it: two cores, a quarter of an hour; a stage that is there is not run again
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1k_train.intervals import wilson

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "r1k_train" / "recipes" / "tiny"
HELDOUT = 500
"""Forward rows of the held-out half, each with its reverse row."""
GOAL, MINUTES = 0.5, 10
PROCESSES = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
"""accelerate's words for two processes of a CPU."""


def run(work: Path, name: str, *words: str) -> float:
    """Run a Python command in `work`, its output in NAME.log; the seconds it took. Raises SystemExit where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    began = time.monotonic()
    with (work / f"{name}.log").open("w") as log:
        status = subprocess.run(
            [sys.executable, *words], cwd=work, env=environment, stdout=log, stderr=log, check=False
        ).returncode
    if status:
        raise SystemExit(f"{name} ended with status {status}: {work / name}.log")
    return time.monotonic() - began


def build(work: Path, name: str, rows: int, split: str) -> None:
    if not (work / name / "README.md").exists():
        words = ["--source", "embedded", "--teacher", "embedded", "--tokenizer", "none", "--output", name, "--overwrite"]
        run(work, f"build-{name}", "-m", "r1k_builder", *words, "--limit", str(rows), "--split", split)


def train(work: Path, stage: str, command: str, processes: list[str]) -> None:
    """One stage by its recipe; prints its time and how its loss went."""
    if not (work / "runs/tiny" / stage / "trainer_state.json").exists():
        launch = ["-m", "accelerate.commands.launch", *processes, "-m", "r1k_train"]
        seconds = run(work, stage, *launch, command, "--config", str(RECIPES / f"{stage}.yaml"), "--disable_tqdm", "true")
        (work / "runs/tiny" / stage / "seconds").write_text(f"{seconds:.0f}")
    history = json.loads((work / "runs/tiny" / stage / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    seconds = float((work / "runs/tiny" / stage / "seconds").read_text())
    steps, last = max(entry["step"] for entry in history), losses[-3:]
    print(f"{stage:9} {steps:,} steps in {seconds / 60:.1f} min, loss {losses[0]:.3f} -> {sum(last) / len(last):.3f}")


def accuracy(work: Path, model: str, name: str) -> dict[str, tuple[int, int]]:
    """Exact matches and rows of each direction."""
    file = work / f"eval-{name}" / "evaluation.json"
    if not file.exists():
        words = ["--tasks", "r1k_bank", "--file", "r1k_bank=heldout", "--max-new-tokens", "128", "--batch-size", "64"]
        run(work, f"eval-{name}", "-m", "r1k_train", "eval", model, *words, "--out", file.parent.name, "--device", "cpu")
    tasks = json.loads(file.read_text())["tasks"]
    return {task.removeprefix("r1k_bank_"): (round(one["accuracy"] * one["rows"]), one["rows"]) for task, one in tasks.items()}


def said(right: int, rows: int) -> str:
    share = wilson(right / rows, rows)
    return f"{share.value:.1%} ({share.low:.1%}-{share.high:.1%}) of {rows}"


def majority(work: Path) -> dict[str, tuple[int, int]]:
    """The best constant answer of each direction: how often it is right."""
    found = {}
    for direction in ("forward", "reverse"):
        golds = load_dataset(str(work / "heldout"), direction, split="train")["final_answer"]
        found[direction] = (Counter(golds).most_common(1)[0][1], len(golds))
    return found


def unmoved(work: Path) -> list[str]:
    """Matrices of the adapter that are where they began: after SFT at zero (peft's B), after DPO where SFT left them."""
    after_sft, after_dpo = (load_file(work / f"runs/tiny/{stage}/adapter_model.safetensors") for stage in ("sft", "dpo"))
    still = [name for name, one in after_sft.items() if "lora_B" in name and not one.any()]
    return still + [name for name, one in after_dpo.items() if torch.equal(one, after_sft[name])]


def merged_difference(work: Path) -> tuple[float, float]:
    """Largest difference of the merged model's logits from the adapter's on held-out questions, and the largest logit."""
    tokenizer: Any = AutoTokenizer.from_pretrained(work / "runs/tiny/pretrain")
    base: Any = AutoModelForCausalLM.from_pretrained(work / "runs/tiny/pretrain")
    merged: Any = AutoModelForCausalLM.from_pretrained(work / "merged")
    adapted: Any = PeftModel.from_pretrained(base, str(work / "runs/tiny/dpo"))
    questions = load_dataset(str(work / "heldout"), "mixed", split="train[:64]")["question"]
    batch = tokenizer(questions[:], return_tensors="pt", padding=True)
    with torch.no_grad():
        one, other = merged(**batch).logits, adapted(**batch).logits
    return (one - other).abs().max().item(), other.abs().max().item()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="data, runs, logs and evaluations")
    parser.add_argument("--rows", type=int, default=12_000, help="forward rows to train on, each with its reverse row")
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    build(work, "tiny-r1k", given.rows, "train")
    build(work, "heldout", HELDOUT, "heldout")

    train(work, "pretrain", "sft", PROCESSES)
    found, constant = accuracy(work, "runs/tiny/pretrain", "pretrain"), majority(work)
    for direction, counts in found.items():
        print(f"  {direction}: exact match {said(*counts)}; best constant answer {said(*constant[direction])}")
    right, rows = map(sum, zip(*found.values(), strict=True))
    minutes = float((work / "runs/tiny/pretrain/seconds").read_text()) / 60
    reached = right / rows >= GOAL and minutes <= MINUTES
    verdict = f"{GOAL:.0%} within {MINUTES} min is {'' if reached else 'not '}reached"
    print(f"  both: exact match {said(right, rows)} after {minutes:.1f} min: {verdict}")

    train(work, "sft", "sft", [])
    train(work, "dpo", "dpo", [])
    print(f"  matrices of the adapter that have not moved: {len(unmoved(work))}")
    if not (work / "merged").exists():
        run(work, "merge", "-m", "r1k_train", "merge", "runs/tiny/dpo", "merged")
    difference, largest = merged_difference(work)
    print(f"  logits of the merged model and of the adapter differ by at most {difference:.1e}, the largest is {largest:.1f}")
    for name, model in (("sft", "runs/tiny/sft"), ("dpo", "merged")):
        print(f"  after {name}: " + "; ".join(f"{way} {said(*counts)}" for way, counts in accuracy(work, model, name).items()))
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
