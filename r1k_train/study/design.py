"""The study: what a base learns, what it is then tuned on, and what is measured of each model. Every run is kept as it ends.

A base is pretrained on one half of the relations, in both directions, and is the unit of replication: it has relations,
weights and an order of its own. Everything after it is on the other half, whose relations it has never seen.
"""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM

from r1k_train.data import Direction
from r1k_train.measures import SETS, ProbeRow, Response, scorables, tabulate
from r1k_train.sampling import sample
from r1k_train.scoring import Scorable, score
from r1k_train.study.outcomes import solved, sort
from r1k_train.study.rows import Item, Pairs, arithmetic, halves, learnable, of_relations
from r1k_train.study.training import fit, make_model, prefer
from r1k_train.study.words import Words

THIRDS = 3
"""Parts that the relations are rotated in: one part is seen in both directions, one forward only, one reverse only."""
BASE, FORWARD, REVERSE, EQUAL_TOTAL, MIXED, ROTATED = "base", "forward", "reverse", "mixed, equal total", "mixed", "rotated"
"""MIXED is the run that preference training starts from: like the paper's D, it holds both rows of every pair."""
MOST_TOKENS = 64
"""Of a sampled response; the longest of the short form has about 50."""
ARITHMETIC = 0.5
"""Bare facts for each row of the base's relations: a third of all that it learns."""


def _setting(default: Any, help: str) -> Any:  # noqa: A002  the name that argparse has
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the study finds."""

    bases: int = _setting(4, "Bases, the unit of replication.")
    seed: int = _setting(0, "Of everything that is drawn.")
    limit: int = _setting(100, "Only rows that reckon in whole numbers below this.")
    least_pairs: int = _setting(50, "Relations with fewer training pairs than this are left out.")
    hidden: int = _setting(128, "Width of the model, a multiple of 16.")
    layers: int = _setting(2, "Its layers.")
    base_steps: int = _setting(2000, "Steps of pretraining.")
    base_rate: float = _setting(3e-3, "Its learning rate.")
    tune_pairs: int = _setting(400, "Pairs to fine-tune on; equal total takes half of them in both directions.")
    tune_epochs: int = _setting(6, "Epochs of fine-tuning.")
    tune_rate: float = _setting(1e-3, "Its learning rate.")
    batch: int = _setting(32, "Rows a step of pretraining and fine-tuning.")
    pair_steps: int = _setting(60, "Steps of DPO, and of the SFT that it is compared with.")
    pair_batch: int = _setting(16, "Pairs a step.")
    beta: float = _setting(0.2, "DPO's β; the paper's probe runs have 0.2 (section 4.4).")
    rates: tuple[float, ...] = _setting((3e-5, 1e-4, 3e-4, 1e-3), "Learning rates of DPO.")
    test_pairs: int = _setting(120, "Held-out pairs that each model is measured on.")


@dataclass(frozen=True)
class Base:
    """What the runs of one base share."""

    number: int
    settings: Settings
    folder: Path
    words: Words
    learnt: Pairs
    """Of the base's relations."""
    tuning: Pairs
    """Of the other half's relations, in the order of the rows, each relation in turn."""
    test: Pairs
    """Of the other half's relations, with values that no training row has."""
    tests_of_base: Pairs
    relations: tuple[str, ...]
    """The other half's."""

    @property
    def seed(self) -> int:
        return self.settings.seed * 1000 + self.number


def prepare(train: Pairs, heldout: Pairs, settings: Settings, out: Path, number: int) -> Base:
    """Base `number` with its halves; the same rows and settings give the same base."""
    items = [item for pair in train.values() for item in pair.values()]
    words = Words(text for item in items for text in (item.question, item.response))
    base_half, tuning_half = halves(train, settings.least_pairs, settings.seed * 1000 + number)
    return Base(
        number, settings, out / f"base-{number}", words,
        learnt=of_relations(train, base_half),
        tuning=of_relations(train, tuning_half, settings.tune_pairs),
        test=of_relations(heldout, tuning_half, settings.test_pairs),
        tests_of_base=of_relations(heldout, base_half, settings.test_pairs),
        relations=tuple(tuning_half),
    )  # fmt: skip


# -- what is trained on --------------------------------------------------------------------------------------------


def mixtures(base: Base) -> dict[str, list[Item]]:
    """The rows of each fine-tuning run, by its name."""
    pairs = list(base.tuning.values())
    forward, reverse = [pair["forward"] for pair in pairs], [pair["reverse"] for pair in pairs]
    half = len(pairs) // 2
    runs = {
        FORWARD: forward,
        REVERSE: reverse,
        EQUAL_TOTAL: [*forward[:half], *reverse[:half]],
        MIXED: [*forward, *reverse],
    }
    for turn in range(THIRDS):
        part = thirds(base.relations, turn)
        seen = [item for item in [*forward, *reverse] if part[item.relation] in {"both", item.direction}]
        runs[f"{ROTATED}, {turn + 1} of {THIRDS}"] = seen
    return runs


def thirds(relations: Sequence[str], turn: int) -> dict[str, str]:
    """For each relation the directions in which a rotation shows it: `both`, `forward` or `reverse`."""
    parts = ("both", "forward", "reverse")
    return {relation: parts[(place + turn) % THIRDS] for place, relation in enumerate(relations)}


def preference_runs(settings: Settings) -> dict[str, tuple[str, float]]:
    """What follows the mixed run, by its name: the method and its learning rate."""
    middle = settings.rates[1:3]
    dpo = {f"DPO, {rate:g}": ("DPO", rate) for rate in settings.rates}
    more = {f"{method}, {rate:g}": (method, rate) for method in ("DPO + NLL", "SFT alone") for rate in middle}
    return dpo | more


def run_names(settings: Settings) -> list[str]:
    """All runs of a base, in order."""
    rotated = [f"{ROTATED}, {turn + 1} of {THIRDS}" for turn in range(THIRDS)]
    return [BASE, FORWARD, REVERSE, EQUAL_TOTAL, MIXED, *rotated, *preference_runs(settings)]


def file_name(run: str) -> str:
    return re.sub(r"[^\w.]+", "-", run)


def result_file(folder: Path, run: str) -> Path:
    return folder / f"{file_name(run)}.json"


# -- one base ------------------------------------------------------------------------------------------------------


def run_base(base: Base, say: Callable[[str], None]) -> None:
    """All runs of a base, in order; what has ended already is taken from the folder."""
    settings, words = base.settings, base.words
    base.folder.mkdir(parents=True, exist_ok=True)
    started = _model(base, BASE, say, lambda: _pretrained(base), base.tests_of_base)
    for place, (name, items) in enumerate(mixtures(base).items()):

        def tune(items: Sequence[Item] = items, place: int = place) -> Any:
            model = _loaded(started)
            steps = -(-len(items) * settings.tune_epochs // settings.batch)
            fit(model, learnable(words, items), steps=steps, batch=settings.batch, rate=settings.tune_rate,
                seed=base.seed * 100 + place, pad=words.pad)  # fmt: skip
            return model

        _model(base, name, say, tune, base.test)
    for name, (method, rate) in preference_runs(settings).items():

        def follow(method: str = method, rate: float = rate) -> Any:
            model = _loaded(base.folder / MIXED)
            _prefer(base, model, method, rate)
            return model

        _model(base, name, say, follow, base.test)


def _pretrained(base: Base) -> Any:
    """Both directions of the base's relations, and a third of bare arithmetic."""
    settings, words = base.settings, base.words
    rows = learnable(words, [item for pair in base.learnt.values() for item in pair.values()])
    facts = arithmetic(words, settings.limit, round(ARITHMETIC * len(rows)), base.seed)
    model = make_model(words, settings.hidden, settings.layers, base.seed)
    fit(model, [*rows, *facts], steps=settings.base_steps, batch=settings.batch,
        rate=settings.base_rate, seed=base.seed, pad=words.pad)  # fmt: skip
    return model


def _prefer(base: Base, model: Any, method: str, rate: float) -> None:
    """Both pairs of each example, as in the paper: (x_f, y_f over y_r) and (x_r, y_r over y_f)."""
    settings, words = base.settings, base.words
    rows = probe_rows(words, base.tuning)
    pairs = [(Scorable(row.prompt, row.preferred.tokens), Scorable(row.prompt, row.dispreferred.tokens)) for row in rows]
    shared: dict[str, Any] = {
        "steps": settings.pair_steps, "batch": settings.pair_batch, "rate": rate, "seed": base.seed, "pad": words.pad,
    }  # fmt: skip
    if method == "SFT alone":
        fit(model, [preferred for preferred, _ in pairs], **shared)
    else:
        prefer(model, pairs, beta=settings.beta, nll=float(method == "DPO + NLL"), **shared)


def _loaded(folder: Path) -> Any:
    return Qwen2ForCausalLM.from_pretrained(folder)


def _model(base: Base, name: str, say: Callable[[str], None], make: Callable[[], Any], test: Pairs) -> Path:
    """Make a model and measure it, unless that is done; keep the weights of those that others start from."""
    weights, result = base.folder / file_name(name), result_file(base.folder, name)
    kept = name in {BASE, MIXED}
    if result.exists() and (weights.exists() or not kept):
        return weights
    begun = time.process_time()
    model = _loaded(weights) if weights.exists() else make()  # a study may be killed between weights and result
    trained = time.process_time() - begun
    if kept and not weights.exists():
        beside = weights.with_suffix(".new")
        model.save_pretrained(beside)
        beside.rename(weights)
    found = measure(base, model, test)
    facts = {
        "base": base.number,
        "run": name,
        "relations": base.relations,
        "parameters": model.num_parameters(),
        "train_seconds": trained,
        "seconds": time.process_time() - begun,
        **found,
    }
    beside = result.with_suffix(".new")
    beside.write_text(json.dumps(facts))
    beside.replace(result)
    right = [sum(row["solved"] for row in found["answers"] if row["direction"] == one) for one in SETS["T_m"]]
    solved_of = f"{right[0]} forward and {right[1]} reverse of {len(test)} solved"
    say(f"base {base.number}, {name}: {solved_of} ({facts['seconds']:.0f} s)")
    return weights


# -- what is measured ----------------------------------------------------------------------------------------------


def measure(base: Base, model: Any, test: Pairs) -> dict[str, Any]:
    """`answers`: of each question the greedy answer and one sampled at temperature 1. `scores`: the probe's records."""
    words = base.words
    rows = [(pair[direction], pair[other]) for pair in test.values() for direction, other in _BOTH]
    prompts = [row.prompt for row in learnable(words, [own for own, _ in rows])]
    shared: dict[str, Any] = {"most_tokens": MOST_TOKENS, "end": words.end, "pad": words.pad, "seed": base.seed}
    greedy = sample(model, prompts, 1, temperature=0, **shared)
    sampled = sample(model, prompts, 1, temperature=1, **shared)
    answers = []
    for (own, other), (best,), (drawn,) in zip(rows, greedy, sampled, strict=True):
        text, written = words.text(best), words.text(drawn)
        answers.append({
            "pair_id": own.pair_id, "direction": own.direction, "relation": own.relation, "solved": solved(text, own),
            "greedy": sort(text, own, other), "sampled": sort(written, own, other), "text": written,
        })  # fmt: skip
    probed = probe_rows(words, test)
    sequences = scorables(probed, answers=False, seed=base.seed)
    records = tabulate(probed, sequences, score(model, sequences, pad=words.pad), [1000])
    kept = ("pair_id", "direction", "response", "alp")
    scores = [{name: record[name] for name in kept} for record in records if record["window"] == "1000"]
    return {"answers": answers, "scores": scores}


_BOTH: tuple[tuple[Direction, Direction], ...] = (("forward", "reverse"), ("reverse", "forward"))


def probe_rows(words: Words, pairs: Pairs) -> list[ProbeRow]:
    """Each question with its own response preferred to its counterpart's."""
    found = []
    for pair_id, pair in pairs.items():
        sides = {
            item.direction: sequence for item, sequence in zip(pair.values(), learnable(words, pair.values()), strict=True)
        }
        for direction, other in _BOTH:
            own, counterpart = sides[direction], sides[other]
            found.append(ProbeRow(pair_id, direction, own.prompt, Response(own.response), Response(counterpart.response)))
    return found


def settings_record(settings: Settings) -> dict[str, Any]:
    """What decides a base's runs, as JSON has it: all settings but the number of bases, which may grow."""
    record: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    del record["bases"]
    return record


def one_thread() -> None:
    """Two processes of one thread do more than one of two: the matrices are small."""
    torch.set_num_threads(1)
