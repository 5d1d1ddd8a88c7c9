"""From the runs' rows to means with intervals that know what was drawn: bases, and the relations in them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1k_train.measures import RESAMPLES, Estimate

Row = Mapping[str, Any]
"""A line of what was measured; has `base` and `relation`."""
Cells = dict[tuple[int, str], tuple[float, int]]
"""(base, relation) -> the sum over its rows and their number."""


def cells(rows: Iterable[Row], value: Callable[[Row], float | None]) -> Cells:
    """Of each base and relation; rows of which `value` is None do not count."""
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    for row in rows:
        if (number := value(row)) is not None:
            found[row["base"], row["relation"]].append(number)
    return {key: (float(sum(numbers)), len(numbers)) for key, numbers in found.items()}


def estimate(one: Cells, less: Cells | None = None, seed: int = 0) -> Estimate | None:
    """The mean over rows, or its difference from that of `less`, with a 95 % interval; None where there are no rows.

    Bases and relations are drawn anew, both at once and each as a whole (Owen 2007, The pigeonhole bootstrap, Annals of
    Applied Statistics 1(2), 386-411): a relation is met in several bases and a base holds many relations, so neither
    alone would do. A difference is taken within each draw.
    """
    parts = [one] if less is None else [one, less]
    if not all(parts):
        return None
    keys = sorted(set().union(*parts))
    bases, relations = sorted({base for base, _ in keys}), sorted({relation for _, relation in keys})
    draw = np.random.default_rng(seed)
    times = draw.multinomial(len(bases), np.full(len(bases), 1 / len(bases)), RESAMPLES).astype(np.float64)
    often = draw.multinomial(len(relations), np.full(len(relations), 1 / len(relations)), RESAMPLES).astype(np.float64)
    tables = [_tables(part, bases, relations) for part in parts]
    values = [float(sums.sum() / counts.sum()) for sums, counts in tables]
    drawn = [
        _ratio(np.einsum("db,br,dr->d", times, sums, often), np.einsum("db,br,dr->d", times, counts, often))
        for sums, counts in tables
    ]
    means = drawn[0] if less is None else drawn[0] - drawn[1]
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return Estimate(values[0] - sum(values[1:]), float(low), float(high), sum(count for _, count in one.values()))


def by_base(one: Cells) -> dict[int, float]:
    """Each base's own mean."""
    found = {}
    for base in sorted({base for base, _ in one}):
        sums, counts = zip(*(cell for (number, _), cell in one.items() if number == base), strict=True)
        found[base] = sum(sums) / sum(counts)
    return found


def _tables(part: Cells, bases: Sequence[int], relations: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and numbers of rows, [bases, relations]."""
    found = np.zeros((2, len(bases), len(relations)))
    for (base, relation), cell in part.items():
        found[:, bases.index(base), relations.index(relation)] = cell
    return found[0], found[1]


def _ratio(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """nan where a draw holds no row."""
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
