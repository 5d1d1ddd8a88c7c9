"""Formulas in which every quantity stands once: read, rearranged for any of them, and worked out step by step.

A formula is written as it is shown: `v = u + a × t`, `E = 3/2 × n × R × T`, `M = (a + b) / 2`. Symbols, numbers and
operators are separated by spaces, so `3/2` is one number. All arithmetic is exact (`Fraction`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

Term: TypeAlias = "str | Fraction | Product | Sum"
"""A symbol, a number, or what is made of them."""
Values = Mapping[str, Fraction]
"""Symbol -> value."""

_TOKEN = re.compile(r"[()]|[^\s()]+")


@dataclass(frozen=True)
class Product:
    over: tuple[Term, ...]
    under: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Sum:
    plus: tuple[Term, ...]
    minus: tuple[Term, ...] = ()


def parse(formula: str) -> tuple[str, Term]:
    """`"F = m × a"` -> `("F", Product(("m", "a")))`."""
    subject, _, expression = formula.partition(" = ")
    tokens = _TOKEN.findall(expression)
    term = _parse_sum(tokens)
    if tokens:
        raise ValueError(f"{formula!r} can't be read from {tokens[0]!r} on")
    return subject, term


def _parse_sum(tokens: list[str]) -> Term:
    plus: list[Term] = [_parse_product(tokens)]
    minus: list[Term] = []
    while tokens and tokens[0] in "+-":
        (plus if tokens.pop(0) == "+" else minus).append(_parse_product(tokens))
    return plus[0] if len(plus) == 1 and not minus else Sum(tuple(plus), tuple(minus))


def _parse_product(tokens: list[str]) -> Term:
    over: list[Term] = [_parse_atom(tokens)]
    under: list[Term] = []
    while tokens and tokens[0] in "×/":
        (over if tokens.pop(0) == "×" else under).append(_parse_atom(tokens))
    return over[0] if len(over) == 1 and not under else Product(tuple(over), tuple(under))


def _parse_atom(tokens: list[str]) -> Term:
    token = tokens.pop(0)
    if token == "(":  # noqa: S105
        term = _parse_sum(tokens)
        tokens.remove(")")
        return term
    return Fraction(token) if token[0].isdigit() else token


def symbols(term: Term) -> tuple[str, ...]:
    """The symbols in `term`, in the order in which they stand."""
    if isinstance(term, str):
        return (term,)
    if isinstance(term, Fraction):
        return ()
    parts = term.over + term.under if isinstance(term, Product) else term.plus + term.minus
    return tuple(symbol for part in parts for symbol in symbols(part))


def substitute(term: Term, names: Mapping[str, str]) -> Term:
    """`term` with other names for its symbols."""
    if isinstance(term, str):
        return names[term]
    if isinstance(term, Fraction):
        return term
    first, second = (term.over, term.under) if isinstance(term, Product) else (term.plus, term.minus)
    return type(term)(tuple(substitute(part, names) for part in first), tuple(substitute(part, names) for part in second))


def isolate(subject: str, term: Term, wanted: str) -> list[tuple[Term, Term]]:
    """The equations that lead from `subject = term` to `wanted = …`, one for each product or sum that is undone.

    `wanted` stands once in `term`.
    """
    equations: list[tuple[Term, Term]] = []
    other: Term = subject
    while isinstance(term, Product | Sum):
        term, other = _undo(term, other, wanted)
        equations.append((term, other))
    return equations


def _undo(term: Product | Sum, other: Term, wanted: str) -> tuple[Term, Term]:
    """`part = …` from `term = other`, where `part` is the operand of `term` that holds `wanted`."""
    first, second = (term.over, term.under) if isinstance(term, Product) else (term.plus, term.minus)
    make = type(term)
    for part in first:
        if wanted in symbols(part):
            return part, make((other, *second), tuple(p for p in first if p is not part))
    part = next(p for p in second if wanted in symbols(p))
    return part, make(first, (other, *(p for p in second if p is not part)))


def render(term: Term) -> str:
    """`term` as text; sums inside products stand in brackets."""
    if isinstance(term, str):
        return term
    if isinstance(term, Fraction):
        return str(term)
    if isinstance(term, Sum):
        return " - ".join([" + ".join(map(render, term.plus)), *map(render, term.minus)])
    over, under = (" × ".join(map(_factor, part)) for part in (term.over, term.under))
    if not term.under:
        return over
    return f"{over} / {under}" if len(term.under) == 1 else f"{over} / ({under})"


def _factor(term: Term) -> str:
    return f"({render(term)})" if isinstance(term, Sum) else render(term)


def evaluate(term: Term, values: Values) -> Fraction:
    """The value of `term`. Raises ZeroDivisionError where a divisor is zero."""
    return work_out(term, values, None)


def work_out(term: Term, values: Values, steps: list[str] | None) -> Fraction:
    """The value of `term`; each operation on the way is appended to `steps` as `5 × 3 = 15`."""
    if isinstance(term, str):
        return values[term]
    if isinstance(term, Fraction):
        return term
    signs = ("×", "/") if isinstance(term, Product) else ("+", "-")
    first, second = (term.over, term.under) if isinstance(term, Product) else (term.plus, term.minus)
    result = work_out(first[0], values, steps)
    for part in first[1:]:
        result = _step(result, signs[0], work_out(part, values, steps), steps)
    if isinstance(term, Product) and len(second) > 1:  # shown as one divisor in brackets, so worked out as one
        return _step(result, "/", work_out(Product(second), values, steps), steps)
    for part in second:
        result = _step(result, signs[1], work_out(part, values, steps), steps)
    return result


def _step(left: Fraction, sign: str, right: Fraction, steps: list[str] | None) -> Fraction:
    if sign == "×":
        result = left * right
    elif sign == "/":
        result = left / right
    else:
        result = left + right if sign == "+" else left - right
    if steps is not None:
        operand = f"({show(right)})" if right < 0 else show(right)
        steps.append(f"{show(left)} {sign} {operand} = {show(result)}")
    return result


def show(value: Fraction) -> str:
    """`value` exactly: as an integer, as a decimal where it ends, else as `p/q`."""
    if value.denominator == 1:
        return str(value.numerator)
    places, rest = 0, value.denominator
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest //= prime
            count += 1
        places = max(places, count)
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
