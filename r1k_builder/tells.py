"""Can direction be told from form alone? A small linear classifier on how answers and reasonings begin and end, and what it
goes by; length, box and domain balance between directions.

A model that is trained on both directions, or on preferences between them, may learn such a tell in place of the direction.
Logistic regression on word 1- and 2-grams, cross-validated with the two rows of a pair kept together, on a sample of pairs
that their ids choose. Written in numpy: scikit-learn would add 250 MB and two seconds of imports to a build of six.
"""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

WORDS = 32
"""Words of the beginning, and of the end, of a text."""
MOST_WORD = 40
"""Characters of a word that count."""
MOST_PAIRS = 1_000
"""In the sample: some 2 MB, and an accuracy within 3 points."""
FEWEST_PAIRS = 20
FOLDS = 5
MOST_GRAMS = 1_000
"""The commonest are taken."""
FEWEST_TEXTS = 3
"""Texts that an n-gram stands in."""
STRENGTH = 10.0
"""Weight of the loss against the squared weights (scikit-learn's C), of texts scaled to length 1."""
STEPS = 100
TOLD = 4.0
"""Standard deviations by which a tell's counts differ: among thousands of n-grams, 3 come about by chance."""
MOST_TELLS = 5
DISTINCT_DOMAINS = 100

PARTS = ("answer_first", "answer_last", "reasoning_first", "reasoning_last")
Matrix = NDArray[np.float32]
Places = NDArray[np.int64]


class Form(NamedTuple):
    """How a row looks: the words that its texts begin and end with, lengths in characters, whether there is a box."""

    answer_first: list[str]
    answer_last: list[str]
    reasoning_first: list[str]
    reasoning_last: list[str]
    answer_length: int
    reasoning_length: int
    boxed: bool

    @classmethod
    def of(cls, answer: str, reasoning: str) -> Self:
        return cls(*_ends(answer), *_ends(reasoning), len(answer), len(reasoning), "\\boxed" in answer)


def _ends(text: str) -> tuple[list[str], list[str]]:
    first, last = text.split(None, WORDS)[:WORDS], text.rsplit(None, WORDS)[-WORDS:]
    return [word[:MOST_WORD] for word in first], [word[:MOST_WORD] for word in last]


class Tells:
    """Gathers a sample of the pairs, the same in whatever order they come, and reports on it."""

    def __init__(self) -> None:
        self._sample: list[tuple[int, str, Form, Form]] = []
        """A heap: the pair whose hash is largest comes first and goes first."""
        self._pairs = 0
        self._domains: dict[str, Counter[str]] = {}

    def count(self, direction: str, domain: str) -> None:
        """A row of the dataset."""
        name = domain if domain in self._domains or len(self._domains) < DISTINCT_DOMAINS else "others"
        self._domains.setdefault(name, Counter())[direction] += 1

    def admits(self, pair_id: str) -> bool:
        """Whether the next pair belongs to the sample so far; then it has to be added."""
        self._pairs += 1
        return len(self._sample) < MOST_PAIRS or _rank(pair_id) > self._sample[0][0]

    def add(self, pair_id: str, forward: Form, reverse: Form) -> None:
        heapq.heappush(self._sample, (_rank(pair_id), pair_id, forward, reverse))
        if len(self._sample) > MOST_PAIRS:
            heapq.heappop(self._sample)

    def state(self) -> list[Any]:
        """All that is gathered, for `of` in another process."""
        return [self._sample, self._pairs, self._domains]

    @classmethod
    def of(cls, state: Sequence[Any]) -> Self:
        sample, pairs, domains = state
        tells = cls()
        tells._sample = [(rank, pair_id, Form(*forward), Form(*reverse)) for rank, pair_id, forward, reverse in sample]
        tells._pairs, tells._domains = pairs, {name: Counter(counts) for name, counts in domains.items()}
        return tells

    def told(self, parts: Iterable[str] = PARTS) -> dict[str, Any]:
        """How well each of some parts tells direction, and by what; nothing where there are too few pairs to say."""
        pairs = self._pairs_sampled
        if len(pairs) < FEWEST_PAIRS:
            return {}
        return {part: _told([(getattr(f, part), getattr(r, part)) for f, r in pairs]) for part in parts}

    def report(self, told: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the manifest says under `tells`. Shares and accuracies with 95 % intervals.

        `told` is what `told` finds of all parts, where processes have found it side by side.
        """
        pairs = self._pairs_sampled
        found = self.told() if told is None else told
        return {
            "pairs": self._pairs,
            "sampled": len(pairs),
            "fewest": FEWEST_PAIRS,
            "parts": {part: found[part] for part in PARTS if part in found},
            "length": {
                text: {name: _spread([getattr(form, f"{text}_length") for form in forms]) for name, forms in _sides(pairs)}
                for text in ("reasoning", "answer")
            },
            "boxed": {name: _share([form.boxed for form in forms]) for name, forms in _sides(pairs)},
            "domains": {
                name: {side: counts[side] for side in ("forward", "reverse")} for name, counts in sorted(self._domains.items())
            },
        }

    @property
    def _pairs_sampled(self) -> list[tuple[Form, Form]]:
        return [(forward, reverse) for _, _, forward, reverse in sorted(self._sample, reverse=True)]


def _rank(pair_id: str) -> int:
    """Uniform, and independent of what else goes by the order of ids. The sample is that of the smallest hashes."""
    return -int.from_bytes(hashlib.sha256(f"tells {pair_id}".encode()).digest()[:8])


def _sides(pairs: Sequence[tuple[Form, Form]]) -> Iterator[tuple[str, list[Form]]]:
    for place, name in enumerate(("forward", "reverse")):
        yield name, [pair[place] for pair in pairs]


def _spread(numbers: Sequence[int]) -> list[int]:
    """The tenth, fiftieth and ninetieth percentile."""
    return [round(float(number)) for number in np.percentile(numbers, [10, 50, 90])] if numbers else []


def _share(found: Sequence[bool]) -> dict[str, Any]:
    share = sum(found) / len(found) if found else 0.0
    return {"share": round(share, 3), "interval": wilson(share, len(found))}


# ----------------------------------------------------------------------------------------------------------- intervals

Z = 1.959964
"""Of a 95 % interval."""


def wilson(share: float, trials: float) -> list[float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    if not trials:
        return [0.0, 1.0]
    middle = (share + Z * Z / (2 * trials)) / (1 + Z * Z / trials)
    half = Z / (1 + Z * Z / trials) * math.sqrt(share * (1 - share) / trials + (Z / (2 * trials)) ** 2)
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def _auc(forward: Matrix, reverse: Matrix) -> tuple[float, list[float]]:
    """The chance that a reverse row scores above a forward row, and its interval (Hanley and McNeil 1982)."""
    ordered = np.sort(forward)
    below = (np.searchsorted(ordered, reverse, "left") + np.searchsorted(ordered, reverse, "right")) / 2
    auc, rows = float(below.mean() / len(forward)), len(forward)
    one, two = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    error = math.sqrt((auc * (1 - auc) + (rows - 1) * (one + two - 2 * auc * auc)) / (rows * rows))
    return round(auc, 3), [round(max(0.0, auc - Z * error), 3), round(min(1.0, auc + Z * error), 3)]


# ---------------------------------------------------------------------------------------------------------- classifier


def _told(pairs: Sequence[tuple[list[str], list[str]]]) -> dict[str, Any]:
    """How well the words of one part tell direction, and by which: texts that hold each, of each direction.

    The accuracy's interval counts pairs, not rows, as the two rows of a pair are not independent.
    """
    texts, grams, names = _entries([_grams(words) for pair in pairs for words in pair])
    forward, reverse = (np.bincount(grams[texts % 2 == side], minlength=len(names)) for side in (0, 1))
    times = forward + reverse
    common = sorted(np.flatnonzero(times >= FEWEST_TEXTS).tolist(), key=lambda gram: (-times[gram], names[gram]))
    scores = _scores(_Features(texts, grams, 2 * len(pairs), common[:MOST_GRAMS]))
    right = np.concatenate([-scores[::2], scores[1::2]])
    accuracy = float(((right > 0) + 0.5 * (right == 0)).mean())
    auc, around = _auc(scores[::2], scores[1::2])
    return {
        "accuracy": round(accuracy, 3),
        "interval": wilson(accuracy, len(pairs)),
        "auc": auc,
        "auc_interval": around,
        "tells": [
            {"words": names[gram], "forward": int(forward[gram]), "reverse": int(reverse[gram])}
            for gram in _strongest(forward, reverse, names)
        ],
    }


def _grams(words: Sequence[str]) -> set[str]:
    return {*words, *map(" ".join, pairwise(words))}


def _entries(texts: Iterable[set[str]]) -> tuple[Places, Places, list[str]]:
    """Which text has which gram: the numbers of both, entry by entry, and the grams by their numbers."""
    numbers: dict[str, int] = {}
    found = [[numbers.setdefault(gram, len(numbers)) for gram in text] for text in texts]
    sizes = list(map(len, found))
    return np.repeat(np.arange(len(found)), sizes), np.fromiter(chain.from_iterable(found), int, sum(sizes)), list(numbers)


def _scores(features: "_Features") -> Matrix:
    """Of texts that alternate in direction, how reverse each looks to a classifier that has not seen its pair.

    There is no intercept: as many texts of either direction are in each fold. All folds are fitted at once, by Nesterov's
    accelerated gradient.
    """
    sign = np.where(np.arange(features.texts) % 2, 1, -1).astype(np.float32)[:, None]
    own_fold = (np.arange(features.texts) // 2 % FOLDS)[:, None] == np.arange(FOLDS)
    curvature = STRENGTH / 4 * features.largest_eigenvalue() + 1
    momentum = (math.sqrt(curvature) - 1) / (math.sqrt(curvature) + 1)
    weights = ahead = np.zeros((features.grams + 1, FOLDS), np.float32)
    for _ in range(STEPS):
        loss_slope = np.where(own_fold, 0, -sign / (1 + np.exp(sign * features.times(ahead))))
        stepped = ahead - (STRENGTH * features.transposed_times(loss_slope) + ahead) / curvature
        weights, ahead = stepped, (stepped + momentum * (stepped - weights)).astype(np.float32)
    scores: Matrix = features.times(weights)[own_fold]
    return scores


class _Features:
    """Which grams each text has: a matrix of texts by grams, ones scaled so that each text has length 1, without its zeros.

    A column of zeros stands behind the last gram; each text has an entry there, so that none is without.
    """

    def __init__(self, texts: Places, grams: Places, size: int, chosen: Sequence[int]) -> None:
        """From the `_entries` of `size` texts; the `chosen` grams are the columns, in this order."""
        self.texts, self.grams = size, len(chosen)
        width = self.grams + 1
        column_of = np.full(grams.max(initial=-1) + 1, self.grams)
        column_of[chosen] = np.arange(self.grams)
        columns = column_of[grams]
        found = (texts * width + columns)[columns < self.grams]
        ends = np.arange(width - 1, size * width, width)
        of_row, self._columns = np.divmod(np.sort(np.concatenate([found, ends])), width)
        sizes = np.bincount(of_row)
        self._row_starts = np.cumsum(sizes) - sizes
        self._rows = of_row[np.argsort(self._columns, kind="stable")]
        self._column_starts = np.searchsorted(np.sort(self._columns), np.arange(self.grams + 1))
        self._scale = (1 / np.sqrt(np.maximum(sizes - 1, 1))).astype(np.float32)[:, None]

    def times(self, weights: Matrix) -> Matrix:
        """`weights` have a row for each gram, and one of zeros."""
        product: Matrix = np.add.reduceat(weights.take(self._columns, 0), self._row_starts) * self._scale
        return product

    def transposed_times(self, values: Matrix) -> Matrix:
        product: Matrix = np.add.reduceat((values * self._scale).take(self._rows, 0), self._column_starts)
        product[-1] = 0
        return product

    def largest_eigenvalue(self) -> float:
        """Of the transposed matrix times the matrix, which has no negative entry; a little more, by the power method."""
        vector = np.ones((self.grams + 1, 1), np.float32)
        vector[-1] = 0
        for _ in range(30):
            vector = self.transposed_times(self.times(vector))
            size = float(np.linalg.norm(vector))
            if not size:
                return 0.0
            vector /= size
        return 1.1 * float(np.linalg.norm(self.times(vector))) ** 2


def _strongest(forward: Places, reverse: Places, names: Sequence[str]) -> list[int]:
    """The n-grams whose counts differ most, without those that only say the same in more or fewer words."""
    fewest = TOLD**2 / 2  # fewer can't tell so much
    apart = np.abs(forward - reverse) / np.sqrt(forward + reverse)
    telling = np.flatnonzero((apart >= TOLD) & (np.maximum(forward, reverse) >= fewest)).tolist()
    chosen: list[int] = []
    said: set[str] = set()
    for gram in sorted(telling, key=lambda gram: (-apart[gram], -len(names[gram]), names[gram])):
        words = names[gram].split(" ")
        if said.isdisjoint(words):
            chosen.append(gram)
            said.update(words)
            if len(chosen) == MOST_TELLS:
                break
    return chosen
