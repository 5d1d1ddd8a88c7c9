"""What training costs, each part measured in processes of its own:

  head   a step with a vocabulary of 152,064 on a long sequence: through TRL's fused head, with an adapter on lm_head, beside
         full logits; peak memory and seconds as ratios
  plan   the peak that `r1k_train plan` predicts beside the measured one, on shapes that its constants were not fitted to
  wait   ranks of batch size 1 that wait for the longest row: rows at random beside `train_sampling_strategy: group_by_length`
  gpu    Qwen2.5-7B's shape with random weights, 4,000 to 20,000 tokens: tokens/s, MFU and peak memory of SFT and DPO, with and
         without an adapter on lm_head

A peak is of one step, weights and optimiser included, Python and its libraries not: on a CPU what the process holds at most
beyond what it held before the weights were made (Linux alone), on a GPU what torch has allocated at most.

  python benchmarks/train.py head plan wait      what a CPU can: some ten minutes
  python benchmarks/train.py gpu --gpu h100-80gb
"""

import argparse
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset, disable_progress_bars
from peft import get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl import get_peft_config

from r1k_train import dpo, plan, run, sft, tiny
from r1k_train.lm_head import show_adapted_head

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GIB = 2**30
SHAPES = {
    "nothing": {"layers": 1, "hidden": 16, "inner": 16, "heads": 2, "groups": 1, "vocabulary": 4096},
    "7b": {"layers": 28, "hidden": 3584, "inner": 18944, "heads": 28, "groups": 4, "vocabulary": 152064},
    "head": {"layers": 2, "hidden": 256, "inner": 512, "heads": 4, "groups": 2, "vocabulary": 152064},
    "wide": {"layers": 4, "hidden": 512, "inner": 2048, "heads": 8, "groups": 2, "vocabulary": 8192},
    "deep": {"layers": 12, "hidden": 384, "inner": 1024, "heads": 6, "groups": 2, "vocabulary": 4096},
    "words": {"layers": 3, "hidden": 384, "inner": 1152, "heads": 6, "groups": 3, "vocabulary": 65536},
    "large": {"layers": 6, "hidden": 768, "inner": 3072, "heads": 12, "groups": 4, "vocabulary": 32768},
}


@dataclass(frozen=True)
class Case:
    """One run of a few steps: a command's recipe on a shape, with rows of one length."""

    shape: str
    tokens: int
    """Of a row; of each response's row in DPO."""
    command: str = "sft"
    targets: tuple[str, ...] = (*SEVEN, "lm_head")
    """Of LoRA; none: all weights learn."""
    rank: int = 16
    dropout: float = 0.0
    checkpointing: bool = True
    from_adapter: bool = False
    """DPO goes on from an adapter, a copy of which is the reference."""
    full_logits: bool = False
    dtype: str = "float32"
    steps: int = 3
    device: str = "cpu"

    @property
    def config(self) -> Qwen2Config:
        one = SHAPES[self.shape]
        return Qwen2Config(
            vocab_size=one["vocabulary"], hidden_size=one["hidden"], intermediate_size=one["inner"],
            num_hidden_layers=one["layers"], num_attention_heads=one["heads"], num_key_value_heads=one["groups"],
            max_position_embeddings=32768, tie_word_embeddings=False,
        )  # fmt: skip

    def words(self, folder: str) -> list[str]:
        """What a recipe would say."""
        words = {
            "max_length": self.tokens, "max_steps": self.steps, "per_device_train_batch_size": 1, "report_to": "none",
            "activation_checkpointing": self.checkpointing, "save_strategy": "no", "disable_tqdm": True, "output_dir": folder,
            "optim": "adamw_torch", "dtype": self.dtype, "use_cpu": self.device == "cpu", "bf16": self.device != "cpu",
            "logging_steps": 1000, "model_name_or_path": self.shape,
        }  # fmt: skip
        adapter = [
            "--use_peft",
            "true",
            "--lora_r",
            str(self.rank),
            "--lora_dropout",
            str(self.dropout),
            "--lora_target_modules",
            *self.targets,
        ]
        return [f"--{name}={value}" for name, value in words.items()] + (adapter if self.targets else [])

    def parsed(self, folder: str) -> tuple[Any, Any, Any]:
        arguments, settings, model = run.parse({"sft": sft, "dpo": dpo}[self.command].make_parser(), self.words(folder))
        return arguments, settings, model


@dataclass(frozen=True)
class Measured:
    peak: int
    """Bytes."""
    seconds: float
    """Of a step, the median of all but the first."""


# -- one case, in a process of its own -----------------------------------------------------------------------------


class FullLogits(sft.DirectedSFTTrainer):
    """The loss as transformers computes it, from the logits of all positions."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:  # noqa: ARG002
        outputs = model(**inputs, use_cache=False)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.moments = [time.perf_counter()]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.moments.append(time.perf_counter())

    def seconds(self) -> float:
        laps = [after - before for before, after in zip(self.moments, self.moments[1:], strict=False)]
        return median(laps[1:])


def rows_of(case: Case) -> tuple[Dataset, Any]:
    """Rows of exactly `case.tokens`, and their tokenizer: a letter is a token."""
    draw = random.Random(0)
    tokenizer = tiny.make_tokenizer(["abcdefghij"])
    prompt = [{"role": "user", "content": "1"}]
    frame = len(tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": ""}], return_dict=False))

    def response() -> list[dict[str, str]]:
        return [{"role": "assistant", "content": "".join(draw.choices("abcdefghij", k=case.tokens - frame))}]

    columns = ("chosen", "rejected") if case.command == "dpo" else ("completion",)
    return Dataset.from_list([{"prompt": prompt, **{name: response() for name in columns}} for _ in range(4)]), tokenizer


def measure(case: Case) -> Measured:
    """Train `case.steps` steps as the command would, and watch. A model of nothing goes before: its peak is the libraries'."""
    if case.device == "cpu":
        trained(replace(case, shape="nothing", tokens=32))
    before = resident("VmRSS") if case.device == "cpu" else 0
    seconds = trained(case)
    peak = resident("VmHWM") - before if case.device == "cpu" else torch.cuda.max_memory_allocated()
    return Measured(peak, seconds)


def trained(case: Case) -> float:
    """Seconds of a step. From the first step on peaks count anew."""
    rows, tokenizer = rows_of(case)
    with tempfile.TemporaryDirectory() as folder:
        arguments, settings, model = case.parsed(folder)
        torch.set_default_dtype(getattr(torch, case.dtype))
        with torch.device(case.device):
            base: Any = Qwen2ForCausalLM(case.config)
        torch.set_default_dtype(torch.float32)
        show_adapted_head(base)
        adapter = get_peft_config(model)
        if case.from_adapter:
            base, adapter = get_peft_model(base, adapter), None
        given = {"model": base, "args": settings, "train_dataset": rows, "processing_class": tokenizer, "peft_config": adapter}
        clock = Clock()
        if case.command == "dpo":
            trainer: Any = dpo.DirectedDPOTrainer(arguments=arguments, callbacks=[clock], **given)
        else:
            trainer = (FullLogits if case.full_logits else sft.DirectedSFTTrainer)(callbacks=[clock], **given)
        if case.device == "cpu":
            Path("/proc/self/clear_refs").write_text("5")
        else:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    return clock.seconds()


def resident(name: str) -> int:
    """Bytes that this process holds (VmRSS) or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def measured(case: Case) -> Measured | None:
    """What a process of its own measures; None where its memory was too small, which is said."""
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    # glibc gives back what is freed, so that what is resident is what is held
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = next(iter(reversed(done.stderr.strip().splitlines())), f"status {done.returncode}")
        print(f"  {case.shape}, {case.tokens:,} tokens: {last[:200]}")
        return None
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


# -- the parts -----------------------------------------------------------------------------------------------------


def head(tokens: Sequence[int] = (1024, 2048)) -> None:
    print("head: vocabulary of 152,064, LoRA on the head and seven targets, full logits against ours")
    for count in tokens:
        case = Case("head", count)
        ours, full = measured(case), measured(replace(case, full_logits=True))
        if ours and full:
            print(
                f"  {count:6,} tokens: peak {full.peak / GIB:.2f} / {ours.peak / GIB:.2f} GiB = {full.peak / ours.peak:.2f} ×,"
                f" step {full.seconds:.1f} / {ours.seconds:.1f} s = {full.seconds / ours.seconds:.2f} ×"
            )


FITTED = [Case("wide", 1024), Case("deep", 768, checkpointing=False, dropout=0.05)]
"""What the plan's constants were read off."""
UNSEEN = [
    Case("words", 2048, targets=tuple(SEVEN), checkpointing=False),
    Case("large", 1536),
    Case("deep", 1536, targets=(), checkpointing=False),
    Case("deep", 1024, command="dpo", from_adapter=True, rank=64),
    Case("large", 1024, targets=tuple(SEVEN), checkpointing=False),
]


def predicted(case: Case) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        arguments, settings, model = case.parsed(folder)
    sides = 2 if case.command == "dpo" else 1
    gpus = 0 if case.device == "cpu" else 1
    one = plan.run_of(arguments, settings, model, case.config, case.tokens, sides, from_adapter=case.from_adapter, gpus=gpus)
    return plan.memory(one)


def planned() -> None:
    print("plan: predicted peak beside measured, GiB")
    for name, cases in (("fitted", FITTED), ("not fitted", UNSEEN)):
        for case in cases:
            found, parts = measured(case), predicted(case)
            if found:
                total = plan.peak(parts)
                learnt = f"LoRA {case.rank}" if case.targets else "all weights"
                print(
                    f"  {name:10} {case.shape:5} {case.command} {case.tokens:,} tokens, {learnt},"
                    f" {'' if case.checkpointing else 'no '}checkpointing: {total / GIB:.3f} / {found.peak / GIB:.3f}"
                    f" = {total / found.peak:.2f}"
                )


def waiting(processes: Sequence[int] = (2, 4, 8), rows: int = 1000) -> None:
    """A step lasts as long as its longest row. Rows come as the trainer's own sampler orders and accelerate deals them."""
    draw = random.Random(0)
    lengths = [min(round(draw.lognormvariate(math.log(7000), 0.65)), 20_000) for _ in range(rows)]
    print(f"wait: 7B, {rows:,} rows of {min(lengths):,} to {max(lengths):,} tokens (lognormal, median 7,000, cut)")
    costs = [_flops("7b", size, 256) for size in lengths]
    for count in processes:
        busy = {way: _busy(way, lengths, costs, count) for way in ("random", "group_by_length")}
        ratio = busy["group_by_length"] / busy["random"]
        shown = ", ".join(f"{way} {share:.0%}" for way, share in busy.items())
        print(f"  {count} GPUs: share of the time in which they work: {shown}: {ratio:.2f} × as fast")

    measured = {way: _timed(way) for way in ("random", "group_by_length")}
    ratio = measured["random"] / measured["group_by_length"]
    shown = ", ".join(f"{way} {seconds:.0f} s" for way, seconds in measured.items())
    print(f"  measured, 2 processes of a CPU, {TIMED} rows of up to 800 tokens: {shown}: {ratio:.2f} × as fast")


TIMED = 100


def _timed(way: str) -> float:
    """Seconds of an epoch on two processes, by the command itself."""
    draw = random.Random(0)
    tokenizer = tiny.make_tokenizer(["abcdefghij"])
    rows = []
    for _ in range(TIMED):
        letters = "".join(draw.choices("abcdefghij", k=min(round(draw.lognormvariate(math.log(280), 0.65)), 800)))
        rows.append({"prompt": [{"role": "user", "content": "1"}], "completion": [{"role": "assistant", "content": letters}]})
    case = Case("deep", 1024, targets=tuple(SEVEN), steps=TIMED // 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Dataset.from_list(rows).to_parquet(folder / "rows.parquet")
        Qwen2ForCausalLM(case.config).save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        words = [*case.words(str(folder / "run")), f"--train_sampling_strategy={way}", f"--dataset_name={folder}/rows.parquet"]
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
        command = [*launch, "--mixed_precision=no", "--dynamo_backend=no", "-m", "r1k_train", "sft", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        subprocess.run(
            [sys.executable, *command, f"--model_name_or_path={folder}/model"], env=environment, capture_output=True, check=True
        )
        history = json.loads((folder / "run/trainer_state.json").read_text())["log_history"]
    return float(next(entry["train_runtime"] for entry in history if "train_runtime" in entry))


def _busy(way: str, lengths: Sequence[int], costs: Sequence[float], count: int) -> float:
    """Share of the ranks' time that is work, over an epoch."""
    prompt, completion = [[{"role": role, "content": "1"}] for role in ("user", "assistant")]
    rows = Dataset.from_dict(
        {"prompt": [prompt] * len(lengths), "completion": [completion] * len(lengths), "length": list(lengths)}
    )
    with tempfile.TemporaryDirectory() as folder:
        _, settings, _ = Case("head", 64, targets=()).parsed(folder)
        settings.train_sampling_strategy = way
        config = Qwen2Config(vocab_size=4096, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
        trainer = sft.DirectedSFTTrainer(
            model=Qwen2ForCausalLM(config), args=settings, train_dataset=rows, processing_class=tiny.make_tokenizer(["1"])
        )
        batches = list(trainer.get_train_dataloader().batch_sampler)
    ranks = [[costs[batch[0]] for batch in BatchSamplerShard(batches, count, rank)] for rank in range(count)]
    return float(sum(map(sum, ranks)) / (count * sum(map(max, zip(*ranks, strict=True)))))


def _flops(shape: str, tokens: int, rank: int) -> float:
    one = plan.shape_of(Case(shape, tokens).config, untied=False)
    return plan.flops(one, tokens, one.adapter(rank, [*SEVEN, "lm_head"]), adapter=True, checkpointing=True)


def gpu(name: str) -> None:
    print("gpu: Qwen2.5-7B's shape, random weights in bfloat16, LoRA 256, checkpointing, one row a step")
    print(f"  {torch.cuda.get_device_name()}")
    for tokens in (4_000, 8_000, 12_000, 20_000):
        for command in ("sft", "dpo"):
            for targets in ((*SEVEN, "lm_head"), tuple(SEVEN)):
                case = Case(
                    "7b", tokens, command, targets, 256, from_adapter=command == "dpo", dtype="bfloat16", steps=4, device="cuda"
                )
                found = measured(case)
                if found:
                    sides = 2 if command == "dpo" else 1
                    work = _flops("7b", tokens, 256) * (sides * 1.25 if command == "dpo" else 1)  # the reference's pass
                    mfu = work / found.seconds / (plan.GPUS[name].tflops * 1e12)
                    print(
                        f"  {command} {tokens:6,} tokens {'with' if 'lm_head' in targets else 'without'} the head's adapter:"
                        f" {sides * tokens / found.seconds:,.0f} tokens/s, MFU {mfu:.0%}, peak {found.peak / GIB:.1f} GiB,"
                        f" planned {plan.peak(predicted(case)) / GIB:.1f}"
                    )


PARTS: dict[str, Callable[[], None]] = {"head": head, "plan": planned, "wait": waiting}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (these by default) and gpu")
    parser.add_argument("--gpu", choices=sorted(plan.GPUS), help="whose peak counts for the MFU")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        words = json.loads(given.case)
        print(json.dumps(asdict(measure(Case(**words | {"targets": tuple(words["targets"])})))))
        return 0
    if unknown := set(given.parts) - {*PARTS, "gpu"}:
        parser.error(f"there is no part {', '.join(unknown)}")
    if "gpu" in given.parts and not torch.cuda.is_available():
        parser.exit(2, "there is no GPU here: run the part gpu where one is\n")
    if "gpu" in given.parts and given.gpu is None:
        parser.exit(2, f"name the GPU for its MFU: --gpu, one of {', '.join(sorted(plan.GPUS))}\n")
    disable_progress_bars()
    print(f"{platform.platform()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for part in given.parts or PARTS:
        PARTS[part]() if part in PARTS else gpu(given.gpu)
    return 0


if __name__ == "__main__":
    sys.exit(main())
