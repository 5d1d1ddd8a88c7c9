"""The paper's Tables 1-4, measured beside published: `python -m r1k_train report RESULTS... [--out DIR]`.

Each of RESULTS is a folder that `eval` wrote. An evaluation fills the cell that its `evaluation.json` says it is: the base
model's size, and which steps (sft, dpo) on which dataset configuration made it. Cells without one stay empty.

Without `--out` the report is printed as Markdown. With it DIR gets `report.md`, `report.tex`, `report.html` and
`report.csv`: a line per cell, benchmark and evaluation with the columns of `COLUMNS`; proportions are in per cent.
"""

import argparse
import csv
import io
import sys
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

from r1k_train.evaluations import Evaluation, ReportError, named_apart, read
from r1k_train.intervals import (
    Interval,
    bootstrap,
    combined,
    mcnemar,
    sign_flips,
    smallest_difference,
    smallest_paired_difference,
    two_proportions,
    wilson,
)  # fmt: skip
from r1k_train.layout import Section, latex, markdown, page
from r1k_train.paper import (
    BENCHMARKS,
    MARKED_FALLS,
    PUBLISHED,
    TABLES,
    TITLES,
    Cell,
    averages_off,
    impossible,
    repeated,
)

COLUMNS = (
    "table", "row", "size", "benchmark", "problems", "published", "published_low", "published_high", "evaluation", "scorer",
    "rows", "measured", "measured_low", "measured_high", "difference", "difference_low", "difference_high", "maj", "pass",
    "unreadable", "truncated", "tokens",
)  # fmt: skip


# -- figures ----------------------------------------------------------------------------------------------------------


def published(cell: Cell, benchmark: str) -> Interval:
    """A published accuracy with the interval that its number of problems implies."""
    if benchmark != "average":
        return wilson(cell.accuracy(benchmark) / 100, BENCHMARKS[benchmark])
    mean = combined([published(cell, name) for name in BENCHMARKS], [1 / 3] * 3)
    return Interval(cell.average / 100, mean.low, mean.high)


def measured(evaluation: Evaluation, benchmark: str) -> Interval | None:
    return evaluation.average() if benchmark == "average" else evaluation.accuracy(benchmark)


def partly(evaluation: Evaluation, benchmark: str) -> str:
    """Such as 10 of 500 where not all of a benchmark's problems were asked, else nothing."""
    rows, whole = len(evaluation.rows.get(benchmark, ())), BENCHMARKS.get(benchmark)
    return f"{rows} of {whole}" if whole and rows not in (0, whole) else ""


def difference(one: Interval, other: Interval) -> Interval:
    """One minus the other, of independent samples."""
    return combined([one, other], [1, -1])


def percent(part: Interval | None, sign: str = "") -> str:
    if part is None:
        return ""
    value = round(100 * part.value, 1) + 0.0  # no -0.0
    return f"{value:{sign}.1f} [{100 * part.low:{sign}.1f}, {100 * part.high:{sign}.1f}]"


def chance(p: float) -> str:
    """A p-value."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


# -- sections ---------------------------------------------------------------------------------------------------------


def tables(evaluations: list[Evaluation], measure: bool = True) -> list[Section]:
    names = [*BENCHMARKS, "average"]
    header = ["data", "model", *([""] if measure else []), *(TITLES[name] for name in names)]
    sections = []
    for number, title in TABLES.items():
        rows = []
        for cell in (cell for cell in PUBLISHED if cell.table == number):
            theirs = [published(cell, name) for name in names]
            who = ["published"] if measure else []
            rows.append([cell.row, cell.size, *who, *map(percent, theirs)])
            if not measure:
                continue
            ours = [one for one in evaluations if cell in one.cells]
            if not ours:
                rows.append(["", "", "measured", *[""] * len(names)])
            for one in ours:
                parts = [measured(one, name) for name in names]
                of = [f", {some}" if (some := partly(one, name)) else "" for name in names]
                said = [percent(part) + some for part, some in zip(parts, of, strict=True)]
                rows.append(["", "", f"measured ({one.name})", *said])
                changes = [part and difference(part, other) for part, other in zip(parts, theirs, strict=True)]
                rows.append(["", "", "difference", *(percent(change, "+") for change in changes)])
        sections.append(Section(f"Table {number}: {title}", [], header, rows))
    return sections


def health(evaluations: list[Evaluation]) -> Section:
    """What an accuracy hides: unreadable and truncated answers, their length, and the k responses' other figures."""
    header = [
        "evaluation", "benchmark", "rows", "k", "accuracy (avg@k)", "maj@k", "pass@k", "unreadable, %", "truncated, %",
        "tokens per answer",
    ]  # fmt: skip
    rows = []
    for one in evaluations:
        for name, figures in one.tasks.items():
            several = [f"{100 * figures[key]:.1f}" if figures["samples"] > 1 else "" for key in ("maj", "pass")]
            tokens = "" if figures["tokens"] is None else f"{figures['tokens']:,.0f}"
            shares = [f"{100 * figures[key]:.1f}" for key in ("unreadable", "truncated")]
            asked = [partly(one, name) or str(figures["rows"]), str(figures["samples"])]
            rows.append([one.name, TITLES.get(name, name), *asked, percent(one.accuracy(name)), *several, *shares, tokens])
    sentences = [f"Scored by {scorer}." for scorer in sorted({one.scorer for one in evaluations})]
    data = ((TITLES.get(name, name), said) for one in evaluations for name, said in one.data.items() if said)
    sentences += [f"{title}: {said}." for title, said in sorted(set(data))]
    sentences += [f"{one.name} fills no cell: {one.why_none}." for one in evaluations if not one.cells]
    return Section("Evaluations", sentences, header, rows)


def pairs(evaluations: list[Evaluation]) -> Section:
    """Every two evaluations on the rows that both answered."""
    header = [
        "first", "second", "benchmark", "rows", "only first right", "only second right", "first - second", "p",
        "smallest difference shown",
    ]  # fmt: skip
    rows = []
    for one, other in combinations(evaluations, 2):
        differences = []
        for name in one.rows:
            shared = [key for key in one.rows[name] if key in other.rows.get(name, {})]
            if not shared:
                continue
            changes = [one.rows[name][key] - other.rows[name][key] for key in shared]
            differences += [changes] if name in BENCHMARKS else []
            rows.append([one.name, other.name, TITLES.get(name, name), *_paired(changes)])
        if len(differences) == len(BENCHMARKS):
            count, average = str(sum(map(len, differences))), percent(bootstrap(differences), "+")
            rows.append([one.name, other.name, "average", count, "", "", average, chance(sign_flips(differences)), ""])
    sentences = [
        "Both answered the same problems. p: McNemar's exact test where each row has one response, else random sign flips.",
        "Intervals are by bootstrap over problems. There is no correction for the number of comparisons.",
        "The last column: the true difference that so many rows, as often discordant, show four times in five at p < .05.",
    ]
    return Section("Pairs of evaluations", sentences, header, rows)


def _paired(changes: list[float]) -> list[str]:
    single = all(change in (-1, 0, 1) for change in changes)
    first, second = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    p = mcnemar(first, second) if single else sign_flips([changes])
    spread = sum(change * change for change in changes) / len(changes)
    shown = f"{100 * smallest_paired_difference(spread, len(changes)):.1f}" if spread else ""
    return [str(len(changes)), str(first), str(second), percent(bootstrap([changes]), "+"), chance(p), shown]


def detectable() -> Section:
    """What each benchmark can show at all."""
    header = ["benchmark", "problems", "one problem, points", "near 20 %", "near 50 %", "near 80 %"]
    rows = [
        [
            TITLES[name],
            str(count),
            f"{100 / count:.1f}",
            *(f"{100 * smallest_difference(level, count):.1f}" for level in (0.2, 0.5, 0.8)),
        ]
        for name, count in BENCHMARKS.items()
    ]
    sentence = "In points, unpaired (of one model at least only the accuracy is known), four times in five at p < .05."
    return Section("Smallest differences that the benchmarks show", [sentence], header, rows)


def contrasts() -> Section:
    """Table 1's rows against D_s1k, as far as published accuracies can tell them apart."""

    def tested(one: Cell, other: Cell, names: Iterable[str]) -> str:
        rows = sum(BENCHMARKS[name] for name in names)
        shares = [sum(cell.accuracy(name) * BENCHMARKS[name] for name in names) / rows / 100 for cell in (one, other)]
        z, p = two_proportions(shares[0], shares[1], rows)
        return f"{100 * (shares[0] - shares[1]):+.1f}, z {z:+.1f}, p {p:.2g}"

    sets = [*([name] for name in BENCHMARKS), list(BENCHMARKS)]
    first = {cell.size: cell for cell in PUBLISHED if (cell.table, cell.row) == (1, "D_s1k")}
    rows = [
        [f"{cell.row} - D_s1k", cell.size, *(tested(cell, first[cell.size], names) for names in sets)]
        for cell in PUBLISHED
        if cell.table == 1 and cell.row != "D_s1k"
    ]
    sentence = "Points, and the unpaired pooled z-test: which problems each model had right is not published."
    header = ["contrast", "model", *(TITLES[name] for name in BENCHMARKS), f"all {sum(BENCHMARKS.values())} problems"]
    return Section("Published differences from D_s1k", [sentence], header, rows)


def oddities() -> Section:
    """What the published numbers can't all be."""
    rows = [
        [
            cell.name,
            f"{TITLES[name]} {cell.accuracy(name)}",
            f"no number of right answers to {BENCHMARKS[name]} problems gives it",
        ]
        for cell, name in impossible()
    ]
    for one, other in repeated():
        values = ["/".join(str(cell.accuracy(name)) for name in BENCHMARKS) for cell in (one, other)]
        rows.append(
            [f"{one.name} and {other.name}", " and ".join(values), "different models, alike within 0.1 on every benchmark"]
        )
    for cell, name, before in MARKED_FALLS:
        rows.append([cell.name, f"{TITLES[name]} {cell.accuracy(name)}", f"marked as a fall from {before}"])
    rows += [[cell.name, f"average {cell.average}", f"the mean of its row is {mean:.2f}"] for cell, mean in averages_off()]
    return Section("Oddities of the published tables", [], ["where", "what", "why"], rows)


# -- picture and long form -----------------------------------------------------------------------------------------------


def plot(evaluations: list[Evaluation]) -> bytes:
    """Every cell's accuracies with their intervals, published and measured, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.2), layout="constrained")
    axes = figure.subplots(1, len(BENCHMARKS) + 1, sharey=True)
    for axis, name in zip(axes, [*BENCHMARKS, "average"], strict=True):
        for place, cell in enumerate(PUBLISHED):
            _point(axis, published(cell, name), place, "#8a97a5", "published" if place == 0 else None)
            ours = [part for part in (measured(one, name) for one in evaluations if cell in one.cells) if part]
            for number, part in enumerate(ours, 1):
                _point(axis, part, place + 0.28 * number / len(ours), "#0b6fb8", None)
        axis.set_title(TITLES[name], fontsize=10)
        axis.set_xlabel("accuracy, %", fontsize=9)
        axis.grid(axis="x", color="#e3e8ed")
        axis.tick_params(labelsize=8)
        axis.tick_params(axis="y", length=0)
        for edge in ("top", "right", "left"):
            axis.spines[edge].set_visible(False)
    axes[0].set_yticks(range(len(PUBLISHED)), [cell.name for cell in PUBLISHED])
    axes[0].invert_yaxis()
    axes[0].errorbar([], [], color="#0b6fb8", fmt="o", label="measured")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    drawn = io.BytesIO()
    FigureCanvasAgg(figure).print_png(drawn)  # type: ignore[no-untyped-call]
    return drawn.getvalue()


def _point(axis: Any, part: Interval, place: float, colour: str, label: str | None) -> None:
    reach = [[100 * max(part.value - part.low, 0)], [100 * max(part.high - part.value, 0)]]
    axis.errorbar([100 * part.value], [place], xerr=reach, fmt="o", markersize=4, color=colour, elinewidth=1.4, label=label)


def lines(evaluations: list[Evaluation]) -> str:
    """The long form: one line per cell, benchmark and evaluation."""
    written = io.StringIO()
    table = csv.DictWriter(written, COLUMNS, lineterminator="\n")
    table.writeheader()
    for cell in PUBLISHED:
        for name in (*BENCHMARKS, "average"):
            ours: list[Evaluation | None] = [one for one in evaluations if cell in one.cells]
            for one in ours or [None]:
                table.writerow(_line(cell, name, one))
    for one in evaluations:
        for name in one.tasks if not one.cells else ():
            table.writerow(_measured_line(one, name, None))
    return written.getvalue()


def _line(cell: Cell, name: str, one: Evaluation | None) -> dict[str, Any]:
    theirs = published(cell, name)
    known = {"table": cell.table, "row": cell.row, "size": cell.size, "benchmark": name, "problems": BENCHMARKS.get(name, "")}
    known |= {"published": cell.accuracy(name), **_ends("published", theirs)}
    return known | (_measured_line(one, name, theirs) if one else {})


def _measured_line(one: Evaluation, name: str, theirs: Interval | None) -> dict[str, Any]:
    part, figures = measured(one, name), one.tasks.get(name, {})
    line: dict[str, Any] = {
        "benchmark": name,
        "evaluation": _inert(one.name),
        "scorer": _inert(one.scorer),
        "rows": figures.get("rows", ""),
    }
    if part:
        line |= {"measured": _rounded(part.value), **_ends("measured", part)}
        if theirs:
            change = difference(part, theirs)
            line |= {"difference": _rounded(change.value), **_ends("difference", change)}
    shares = {key: _rounded(figures[key]) for key in ("maj", "pass", "unreadable", "truncated") if key in figures}
    return line | shares | {"tokens": figures.get("tokens") or ""}


def _ends(name: str, part: Interval) -> dict[str, float]:
    return {f"{name}_low": _rounded(part.low), f"{name}_high": _rounded(part.high)}


def _rounded(share: float) -> float:
    return round(100 * share, 3)


def _inert(name: str) -> str:
    """A name that a spreadsheet does not take for a formula."""
    return f"'{name}" if name[:1] in "=+-@\t" else name


# -- the command ------------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "r1k_train report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULTS", help="folders that eval wrote")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write report.md, .csv, .tex and .html there")
    parser.add_argument(
        "--published", action="store_true", help="the paper's tables alone, with intervals and what is odd about them"
    )
    parser.add_argument("--scorer", choices=("math-verify", "judge"), default="math-verify")
    return parser


def main(words: list[str]) -> int:
    given = make_parser().parse_args(words)
    if bool(given.results) == given.published:
        print("r1k_train report: name folders that eval wrote, or --published", file=sys.stderr)
        return 2
    try:
        evaluations = named_apart([read(folder.resolve(), given.scorer) for folder in given.results])
    except ReportError as error:
        print(f"r1k_train report: {error}", file=sys.stderr)
        return 2
    sections = tables(evaluations, measure=not given.published)
    sections += [health(evaluations)] if evaluations else []
    sections += [pairs(evaluations)] if len(evaluations) > 1 else []
    sections += [contrasts(), detectable(), oddities()]
    if given.out is None:
        print(markdown(sections), end="")  # what was asked for
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "report.md").write_text(markdown(sections))
    (given.out / "report.csv").write_text(lines(evaluations))
    (given.out / "report.tex").write_text(latex(sections))
    (given.out / "report.html").write_text(page(sections, plot(evaluations)))
    print(f"written: {given.out}/report.html, .md, .csv, .tex")
    return 0
