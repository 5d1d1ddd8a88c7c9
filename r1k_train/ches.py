"""CHES: which preference pairs will displace likelihood, told from the states of the model before it is trained on them.

Razin et al. 2024 (arXiv 2410.08847, definition 2), for a prompt x with responses y+ and y-, h the last hidden states that
their tokens are predicted from:

    CHES = < sum h(x, y+), sum h(x, y-) > - || sum h(x, y+) ||^2

and its length-normalised form, with means for sums, which is what is computed here: responses of reasoning differ in
length by an order of magnitude. A higher score means that the two responses are more alike to the model, so that to push
one down pushes the other down.
"""

from collections.abc import Sequence

from accelerate import PartialState
from torch import nn

from r1k_train.scoring import TOKENS_AT_ONCE, Scorable, mean_states


def ches(
    model: nn.Module,
    preferred: Sequence[Scorable],
    dispreferred: Sequence[Scorable],
    *,
    tokens_at_once: int = TOKENS_AT_ONCE,
    pad: int = 0,
) -> list[float]:
    """The length-normalised score of each pair, whose two sequences have one prompt.

    A response without a token has mean zero. Raises ValueError where a pair's prompts differ.
    """
    for one, other in zip(preferred, dispreferred, strict=True):
        if one.prompt != other.prompt:
            raise ValueError("the two responses of a pair must follow one prompt")
    states = mean_states(model, [*preferred, *dispreferred], tokens_at_once=tokens_at_once, pad=pad)
    pairs = zip(states[: len(preferred)], states[len(preferred) :], strict=True)
    return [float(one @ other - one @ one) for one, other in pairs]


def ches_everywhere(
    model: nn.Module,
    preferred: Sequence[Scorable],
    dispreferred: Sequence[Scorable],
    process: PartialState,
    tokens_at_once: int,
) -> list[float]:
    """`ches`, each process taking its share of the pairs; every process gets all scores."""
    if process.num_processes == 1:
        return ches(model, preferred, dispreferred, tokens_at_once=tokens_at_once)
    from accelerate.utils import gather_object

    mine = range(process.process_index, len(preferred), process.num_processes)
    sides = ([side[number] for number in mine] for side in (preferred, dispreferred))
    gathered = dict(gather_object(list(zip(mine, ches(model, *sides, tokens_at_once=tokens_at_once), strict=True))))
    return [gathered[number] for number in range(len(preferred))]


def least_alike(scores: Sequence[float], drop: float) -> list[bool]:
    """Which pairs stay where the share `drop` of them, those with the highest scores, is left out; of equals the later goes.

    Razin et al. (section 6.3) train on the pairs with the lowest length-normalised scores.
    """
    most_alike = sorted(range(len(scores)), key=lambda number: (-scores[number], -number))[: round(drop * len(scores))]
    gone = set(most_alike)
    return [number not in gone for number in range(len(scores))]
