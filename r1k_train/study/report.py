"""What the study has found, as a page of Markdown: every number from the runs, every verdict from an interval."""

import datetime
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from r1k_train.measures import SETS, Estimate
from r1k_train.study.design import BASE, EQUAL_TOTAL, FORWARD, MIXED, REVERSE, ROTATED, Settings, preference_runs
from r1k_train.study.estimates import Cells, estimate
from r1k_train.study.outcomes import OUTCOMES
from r1k_train.study.results import Results, Run

PACKAGES = ("r1k", "torch", "transformers", "tokenizers", "datasets", "numpy")
EXAMPLES = 8
"""Sampled answers to read."""

CANT_TELL = """\
- **Benchmarks.** Nothing here is a mathematics benchmark, and no model here has a language to lose: gains and losses on AIME,
  MATH-500 or GPQA (the paper's Tables 1-4) are out of its reach.
- **Absolute log-probabilities.** Responses of 30 tokens over a closed vocabulary are nearly certain or wrong; only differences
  between runs on the same rows are comparable, and their sizes are not those of a 7B model.
- **Transfer.** So small a model that has met a relation in one direction may not find the other by itself;
  whether a large model does is not told by one that can't.
- **Long reasoning.** The teacher is a solver whose reasoning is short and exact. A teacher's faults and doubts, and answers cut
  at a limit, which make up much of what differs between the directions of real data, do not exist here.
- **LoRA, schedules and sizes.** All weights are trained, with one schedule; nothing says how these effects scale.
"""


class Question(NamedTuple):
    """Something the paper says or leaves open, as the difference of two runs on the same rows."""

    asked: str
    one: Cells
    less: Cells | None
    unit: str


def write(results: Results, folder: Path, facts: Mapping[str, Any]) -> Path:
    """`README.md` in `folder`, beside the figures; `facts` are what the command knows of the data."""
    path = folder / "README.md"
    path.write_text("\n".join(_page(results, facts)).rstrip() + "\n")
    return path


def provenance(settings: Settings, facts: Mapping[str, Any], seconds: float) -> str:
    """Date, seed, versions, machine and data in a sentence each."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    data = "; ".join(f"{name}: {found}" for name, found in facts.items())
    return (
        f"Made on {today} by `python -m r1k_train study`, seed {settings.seed}, {settings.bases} bases,"
        f" {seconds / 60:.0f} minutes of CPU time (Python {platform.python_version()}, {versions}; {platform.machine()},"
        f" {os.cpu_count()} cores, one thread a"
        f" process). Data: {data}."
    )


def _page(results: Results, facts: Mapping[str, Any]) -> Iterator[str]:
    runs, settings = results.runs, results.settings
    yield "# The study in miniature\n"
    yield provenance(settings, facts, results.seconds) + "\n"
    yield _design(settings, runs[MIXED].parameters, len(runs[MIXED].answers) // settings.bases // 2)
    yield "## What it finds\n"
    yield "Differences between runs on the same questions, with 95 % intervals.\n"
    yield from _table(["question", "difference", "so"], map(_answered, _questions(runs, settings)))
    yield "## Accuracy and margin\n"
    yield "![Margins](margins.svg)\n"
    yield (
        "Accuracy of greedy answers in percent (the final number alone decides, whatever the equation), ALP"
        " in nats a token. On T_f or T_r alone a margin also holds how much likelier"
        " the model finds one direction's responses whatever is asked; on T_m that cancels: compare models there.\n"
    )
    columns = ["run", "questions", "forward", "reverse", "ALP(y+) T_m", "ALP(y−) T_m", "Δ T_f", "Δ T_r", "Δ T_m"]
    yield from _table(columns, (_line(run) for run in runs.values()))
    yield "## What they write\n"
    yield "![Outcomes](outcomes.svg)\n"
    yield (
        "Shares in percent of answers sampled at temperature 1, over both directions. *Near miss*: the right equation, another"
        " number. *Other direction*: the counterpart's equation. *Other formula*: another one. *Broken*: no equation, steps and"
        " answer.\n"
    )
    yield from _table(
        ["run", *OUTCOMES], ([run.name, *(_percent(run.share(kind)) for kind in OUTCOMES)] for run in runs.values())
    )
    yield "## Relations met in one direction only\n"
    yield (
        "In the rotated runs a third of the relations is met in both directions, a third forward only, a third reverse only, in"
        " turn, so that each relation takes each part. Accuracy in percent, Δ in nats a token, both by how the question's own"
        " relation and direction were met; the last line is `mixed` on the same questions.\n"
    )
    yield from _table(["its relation was met", "accuracy", "Δ", *OUTCOMES], _rotated(runs))
    yield "## Preference training\n"
    yield "![DPO](dpo.svg)\n"
    yield f"Changes from `{MIXED}`, on T_m, after {settings.pair_steps} steps of {settings.pair_batch} (β {settings.beta:g}).\n"
    changes = ["run", "accuracy (points)", "ALP(y+)", "ALP(y−)", "Δ", *(f"{kind} (points)" for kind in OUTCOMES)]
    yield from _table(changes, (_change(runs[name], runs[MIXED]) for name in preference_runs(settings)))
    yield "## Answers to read\n"
    yield from _examples(runs)
    yield "## What a miniature cannot tell\n"
    yield CANT_TELL


def _design(settings: Settings, parameters: int, tested: int) -> str:
    return f"""\
Each base is a model of Qwen2's shape ({settings.layers} layers of {settings.hidden}, {parameters:,} parameters)
that was trained from scratch on one half of the bank's relations, in both directions, and on bare arithmetic
({settings.base_steps:,} steps of {settings.batch}).
It is then tuned, {settings.tune_epochs} epochs each, on the other half, which it has never seen:

| run | rows |
|---|---|
| `{FORWARD}`, `{REVERSE}` | one direction of {settings.tune_pairs} pairs |
| `{EQUAL_TOTAL}` | both directions of half of them: as many rows as one direction alone |
| `{MIXED}` | both directions of all: each direction has its full exposure, the control that the paper lacks |
| `{ROTATED}` | as `{MIXED}`, but two thirds of the relations are met in one direction only |
| DPO, DPO + NLL, SFT alone | from `{MIXED}`, on its own pairs: (x_f, y_f over y_r) and (x_r, y_r over y_f) |

Tests are {tested} held-out pairs of the tuned relations a base, with values that no training row has. The bank's rows are
shortened to what such a model can learn: the response is the equation for what is asked, the arithmetic step by step, and the
answer with its unit; the list of what is given and the sentence around the answer are left out, and so are rows that reckon
with anything but whole numbers below {settings.limit}. Numbers are digits to the model, words are whole. Intervals draw
bases and relations anew, both at once (Owen's pigeonhole bootstrap):
with {settings.bases} bases they are rough, so figures show every base.
"""


# -- what is asked of it -------------------------------------------------------------------------------------------


def _questions(runs: Mapping[str, Run], settings: Settings) -> Iterator[Question]:
    forward, reverse, total, mixed = runs[FORWARD], runs[REVERSE], runs[EQUAL_TOTAL], runs[MIXED]
    one_rate = settings.rates[1]
    dpo, nll, sft = (runs[f"{method}, {one_rate:g}"] for method in ("DPO", "DPO + NLL", "SFT alone"))
    nats, points = "nats", "points"
    yield Question("Is the margin of `mixed` on T_f narrower than forward-only's (the paper's picture)?",
                   mixed.alp("T_f", "margin"), forward.alp("T_f", "margin"), nats)  # fmt: skip
    yield Question("And like for like, on T_m?", mixed.alp("T_m", "margin"), forward.alp("T_m", "margin"), nats)
    yield Question("On T_m, against reverse-only?", mixed.alp("T_m", "margin"), reverse.alp("T_m", "margin"), nats)
    yield Question("On T_m, with equal total, against forward-only?",
                   total.alp("T_m", "margin"), forward.alp("T_m", "margin"), nats)  # fmt: skip
    yield Question(
        "Does mixing with equal total cost accuracy, forward?", total.accuracy("T_f"), forward.accuracy("T_f"), points
    )
    yield Question("Reverse?", total.accuracy("T_r"), reverse.accuracy("T_r"), points)
    yield Question(
        "And where each direction has its exposure, forward?", mixed.accuracy("T_f"), forward.accuracy("T_f"), points
    )
    yield Question("Reverse?", mixed.accuracy("T_r"), reverse.accuracy("T_r"), points)
    yield Question(f"Does DPO (learning rate {one_rate:g}) widen the margin on T_m?",
                   dpo.alp("T_m", "margin"), mixed.alp("T_m", "margin"), nats)  # fmt: skip
    yield Question("What becomes of ALP(y+)?", dpo.alp("T_m", "alp+"), mixed.alp("T_m", "alp+"), nats)
    yield Question("Of accuracy?", dpo.accuracy("T_m"), mixed.accuracy("T_m"), points)
    yield Question("Of ALP(y+) with NLL beside it, against DPO?", nll.alp("T_m", "alp+"), dpo.alp("T_m", "alp+"), nats)
    yield Question("Of accuracy with NLL beside it, against DPO?", nll.accuracy("T_m"), dpo.accuracy("T_m"), points)
    yield Question("Of accuracy after the same steps of SFT alone?", sft.accuracy("T_m"), mixed.accuracy("T_m"), points)
    largest = runs[f"DPO, {settings.rates[-1]:g}"]
    for kind in OUTCOMES:
        yield Question(f"After DPO at {settings.rates[-1]:g}, the share of sampled answers: {kind}?",
                       largest.share(kind), mixed.share(kind), points)  # fmt: skip


def _answered(question: Question) -> list[str]:
    found = estimate(question.one, question.less)
    if found is None:
        return [question.asked, "–", "no rows"]
    scale = 100 if question.unit == "points" else 1
    so = "more" if found.low > 0 else "less" if found.high < 0 else "no difference that this can detect"
    return [question.asked, f"{_signed(found, scale)} {question.unit}", so]


# -- lines of tables -----------------------------------------------------------------------------------------------


def _line(run: Run) -> list[str]:
    margins = [_plain(run.alp(name, "margin")) for name in SETS]
    alps = [_plain(run.alp("T_m", measure)) for measure in ("alp+", "alp-")]
    name = f"{run.name} (its own relations)" if run.name == BASE else run.name
    return [name, f"{len(run.answers):,}", _percent(run.accuracy("T_f")), _percent(run.accuracy("T_r")), *alps, *margins]


def _rotated(runs: Mapping[str, Run]) -> Iterator[list[str]]:
    names = {"both": "both ways", "own": "only as asked here", "other": "only the other way"}
    for part, name in names.items():
        run = runs[ROTATED].seen_as(part)
        shares = [_percent(run.share(kind)) for kind in OUTCOMES]
        yield [name, _percent(run.accuracy("T_m")), _plain(run.alp("T_m", "margin")), *shares]
    mixed = runs[MIXED]
    yield [
        f"`{MIXED}`",
        _percent(mixed.accuracy("T_m")),
        _plain(mixed.alp("T_m", "margin")),
        *(_percent(mixed.share(kind)) for kind in OUTCOMES),
    ]


def _change(run: Run, start: Run) -> list[str]:
    accuracy = _difference(run.accuracy("T_m"), start.accuracy("T_m"), 100)
    alps = [_difference(run.alp("T_m", measure), start.alp("T_m", measure), 1) for measure in ("alp+", "alp-", "margin")]
    shares = [_difference(run.share(kind), start.share(kind), 100) for kind in OUTCOMES]
    return [run.name, accuracy, *alps, *shares]


def _examples(runs: Mapping[str, Run]) -> Iterator[str]:
    """Of the strongest DPO run, of each outcome in turn."""
    run = next(reversed([run for name, run in runs.items() if name.startswith("DPO,")]))
    yield f"Of `{run.name}`, sampled at temperature 1; ` / ` stands for a line's end.\n"
    by_kind = {kind: [row for row in run.answers if row["sampled"] == kind] for kind in OUTCOMES}
    picked = [rows[place] for place in range(EXAMPLES) for rows in by_kind.values() if place < len(rows)][:EXAMPLES]
    lines = ([row["relation"], row["direction"], row["sampled"], f"`{_inert(row['text'])}`"] for row in picked)
    yield from _table(["relation", "asked", "is", "answer"], lines)


def _inert(text: str) -> str:
    """A model's text as it may stand in a cell of a table, between backticks."""
    return text.replace("\n", " / ").replace("`", "'").replace("|", "\\|")[:200]


def _table(columns: Sequence[str], lines: Any) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


# -- numbers -------------------------------------------------------------------------------------------------------


def _percent(part: Cells) -> str:
    found = estimate(part)
    return f"{100 * found.value:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]" if found else "–"


def _plain(part: Cells) -> str:
    found = estimate(part)
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]" if found else "–"


def _difference(one: Cells, less: Cells, scale: float) -> str:
    found = estimate(one, less)
    return _signed(found, scale) if found else "–"


def _signed(found: Estimate, scale: float) -> str:
    digits = 1 if scale > 1 else 2
    return f"{scale * found.value:+.{digits}f} [{scale * found.low:+.{digits}f}, {scale * found.high:+.{digits}f}]"
