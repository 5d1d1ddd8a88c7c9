"""Made-up mathematical prose of any size, as a function of a key: for a host's answers and for source rows.

It compresses about as well as a real chain of thought (zstd: 3 to 1), and no two keys share much of it, so what a journal
and Parquet files cost is neither flattered nor exaggerated.
"""

import json
import random
from bisect import bisect_left

CHARACTERS = 4_000_000
"""Size of the text that pieces are cut from."""

OPENINGS = ("So", "Wait,", "Hmm, then", "Let me check that", "Therefore", "But", "Alternatively,", "Now", "Since", "Next,")
FORMULAS = (r"$\frac{%d}{%d}$", "$x^%d + %dx$", r"$\sum_{k=1}^{%d} k^{%d}$", "%d * %d", r"$\sqrt{%d} < %d$")


class Corpus:
    """JSON-encoded once, so that a piece costs a slice."""

    def __init__(self, seed: int = 1) -> None:
        draw = random.Random(seed)
        syllables = [
            a + b + c for a in "bcdfglmnprst" for b in ("a", "e", "i", "o", "u", "ea") for c in ("n", "r", "s", "t", "l", "")
        ]
        words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(4000)]
        commonness = [1 / rank for rank in range(1, len(words) + 1)]
        parts, self._starts, length = [], [], 0
        while length < CHARACTERS:
            self._starts.append(length)
            parts.append(json.dumps(_sentence(draw, words, commonness)).encode()[1:-1])
            length += len(parts[-1])
        self._encoded = b"".join(parts)

    def encoded(self, key: int, size: int) -> bytes:
        """Whole sentences of at least `size` bytes in all, as the inside of a JSON string; none where `size` is 0."""
        if not size:
            return b""
        last = bisect_left(self._starts, len(self._encoded) - size - 1000)
        start = self._starts[key % max(last, 1)]
        stop = bisect_left(self._starts, start + size)
        return self._encoded[start : self._starts[stop]]

    def text(self, key: int, size: int) -> str:
        """The same piece as a string."""
        decoded: str = json.loads(b'"' + self.encoded(key, size) + b'"')
        return decoded


def _sentence(draw: random.Random, words: list[str], commonness: list[float]) -> str:
    chosen = draw.choices(words, commonness, k=draw.randint(6, 18))
    chosen.insert(draw.randrange(len(chosen)), draw.choice(FORMULAS) % (draw.randint(2, 999), draw.randint(2, 99)))
    return f"{draw.choice(OPENINGS)} {' '.join(chosen)}.{draw.choice((' ', ' ', ' ', chr(10) * 2))}"
