"""The embedded bank: right by an independent statement of each formula, seeded, split, distinct, and short."""

import hashlib
import tracemalloc
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import islice

import pytest

from r1k_builder.embedded import BANK_VERSION, RELATIONS, Fact, distinct_questions, facts, rows
from r1k_builder.embedded.bank import Split, forward_example, split_of
from r1k_builder.embedded.formula import evaluate, isolate, parse, render, show, work_out
from r1k_builder.embedded.relation import Given, Quantity, Relation, span
from r1k_builder.embedded.wording import ask, forms

FORMULAS: dict[str, Callable[[Given], Fraction]] = {
    "force": lambda v: v["m"] * v["a"],
    "distance": lambda v: v["v"] * v["t"],
    "ohm": lambda v: v["I"] * v["R"],
    "net-force": lambda v: v["D"] - v["f"],
    "series-resistance": lambda v: v["A"] + v["B"],
    "velocity": lambda v: v["u"] + v["a"] * v["t"],
    "potential-energy": lambda v: v["m"] * 10 * v["h"],
    "liquid-pressure": lambda v: v["ρ"] * 10 * v["h"],
    "spring-energy": lambda v: v["F"] * v["x"] / 2,
    "gas-energy": lambda v: 12 * v["n"] * v["T"],
    "density": lambda v: v["m"] / v["V"],
    "molar-mass": lambda v: v["n"] * v["M"],
    "molar-amount": lambda v: v["c"] * v["V"],
    "dilution": lambda v: v["c"] * v["v"] / v["V"],
    "boyle": lambda v: v["p"] * v["v"] / v["V"],
    "gas-heating": lambda v: 12 * v["n"] * v["ΔT"],
    "solution-mass": lambda v: v["s"] + v["w"],
    "leftover": lambda v: v["m"] - v["r"],
    "mass-percent": lambda v: v["p"] * v["m"] / 100,
    "zero-order": lambda v: v["s"] - v["k"] * v["t"],
    "rectangle-area": lambda v: v["a"] * v["b"],
    "triangle-area": lambda v: v["b"] * v["h"] / 2,
    "rectangle-perimeter": lambda v: 2 * v["a"] + 2 * v["b"],
    "kite-perimeter": lambda v: 2 * v["s"] + 2 * v["l"],
    "box-volume": lambda v: v["l"] * v["w"] * v["h"],
    "line": lambda v: v["m"] * v["x"] + v["b"],
    "third-angle": lambda v: 180 - v["A"] - v["B"],
    "mean-score": lambda v: (v["a"] + v["b"]) / 2,
    "simple-interest": lambda v: v["P"] * v["r"] * v["t"] / 100,
    "total-cost": lambda v: v["p"] * v["n"],
    "profit": lambda v: v["R"] - v["C"],
    "service-bill": lambda v: v["f"] + v["r"] * v["h"],
    "loan-balance": lambda v: v["L"] - v["p"] * v["n"],
    "balance-sheet": lambda v: v["D"] + v["E"],
    "commission": lambda v: v["s"] * v["r"] / 100,
    "dividends": lambda v: v["s"] * v["d"],
}
"""Each relation's formula, written a second time."""

DIGESTS = {
    "train": "d1dd559b8cc526dabbc7ab7fe1fa501e8c5ecdeb40392854d271b65ff5fa8b8a",
    "heldout": "132c136902db4bcd16a2961b371453db1b2fa85324460ed738d05bfd45bdf43d",
}
"""SHA-256 of the first 360 rows of BANK_VERSION 1 with seed 0."""

TOY = Relation(
    "toy",
    "math",
    "c = a × b",
    ("sheet", "board"),
    (Quantity("a", "length", "cm", span(1, 6)), Quantity("b", "width", "cm", span(2, 5)), Quantity("c", "area", "cm²")),
)


def test_every_relation_has_a_formula_to_be_checked_against() -> None:
    assert [relation.name for relation in RELATIONS] == list(FORMULAS)
    assert len(RELATIONS) >= 30
    assert Counter(relation.domain for relation in RELATIONS).keys() == {"physics", "chemistry", "math", "finance"}


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_forward_rows_are_right(relation: Relation) -> None:
    for fact in islice(facts(relations=[relation]), 40):
        row = forward_example(fact)
        assert fact.value == FORMULAS[relation.name](fact.given)
        assert f"\\boxed{{{show(fact.value)}}}" in str(row.answer)
        assert row.solution.removesuffix(f" {relation.output.unit}").removesuffix("%").removesuffix("°") == show(fact.value)
        assert str(row.reasoning).splitlines()[-1].endswith(f"= {show(fact.value)}")
        assert (row.domain, row.source_type) == (relation.domain, f"embedded/{relation.name}")
        stated = [relation.by_symbol[symbol].value(value) for symbol, value in fact.given.items()]
        assert all(value in row.question for value in stated)
        assert len(row.question.split()) <= 45


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_every_parameter_set_has_short_distinct_values_and_can_be_turned_round(relation: Relation) -> None:
    smallest = -1000 if relation.signed else 0
    for values in islice(relation.all_values(), 0, None, 7):
        assert all(smallest < value < 100_000 and (100 * value).denominator == 1 for value in values.values())
        assert len(set(values.values())) == len(values)
        for variable in relation.variables:
            rest = {symbol: value for symbol, value in values.items() if symbol != variable.symbol}
            assert relation.solve(rest, variable.symbol) == values[variable.symbol]


def test_the_kinetic_energy_of_a_gas() -> None:
    (relation,) = (relation for relation in RELATIONS if relation.name == "gas-energy")
    given = {"n": Fraction(3), "T": Fraction(200), "R": Fraction(8)}
    assert ask(relation, given, "E", 0) == (
        "A helium sample contains 3 mol of gas and has a temperature of 200 K. What is the kinetic energy? "
        "Take R = 8 J/(mol·K)."
    )
    assert forward_example(Fact(relation, given, "E", Fraction(7200), 0)).reasoning == (
        "n = 3 mol, T = 200 K, R = 8 J/(mol·K), E = ?\nE = 3/2 × n × R × T\n1.5 × 3 = 4.5\n4.5 × 8 = 36\n36 × 200 = 7200"
    )


def test_a_seed_gives_the_same_rows_again_and_another_seed_other_ones() -> None:
    first, again, other = (list(islice(rows(seed=seed), 200)) for seed in (7, 7, 8))
    assert first == again
    assert not {row.pair_id for row in first} & {row.pair_id for row in other}


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_changed_row_needs_a_new_version(split: Split) -> None:
    content = "\n".join(row.model_dump_json() for row in islice(rows(split=split), 360))
    assert (BANK_VERSION, hashlib.sha256(content.encode()).hexdigest()) == ("1", DIGESTS[split])


def test_rows_take_the_relations_evenly() -> None:
    counts = Counter(row.source_type for row in islice(rows(seed=3), 10 * len(RELATIONS)))
    assert set(counts.values()) == {10}
    assert len(counts) == len(RELATIONS)


def test_no_parameter_set_comes_again_before_all_have_come() -> None:
    for relation in RELATIONS[::5]:
        held_out = [v for v in relation.all_values() if split_of(relation, v) == "heldout"]
        for seed in (0, 1):
            drawn = islice(facts(seed=seed, split="heldout", relations=[relation]), len(held_out))
            assert len({tuple(fact.given.values()) for fact in drawn}) == len(held_out)


def test_twenty_thousand_rows_are_distinct_in_question_and_in_identity() -> None:
    drawn = list(islice(rows(), 20_000))
    assert len(drawn) == 20_000
    assert len({row.question for row in drawn}) == 20_000
    assert len({row.pair_id for row in drawn}) == 20_000
    assert sum(len(row.question.split()) for row in drawn) / 20_000 < 30


def test_memory_does_not_grow_with_the_rows() -> None:
    walk = rows(seed=5)
    tracemalloc.start()
    try:
        for _ in islice(walk, 500):
            pass
        before, _ = tracemalloc.get_traced_memory()
        for _ in islice(walk, 2000):
            pass
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


def test_no_parameter_set_is_in_both_splits() -> None:
    halves = {
        split: {
            (fact.relation.name, *sorted(fact.given.items()))
            for seed in (0, 1)
            for fact in islice(facts(seed=seed, split=split), 5000)
        }
        for split in ("train", "heldout")
    }
    assert not halves["train"] & halves["heldout"]
    assert all(len(half) > 2000 for half in halves.values())


def test_a_bank_is_exhausted_exactly() -> None:
    """Every value set in one split, in every wording, once: the count is the one that enumeration gives."""
    texts = [
        ask(TOY, {"a": Fraction(a), "b": Fraction(b)}, "c", form)
        for a in range(2, 7)  # 1 × b equals b
        for b in range(2, 6)
        if a != b and a * b not in {a, b}
        for form in range(forms(TOY))
    ]
    drawn: dict[str, list[Fact]] = {
        "train": list(facts(seed=2, split="train", relations=[TOY])),
        "heldout": list(facts(seed=2, split="heldout", relations=[TOY])),
    }
    questions = [fact.question for half in drawn.values() for fact in half]
    assert sorted(questions) == sorted(texts)
    assert len(set(questions)) == len(questions) == distinct_questions([TOY]) == 16 * 24
    assert all(split_of(TOY, fact.given) == split for split, half in drawn.items() for fact in half)
    assert all(drawn.values())


def test_the_bank_holds_two_million_questions() -> None:
    assert distinct_questions() >= 2_000_000


def test_held_out_is_a_fifth_of_every_relation() -> None:
    for relation in RELATIONS:
        sides = Counter(split_of(relation, values) for values in relation.all_values())
        assert 0.12 < sides["heldout"] / sides.total() < 0.28, relation.name


def test_formula_families_are_shared() -> None:
    families = Counter(relation.family for relation in RELATIONS)
    assert families["a × b"] >= 6
    assert families["3/2 × a × 8 × b"] == families["a × 10 × b"] == 2
    assert sum(1 for count in families.values() if count > 1) >= 9


@pytest.mark.parametrize(
    ("formula", "wanted", "lines"),
    [
        ("F = m × a", "m", ["m = F / a"]),
        ("E = 3/2 × n × R × T", "T", ["T = E / (3/2 × n × R)"]),
        ("ρ = m / V", "V", ["V = m / ρ"]),
        ("C = c × v / V", "v", ["v = C × V / c"]),
        ("v = u + a × t", "t", ["a × t = v - u", "t = (v - u) / a"]),
        ("C = 180 - A - B", "B", ["B = 180 - C - A"]),
        ("A = (a + b) × h / 2", "b", ["a + b = A × 2 / h", "b = A × 2 / h - a"]),
        ("d = (p - s) / n", "s", ["p - s = d × n", "s = p - d × n"]),
    ],
)
def test_rearranging(formula: str, wanted: str, lines: list[str]) -> None:
    equations = isolate(*parse(formula), wanted)
    assert [f"{render(left)} = {render(right)}" for left, right in equations] == lines


def test_working_out_is_exact_and_shows_each_step() -> None:
    steps: list[str] = []
    values = {"m": Fraction("0.1"), "x": Fraction(3), "b": Fraction(-4)}
    assert work_out(parse("y = m × x + b")[1], values, steps) == Fraction("-3.7")
    assert steps == ["0.1 × 3 = 0.3", "0.3 + (-4) = -3.7"]
    with pytest.raises(ZeroDivisionError):
        evaluate(parse("q = a / b")[1], {"a": Fraction(1), "b": Fraction(0)})


@pytest.mark.parametrize(
    ("value", "text"),
    [("12", "12"), ("-1/2", "-0.5"), ("1/8", "0.125"), ("1/3", "1/3"), ("100000", "100000"), ("-0.05", "-0.05"), ("0", "0")],
)
def test_numbers_are_shown_exactly(value: str, text: str) -> None:
    assert show(Fraction(value)) == text
    assert Fraction(text) == Fraction(value)


def test_a_formula_that_cannot_be_read_to_its_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="can't be read"):
        parse("a = b c")
