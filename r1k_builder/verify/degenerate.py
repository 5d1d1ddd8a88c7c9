"""A teacher that has lost itself: loops, switches into another script, lengths beyond all reason."""

import re
import zlib
from collections import Counter
from itertools import groupby

from r1k_builder.schema import CheckResult, Solution
from r1k_builder.verify.result import failed, passed, quote

MOST_CHARACTERS = {"question": 20_000, "reasoning": 400_000, "answer": 100_000}
"""More is no question, reasoning or answer: R1's longest chain, 32,768 tokens, has about 130,000 characters."""


def check_degenerate(question: str, solution: Solution) -> CheckResult:
    """No loop, no switch of script in reasoning or answer, no length beyond reason. A question's own script is no switch."""
    texts = {"question": question, "reasoning": solution.reasoning, "answer": solution.answer}
    for name, text in texts.items():
        if len(text) > MOST_CHARACTERS[name]:
            return failed(f"{name}: {len(text):,} characters")
    own_script = _foreign_letters(question.encode("utf-8", "replace")) > 0
    for name in ("reasoning", "answer"):
        text = texts[name]
        raw = text.encode("utf-8", "replace")
        if (loop := _loop(raw) or _repeated(text)) is not None:
            return failed(f"{name}: {loop}")
        if not own_script and not text.isascii() and (letters := _foreign_letters(raw)) >= FEWEST_FOREIGN:
            return failed(f"{name}: another script, {letters} letters: {quote(_first_foreign(text))}")
    return passed()


# --------------------------------------------------------------------------------------------------------------- loops

WINDOW = 1024
"""Bytes that are compressed at a time, after what stands before them."""
LEAST_RATIO = 0.1
"""Compressed to original size. The least of any window in 60 chains of R1's was 0.21; a loop's is 0.01 to 0.05."""
REACH = 32_768
"""Bytes before a window that count: zlib's own reach."""
PROBE = 20
"""Bytes at the beginning of a window that have to stand before it, or it is not compressed at all: nine in ten of R1's do not,
and to look for them is eight times quicker. A loop's stretches that are the same are longer."""
SHORT = 4 * WINDOW
"""Bytes below which a text is compressed as one, and its sentences are counted."""
MOST_RUN = 4
"""How often a short text may not say one sentence or line in a row."""
MOST_REPEATS = 6
"""Nor in all, where it is of a dozen characters or more."""
MOST_SHORT_REPEATS = 8
"""Nor where it is shorter."""


def _loop(raw: bytes) -> str | None:
    """Where a text goes on without saying anything new, by how well it compresses: for two windows, as a paragraph that is
    quoted once more is no loop."""
    if len(raw) < SHORT:
        empty = len(raw) >= WINDOW // 2 and len(zlib.compress(raw, 1)) < LEAST_RATIO * len(raw)
        return f"a loop: {len(raw):,} bytes say next to nothing" if empty else None
    starts = range(0, len(raw) - WINDOW + 1, WINDOW)
    for one in starts[1::2]:  # of any two in a row
        if _is_low(raw, one):
            for start in (one, one + WINDOW):
                if start in starts and _is_low(raw, start - WINDOW) and _is_low(raw, start):
                    return f"a loop at byte {start:,}: {quote(raw[start : start + WINDOW].decode('utf-8', 'ignore'))}"
    return None


def _is_low(raw: bytes, start: int) -> bool:
    """Whether a window says nothing new."""
    before = max(0, start - REACH)
    repeats = raw.find(raw[start : start + PROBE], before, start + PROBE - 1) >= 0
    return repeats and _size_after(raw[before:start], raw[start : start + WINDOW]) < LEAST_RATIO * WINDOW


def _size_after(before: bytes, window: bytes) -> int:
    """Bytes of a window, compressed by one who has read what stands before it."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    return len(compressor.compress(window)) + len(compressor.flush(zlib.Z_SYNC_FLUSH))


_SENTENCES = re.compile(r"\n|(?<=[.?!])\s")


def _repeated(text: str) -> str | None:
    """A sentence or line that a short text says again and again; long texts are left to `_loop`."""
    if len(text) > SHORT:
        return None
    sentences = [sentence for part in _SENTENCES.split(text) if " " in (sentence := part.strip())]
    runs = [(len(list(run)), sentence) for sentence, run in groupby(sentences)]
    in_all = [(times, sentence) for sentence, times in Counter(sentences).items()]
    long = [(times, sentence) for times, sentence in in_all if len(sentence) >= 12]
    for most, counted in ((MOST_RUN, runs), (MOST_REPEATS, long), (MOST_SHORT_REPEATS, in_all)):
        times, sentence = max(counted, default=(0, ""))
        if times >= most:
            return f"a loop: {times} times {quote(sentence)}"
    return None


# ------------------------------------------------------------------------------------------------------------- scripts

FEWEST_FOREIGN = 4
"""Letters that make a switch; a Chinese, Japanese or Korean one counts for two, as words are that short there."""

_CJK_LEADS = range(0xE3, 0xEE)
_FOREIGN_LEADS = {*range(0xD0, 0xE1), *_CJK_LEADS}
"""First UTF-8 bytes of letters that are neither Latin nor Greek, from Cyrillic to Hangul; signs begin with 0xE2."""
_NOT_FOREIGN = bytes(set(range(256)) - _FOREIGN_LEADS)
_NOT_CJK = bytes(set(range(256)) - {*_CJK_LEADS})
_FOREIGN = re.compile(r"[\u0400-\u0fff\u3000-\ud7ff](?:[\u0400-\u0fff\u3000-\ud7ff ]{0,60})")


def _foreign_letters(raw: bytes) -> int:
    """Counted in the bytes, as that is some fifty times quicker than by a pattern."""
    return len(raw.translate(None, _NOT_FOREIGN)) + len(raw.translate(None, _NOT_CJK))


def _first_foreign(text: str) -> str:
    found = _FOREIGN.search(text)
    return found[0] if found else ""
