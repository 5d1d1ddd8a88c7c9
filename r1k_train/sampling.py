"""Answers sampled from a model, many prompts at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    count: int,
    *,
    most_tokens: int,
    end: int | Sequence[int] | None,
    pad: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    tokens_at_once: int = 8192,
    seed: int = 0,
) -> list[list[tuple[int, ...]]]:
    """For each prompt `count` responses, of at most `most_tokens` tokens, their end included where they have one.

    Temperature 0 takes the most probable token each time, and then all responses to a prompt are one. The model's own
    generation settings are left aside (Qwen2.5's cut at top_p 0.8 and top_k 20), its mode is kept, and the random state of
    this process is put back. Batches hold at most `tokens_at_once` tokens, responses included, or one prompt.
    """
    greedy = temperature == 0
    warmth: dict[str, Any] = {} if greedy else {"temperature": temperature, "top_p": top_p, "top_k": 0}
    copies = 1 if greedy else count
    settings = GenerationConfig(
        max_new_tokens=most_tokens,
        do_sample=not greedy,
        num_return_sequences=copies,
        eos_token_id=end,
        pad_token_id=pad,
        **warmth,
    )  # type: ignore[no-untyped-call]
    ends = {end} if isinstance(end, int) else set(end or ())
    found: dict[int, list[tuple[int, ...]]] = {}
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for batch in _batches(prompts, most_tokens, copies, tokens_at_once):
                longest = max(len(prompts[number]) for number in batch)
                ids = torch.tensor([[pad] * (longest - len(prompts[n])) + list(prompts[n]) for n in batch], device=model.device)
                mask = torch.tensor(
                    [[0] * (longest - len(prompts[n])) + [1] * len(prompts[n]) for n in batch], device=model.device
                )
                made = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)[:, longest:].tolist()
                for place, number in enumerate(batch):
                    found[number] = [_ended(row, ends) for row in made[place * copies : (place + 1) * copies]]
    finally:
        model.train(training)
    return [found[number] * (count if greedy else 1) for number in range(len(prompts))]


def _batches(prompts: Sequence[Sequence[int]], most_tokens: int, copies: int, tokens_at_once: int) -> Iterator[list[int]]:
    """The prompts' numbers, those of like length together."""
    batch: list[int] = []
    for number in sorted(range(len(prompts)), key=lambda number: len(prompts[number])):
        if batch and (len(prompts[number]) + most_tokens) * copies * (len(batch) + 1) > tokens_at_once:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _ended(row: Sequence[int], ends: set[int]) -> tuple[int, ...]:
    """A response up to its first end, without what pads it to the length of its batch."""
    stop = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
    return tuple(row[:stop])
