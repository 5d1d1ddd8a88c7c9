"""Questions and solutions as text, in either direction by the same code, so that form does not tell the direction."""

from collections.abc import Sequence
from itertools import islice, permutations
from math import factorial

from r1k_builder.embedded.formula import render, show, work_out
from r1k_builder.embedded.relation import Given, Quantity, Relation, article

STYLES = 6
"""How many wordings `_worded` knows."""


def forms(relation: Relation) -> int:
    """How many wordings a question of `relation` has: styles × orders of the givens × subjects."""
    return STYLES * factorial(len(relation.variables) - 1) * len(relation.subjects)


def ask(relation: Relation, given: Given, asked: str, form: int, subject: str | None = None) -> str:
    """The question for `asked`, in wording `form` (0 <= form < forms(relation)); a `subject` replaces the form's own."""
    rest, style = divmod(form, STYLES)
    order, which = divmod(rest, len(relation.subjects))
    stated = next(islice(permutations(variable for variable in relation.variables if variable.symbol != asked), order, None))
    text = _worded(style, article(subject or relation.subjects[which]), stated, given, relation.by_symbol[asked])
    return " ".join([text, *(f"Take {c.symbol} = {c.value(given[c.symbol])}." for c in relation.constants)])


def _worded(style: int, subject: str, stated: Sequence[Quantity], given: Given, asked: Quantity) -> str:
    values = [(quantity, given[quantity.symbol]) for quantity in stated]
    told = _enumerate(_without_repeated_has([quantity.stated(value) for quantity, value in values]))
    named = _enumerate([f"the {quantity.name} is {quantity.value(value)}" for quantity, value in values])
    listed = ", ".join(f"{quantity.name} {quantity.value(value)}" for quantity, value in values)
    wordings = (
        f"{subject[0].upper()}{subject[1:]} {told}. {asked.question}",
        f"What is the {asked.before_subject} {subject} that {told}?",
        f"Find the {asked.before_subject} {subject} if {named}.",
        f"For {subject}, {named}. Calculate the {asked.name}.",
        f"Given: {listed}. Determine the {asked.before_subject} {subject}.",
        f"If {named}, what is the {asked.before_subject} {subject}?",
    )
    return wordings[style]


def _without_repeated_has(predicates: list[str]) -> list[str]:
    """`has a length …, has a width …` -> `has a length …, a width …`."""
    return [
        predicate.removeprefix("has ") if i and predicates[i - 1].startswith("has ") else predicate
        for i, predicate in enumerate(predicates)
    ]


def _enumerate(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def explain(relation: Relation, given: Given, asked: str) -> tuple[str, str]:
    """Reasoning (givens and unknown, formula, rearrangement, arithmetic) and boxed answer, for any variable asked.

    Raises ZeroDivisionError where the givens do not determine it.
    """
    equations = relation.rearranged[asked]
    steps: list[str] = []
    quantity = relation.by_symbol[asked]
    value = work_out(equations[-1][1], given, steps)
    stated = ", ".join(f"{symbol} = {relation.by_symbol[symbol].value(given[symbol])}" for symbol in given)
    derivation = ", so ".join(f"{render(left)} = {render(right)}" for left, right in equations)
    lines = [f"{stated}, {asked} = ?", derivation, *steps]
    boxed = quantity.value(value).replace(show(value), f"\\boxed{{{show(value)}}}", 1)
    return "\n".join(lines), f"The {quantity.name} is {boxed}."
