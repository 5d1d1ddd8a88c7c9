"""The bank: seeded draws of (relation, values, wording), worded as forward questions with their solutions.

The split is a function of the relation's name and the values alone, so no parameter set is in both halves, whatever
seed or wording drew it. One parameter set in `HELD_OUT_ONE_IN` is held out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from itertools import count
from math import isqrt
from typing import Literal

from r1k_builder.embedded.formula import show
from r1k_builder.embedded.relation import Given, Relation
from r1k_builder.embedded.table import RELATIONS
from r1k_builder.embedded.wording import ask, explain, forms
from r1k_builder.schema import ForwardExample

Split = Literal["train", "heldout"]

BANK_VERSION = "1"
"""Changes whenever a row of the bank, or a reply of its teacher, changes."""
MODEL = "r1k-embedded-solver"
HELD_OUT_ONE_IN = 5


@dataclass(frozen=True)
class Fact:
    """The ground truth of one row: which relation, what is given, what is asked, and its value."""

    relation: Relation
    given: Given
    """Constants included."""
    asked: str
    """Symbol of the quantity asked."""
    value: Fraction
    form: int
    """Which of the relation's wordings."""

    @property
    def question(self) -> str:
        return ask(self.relation, self.given, self.asked, self.form)


def rows(*, seed: int = 0, split: Split = "train") -> Iterator[ForwardExample]:
    """Forward rows, drawn evenly from the relations; `facts` without the ground truth.

    Row i depends on seed, split and i alone. No question comes twice, and memory does not grow: the draws walk
    through a permutation. The rows end when the split is exhausted (`distinct_questions` says when).
    """
    return (forward_example(fact) for fact in facts(seed=seed, split=split))


def facts(*, seed: int = 0, split: Split = "train", relations: Sequence[Relation] = RELATIONS) -> Iterator[Fact]:
    """What `rows` is made of. Each round takes one fact of every relation that has any left, in an order of its own."""
    walks = {relation: _walk(relation, seed, split) for relation in relations}
    keys = {relation: _key(f"order {seed} {relation.name}") for relation in relations}
    for turn in count():
        if not walks:
            return
        for relation in sorted(walks, key=lambda r: _mix(turn, keys[r])):
            fact = next(walks[relation], None)
            if fact is None:
                del walks[relation]
            else:
                yield fact


def distinct_questions(relations: Sequence[Relation] = RELATIONS) -> int:
    """How many different forward questions the bank holds, both splits together; counted, not estimated (a second)."""
    return sum(forms(relation) * sum(1 for _ in relation.all_values()) for relation in relations)


def split_of(relation: Relation, values: Given) -> Split:
    """Which split a parameter set is in: by a hash of its content."""
    content = " ".join([relation.name, *(show(values[quantity.symbol]) for quantity in relation.drawn)])
    return "heldout" if _key(content) % HELD_OUT_ONE_IN == 0 else "train"


def forward_example(fact: Fact) -> ForwardExample:
    reasoning, answer = explain(fact.relation, fact.given, fact.asked)
    relation = fact.relation
    return ForwardExample(
        question=fact.question,
        solution=relation.by_symbol[fact.asked].value(fact.value),
        reasoning=reasoning,
        answer=answer,
        teacher=MODEL,
        domain=relation.domain,
        source_type=f"embedded/{relation.name}",
    )


def _walk(relation: Relation, seed: int, split: Split) -> Iterator[Fact]:
    """Every fact of `relation` in `split` once, in an order that the seed decides.

    All parameter sets come before one comes again in another wording.
    """
    key, asked = _key(f"walk {seed} {relation.name}"), relation.output.symbol
    for turn in range(forms(relation)):
        for place in range(relation.combinations):
            combination = _permute(place, relation.combinations, _mix(turn, key))
            drawn = relation.combination(combination)
            if split_of(relation, drawn) != split or (values := relation.complete(drawn)) is None:
                continue
            given = {quantity.symbol: values[quantity.symbol] for quantity in relation.quantities if quantity.symbol != asked}
            form = _permute(turn, forms(relation), _mix(combination, key))
            yield Fact(relation, given, asked, values[asked], form)


def _permute(index: int, size: int, key: int) -> int:
    """Where a keyed permutation of range(size) takes `index`: a Feistel network on a square that just holds the range.

    Black and Rogaway, Ciphers with Arbitrary Finite Domains (2002): what falls outside the range is permuted again.
    """
    width = isqrt(size - 1) + 1
    while True:
        left, right = divmod(index, width)
        for turn in range(4):
            left, right = right, (left + _mix(right, key + turn)) % width
        index = left * width + right
        if index < size:
            return index


def _mix(number: int, key: int) -> int:
    """64 well mixed bits (splitmix64's finalizer)."""
    mixed = (number * 0x9E3779B97F4A7C15 + key) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return mixed ^ (mixed >> 31)


def _key(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8])
