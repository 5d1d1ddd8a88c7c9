"""The embedded bank's rows in the short form that half a million parameters can learn, and which relations a base may see."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from r1k_train.data import DataError, Direction
from r1k_train.scoring import Scorable
from r1k_train.study.words import Words

BANK = "embedded/"
"""How `source_type` begins in rows of the bank; the relation's name follows."""
_SYMBOL = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Item:
    """A row in its short form: `response` is the equation for what is asked, the arithmetic step by step, the answer with its
    unit, each a line, without blanks. The reasoning's list of what is given and the sentence around the answer are left out.
    """

    pair_id: str
    direction: Direction
    relation: str
    question: str
    response: str

    @property
    def equation(self) -> str:
        return self.response.partition("\n")[0]

    @property
    def steps(self) -> list[str]:
        return self.response.split("\n")[1:-1]

    def simple(self, limit: int) -> bool:
        """Whether all arithmetic is in whole numbers below `limit`."""
        return all("." not in number and int(number) < limit for step in self.steps for number in _NUMBER.findall(step))


Pairs = dict[str, dict[Direction, Item]]
"""pair_id -> both directions."""


def short_form(row: Mapping[str, Any]) -> Item:
    """A row of the bank's `mixed` configuration. Raises DataError for a row of another source."""
    lines = row["reasoning"].split("\n")
    if not row["source_type"].startswith(BANK) or len(lines) < 3:
        raise DataError("the study needs the embedded bank's rows: build them with r1k-build --source embedded")
    equation = lines[1].rpartition(", so ")[2]
    response = "\n".join([equation, *lines[2:], row["reference_answer"]]).replace(" ", "")
    return Item(row["pair_id"], row["direction"], row["source_type"].removeprefix(BANK), row["question"], response)


def read_pairs(rows: Dataset, limit: int) -> Pairs:
    """Pairs of which both directions are there and reckon in whole numbers below `limit`, in the order of the rows."""
    columns = ["pair_id", "direction", "source_type", "question", "reasoning", "reference_answer"]
    if missing := set(columns) - set(rows.column_names):
        raise DataError(f"the study needs the columns of the configuration mixed; {', '.join(sorted(missing))} are missing")
    pairs: Pairs = defaultdict(dict)
    for row in rows.select_columns(columns):
        item = short_form(row)
        pairs[item.pair_id][item.direction] = item
    return {
        pair_id: both for pair_id, both in pairs.items() if len(both) == 2 and all(item.simple(limit) for item in both.values())
    }


def family(pair: Mapping[Direction, Item]) -> str:
    """The forward formula with letters in order for its quantities: `m×a` and `v×t` are one family, `a×b`."""
    letters: dict[str, str] = {}
    formula = pair["forward"].equation.partition("=")[2]
    return _SYMBOL.sub(lambda found: letters.setdefault(found[0], chr(ord("a") + len(letters))), formula)


def halves(pairs: Pairs, least: int, seed: int) -> tuple[list[str], list[str]]:
    """The relations for the base and those for fine-tuning: each family's relations are dealt out in turn, at random.

    A family of one relation is left out, so that both halves have all families, and so is a relation with fewer than
    `least` pairs. An odd one goes to the smaller half.
    """
    counts = Counter(pair["forward"].relation for pair in pairs.values())
    families: dict[str, set[str]] = defaultdict(set)
    for pair in pairs.values():
        if counts[pair["forward"].relation] >= least:
            families[family(pair)].add(pair["forward"].relation)
    draw = random.Random(seed)  # noqa: S311  a shuffle, not a secret
    dealt: tuple[list[str], list[str]] = ([], [])
    for name in sorted(families):
        relations = sorted(families[name])
        draw.shuffle(relations)
        if len(relations) > 1:
            less, more = sorted(dealt, key=len)
            less += relations[::2]
            more += relations[1::2]
    if not dealt[0]:
        raise DataError(
            f"no formula has two relations of {least} pairs: build more rows (r1k-build --source embedded --limit 8000)"
        )
    return sorted(dealt[0]), sorted(dealt[1])


def of_relations(pairs: Pairs, relations: Iterable[str], most: int | None = None) -> Pairs:
    """Up to `most` pairs of these relations, each relation in turn, in the order of the rows."""
    by_relation: dict[str, list[str]] = {relation: [] for relation in relations}
    for pair_id, pair in pairs.items():
        if pair["forward"].relation in by_relation:
            by_relation[pair["forward"].relation].append(pair_id)
    ranked = sorted((place, relation, pair_id) for relation, ids in by_relation.items() for place, pair_id in enumerate(ids))
    return {pair_id: pairs[pair_id] for _, _, pair_id in ranked[:most]}


def sequence(words: Words, prompt: str, response: str) -> Scorable:
    """A prompt between the marks that begin and end it, and a response with its end."""
    return Scorable((words.begin, *words.ids(prompt), words.answer), (*words.ids(response), words.end))


def learnable(words: Words, items: Iterable[Item]) -> list[Scorable]:
    return [sequence(words, item.question, item.response) for item in items]


def arithmetic(words: Words, limit: int, count: int, seed: int) -> list[Scorable]:
    """`count` bare facts in whole numbers below `limit`, each operation as often: `3×8=` asks, `24` answers."""
    draw = random.Random(seed)  # noqa: S311  a shuffle, not a secret
    found = []
    for number in range(count):
        sign = "+-×/"[number % 4]
        if sign in "+-":
            one, other = sorted((draw.randrange(1, limit), draw.randrange(1, limit)))
            small, large = (one, other - one) if sign == "+" else (one, other)
            found.append(f"{small}+{large}={other}" if sign == "+" else f"{large}-{small}={large - small}")
            continue
        factor = draw.randrange(2, limit // 2)
        times = draw.randrange(1, (limit - 1) // factor + 1)
        one, other = draw.sample((factor, times), 2)
        found.append(f"{one}×{other}={factor * times}" if sign == "×" else f"{factor * times}/{one}={other}")
    return [sequence(words, f"{left}=", right) for left, _, right in (fact.rpartition("=") for fact in found)]
