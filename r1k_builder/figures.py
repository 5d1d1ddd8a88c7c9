"""The card's figures, from what the build has counted, as PNG files. The same counts give the same bytes.

They stand on a light panel of their own, so that they read alike on a light page and a dark one.
"""

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from r1k_builder.sketch import edge, median, unpacked, unpacked_pairs

Facts = Mapping[str, Any]

PANEL, INK, FAINT = "#f7f6f2", "#24292f", "#c9c6bd"
COLORS = {"forward": "#2f6db3", "reverse": "#d0742b", "invert": "#7a4fa3", "solve": "#2e8b6f", "other": "#8d8a82"}
SIZE = (7.2, 3.6)
"""Inches, at 110 dots each."""
MOST_DOMAINS = 8
ENOUGH_ROWS = 30
"""Source rows; fewer make no picture, and drawing takes a second."""


def get_ready() -> None:
    """Import what draws, which takes half a second."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def draw(made: Facts, facts: Facts) -> dict[str, bytes]:
    """Every figure for which there is something to show, by file name."""
    if made["rows"]["read"] < ENOUGH_ROWS:
        return {}
    return {name: image for name, (figure, _) in FIGURES.items() if (image := figure(made, facts)) is not None}


def lengths(made: Facts, _facts: Facts) -> bytes | None:
    """The paper's Figure 4, with the forward rows beside it."""
    counts = _directions(made["lengths"]["whole"])
    if not counts:
        return None
    figure, (axes,) = _panels(1)
    for direction, found in counts.items():
        _histogram(axes, found, COLORS[direction], f"{direction} ({_row_count(found)})")
    unit = made["lengths"]["unit"]
    axes.set(xlabel=f"{unit} of prompt and response", ylabel="rows")
    _legend(axes, "How long the rows are")
    return _png(figure)


def reasoning(made: Facts, _facts: Facts) -> bytes | None:
    """Forward against reverse reasoning, pair by pair: above the line the reverse one is longer."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    pairs = list(unpacked_pairs(made["lengths"]["pairs"]))
    if not pairs:
        return None
    figure, (axes,) = _panels(1, size=(5.6, 4.6))
    most = max(count for _, _, count in pairs)
    shades = LinearSegmentedColormap.from_list("r1k", ["#e3c9a8", COLORS["reverse"], "#7d3c0c"])
    low = min(min(one, other) for one, other, _ in pairs) - 1
    places = range(low, max(max(one, other) for one, other, _ in pairs) + 3)
    counts: list[list[float]] = [[float("nan")] * (len(places) - 1) for _ in places[1:]]
    for one, other, count in pairs:
        counts[other - low][one - low] = count
    edges = [edge(place) for place in places]
    cells = axes.pcolormesh(edges, edges, counts, cmap=shades, norm=LogNorm(1, max(most, 2)), edgecolors=PANEL, linewidth=0.6)
    axes.plot(edges[:: len(edges) - 1], edges[:: len(edges) - 1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(
        aspect="equal",
        xlabel="forward reasoning, characters (dashed: equally long)",
        ylabel="reverse reasoning, characters",
    )
    _title(axes, "Reasoning, pair by pair")
    _scale(axes.xaxis, edges)
    _scale(axes.yaxis, edges)
    bar = figure.colorbar(cells, ax=axes, label="pairs", shrink=0.85, ticks=[1, most] if most > 1 else [1])
    bar.ax.minorticks_off()
    bar.ax.yaxis.set_major_formatter("{x:,.0f}")
    bar.outline.set_visible(False)
    return _png(figure)


def domains(made: Facts, _facts: Facts) -> bytes | None:
    """Rows per domain and direction."""
    found = made["domains"]
    names = sorted({*found["forward"], *found["reverse"]}, key=lambda name: (-sum(_count(found, name)), name))
    if not names:
        return None
    shown = names[:MOST_DOMAINS]
    figure, (axes,) = _panels(1, size=(SIZE[0], 1.5 + 0.45 * (len(shown) + (len(names) > len(shown)))))
    rows = [(_plain(name), _count(found, name)) for name in shown]
    if rest := names[MOST_DOMAINS:]:
        rows.append(
            (f"{len(rest)} others", [sum(counts) for counts in zip(*(_count(found, name) for name in rest), strict=True)])
        )
    for place, (_, counts) in enumerate(rows):
        for number, (direction, count) in enumerate(zip(("forward", "reverse"), counts, strict=True)):
            label = direction if place == 0 else None
            bars = axes.barh(place + 0.38 * (number - 0.5), count, height=0.36, color=COLORS[direction], label=label)
            axes.bar_label(bars, [f"{count:,}"], padding=3, fontsize=8, color=INK)
    axes.set(yticks=range(len(rows)), yticklabels=[name for name, _ in rows], xticks=[])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines["bottom"].set_visible(False)
    _legend(axes, "Rows by domain")
    return _png(figure)


def funnel(made: Facts, _facts: Facts) -> bytes | None:
    """From source rows to verified reverse rows."""
    rows, configs = made["rows"], made["configs"]
    if not rows["read"]:
        return None
    steps = [
        ("source rows read", rows["read"], COLORS["other"]),
        ("answered in both directions", rows["read"] - rows["failed"], COLORS["other"]),
        ("forward rows", configs["forward"]["rows"], COLORS["forward"]),
        ("reverse rows", configs["reverse"]["rows"], COLORS["reverse"]),
        ("accepted in both directions", rows["accepted"], COLORS["solve"]),
        ("reverse rows without a failed check", configs["reverse-verified"]["rows"], COLORS["solve"]),
    ]
    figure, (axes,) = _panels(1, size=(SIZE[0], 3.2))
    bars = axes.barh(range(len(steps)), [count for _, count, _ in steps], height=0.64, color=[color for *_, color in steps])
    shares = [f"{count:,}  ({count / rows['read']:.0%})" for _, count, _ in steps]
    axes.bar_label(bars, shares, padding=4, fontsize=9, color=INK)
    axes.set(yticks=range(len(steps)), yticklabels=[name for name, *_ in steps], xticks=[])
    _title(axes, "Rows at each step")
    axes.invert_yaxis()
    axes.margins(x=0.24)
    axes.spines["bottom"].set_visible(False)
    return _png(figure)


def teacher(_made: Facts, facts: Facts) -> bytes | None:
    """How long an answer takes, and what each stage costs: dollars where the price is known, else tokens."""
    stages = {stage: unpacked(counts) for stage, counts in facts["seconds"].items() if counts}
    spent = facts["steps"]
    if not spent:
        return None
    figure, (*latency, costs) = _panels(2 if stages else 1)  # in batches nobody waits for an answer
    for times in latency:
        for stage, counts in stages.items():
            middle = median(counts) or 0.0
            _histogram(times, counts, COLORS.get(stage, COLORS["other"]), f"{stage} (median {_seconds(middle)})")
        times.set(xlabel="seconds per answer", ylabel="answers")
        _legend(times, "Latency", columns=1)
    priced = all(stage["dollars"] is not None and not stage["unpriced"] for stage in spent.values()) and any(
        float(stage["dollars"]) for stage in spent.values()
    )
    values = [float(stage["dollars"]) if priced else stage["completion_tokens"] for stage in spent.values()]
    bars = costs.bar(list(spent), values, width=0.55, color=[COLORS.get(stage, COLORS["other"]) for stage in spent])
    costs.bar_label(bars, [_dollars(value) if priced else f"{value:,}" for value in values], padding=3, fontsize=9, color=INK)
    costs.set(yticks=[])
    _title(costs, "Cost, US dollars" if priced else "Tokens written", below=2)
    costs.spines["left"].set_visible(False)
    costs.margins(y=0.15, x=0.2)
    return _png(figure)


FIGURES: dict[str, tuple[Callable[[Facts, Facts], bytes | None], str]] = {
    "lengths.png": (lengths, "Lengths of forward and reverse rows (the paper's Figure 4 shows the reverse ones)"),
    "reasoning.png": (reasoning, "Length of the reverse reasoning against the forward one; above the line it is longer"),
    "domains.png": (domains, "Rows per domain"),
    "funnel.png": (funnel, "From source rows to verified reverse rows"),
    "teacher.png": (teacher, "Latency and cost of the teacher"),
}
"""By file name: what draws it, and the words that stand for it where it can't be seen."""


# -- parts


def _directions(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[int, int]]:
    return {direction: unpacked(found) for direction, found in counts.items() if found}


def _count(found: Mapping[str, Mapping[str, int]], name: str) -> list[int]:
    return [found[direction].get(name, 0) for direction in ("forward", "reverse")]


def _row_count(counts: Mapping[int, int]) -> str:
    total = sum(counts.values())
    return f"{total:,} row{'s' * (total != 1)}, median {median(counts):,.0f}"


def _dollars(value: float) -> str:
    return f"${value:,.2f}" if value >= 0.1 or not value else f"${value:.4f}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def _plain(name: str) -> str:
    """A domain's name as a label: short, printable, and no mathematics to matplotlib."""
    text = "".join(character if character.isascii() and character.isprintable() else "?" for character in name)
    return (text if len(text) <= 24 else f"{text[:23]}...").replace("$", r"\$")


def _histogram(axes: Any, counts: Mapping[int, int], color: str, label: str) -> None:
    """Filled steps over bins that widen with their value."""
    from matplotlib.ticker import MaxNLocator

    places = range(min(counts), max(counts) + 1)
    edges = [edge(place) for place in (*places, places[-1] + 1)]
    axes.stairs([counts.get(place, 0) for place in places], edges, fill=True, alpha=0.45, color=color, label=label)
    axes.stairs([counts.get(place, 0) for place in places], edges, color=color, linewidth=1.4)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _scale(axes.xaxis, [*axes.dataLim.intervalx, edges[0] / 1.2, edges[-1] * 1.2])


def _scale(axis: Any, values: Iterable[float]) -> None:
    """A logarithmic axis over `values` with its ticks written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    values = sorted(value for value in values if value > 0)
    wide = values[-1] > 8 * values[0]
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    getattr(axis.axes, f"set_{axis.axis_name}lim")(values[0], values[-1])
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 5, 7)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:.2g}"))


def _title(axes: Any, text: str, below: int = 0) -> None:
    """Over the axes, with room for so many lines of legend below it."""
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=INK, pad=7 + 15 * below)


def _legend(axes: Any, title: str, columns: int = 2) -> None:
    """Above the axes, under the title: beside the data, never on it."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderaxespad": 0.1}
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, ncols=columns, borderpad=0, **place)
    _title(axes, title, below=2 // columns)


def _panels(number: int, size: tuple[float, float] = SIZE) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure  # takes half a second, so only where something is drawn

    figure = Figure(figsize=size, dpi=110, layout="tight", facecolor=PANEL)
    every = [figure.add_subplot(1, number, place + 1, facecolor=PANEL) for place in range(number)]
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(colors=INK, labelsize=9, length=3)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(INK)
    return figure, every


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    sink = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(sink, metadata={"Software": None})  # `savefig` draws twice, for the same bytes
    return sink.getvalue()
