"""Losses of preference pairs, per pair: the ones of TRL's that weights by direction need, and what TRL lacks against likelihood
displacement, the fall of the chosen response's own probability that DPO allows.

π is the model, r the frozen reference, w the chosen and l the rejected response; log-probabilities are sums over a response's
tokens, natural logarithms.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Pairs:
    """What the losses see of a batch of pairs."""

    chosen: Tensor
    """log π(w|x), [pairs]."""
    rejected: Tensor
    """log π(l|x), [pairs]."""
    ref_chosen: Tensor
    """log r(w|x), [pairs]."""
    ref_rejected: Tensor
    """log r(l|x), [pairs]."""
    rejected_tokens: Tensor
    """Log-probability of each token, [pairs, length], zero outside the response."""
    chosen_mask: Tensor
    """1 on the chosen response's tokens, [pairs, length]."""
    rejected_mask: Tensor
    """1 on the rejected response's tokens, [pairs, length]."""

    @property
    def chosen_ratio(self) -> Tensor:
        """log π(w|x) − log r(w|x)."""
        return self.chosen - self.ref_chosen

    @property
    def rejected_ratio(self) -> Tensor:
        """log π(l|x) − log r(l|x)."""
        return self.rejected - self.ref_rejected


@dataclass(frozen=True)
class Strengths:
    """The losses' own numbers."""

    beta: float
    """DPO's β."""
    dpop_lambda: float
    """DPOP's λ."""
    shift_lambda: float
    """DPO-Shift's f(λ), in (0, 1]; 1 is DPO."""


def sigmoid(pairs: Pairs, strengths: Strengths) -> Tensor:
    """−log σ(β(Δw − Δl)), DPO: Rafailov et al., arXiv 2305.18290, eq. 7."""
    return -logsigmoid(strengths.beta * (pairs.chosen_ratio - pairs.rejected_ratio))


def sft(pairs: Pairs, strengths: Strengths) -> Tensor:  # noqa: ARG001  one signature for all
    """−log π(w|x) per token of each chosen response: the second term of RPO, arXiv 2404.19733, eq. 1.

    TRL's "sft" averages over the batch's tokens instead; one pair a batch makes them equal.
    """
    return -pairs.chosen / pairs.chosen_mask.sum(dim=1).clamp(min=1)


def dpop(pairs: Pairs, strengths: Strengths) -> Tensor:
    """−log σ(β(Δw − Δl − λ·max(0, −Δw))): Pal et al., Smaug (DPO-Positive), arXiv 2402.13228v2, eq. 3.

    The paper writes the last term as max(0, log r(w|x)/π(w|x)), which is max(0, −Δw): a chosen response below the reference's
    probability costs λ times what it lost, inside the sigmoid. The first version closed β's bracket elsewhere; the authors call
    that an error, mended in the second (github.com/abacusai/smaug/issues/2), where they also found λ from 5 to 500 to matter
    little. The recipes' default of 50 is the paper's (section 5).
    """
    lost = (-pairs.chosen_ratio).clamp(min=0)
    return -logsigmoid(strengths.beta * (pairs.chosen_ratio - pairs.rejected_ratio - strengths.dpop_lambda * lost))


def dpo_shift(pairs: Pairs, strengths: Strengths) -> Tensor:
    """−log σ(β(Δw − f(λ)·Δl)): Yang et al., DPO-Shift, arXiv 2502.07599, as their trainer has it, with a fixed f(λ).

    So the authors' code has it, reference and all (github.com/Meaquadddd/DPO-Shift, scripts/dposhift_trainer.py, `dpo_loss`);
    theirs may also let f(λ) rise or fall linearly over the run.
    """
    return -logsigmoid(strengths.beta * (pairs.chosen_ratio - strengths.shift_lambda * pairs.rejected_ratio))


def unlikelihood(pairs: Pairs, strengths: Strengths) -> Tensor:  # noqa: ARG001
    """−log(1 − π(token)), averaged over each rejected response's tokens: Welleck et al., arXiv 1908.04319, eq. 3.

    The only negative candidate at a step is the rejected response's own token; the paper's likelihood term (eq. 4) is `sft`, or
    any other loss beside it. It needs no reference. A token of probability 1 costs what one of 1 − 1e-6 costs.
    """
    rest = torch.log1p(-pairs.rejected_tokens.exp().clamp(max=1 - 1e-6)) * pairs.rejected_mask
    return -rest.sum(dim=1) / pairs.rejected_mask.sum(dim=1).clamp(min=1)


OURS: dict[str, Callable[[Pairs, Strengths], Tensor]] = {
    "dpop": dpop,
    "dpo_shift": dpo_shift,
    "unlikelihood": unlikelihood,
}
"""What `loss_type` may name beside TRL's."""
PER_PAIR: dict[str, Callable[[Pairs, Strengths], Tensor]] = {"sigmoid": sigmoid, "sft": sft, **OURS}
"""What may be combined with these and weighed by direction."""
