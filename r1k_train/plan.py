"""`python -m r1k_train plan sft|dpo --config RECIPE`: memory, time, arithmetic and cost of a run, before anything is launched.

Memory is counted by part for one GPU, from the model's shape and the longest row; the peak is the highest of three moments of a
step. What a CUDA context, the allocator's fragmentation and the collectives' buffers add is one allowance, `ALLOWANCE`.
`benchmarks/train.py plan` measures it: on a CPU within 15 % (2, 7 and 9 %) on the three shapes, of those that no constant was
read off, which were measured to the end. No GPU was at hand.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from peft import PeftConfig
from transformers import AutoConfig

from r1k_train import data, dpo, run, sft

GIB = 2**30
ALLOWANCE = 1.5 * GIB


class Gpu(NamedTuple):
    """Memory in GiB, dense bfloat16 TFLOP/s (the makers' data sheets)."""

    memory: float
    tflops: float


GPUS = {
    "a100-40gb": Gpu(40, 312), "a100-80gb": Gpu(80, 312), "a800-80gb": Gpu(80, 312), "h100-80gb": Gpu(80, 989),
    "h200": Gpu(141, 989), "l40s": Gpu(48, 362), "rtx4090": Gpu(24, 165),
}  # fmt: skip


class Shape(NamedTuple):
    """What of a decoder's configuration decides its size."""

    layers: int
    hidden: int
    inner: int
    heads: int
    groups: int
    head_size: int
    vocabulary: int
    tied: bool

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each projection of a layer."""
        query, value = self.heads * self.head_size, self.groups * self.head_size
        return {
            "q_proj": (self.hidden, query), "k_proj": (self.hidden, value), "v_proj": (self.hidden, value),
            "o_proj": (query, self.hidden), "gate_proj": (self.hidden, self.inner), "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }  # fmt: skip

    @property
    def multiplied(self) -> int:
        """Weights that each token is multiplied with: the layers' and the head's."""
        return self.layers * sum(a * b for a, b in self.linears.values()) + self.vocabulary * self.hidden

    @property
    def weights(self) -> int:
        return self.multiplied + (0 if self.tied else self.vocabulary * self.hidden)

    def adapter(self, rank: int, targets: Sequence[str]) -> int:
        """Weights of a LoRA of `rank` on `targets`."""
        layer = sum(rank * (a + b) for name, (a, b) in self.linears.items() if name in targets)
        return self.layers * layer + (rank * (self.hidden + self.vocabulary) if "lm_head" in targets else 0)


def shape_of(config: Any, untied: bool) -> Shape:
    text = config.get_text_config()
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        text.num_hidden_layers, text.hidden_size, text.intermediate_size, text.num_attention_heads,
        text.num_key_value_heads, head_size, text.vocab_size, text.tie_word_embeddings and not untied,
    )  # fmt: skip


class Run(NamedTuple):
    """What of a recipe decides memory and time."""

    shape: Shape
    rows: int
    """Of one forward pass on one GPU: both responses of a pair are two."""
    longest: int
    """Tokens of the longest row."""
    trained: int
    """Weights that learn."""
    rank: int
    """Of the adapter; 0: all weights learn."""
    on_head: bool
    reference: bool
    """A second adapter is kept as the reference."""
    checkpointing: bool
    optimizer_bytes: int
    """Per trained weight."""
    weight_bytes: int
    dropped: tuple[str, ...] = ()
    """Projections whose adapter has dropout."""
    gpus: int = 1
    """0: a CPU."""
    zero3: bool = False

    @property
    def tokens(self) -> int:
        return self.rows * self.longest


TILE_TOKENS, TILE_WORDS = 4096, 32768
"""The most of each whose logits TRL's head has at once (trl/kernels/chunked_logprob.py)."""
CPU_TILES = 9
"""Copies of a tile that its backward pass holds where no Triton is, read off the same file."""


def memory(one: Run) -> dict[str, float]:
    """Bytes on each GPU by part; `peak` says which of them are there at once."""
    shape, tokens, wide = one.shape, one.tokens, one.weight_bytes
    spread = one.gpus if one.zero3 else 1
    trained_bytes = 4 if one.rank else wide  # peft keeps an adapter in float32
    adapters = one.trained * trained_bytes if one.rank else 0
    saved, passing = _layer(one)
    gradients = one.trained * trained_bytes
    head = wide * shape.hidden + 4 * shape.hidden  # the states and their gradient, which TRL keeps in float32
    words = shape.vocabulary * shape.hidden
    tile = min(tokens, TILE_TOKENS) * min(shape.vocabulary, TILE_WORDS)
    return {
        "weights": shape.weights * wide / spread,
        "adapter": adapters * (2 if one.reference else 1) / spread,
        "optimizer": one.trained * one.optimizer_bytes / spread,
        "gradients": gradients / spread,
        "DDP's buckets": 0.0 if one.zero3 or one.gpus < 2 else gradients,  # a second copy of the gradients
        "activations kept": (wide * shape.hidden * tokens if one.checkpointing else saved) * shape.layers,
        "one layer, again": passing + (saved if one.checkpointing else 0),
        # W + s·BA in the weights' type, its gradient and the update's in float32
        "head": head * tokens + tile * (4 * CPU_TILES if one.gpus == 0 else wide)
        + ((wide + 8) * words if one.on_head else 0 if one.rank else 4 * words),
        "allowance": 0.0 if one.gpus == 0 else ALLOWANCE,
    }  # fmt: skip


def _layer(one: Run) -> tuple[float, float]:
    """Bytes of what a layer saves for its backward pass, and of the gradients that pass through it at once.

    Saved: the inputs of its norms and of its projections, queries, keys, values and the attention's output, gate, up, their
    product and silu(gate); an adapter's own x·A besides. Without one the norms' results, too, for their weights' gradients.
    With dropout each adapted projection keeps what is left of its input, and a mask: a byte each, on a CPU a float.
    """
    shape, wide = one.shape, one.weight_bytes * one.tokens
    query, value = shape.heads * shape.head_size, shape.groups * shape.head_size
    saved = 4 * shape.inner + 4 * shape.hidden + 3 * query + 2 * value + (7 * one.rank if one.rank else 2 * shape.hidden)
    inputs = sum(inputs for name, (inputs, _) in shape.linears.items() if name in one.dropped)
    mask = one.weight_bytes if one.gpus == 0 else 1
    return wide * saved + one.tokens * inputs * (one.weight_bytes + mask), wide * (3 * shape.inner + 2 * shape.hidden)


def peak(parts: dict[str, float]) -> float:
    """Bytes at the highest point of a step: at the head, in the first layer that is gone back through, or at its end."""
    kept = parts["activations kept"]
    always = sum(parts[name] for name in ("weights", "adapter", "optimizer", "DDP's buckets", "allowance"))
    return always + max(kept + parts["head"], kept + parts["one layer, again"], parts["gradients"])


def run_of(
    arguments: Any, settings: Any, model: Any, config: Any, longest: int, sides: int, *,
    from_adapter: bool, gpus: int = 0, zero3: bool = False,
) -> Run:  # fmt: skip
    """A recipe's run on rows of `longest` tokens; `from_adapter`: DPO that goes on from an adapter as `model` says."""
    shape, targets = shape_of(config, arguments.untie_embeddings), model.lora_target_modules or ()
    adapter = model.use_peft or from_adapter
    return Run(
        shape,
        rows=sides * settings.per_device_train_batch_size,
        longest=longest,
        trained=shape.adapter(model.lora_r, targets) if adapter else shape.weights,
        rank=model.lora_r if adapter else 0,
        on_head=adapter and "lm_head" in targets,
        reference=from_adapter,
        checkpointing=settings.activation_checkpointing,
        optimizer_bytes=2 if "8bit" in settings.optim else 8,
        weight_bytes=4 if model.dtype in {None, "float32"} else 2,
        dropped=tuple(targets) if adapter and model.lora_dropout else (),
        gpus=gpus,
        zero3=zero3,
    )


def flops(shape: Shape, tokens: int, trained: int, adapter: bool, checkpointing: bool) -> float:
    """Of one row of `tokens` forward and back: 2 per weight and pass, frozen weights have one backward pass, trained two;
    causal attention halves its products.
    """
    again = 1 if checkpointing else 0
    dense = 2 * shape.multiplied * tokens * (2 + again + (0 if adapter else 1))
    attention = 2 * tokens**2 * shape.heads * shape.head_size * shape.layers * (3 + again)
    return dense + (2 * trained * tokens * (3 + again) if adapter else 0) + attention


def suggestions(one: Run, parts: dict[str, float], limit: float) -> list[str]:
    """Switches that would make it fit, each with the GiB that would then be needed."""
    tries = {
        "--activation_checkpointing true": one._replace(checkpointing=True),
        "accelerate/zero3.yaml": one._replace(zero3=True),
        "lm_head out of --lora_target_modules": one._replace(on_head=False),
        f"--max_length {one.longest // 2}": one._replace(longest=one.longest // 2),
        "a GPU more under ZeRO-3": one._replace(zero3=True, gpus=one.gpus + 1),
    }
    totals = {name: peak(memory(other)) for name, other in tries.items()}
    return [f"{name}: {total / GIB:.0f} GiB" for name, total in totals.items() if total <= limit < peak(parts)]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="r1k_train plan", description="Memory, time and cost of a recipe. What is not an option here overrides the recipe."
    )
    parser.add_argument("command", choices=["sft", "dpo"])
    parser.add_argument("--gpu", choices=sorted(GPUS), default="a800-80gb")
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--zero3", action="store_true")
    parser.add_argument(
        "--mfu", type=float, default=0.35, help="share of the GPU's peak that is reached (the paper's: .17-.38)"
    )
    parser.add_argument("--price", type=float, help="dollars per GPU and hour")
    parser.add_argument("--rows", type=int, nargs="+", metavar="TOKENS", help="lengths, instead of the dataset's")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    return run.reported(_main, words)


def _main(words: Sequence[str] | None) -> int:
    options, recipe = make_parser().parse_known_args(sys.argv[1:] if words is None else words)
    parser = {"sft": sft, "dpo": dpo}[options.command].make_parser()
    # The plan is made where no GPU is; neither switch changes what is planned.
    arguments, settings, model = run.parse(parser, [*recipe, "--use_cpu", "true", "--bf16", "false"])
    try:
        config = AutoConfig.from_pretrained(model.model_name_or_path, revision=model.model_revision)
    except (OSError, ValueError) as error:
        raise run.RecipeError(f"{model.model_name_or_path} can't be reached: check --model_name_or_path") from error
    sides = 2 if options.command == "dpo" else 1
    lengths = options.rows or _lengths(arguments, model)
    longest = min(max(lengths), settings.max_length or max(lengths))
    from_adapter = _adapter_of(getattr(arguments, "adapter_name_or_path", None), model)
    one = run_of(
        arguments, settings, model, config, longest, sides, from_adapter=from_adapter, gpus=options.gpus, zero3=options.zero3
    )
    print(report(one, options, settings, [min(size, settings.max_length or size) for size in lengths], sides))
    return 0


def _adapter_of(path: str | None, model: Any) -> bool:
    """Whether the run goes on from an adapter; its rank and targets are put into `model`, from its folder or as typed."""
    if path is None:
        return False
    try:
        config = PeftConfig.from_pretrained(path)
        model.lora_r, model.lora_target_modules = config.r, sorted(config.target_modules)
        model.lora_dropout = config.lora_dropout
    except (OSError, ValueError) as error:
        if not model.lora_target_modules:
            raise run.RecipeError(
                f"{path} holds no adapter yet: type --lora_r, --lora_dropout and --lora_target_modules as its SFT recipe"
            ) from error
    return True


def _lengths(arguments: run.RunArguments, model: Any) -> list[int]:
    rows = run.load(arguments)
    tokenizer = run.load_tokenizer(model, rows, arguments)
    return [sum(one) for one in data.lengths(run.shape(rows, arguments), tokenizer)]


def report(one: Run, options: Any, settings: Any, lengths: Sequence[int], sides: int) -> str:
    """The plan, as printed."""
    parts = memory(one)
    total, gpu = peak(parts), GPUS[options.gpu]
    steps_an_epoch = math.ceil(
        len(lengths) / (settings.per_device_train_batch_size * settings.gradient_accumulation_steps * options.gpus)
    )
    steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.num_train_epochs * steps_an_epoch)
    rows = steps * len(lengths) / steps_an_epoch
    row = sum(flops(one.shape, size, one.trained, one.rank > 0, one.checkpointing) for size in lengths) / len(lengths)
    # The reference's forward pass is a fourth of a step with recomputation, a third without.
    row *= sides * ((1 + 1 / (4 if one.checkpointing else 3)) if sides == 2 else 1)
    hours = row * rows / (gpu.tflops * 1e12 * options.mfu * options.gpus) / 3600
    lines = [f"{name:>20}  {size / GIB:7.1f} GiB" for name, size in parts.items()]
    fits = total <= gpu.memory * GIB
    lines.append(
        f"{'peak':>20}  {total / GIB:7.1f} GiB of {gpu.memory:g} on each {options.gpu}: {'fits' if fits else 'does not fit'}"
    )
    lines += [f"{'':>20}  would fit with {how}" for how in suggestions(one, parts, gpu.memory * GIB)]
    speed = f"at {options.mfu:.0%} of the peak ({row / 1e12:,.0f} TFLOP a row)"
    lines.append(f"{'time':>20}  {steps:,} steps, {hours:.1f} h on {options.gpus} {speed}")
    if options.price is not None:
        lines.append(f"{'cost':>20}  ${hours * options.gpus * options.price:,.2f}")
    return "\n".join(lines)
