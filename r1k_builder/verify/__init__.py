"""Checks: small functions, each with a verdict and a reason. Those in `REJECTING` make a row unusable.

An answer that can't be parsed is `unknown`, never `fail`; a check that does not apply is `not-run`.
"""

import re

from r1k_builder.schema import CHECKS, CheckResult, Rejection, Solution, Verdict
from r1k_builder.verify.answer import same_answer

__all__ = ["REJECTING", "check_boxed", "check_copy", "rejection", "same_answer", "verify_forward", "verify_reverse"]

REJECTING = ("format", "copy")
NOT_RUN = CheckResult(status="not-run")
_NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:\s*(?:%|[A-Za-z°/·^\d]{1,12}))?\.?")


def check_format(solution: Solution | Rejection) -> CheckResult:
    """The reply could be read: finished by `stop`, reasoning present and closed, answer present, no control tokens."""
    if isinstance(solution, Rejection):
        return CheckResult(status="fail", reason=solution.reason)
    return CheckResult(status="pass")


def check_boxed(solution: Solution) -> CheckResult:
    """Template 2 demands a box where the answer is one number; elsewhere its absence says nothing."""
    if "\\boxed" in solution.answer and solution.final_answer is not None:
        return CheckResult(status="pass")
    if _NUMBER.fullmatch(solution.answer.strip()[:64]):
        return CheckResult(status="fail", reason="the answer is a number without \\boxed{}")
    return CheckResult(status="unknown", reason="no \\boxed{}")


def check_copy(forward_question: str, reverse_question: str) -> CheckResult:
    """The reverse question is not the forward question again (case, white space and punctuation aside)."""
    if _fold(forward_question) == _fold(reverse_question):
        return CheckResult(status="fail", reason="the reverse question repeats the forward question")
    return CheckResult(status="pass")


def verify_forward(solution: Solution | Rejection) -> Verdict:
    """The checks that apply to a forward row."""
    if isinstance(solution, Rejection):
        return _verdict(format=check_format(solution))
    return _verdict(format=check_format(solution), boxed=check_boxed(solution))


def verify_reverse(forward_question: str, reverse_question: str | None, solution: Solution | Rejection) -> Verdict:
    """The checks that apply to a reverse row; `reverse_question` is None where none could be read."""
    copy = NOT_RUN if reverse_question is None else check_copy(forward_question, reverse_question)
    if isinstance(solution, Rejection):
        return _verdict(format=check_format(solution), copy=copy)
    return _verdict(format=check_format(solution), boxed=check_boxed(solution), copy=copy)


def rejection(verdict: Verdict) -> Rejection | None:
    """The first failed check that makes a row unusable."""
    for name in REJECTING:
        if verdict[name].status == "fail":
            return Rejection(check=name, reason=verdict[name].reason or "")
    return None


def _verdict(**results: CheckResult) -> Verdict:
    return {name: results.get(name, NOT_RUN) for name in CHECKS}


def _fold(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())
