"""A response -> the answer after its reasoning -> the final answer in it.

Nothing here compares: what can't be read is `None`, which is a count of its own, never a wrong answer and never "A".
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LETTERS = "ABCD"
TAIL = 20_000
"""Characters: a final answer is looked for in the end of an answer only, however long a model goes on."""
LONGEST_LINE = 1_000
MOST = 20
"""Of boxes, or of labels, from the end."""
MISSING = "LMEVAL_MODEL_NONE_ANSWER_PLACEHOLDER"
"""What lm-eval writes where a server sent no content: the whole budget went to the reasoning."""


class Response(NamedTuple):
    """A response in its two parts."""

    reasoning: str
    answer: str
    finished: bool
    """False where reasoning was opened and never closed: a truncated response has no answer."""


def split(text: str, reasoning_end: str = "</think>") -> Response:
    """The reasoning and the answer of a raw response.

    What stands after the last `reasoning_end` is the answer; s1's separators (`<|im_start|>answer`, or a line `answer`
    where special tokens were left out in decoding) are known too. A response that opens no reasoning is all answer.
    """
    if text.strip() in ("", MISSING):
        return Response("", "", False)
    if reasoning_end and reasoning_end in text:
        reasoning, _, answer = text.rpartition(reasoning_end)
        return Response(reasoning, answer.strip(), True)
    start = text.lstrip()
    if s1 := re.match(r"(<\|im_start\|>)?think\n", start):
        parts = list(re.finditer(r"(?:^|\n)(?:<\|im_start\|>)?answer\n", start))
        if not parts:
            return Response(start[s1.end() :], "", False)
        return Response(start[s1.end() : parts[-1].start()], start[parts[-1].end() :].strip(), True)
    if start.startswith("<think>"):
        return Response(start.removeprefix("<think>"), "", False)
    return Response("", text.strip(), True)


# -- boxes -----------------------------------------------------------------------------------------------------------

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*")
_BARE = re.compile(r"[^\s$\\{}]+|\\[a-zA-Z]+(?:\{[^{}]*\})*")
_BETWEEN = re.compile(
    r"(?:[\s$,;.&]|\\[,;!\s()\[\]]|\\q?quad|\\text\s*\{\s*(?:and|or)?,?\s*\}|\band\b|\bor\b|[a-zA-Z](?:_\{?\w\}?)?\s*=)*"
)
"""What may stand between boxes that give one answer together: `\\boxed{3}$ and $\\boxed{5}`."""


def _closing(text: str) -> dict[int, int]:
    """Where each opening brace is closed, in one pass; escaped braces don't count."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for found in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if found[0] == "{":
            opened.append(found.start())
        elif found[0] == "}" and opened:
            closing[opened.pop()] = found.start()
    return closing


def boxes(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of each box; of a box that holds nothing but a box, the inner content; no empty ones."""
    closing = _closing(text)
    at = 0
    while found := _BOX.search(text, at):
        start, inside = found.start(), found.end()
        if (end := closing.get(inside)) is not None:
            at = end + 1
            while (inner := _BOX.match(text, inside + 1)) and closing.get(inner.end(), 0) == end - 1:
                inside, end = inner.end(), end - 1
            content = text[inside + 1 : end]
        elif bare := _BARE.match(text, inside):  # \boxed 5
            at, content = bare.end(), bare[0].rstrip(".,;")
        else:
            at, content = inside, ""
        if content.strip():
            yield start, at, content.strip()


def boxed(text: str) -> str | None:
    """What the last box holds; boxes with nothing but commas, "and" or "x =" between them are one list."""
    found = list(boxes(text[-TAIL:]))[-MOST:]
    if not found:
        return None
    text = text[-TAIL:]
    together = [found[-1]]
    for box in reversed(found[:-1]):
        between = text[box[1] : together[0][0]]
        if len(between) > 60 or not _BETWEEN.fullmatch(between):
            break
        together.insert(0, box)
    contents = list(dict.fromkeys(content for *_, content in together))
    return ", ".join(contents)


# -- answers without a box -------------------------------------------------------------------------------------------

_LABEL = re.compile(
    r"(?:final\s+answer|\banswer)\s*(?:\*\*)?\s*(?::|=|\bis\b(?!\s+(?:not|wrong|right|correct)\b):?)\s*(?:\*\*)?", re.IGNORECASE
)
_FORMULA = re.compile(r"(\$\$?)([^$]+)\1|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def _unmarked(text: str) -> str:
    """A piece of a line without markdown, dollar signs around it, or the full stop that ends its sentence."""
    text = re.sub(r"\*\*|__|`", "", text).strip()
    text = re.sub(r"(?<!\\)[.。,;]+$", "", text).strip()
    whole = _FORMULA.fullmatch(text)
    return next(part for part in whole.groups()[1:] if part).strip() if whole else text


def labelled(text: str) -> str | None:
    """What follows the last "Answer:" or "the answer is" on its line (or on the next, where the line ends there)."""
    text = text[-TAIL:]
    for found in reversed(list(_LABEL.finditer(text))[-MOST:]):
        rest = text[found.end() :].lstrip("* ")
        line = next((line for line in rest.split("\n") if line.strip(" *$")), "")
        formulas = list(_FORMULA.finditer(line))
        if len(formulas) == 1 and not re.match(r"\s*[\d(\\]", line):  # "the answer is the angle $30^\circ$"
            line = formulas[0][0]
        if len(line) <= LONGEST_LINE and (value := _unmarked(line)):
            return value
    return None


def last_line(text: str) -> str | None:
    """The last line, where it is nothing but one formula or one number."""
    lines = [line for line in text[-TAIL:].strip().splitlines() if line.strip()]
    if not lines or len(lines[-1]) > LONGEST_LINE:
        return None
    line = _unmarked(lines[-1])
    alone = bool(_FORMULA.fullmatch(re.sub(r"\*\*|[.\s]+$", "", lines[-1]).strip()))
    return line if alone or re.fullmatch(r"[-+]?\\?\$?[\d.,]*\d(?:\s*/\s*\d+)?\s*(?:%|\\%)?", line) else None


def final_answer(answer: str) -> str | None:
    """The final answer that an answer states: its box, else its "Answer:", else a last line that is only a formula."""
    return boxed(answer) or labelled(answer) or last_line(answer)


# -- letters ---------------------------------------------------------------------------------------------------------

_WRAP = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathsf|bf|rm|textrm|textit)\b\s*|[{}$*`]|\\[,;! ()\[\]]")


_CHOSEN = re.compile(
    r"""(?:(?i:option|choice|answer)\s*:?\s*)?
        (?: \(\s*([A-Da-d])\s*\) | \[\s*([A-D])\s*\]
          | ([A-D])(?=\s*(?:[).:,;]|$|-\s|—|–|\n))
          | ([a-d])(?=\s*(?:[).:]\s|\)?\.?$)) )""",
    re.VERBOSE,
)
_ANOTHER = re.compile(r"(?:\bor\b|\band\b|/|,)\s*\(?([A-D])\)?(?=\W|$)")


def _letter(text: str) -> str | None:
    """The letter that a short text is or begins with: C, (C), C), C. five metres, Option C. "A or B" is no answer."""
    bare = _WRAP.sub("", text).strip()
    found = _CHOSEN.match(bare)
    if not found:
        return None
    letter = next(group for group in found.groups() if group).upper()
    others = set(_ANOTHER.findall(bare[found.end(found.lastindex or 0) :]))
    return None if others - {letter} else letter


def choice(answer: str, choices: Sequence[str] = ()) -> str | None:
    """The letter that an answer chooses, or None; a box that holds the text of exactly one choice names it."""
    for stated in (boxed(answer), labelled(answer)):
        if stated is None:
            continue
        if letter := _letter(stated):
            return letter
        if found := re.match(r"(?:option|choice)?\s*\(?([A-D])\)?(?=\s)", _WRAP.sub("", stated), re.IGNORECASE):
            rest = _plain(_WRAP.sub("", stated)[found.end() :])
            index = LETTERS.index(found[1].upper())
            if index < len(choices) and rest and rest == _plain(choices[index]):
                return LETTERS[index]
        same = [letter for letter, text in zip(LETTERS, choices, strict=False) if _plain(text) == _plain(stated) != ""]
        if len(same) == 1:
            return same[0]
    lines = [line for line in answer[-TAIL:].splitlines() if line.strip()]
    bare = _WRAP.sub("", lines[-1]).strip() if lines and len(lines[-1]) <= LONGEST_LINE else ""
    alone = re.fullmatch(r"(?:option|choice)?\s*\(?([A-D])\)?\.?", bare, re.IGNORECASE)
    return alone[1].upper() if alone else None


def _plain(text: str) -> str:
    return re.sub(r"[\s.$]+", "", _WRAP.sub("", text)).casefold()
