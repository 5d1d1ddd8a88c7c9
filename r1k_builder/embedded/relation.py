"""What a relation is: a formula, its quantities with the values that the bank draws, and how they are worded.

A relation is data. The questions in either direction, the reading of questions and the solutions are all made from
it by the same code.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from string import ascii_lowercase
from typing import Literal

from r1k_builder.embedded.formula import Term, evaluate, isolate, parse, render, show, substitute, symbols

Domain = Literal["physics", "chemistry", "math", "finance"]
Given = dict[str, Fraction]
"""Symbol -> value of each quantity that a question states, constants included."""

LONGEST = 100_000
"""Every value of the bank is smaller, and has at most two decimals."""


@dataclass(frozen=True, eq=False)
class Quantity:
    symbol: str
    name: str
    unit: str = ""
    values: tuple[Fraction, ...] = ()
    """What the bank draws from; empty for the one quantity that follows from the others, one value for a constant."""
    of: str = ""
    """What stands before the subject: "net force on" (default: the name and "of")."""
    state: str = ""
    """What is said of the subject, the value at {}: "accelerates at {}" (default: "has an acceleration of {}")."""
    ask: str = ""
    """The question for it (default: "What is the acceleration?")."""
    cues: tuple[str, ...] = ()
    """Other words that mean it in a question: `stretch*` with any ending, `speed?` only as what is asked,
    `from>` only before its number."""
    constant: bool = False
    """Stated in every question ("Take g = 10 m/s²") and never asked."""

    def value(self, value: Fraction) -> str:
        """`5 kg`, `4%`, `-3`."""
        return show(value) + (self.unit if self.unit in {"", "%", "°"} else f" {self.unit}")

    def stated(self, value: Fraction) -> str:
        return (self.state or f"has {article(self.name)} of {{}}").replace("{}", self.value(value))

    @property
    def question(self) -> str:
        return self.ask or f"What is the {self.name}?"

    @property
    def before_subject(self) -> str:
        return self.of or f"{self.name} of"


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"  # no u: a unit price


@dataclass(frozen=True, eq=False)
class Relation:
    name: str
    domain: Domain
    formula: str
    """The quantity on the left is what forward questions ask."""
    subjects: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    """In the order in which a question states them; constants last."""
    needs: tuple[str, ...] = ()
    """A question is of this relation only if one of these is in it; for what the units alone do not tell."""
    signed: bool = False
    """Values may be negative."""

    @cached_property
    def by_symbol(self) -> dict[str, Quantity]:
        return {quantity.symbol: quantity for quantity in self.quantities}

    @cached_property
    def parsed(self) -> tuple[str, Term]:
        return parse(self.formula)

    @property
    def output(self) -> Quantity:
        """What forward questions ask."""
        return self.by_symbol[self.parsed[0]]

    @cached_property
    def variables(self) -> tuple[Quantity, ...]:
        return tuple(quantity for quantity in self.quantities if not quantity.constant)

    @cached_property
    def constants(self) -> tuple[Quantity, ...]:
        return tuple(quantity for quantity in self.quantities if quantity.constant)

    @cached_property
    def rearranged(self) -> dict[str, list[tuple[Term, Term]]]:
        """For each variable, the equations that end with `variable = …`; the first is the formula itself."""
        subject, term = self.parsed
        start: tuple[Term, Term] = (subject, term)
        others = [v.symbol for v in self.variables if v.symbol != subject]
        return {subject: [start]} | {symbol: [start, *isolate(subject, term, symbol)] for symbol in others}

    @cached_property
    def family(self) -> str:
        """The formula with letters for its variables and values for its constants: `a × 10 × b` is one family."""
        constants = {constant.symbol: show(constant.values[0]) for constant in self.constants}
        variables = [symbol for symbol in symbols(self.parsed[1]) if symbol not in constants]
        names = constants | dict(zip(variables, ascii_lowercase, strict=False))
        return render(substitute(self.parsed[1], names))

    def solve(self, given: Given, asked: str) -> Fraction:
        """The value of `asked`. Raises ZeroDivisionError where the givens do not determine it."""
        return evaluate(self.rearranged[asked][-1][1], given)

    @cached_property
    def drawn(self) -> tuple[Quantity, ...]:
        return tuple(quantity for quantity in self.quantities if quantity.values)

    @cached_property
    def combinations(self) -> int:
        """How many sets of drawn values there are, those that `complete` turns down included."""
        return prod(len(quantity.values) for quantity in self.drawn)

    def combination(self, index: int) -> Given:
        """The `index`-th set of drawn values, 0 <= index < combinations."""
        drawn = {}
        for quantity in self.drawn:
            index, place = divmod(index, len(quantity.values))
            drawn[quantity.symbol] = quantity.values[place]
        return drawn

    def complete(self, drawn: Given) -> Given | None:
        """All values, or None where one is long, zero, negative, or equal to another one.

        Distinct values make it plain which number of a question, or of an answer, is which quantity.
        """
        (derived,) = (quantity.symbol for quantity in self.quantities if not quantity.values)
        value = self.solve(drawn, derived)
        if not value or (value < 0 and not self.signed) or abs(value) >= LONGEST or 100 % value.denominator:
            return None
        values = drawn | {derived: value}
        return values if len(set(values.values())) == len(values) else None

    def all_values(self) -> Iterator[Given]:
        """Every parameter set of the bank."""
        for index in range(self.combinations):
            if (values := self.complete(self.combination(index))) is not None:
                yield values


def span(first: int | str, last: int | str, step: int | str = 1) -> tuple[Fraction, ...]:
    """first, first + step, …, last."""
    start, end, width = Fraction(first), Fraction(last), Fraction(step)
    return tuple(start + i * width for i in range((end - start) // width + 1))
