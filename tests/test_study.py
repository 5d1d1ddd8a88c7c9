"""The study in miniature, at its smallest, from end to end; and its parts on rows made by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from r1k_train import study
from r1k_train.scoring import Scorable, score
from r1k_train.study.design import Settings, mixtures, prepare, run_names, thirds
from r1k_train.study.estimates import by_base, estimate
from r1k_train.study.outcomes import solved, sort
from r1k_train.study.rows import Item, Pairs, arithmetic, family, halves, of_relations, short_form
from r1k_train.study.training import fit, make_model, prefer
from r1k_train.study.words import Words

ROOT = Path(__file__).parents[1]
SMALL = {
    "bases": 1, "hidden": 32, "layers": 1, "base_steps": 6, "tune_pairs": 9, "tune_epochs": 1, "batch": 8, "pair_steps": 2,
    "pair_batch": 4, "test_pairs": 3, "least_pairs": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two folders by the builder's own command."""
    words = []
    for part, limit in (("train", 72), ("heldout", 36)):
        path = tmp_path_factory.mktemp("bank") / part
        command = [
            "--source",
            "embedded",
            "--teacher",
            "embedded",
            "--limit",
            str(limit),
            "--split",
            part,
            "--tokenizer",
            "none",
        ]
        subprocess.run(
            [sys.executable, "-m", "r1k_builder", *command, "--output", str(path)], check=True, cwd=ROOT, capture_output=True
        )
        words += [f"--{part}", str(path)]
    return words


def run(bank: list[str], out: Path, *more: str) -> int:
    return study.main([*bank, "--out", str(out), "--processes", "1", *words_of(SMALL), *more])


def words_of(settings: dict[str, int]) -> list[str]:
    return ["--rates", "1e-4", "1e-3", *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]


def test_the_smallest_study_ends_in_a_report_and_is_resumed(
    bank: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bank, tmp_path) == 0
    report = (tmp_path / "README.md").read_text()
    for part in ("seed 0", "torch 2", "## What a miniature cannot tell", "rotated", "DPO + NLL, 0.001", "SFT alone", "T_m"):
        assert part in report
    assert all(
        (tmp_path / f"{name}.{kind}").stat().st_size > 5_000
        for name in ("margins", "outcomes", "dpo")
        for kind in ("png", "svg")
    )
    made = sorted(tmp_path.glob("base-*/*.json"))
    assert len(made) == len(run_names(Settings(rates=(1e-4, 1e-3))))
    capsys.readouterr()

    times = {path: path.stat().st_mtime_ns for path in made}
    before = {path: path.read_bytes() for path in made}
    lost = tmp_path / "base-0" / "DPO-0.001.json"
    lost.unlink()
    (tmp_path / "README.md").unlink()
    assert run(bank, tmp_path) == 0
    out = capsys.readouterr().out
    assert "base 0, DPO, 0.001:" in out
    assert "forward:" not in out, "what has ended is not run again"
    assert {path for path in made if path.stat().st_mtime_ns != times[path]} == {lost}
    again, known = json.loads(lost.read_text()), json.loads(before[lost])
    assert (again["answers"], again["scores"]) == (known["answers"], known["scores"]), "the same run finds the same"
    assert [line for line in (tmp_path / "README.md").read_text().splitlines() if not line.startswith("Made on")] == [
        line for line in report.splitlines() if not line.startswith("Made on")
    ]

    assert run(bank, tmp_path, "--tune_rate", "0.01") == 2
    assert "holds a study with other tune_rate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--hidden", "33"], "a multiple of 16"),
        (["--least_pairs", "5000"], "build more rows"),
        (["--rates", "0.1"], "two learning rates"),
        (["--bases", "0"], "type 1 or more"),
        (["--limit", "3"], "type 10 or more"),
        (["--tune_pairs", "5000"], "build --train with a larger --limit"),
        (["--heldout", "TRAIN"], "--split heldout"),
    ],
)
def test_bad_input_gets_a_sentence(
    bank: list[str], tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bank, tmp_path, *(bank[1] if word == "TRAIN" else word for word in more)) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert said in err[-1]
    assert not (tmp_path / "base-0").exists()


@pytest.mark.slow
def test_two_processes_find_what_one_does(bank: list[str], tmp_path: Path) -> None:
    assert run(bank, tmp_path / "1") == 0
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "1" / "base-0").iterdir()}
    for processes in ("1", "2"):
        command = [
            sys.executable,
            "-m",
            "r1k_train",
            "study",
            *bank,
            "--out",
            str(tmp_path / processes),
            "--processes",
            processes,
        ]
        subprocess.run([*command, *words_of(SMALL | {"bases": 2})], check=True, cwd=ROOT, capture_output=True)
    assert first == {path: path.stat().st_mtime_ns for path in first}, "bases can be added"
    for path in sorted((tmp_path / "1").glob("base-*/*.json")):
        one, two = (json.loads((tmp_path / name / path.relative_to(tmp_path / "1")).read_text()) for name in "12")
        assert (one["answers"], one["scores"]) == (two["answers"], two["scores"])


# -- rows ----------------------------------------------------------------------------------------------------------

ROW = {
    "pair_id": "p", "direction": "reverse", "source_type": "embedded/force", "reference_answer": "7 m/s²",
    "question": "A sledge has a mass of 3 kg and is pulled by a net force of 21 N. What is the acceleration?",
    "reasoning": "m = 3 kg, F = 21 N, a = ?\nF = m × a, so a = F / m\n21 / 3 = 7",
}  # fmt: skip
OWN = Item("p", "reverse", "force", ROW["question"], "a=F/m\n21/3=7\n7m/s²")
OTHER = Item("p", "forward", "force", "…", "F=m×a\n3×7=21\n21N")


def test_the_short_form_is_equation_steps_and_answer() -> None:
    assert short_form(ROW) == OWN
    assert OWN.simple(22)
    assert not OWN.simple(21)
    assert not Item("p", "forward", "force", "", "F=m×a\n0.5×4=2\n2N").simple(100)


@pytest.mark.parametrize(
    ("text", "kind", "right"),
    [
        ("a=F/m\n21/3=7\n7m/s²", "right", True),
        ("a=F/m\n21/3=7\n7", "right", True),
        ("a=F/m\n21/3=8\n8m/s²", "near miss", False),
        ("F=m×a\n3×7=21\n21N", "other direction", False),
        ("F=m×a\n3×7=21\n7N", "other direction", True),
        ("d=v×t\n3×7=21\n21m", "other formula", False),
        ("a=F/m\n21/3\n7m/s²", "broken", True),
        ("a=F/m\n21/3=7", "broken", False),
        ("", "broken", False),
        ("a=F/m\n21/3=7\n7m/s²\n" * 3, "broken", False),
    ],
)
def test_what_an_answer_is(text: str, kind: str, right: bool) -> None:
    assert sort(text, OWN, OTHER) == kind
    assert solved(text, OWN) is right


def test_words_go_there_and_back() -> None:
    words = Words([OWN.question, OWN.response, OTHER.response])
    assert words.text(words.ids(OWN.response)) == OWN.response
    assert len(words.ids("21")) == 2, "a digit is a token"
    assert words.ids("unheard 21")[0] == words.unknown
    assert words.text([*words.ids("21"), words.end, *words.ids("7")]) == "21"


def test_bare_facts_are_true_and_below_the_limit() -> None:
    words = Words(["0123456789+-×/="])
    facts = arithmetic(words, 100, 400, 0)
    for fact in facts:
        left, right = words.text(fact.prompt[1:-1]), words.text(fact.response)
        assert eval(left.removesuffix("=").replace("×", "*")) == int(right)  # noqa: S307  of digits and signs
        assert 0 <= int(right) < 100
    assert len(set(facts)) > 250


def pairs_of(formulas: dict[str, str], count: int = 2) -> Pairs:
    """`count` pairs of each relation, its forward equation given."""
    made: Pairs = {}
    for relation, formula in formulas.items():
        for number in range(count):
            name = f"{relation}-{number}"
            made[name] = {
                "forward": Item(name, "forward", relation, f"{relation} {number}", f"{formula}\n1+1=2\n2"),
                "reverse": Item(name, "reverse", relation, f"{relation} back {number}", "x=y\n1+1=2\n2"),
            }
    return made


FORMULAS = {"force": "F=m×a", "way": "d=v×t", "ohm": "U=R×I", "sum": "S=A+B", "bill": "T=D+E", "lonely": "ρ=m/V"}


def test_halves_hold_all_formulas_and_no_relation_twice() -> None:
    pairs = pairs_of(FORMULAS)
    assert family(pairs["way-0"]) == family(pairs["ohm-1"]) == "a×b"
    for seed in range(5):
        one, other = halves(pairs, 2, seed)
        assert sorted([*one, *other]) == sorted(FORMULAS.keys() - {"lonely"})
        for half in (one, other):
            assert {family(pairs[f"{relation}-0"]) for relation in half} == {"a×b", "a+b"}
    assert len({tuple(halves(pairs, 2, seed)[0]) for seed in range(20)}) > 2
    assert list(of_relations(pairs, ["sum", "way"], 3)) == ["sum-0", "way-0", "sum-1"]


def test_exposure_is_what_the_runs_are_named_for(tmp_path: Path) -> None:
    pairs = pairs_of(FORMULAS, 6)
    base = prepare(pairs, pairs, Settings(least_pairs=2, tune_pairs=12), tmp_path, 0)
    runs = mixtures(base)
    count = {name: len(items) for name, items in runs.items()}
    pairs_tuned = len(base.tuning)
    assert count["forward"] == count["reverse"] == pairs_tuned
    assert count["mixed, equal total"] == pairs_tuned
    assert count["mixed"] == 2 * pairs_tuned
    assert {item.relation for item in runs["mixed"]} == set(base.relations)
    assert not {item.relation for pair in base.learnt.values() for item in pair.values()} & set(base.relations)
    for turn in range(3):
        shown = thirds(base.relations, turn)
        seen = {(item.relation, item.direction) for item in runs[f"rotated, {turn + 1} of 3"]}
        for relation, part in shown.items():
            assert {direction for name, direction in seen if name == relation} == (
                {"forward", "reverse"} if part == "both" else {part}
            )
    for relation in base.relations:
        assert {thirds(base.relations, turn)[relation] for turn in range(3)} == {"both", "forward", "reverse"}


# -- training ------------------------------------------------------------------------------------------------------


def test_what_is_fitted_becomes_likely_and_what_is_preferred_more_so() -> None:
    words = Words([OWN.question, OWN.response, OTHER.response])
    model = make_model(words, 32, 1, 0)
    prompt = (words.begin, *words.ids(OWN.question), words.answer)
    own, other = (Scorable(prompt, (*words.ids(item.response), words.end)) for item in (OWN, OTHER))

    def alp(row: Scorable) -> float:
        return float(score(model, [row])[0].logp.mean())

    before = alp(own)
    fit(model, [own, other], steps=10, batch=2, rate=1e-2, seed=0, pad=words.pad)
    assert alp(own) > before + 0.5
    margin = alp(own) - alp(other)
    prefer(model, [(own, other)], steps=10, batch=1, rate=1e-3, beta=0.2, nll=0, seed=0, pad=words.pad)
    assert alp(own) - alp(other) > margin
    torch.manual_seed(0)


# -- estimates -----------------------------------------------------------------------------------------------------


def test_an_interval_knows_that_rows_of_a_base_or_relation_are_alike() -> None:
    same = {(base, f"r{relation}"): (10.0 * (base % 2), 10) for base in range(4) for relation in range(5)}
    found = estimate(same)
    assert found is not None
    assert (found.value, found.rows) == (0.5, 200)
    assert found.low < 0.05, "four bases of two kinds, whatever the number of rows"
    assert found.high > 0.95
    assert by_base(same) == {0: 0, 1: 1, 2: 0, 3: 1}
    shifted = {key: (total + 2.0, count) for key, (total, count) in same.items()}
    moved = estimate(shifted, same)
    assert moved is not None
    assert (moved.value, moved.low, moved.high) == pytest.approx((0.2, 0.2, 0.2)), "a difference is taken within each draw"
    assert estimate({}) is None
