"""Answers sampled after a probe's prompts: do they go in the direction that was asked, in the other one, or nowhere near?

The paper's "irrelevant outputs" are where probability goes that neither response of a pair holds. Sorted is each answer by its
final answer, where that is one reference's and not the other's; else by its words, of which those that most pairs use tell
nothing.
"""

import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from r1k_train import reading
from r1k_train.checker import Checker
from r1k_train.measures import RESAMPLES, SETS, Estimate

Kind = Literal["own direction", "other direction", "unrelated"]
SORTS: tuple[Kind, ...] = ("own direction", "other direction", "unrelated")
COMMON = 0.1
"""Words that more than this share of pairs use tell nothing about one."""
LEAST = 0.2
"""An answer of whose telling words less than this share are the pair's is unrelated."""
SHOWN = 200
"""Answers on the page to read."""
LONGEST = 4000
"""Characters of each that are shown, from its beginning and its end alike."""

_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]{3,}")


@dataclass(frozen=True)
class Sides:
    """What a pair's two directions say: the question's own response, and its counterpart's."""

    own: str
    other: str


class Sorter:
    """Sorts answers to the questions of `pairs`, whose texts tell which words are common; has a worker, so close it."""

    def __init__(self, pairs: Sequence[Sides]) -> None:
        seen = Counter(word for pair in pairs for word in _words(pair.own) | _words(pair.other))
        most = max(1, COMMON * len(pairs))
        self._common = {word for word, count in seen.items() if count > most}
        self._checker = Checker()

    def __enter__(self) -> "Sorter":
        return self

    def __exit__(self, *_: object) -> None:
        self._checker.close()

    def sort(self, text: str, pair: Sides) -> tuple[Kind, str]:
        """The kind, and by what it was told: `answer` or `words`.

        An answer about the pair whose words do not tell the directions apart goes in its own.
        """
        if (by_answer := self._by_answer(text, pair)) is not None:
            return by_answer, "answer"
        telling = _words(text) - self._common
        own, other = (_words(side) - self._common for side in (pair.own, pair.other))
        if not telling or len(telling & (own | other)) < LEAST * len(telling):
            return "unrelated", "words"
        for_own, for_other = len(telling & (own - other)), len(telling & (other - own))
        return ("other direction" if for_other > for_own else "own direction"), "words"

    def _by_answer(self, text: str, pair: Sides) -> Kind | None:
        found, own, other = (reading.final_answer(reading.split(one).answer) for one in (text, pair.own, pair.other))
        if found is None:
            return None
        is_own, is_other = (gold is not None and self._checker.compare(gold, found) == "equal" for gold in (own, other))
        if is_own == is_other:
            return None
        return "own direction" if is_own else "other direction"


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}


Sample = dict[str, Any]
"""A line of the table: pair_id, direction, sample, kind, by, tokens, finished, text."""


def shares(samples: Iterable[Sample], seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """Of each set, the share of each kind, with the 95 % interval of a bootstrap over pairs."""
    kept = list(samples)
    pairs = sorted({sample["pair_id"] for sample in kept})
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs))) if pairs else np.empty((0, 0), int)
    found: dict[str, dict[str, Estimate]] = {}
    for name, directions in SETS.items():
        of_set = [sample for sample in kept if sample["direction"] in directions]
        if not of_set:
            continue
        counts = Counter((sample["pair_id"], sample["kind"]) for sample in of_set)
        totals = np.array([sum(counts[pair, kind] for kind in SORTS) for pair in pairs], dtype=np.float64)
        found[name] = {}
        for kind in SORTS:
            of_kind = np.array([counts[pair, kind] for pair in pairs], dtype=np.float64)
            below = totals[drawn].sum(axis=1)
            means = of_kind[drawn].sum(axis=1)[below > 0] / below[below > 0]
            low, high = np.percentile(means, [2.5, 97.5])
            found[name][kind] = Estimate(float(of_kind.sum() / totals.sum()), float(low), float(high), len(of_set))
    return found


# -- to read -------------------------------------------------------------------------------------------------------

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color-scheme:light dark}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid;padding-left:1em}"
)


def write_page(path: Path, title: str, samples: Sequence[Sample], questions: Mapping[tuple[str, str], str]) -> None:
    """The first SHOWN answers, a page that loads nothing and runs nothing: every text is escaped."""
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>{min(len(samples), SHOWN):,} of {len(samples):,} answers</p>"
    )
    parts = [head]
    for sample in samples[:SHOWN]:
        name = f"{sample['pair_id']}-{sample['direction']}, {sample['sample']}: {sample['kind']} (by its {sample['by']})"
        more = "" if sample["finished"] else ", unfinished"
        question, text = questions[sample["pair_id"], sample["direction"]], sample["text"]
        parts.append(f"<h2>{html.escape(name + more)}</h2><p>{html.escape(_shown(question))}</p>")
        parts.append(f"<pre>{html.escape(_shown(text))}</pre>")
    path.write_text("\n".join(parts) + "\n", encoding="utf-8", errors="replace")


def _shown(text: str) -> str:
    """At most LONGEST characters from either end, without what can hide or turn text around."""
    if (left_out := len(text) - 2 * LONGEST) > 0:
        text = f"{text[:LONGEST]}\n[… {left_out:,} characters …]\n{text[-LONGEST:]}"
    return "".join(one if one.isprintable() or one == "\n" else f"\\u{ord(one):04x}" for one in text)


def write(folder: Path, samples: Sequence[Sample]) -> Path:
    """All answers as a table."""
    path = folder / "samples.parquet"
    Dataset.from_list(list(samples)).to_parquet(str(path))
    return path
