"""Log-probabilities of responses under a model: each sequence read once, only the scored positions given to the head.

The head sees a few rows at a time, so that no array of all positions by the whole vocabulary ever exists; the logits are
turned to float32 before the softmax, whatever the model computes in.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

LOGITS_AT_ONCE = 2**22
"""Most logits that are held at a time: 16 MiB in float32, twice that while they are normalised."""
TOKENS_AT_ONCE = 8192
"""Most tokens of a batch, padding included."""


@dataclass(frozen=True)
class Scorable:
    """A prompt, a response to it, and which of the response's tokens are scored.

    What follows the last scored token is not read. The response may be empty, the prompt not.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    spans: tuple[tuple[int, int], ...] | None = None
    """Scored are the response's tokens from each start to before its stop, in order and apart; None: all of them."""

    @cached_property
    def scored(self) -> list[int]:
        """The places in the response that are scored."""
        size = len(self.response)
        spans = ((0, size),) if self.spans is None else self.spans
        return [place for start, stop in spans for place in range(start, min(stop, size))]

    @cached_property
    def tokens(self) -> list[int]:
        """All that is read."""
        return [*self.prompt, *self.response[: self.scored[-1] + 1 if self.scored else 0]]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class TokenScores:
    """Of each scored token, given all before it: float32 on the CPU, in order. Natural logarithms."""

    logp: Tensor
    greedy: Tensor
    """The log-probability of the most probable token at its place."""
    entropy: Tensor
    """The entropy of the distribution at its place, in nats."""


def score(
    model: nn.Module, sequences: Sequence[Scorable], *, tokens_at_once: int = TOKENS_AT_ONCE, pad: int = 0
) -> list[TokenScores]:
    """The scores of each sequence, in the order given; equal sequences are read once.

    Sequences of like length share a batch of at most `tokens_at_once` tokens, or one sequence. `pad` is any token: what is
    padded is masked. The model is a causal language model of transformers', bare or with an adapter of peft's; its mode
    is left as it is, and nothing is recorded for a backward pass. Raises ValueError for an empty prompt and for a
    sequence beyond the model's context.
    """
    head = _base(model).get_output_embeddings()

    def of_batch(batch: Sequence[Scorable], states: Tensor) -> Iterator[TokenScores]:
        targets = torch.tensor([row.response[place] for row in batch for place in row.scored], device=states.device)
        parts = torch.split(_score_positions(head, states, targets).cpu(), [len(row.scored) for row in batch], dim=1)
        return (TokenScores(*part) for part in parts)

    return _read(model, sequences, tokens_at_once, pad, of_batch)


def mean_states(
    model: nn.Module, sequences: Sequence[Scorable], *, tokens_at_once: int = TOKENS_AT_ONCE, pad: int = 0
) -> list[Tensor]:
    """For each sequence the mean, [hidden] in float32, of the states that its scored tokens are predicted from.

    Zeros where no token is scored. Otherwise as `score`.
    """

    def of_batch(batch: Sequence[Scorable], states: Tensor) -> Iterator[Tensor]:
        parts = torch.split(states.float().cpu(), [len(row.scored) for row in batch])
        return (part.sum(dim=0) / max(1, len(part)) for part in parts)

    return _read(model, sequences, tokens_at_once, pad, of_batch)


def context_length(model: nn.Module) -> int | None:
    """The most tokens that the model takes; None where its configuration does not say."""
    config: Any = model.config
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) else None


def _refuse(model: nn.Module, sequences: Sequence[Scorable]) -> None:
    most = context_length(model)
    for sequence in sequences:
        if not sequence.prompt:
            raise ValueError("a sequence without a prompt has no first probability")
        if most is not None and len(sequence) > most:
            raise ValueError(f"a sequence of {len(sequence):,} tokens is longer than the model's context of {most:,}")


def _batches(sequences: Sequence[Scorable], tokens_at_once: int) -> Iterator[list[Scorable]]:
    """Runs of sequences that are sorted by length, each as many as fit when padded to its longest."""
    batch: list[Scorable] = []
    for sequence in sequences:
        if batch and len(sequence) * (len(batch) + 1) > tokens_at_once:
            yield batch
            batch = []
        batch.append(sequence)
    if batch:
        yield batch


def _read(
    model: nn.Module,
    sequences: Sequence[Scorable],
    tokens_at_once: int,
    pad: int,
    of_batch: Callable[[Sequence[Scorable], Tensor], Iterable[T]],
) -> list[T]:
    """What `of_batch` makes of each sequence, given a batch and the states of all its scored tokens, [positions, hidden]."""
    _refuse(model, sequences)
    distinct = sorted(set(sequences), key=lambda sequence: (len(sequence), sequence.prompt, sequence.response))
    found: dict[Scorable, T] = {}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in _batches(distinct, tokens_at_once):
                found |= zip(batch, of_batch(batch, _scored_states(model, batch, pad)), strict=True)
    finally:
        model.train(training)
    return [found[sequence] for sequence in sequences]


def _scored_states(model: nn.Module, batch: Sequence[Scorable], pad: int) -> Tensor:
    device = next(model.parameters()).device
    longest = max(map(len, batch))
    rows = [sequence.tokens for sequence in batch]
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    # The position before a token predicts it.
    at = [(number, len(row.prompt) + place - 1) for number, row in enumerate(batch) for place in row.scored]
    numbers, places = torch.tensor(at, dtype=torch.long, device=device).reshape(-1, 2).unbind(dim=1)
    return last_hidden(model, ids, mask)[numbers, places]


def last_hidden(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """The states that the head would see, [batch, length, hidden]; adapters count."""
    output = _base(model).get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False)
    hidden: Tensor = output.last_hidden_state
    return hidden


def _base(model: Any) -> Any:
    """The transformers model in a peft wrapper, with the adapter's layers in it; any other as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _score_positions(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """[3, positions]: log-probability of the target, of the most probable token, and entropy."""
    weight: Any = head.weight  # of a linear layer, or of one with an adapter
    vocabulary = getattr(weight, "ds_shape", weight.shape)[0]  # under ZeRO-3 a weight at rest is empty
    rows = max(1, LOGITS_AT_ONCE // vocabulary)
    # Made first: what outlives a round must not lie between the large arrays that are freed after it, or memory grows.
    found = torch.empty(3, len(targets), device=hidden.device)
    for start in range(0, len(targets), rows):
        logps = head(hidden[start : start + rows]).float().log_softmax(dim=-1)
        logp, greedy, entropy = found[:, start : start + rows]
        logp.copy_(logps.gather(1, targets[start : start + rows, None])[:, 0])
        greedy.copy_(logps.max(dim=-1).values)
        entropy.copy_(-logps.exp().mul_(logps).sum(dim=-1))
    return found
