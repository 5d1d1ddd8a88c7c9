"""The study's figures: each run's margins and accuracy, what its answers are, and what preference training changes.

On white, in Okabe and Ito's colours, so that they can be read in print and on a dark page. Bars are means with 95 %
intervals, dots single bases.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r1k_train.figures import COLOURS
from r1k_train.measures import SETS
from r1k_train.study.design import BASE, MIXED, preference_runs
from r1k_train.study.estimates import Cells, by_base, estimate
from r1k_train.study.outcomes import OUTCOMES
from r1k_train.study.results import Results, Run

FORMATS = ("png", "svg")


def draw(results: Results, folder: Path) -> list[Path]:
    """Write every figure; their paths."""
    mpl.rcParams |= {"svg.hashsalt": "r1k", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}
    paths = []
    for name, make in FIGURES.items():
        figure = make(results)
        for kind in FORMATS:
            paths.append(folder / f"{name}.{kind}")
            figure.savefig(paths[-1], dpi=130, facecolor="white", metadata={"Date": None} if kind == "svg" else None)
    return paths


def margins(results: Results) -> Figure:
    """Margin and accuracy of the runs that are no preference training, on each set."""
    runs = _tuned(results)
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _bars(left, runs, lambda run, name: run.alp(name, "margin"), "margin Δ, nats a token")
    _bars(right, runs, lambda run, name: run.accuracy(name), "accuracy, share of greedy answers")
    left.legend(ncols=3, fontsize=9)
    figure.suptitle("Margin and accuracy by training data; compare models on T_m")
    return figure


def outcomes(results: Results) -> Figure:
    """What sampled answers are, stacked to one."""
    runs = {name: run for name, run in results.runs.items() if name != BASE}
    figure = Figure(figsize=(12, 0.42 * len(runs) + 1.6), layout="constrained")
    axis = figure.subplots()
    for place, run in enumerate(runs.values()):
        start = 0.0
        for number, kind in enumerate(OUTCOMES):
            found = estimate(run.share(kind))
            size = found.value if found else 0.0
            axis.barh(place, size, left=start, color=COLOURS[number], label=kind if place == 0 else None, edgecolor="white")
            if size > 0.03:
                axis.text(start + size / 2, place, f"{100 * size:.0f}", ha="center", va="center", color="white", fontsize=9)
            start += size
    axis.set_yticks(range(len(runs)), list(runs))
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of answers sampled at temperature 1")
    axis.legend(ncols=len(OUTCOMES), loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9, frameon=False)
    return figure


def dpo(results: Results) -> Figure:
    """Changes from the mixed run, by method and learning rate."""
    start = results.runs[MIXED]
    measures: dict[str, Callable[[Run], Cells]] = {
        "ALP(y+), nats a token": lambda run: run.alp("T_m", "alp+"),
        "margin Δ on T_m, nats a token": lambda run: run.alp("T_m", "margin"),
        "accuracy, share": lambda run: run.accuracy("T_m"),
    }
    figure = Figure(figsize=(12, 4), layout="constrained")
    methods: dict[str, list[tuple[float, Run]]] = {}
    for name, (method, rate) in preference_runs(results.settings).items():
        methods.setdefault(method, []).append((rate, results.runs[name]))
    for axis, (title, measure) in zip(figure.subplots(1, len(measures)), measures.items(), strict=True):
        for number, (method, points) in enumerate(methods.items()):
            found = [(rate, estimate(measure(run), measure(start))) for rate, run in points]
            rates = [rate * 1.06 ** (number - 1) for rate, one in found if one]
            values = [one for _, one in found if one]
            spread = [[one.value - one.low for one in values], [one.high - one.value for one in values]]
            axis.errorbar(
                rates,
                [one.value for one in values],
                spread,
                color=COLOURS[number],
                marker="os^"[number],
                capsize=3,
                label=method,
            )
        axis.axhline(0, color="#444444", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_xlabel("learning rate")
        axis.set_title(title, fontsize=10)
    axis.legend(fontsize=9)
    figure.suptitle(f"Change from {MIXED} on T_m")
    return figure


FIGURES: Mapping[str, Callable[[Results], Figure]] = {"margins": margins, "outcomes": outcomes, "dpo": dpo}


def _tuned(results: Results) -> dict[str, Run]:
    after = {BASE, *preference_runs(results.settings)}
    return {name: run for name, run in results.runs.items() if name not in after}


def _bars(axis: Axes, runs: Mapping[str, Run], measure: Callable[[Run, str], Cells], title: str) -> None:
    """A group of bars a run, a bar a set."""
    for place, run in enumerate(runs.values()):
        for number, name in enumerate(SETS):
            part = measure(run, name)
            found = estimate(part)
            if found is None:
                continue
            at = place + (number - 1) * 0.26
            spread = [[found.value - found.low], [found.high - found.value]]
            axis.bar(at, found.value, 0.24, color=COLOURS[number], yerr=spread, capsize=2, label=name if place == 0 else None)
            axis.plot([at] * len(by_base(part)), list(by_base(part).values()), ".", color="black", markersize=4)
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_xticks(range(len(runs)), [name.replace(", ", ",\n") for name in runs])
    axis.set_title(title, fontsize=10)
