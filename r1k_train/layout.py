"""A report's sections as Markdown, LaTeX and one HTML page. What they say is data here: escaped, never run."""

import base64
import html
from collections.abc import Iterable
from typing import NamedTuple


class Section(NamedTuple):
    """A heading, sentences, and a table."""

    title: str
    sentences: list[str]
    header: list[str]
    rows: list[list[str]]


def markdown(sections: list[Section]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    parts = []
    for section in sections:
        table = [line(section.header), "|" + "---|" * len(section.header), *map(line, section.rows)] if section.rows else []
        parts.append("\n\n".join([f"## {section.title}", *section.sentences, *(["\n".join(table)] if table else [])]))
    return "\n\n".join(parts) + "\n"


_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " "}
)


def latex(sections: list[Section]) -> str:
    """A `table` for each section, to \\input; needs booktabs."""
    parts = []
    for section in (section for section in sections if section.rows):
        body = [" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in (section.header, *section.rows)]
        tabular = [
            r"\begin{tabular}{" + "l" * len(section.header) + "}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
        caption = " ".join([section.title + ".", *section.sentences]).translate(_LATEX)
        parts.append("\n".join([r"\begin{table}", r"\centering\small", *tabular, rf"\caption{{{caption}}}", r"\end{table}"]))
    return "\n\n".join(parts) + "\n"


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2733; max-width: 76rem; margin: 2rem auto; padding: 0 1.2rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .28rem .7rem; text-align: left; white-space: nowrap } th { border-bottom: 2px solid #46586b }
td { border-bottom: 1px solid #e3e8ed }
tr.measured td { background: #eef5fb } tr.difference td { background: #eef5fb; color: #46586b }
p { max-width: 60rem } img { max-width: 100%; height: auto }
"""


def page(sections: list[Section], picture: bytes) -> str:
    """One HTML file that needs no other; what evaluations are called is escaped."""
    parts = []
    for section in sections:
        sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in section.sentences)
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in section.header)
        body = "".join(
            f'<tr class="{_kind(row)}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in section.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if section.rows else ""
        parts.append(f"<h2>{html.escape(section.title)}</h2>{sentences}{table}")
    alt = "published and measured accuracies with their intervals"
    image = f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
    title = "r1k: measured beside published"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f"{head}<h1>{title}</h1>{image}{''.join(parts)}</html>\n"


def _kind(row: list[str]) -> str:
    return next((kind for kind in ("measured", "difference") if len(row) > 2 and row[2].startswith(kind)), "")
