"""Reads the final answer out of an answer's text.

In this order: (1) the content of the last `\\boxed{…}` or `\\fbox{…}` that is closed and not empty (the last to
open, so of two nested boxes the inner one); `\\boxed 5` without braces counts too; (2) where there is no such box,
the letter of the choice that the last lines name: "The answer is (B)", "Answer: C", a last line that is only "(D)" or
the bold "**(A) 2**". Anything less plain is None: a final answer that is not there is unknown, never guessed.
"""

import re

TAIL_CHARS = 600
"""How far from the end a choice may be named, so that an option discussed on the way is not taken for the answer."""

_BOX_COMMAND = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
_BOX_TOKEN = re.compile(
    r"""\\{1,2}(?:boxed|fbox)(?![A-Za-z])\s*+           # two backslashes: a model that escapes its LaTeX
        (?:(?P<box>\{)|(?P<bare>[-+]?\d++(?:[.,/]\d++)*+%?|[A-Za-z](?![A-Za-z])))?
      | \\.                                             # an escaped brace opens and closes nothing
      | (?P<open>\{)
      | (?P<close>\})""",
    re.VERBOSE | re.DOTALL,
)
_OUTER = " \t\r\n\f\v\u00a0\u2028\u2029$"

_NAMED_CHOICE = re.compile(
    r"""(?i:\banswer|\b(?:correct|right|best)\s+(?:option|choice))[\s*_]*(?i:\bis\b)?\s*[:：]?
        [\s*_$]*(?:\\[a-z]+\{)?(?i:option\s+)?(?:\((?P<round>[A-HJ])\)|(?P<plain>[A-HJ])(?![\w'’]))
        (?P<rest>[^\n]*)""",
    re.VERBOSE,
)
_MORE_CHOICES = re.compile(r"[\s*_]*(?:,|&|/|and\b|or\b)[\s*_]*(?:and\s|or\s)?\(?[A-HJ]\b")
_CHOICE_ENDS = re.compile(r"[\s*_`.)\]$}]*$|[*_`]*[).:\]]")
_CHOICE_LINE = re.compile(r"\*\*\((?P<bold>[A-HJ])\)[^*]*\*\*\.?|(?P<mark>\*\*)?\(?(?P<alone>[A-HJ])\)?\.?(?(mark)\*\*)\.?")


def final_answer(text: str) -> str | None:
    """The final answer of `text`, or None where it states none. Linear in the length of the text."""
    boxed = _last_box(text)
    return boxed if boxed is not None else _named_choice(text[-TAIL_CHARS:])


def _last_box(text: str) -> str | None:
    first = _BOX_COMMAND.search(text)
    if first is None:
        return None
    last_start, last = -1, None
    open_groups: list[int | None] = []  # where the content of each open box begins; None for a plain brace
    for token in _BOX_TOKEN.finditer(text, first.start()):
        start, end = token.span("bare")
        if token["box"] or token["open"]:
            open_groups.append(token.end() if token["box"] else None)
        elif token["close"] and open_groups:
            opened = open_groups.pop()
            start, end = (-1, -1) if opened is None else (opened, token.start())
        if start > last_start and (content := _without_dollars(text[start:end])):
            last_start, last = start, content
    return last


def _without_dollars(content: str) -> str:
    """`content` without outer white space and `$`, but for one that a backslash makes part of it (`5\\$`)."""
    start = len(content) - len(content.lstrip(_OUTER))
    end = len(content.rstrip(_OUTER))
    backslashes = end - len(content[:end].rstrip("\\"))
    return content[start : end + backslashes % 2]


def _named_choice(tail: str) -> str | None:
    lines = tail.strip().splitlines()
    if lines and (line := _CHOICE_LINE.fullmatch(lines[-1].strip())):
        return line["bold"] or line["alone"]
    chosen = None
    for named in _NAMED_CHOICE.finditer(tail):
        several = _MORE_CHOICES.match(named["rest"]) is not None
        plain = named["plain"] is not None
        ends = not plain or _CHOICE_ENDS.match(named["rest"]) is not None
        chosen = (named["plain"] or named["round"]) if ends and not several else None
    return chosen
