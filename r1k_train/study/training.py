"""Plain training loops: rows of fifty tokens need no trainer, whose own work would cost more than the step's."""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from r1k_train.losses import Pairs, Strengths, sft, sigmoid
from r1k_train.scoring import Scorable, score
from r1k_train.study.words import Words

WARM_UP = 0.05
"""Share of the steps over which the learning rate rises from zero; it then falls to zero by a cosine."""
SPREAD = 0.08
"""Of the initial weights, about 1 / sqrt(width). With the 0.02 of large models the same steps learn next to nothing."""
HEAD = 16
"""Width of an attention head: of so small a model's heads, more and narrower ones learn to copy digits sooner."""


def make_model(words: Words, hidden: int, layers: int, seed: int) -> Any:
    """Qwen2's shape, `hidden` a multiple of HEAD; tied embeddings, float32."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD, num_key_value_heads=hidden // HEAD, max_position_embeddings=256,
        initializer_range=SPREAD, tie_word_embeddings=True, bos_token_id=words.begin, eos_token_id=words.end,
        pad_token_id=words.pad,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def fit(model: Any, rows: Sequence[Scorable], *, steps: int, batch: int, rate: float, seed: int, pad: int) -> None:
    """`steps` steps of supervised training on the responses, averaged over their tokens."""
    chosen = _batches(rows, steps, batch, seed)
    _train(model, (_nll(model, part, pad) for part in chosen), steps, rate)


def prefer(
    model: Any,
    pairs: Sequence[tuple[Scorable, Scorable]],
    *,
    steps: int,
    batch: int,
    rate: float,
    beta: float,
    nll: float,
    seed: int,
    pad: int,
) -> None:
    """`steps` steps of DPO on (preferred, dispreferred) from the model as it is, which is the reference too.

    `nll` weighs the preferred responses' own log-likelihood per token, as RPO does; 0 is DPO. Losses are `losses.py`'s.
    """
    flat = [sequence for pair in pairs for sequence in pair]
    sums = [float(found.logp.sum()) for found in score(model, flat, pad=pad)]
    reference = dict(zip(flat, sums, strict=True))
    strengths = Strengths(beta=beta, dpop_lambda=0, shift_lambda=1)

    def loss(part: Sequence[tuple[Scorable, Scorable]]) -> Tensor:
        sides = [[pair[side] for pair in part] for side in (0, 1)]
        tokens, mask = _logps(model, sides[0] + sides[1], pad)
        chosen, rejected = tokens.sum(dim=1).chunk(2)
        known = torch.tensor([[reference[sequence] for sequence in side] for side in sides])
        seen = Pairs(chosen, rejected, known[0], known[1], tokens.chunk(2)[1], *mask.chunk(2))
        return (sigmoid(seen, strengths) + nll * sft(seen, strengths)).mean()

    _train(model, map(loss, _batches(pairs, steps, batch, seed)), steps, rate)


def _train(model: Any, losses: Iterable[Tensor], steps: int, rate: float) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    warm = max(1, round(WARM_UP * steps))
    rising = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / warm, total_iters=warm)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps - warm))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimiser, [rising, falling], [warm])
    model.train()
    for loss in losses:
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()


def _batches(rows: Sequence[Any], steps: int, batch: int, seed: int) -> Iterator[Any]:
    """`steps` batches, rows in a new order each epoch.

    Rows of like length are not put together: they are of one relation, and batches of one relation learn far less.
    """
    draw = random.Random(seed)  # noqa: S311  a shuffle, not a secret
    waiting: list[Any] = []
    for _ in range(steps):
        while len(waiting) < batch:
            waiting += draw.sample(list(rows), len(rows))
        yield waiting[:batch]
        waiting = waiting[batch:]


def _logps(model: Any, rows: Sequence[Scorable], pad: int) -> tuple[Tensor, Tensor]:
    """Log-probability of each token after the first, zero outside the response, and 1 on the response: [rows, length - 1]."""
    longest = max(map(len, rows))
    ids = torch.tensor([row.tokens + [pad] * (longest - len(row)) for row in rows])
    mask = torch.zeros(len(rows), longest - 1)
    for number, row in enumerate(rows):
        mask[number, len(row.prompt) - 1 : len(row) - 1] = 1
    # What pads comes last, where no token of the row sees it.
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    logps: Tensor = -torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return logps.view(ids[:, 1:].shape) * mask, mask


def _nll(model: Any, rows: Sequence[Scorable], pad: int) -> Tensor:
    """Short rows and long ones are read apart, which pads less and changes nothing else."""
    ranked = sorted(rows, key=len)
    half = len(ranked) // 2
    parts = [_logps(model, part, pad) for part in (ranked[:half], ranked[half:]) if part]
    return -torch.stack([logps.sum() for logps, _ in parts]).sum() / sum(mask.sum() for _, mask in parts)
