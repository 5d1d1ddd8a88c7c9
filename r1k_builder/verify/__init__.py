"""Checks: small functions, each with a status and a reason. Those in `REJECTING` make a row unusable; the others annotate.

    arithmetic.py   a formula as text -> its value, exactly and in bounded time
    answer.py       final answers: found, read by type, compared
    question.py     a question's choices, numbers and words, and what it asks for
    inverse.py      copy, reversed: how a reverse question stands to its forward question
    response.py     format, boxed, hedged, agreement: what a response says
    intact.py       intact: damage on the way
    degenerate.py   degenerate: loops, switches of script, lengths
    result.py       status and reason

Each check sees one row and nothing else: no file, no model, no clock. What can't be told is `unknown`, never `fail`; what
does not apply is `not-run`. All are linear in the length of the texts, which others wrote and which may be hostile.
"""

from r1k_builder.schema import CHECKS, CheckResult, ForwardExample, Rejection, ReverseQuestion, Solution, Verdict
from r1k_builder.verify.answer import same_answer
from r1k_builder.verify.degenerate import check_degenerate
from r1k_builder.verify.intact import check_intact
from r1k_builder.verify.inverse import Pair, check_copy, check_reversed
from r1k_builder.verify.question import Question
from r1k_builder.verify.response import check_agreement, check_boxed, check_format, check_hedged, check_key
from r1k_builder.verify.result import NOT_RUN

__all__ = ["REJECTING", "rejection", "same_answer", "verify_forward", "verify_reverse"]

REJECTING = ("format", "copy")


def verify_forward(source: ForwardExample, solution: Solution | Rejection) -> Verdict:
    """The checks that apply to a forward row."""
    results = {"format": check_format(solution)}
    if isinstance(solution, Solution):
        results["boxed"] = check_boxed(solution)
        results["intact"] = check_intact(None, solution)
        results["agreement"] = check_key(source, solution.answer, Question(source.question))
        results["degenerate"] = check_degenerate(source.question, solution)
    return _verdict(results)


def verify_reverse(
    source: ForwardExample, asked: ReverseQuestion | None, solution: Solution | Rejection, prompt: str | None = None
) -> Verdict:
    """The checks that apply to a reverse row; `asked` is None where no reverse question could be read, and `prompt` is the
    text that its solution was asked with."""
    results = {"format": check_format(solution)}
    if asked is not None:
        pair = Pair(source, asked, solution if isinstance(solution, Solution) else None)
        results["copy"] = check_copy(pair)
        if isinstance(solution, Solution):
            results["boxed"] = check_boxed(solution)
            results["intact"] = check_intact(asked.question, solution, prompt)
            results["reversed"] = check_reversed(pair, copied=results["copy"].status == "fail")
            results["hedged"] = check_hedged(solution)
            results["agreement"] = check_agreement(pair)
            results["degenerate"] = check_degenerate(asked.question, solution)
    return _verdict(results)


def rejection(verdict: Verdict) -> Rejection | None:
    """The first failed check that makes a row unusable."""
    for name in REJECTING:
        if verdict[name].status == "fail":
            return Rejection(check=name, reason=verdict[name].reason or "")
    return None


def _verdict(results: dict[str, CheckResult]) -> Verdict:
    return {name: results.get(name, NOT_RUN) for name in CHECKS}
