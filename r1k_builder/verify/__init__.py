"""Checks: small functions, each with a status and a reason. Those in `REJECTING` make a row unusable; the others annotate.

    arithmetic.py   a formula as text -> its value, exactly and in bounded time
    answer.py       final answers: found, read by type, compared
    mathematics.py  formulas beyond that, compared by math-verify in worker.py, a process bounded in time and memory
    question.py     a question's choices, numbers and words, and what it asks for
    inverse.py      copy, reversed: how a reverse question stands to its forward question
    response.py     format, boxed, hedged, agreement: what a response says
    intact.py       intact: damage on the way
    degenerate.py   degenerate: loops, switches of script, lengths
    contamination.py  contamination: overlap with benchmarks
    duplicate.py    duplicate: near-duplicates among questions
    further.py      consistency, cycle, judge_*: what further answers say, where they were asked for
    result.py       status and reason

Each check sees one row and nothing else, no file, no model, no clock; but for contamination, which is handed the items, and
duplicate, which remembers. How answers are compared is handed in, too. What can't be told is `unknown`, never `fail`; what
does not apply is `not-run`. All are linear in the length of the texts, which others wrote and which may be hostile.

A row is screened as soon as it is answered, by the rejecting checks alone, which are quick; the others, which take a
millisecond or two, are run where rows are read for the dataset (`evidence`).
"""

from r1k_builder.schema import CHECKS, CheckResult, Example, ForwardExample, Rejection, ReverseQuestion, Solution, Verdict
from r1k_builder.verify.answer import SameAnswer, same_answer
from r1k_builder.verify.contamination import Benchmarks
from r1k_builder.verify.degenerate import check_degenerate
from r1k_builder.verify.further import check_cycle, consensus, judged, mask, no_verdict
from r1k_builder.verify.intact import check_intact
from r1k_builder.verify.inverse import Pair, check_copy, check_reversed
from r1k_builder.verify.mathematics import Mathematics
from r1k_builder.verify.question import read_question
from r1k_builder.verify.response import check_agreement, check_boxed, check_format, check_hedged, check_key
from r1k_builder.verify.result import NOT_RUN, passed, quote, unknown

__all__ = [
    "REJECTING", "Benchmarks", "Mathematics", "Pair", "SameAnswer", "check_cycle", "consensus", "evidence", "failures",
    "judged", "mask", "no_verdict", "pair_of", "passed", "quote", "rejection", "same_answer", "screen", "unknown",
]  # fmt: skip

REJECTING = ("format", "copy")


def screen(source: ForwardExample, asked: ReverseQuestion | None, solution: Solution | Rejection) -> Verdict:
    """The rejecting checks. `asked` is None for a forward row, and where no reverse question could be read."""
    results = {"format": check_format(solution)}
    if asked is not None:
        results["copy"] = check_copy(Pair(source, asked))
    return {name: results.get(name, NOT_RUN) for name in CHECKS}


def rejection(verdict: Verdict) -> Rejection | None:
    """The first failed check that makes a row unusable."""
    for name in REJECTING:
        if verdict[name].status == "fail":
            return Rejection(check=name, reason=verdict[name].reason or "")
    return None


def failures(verdict: Verdict) -> list[str]:
    """The checks that a row fails. One without any is verified."""
    return [name for name, result in verdict.items() if result.status == "fail"]


def pair_of(source: ForwardExample, row: Example, same: SameAnswer = same_answer) -> Pair:
    """The reverse row `row` beside the forward row that it was made from; `same` compares final answers."""
    solution = Solution(row.reasoning, row.answer, row.final_answer)
    return Pair(source, ReverseQuestion(row.question, row.reference_answer), solution, same)


def evidence(
    source: ForwardExample, row: Example, prompt: str | None, benchmarks: Benchmarks, same: SameAnswer = same_answer
) -> Example:
    """`row`, made from `source` and screened, with the verdicts of all checks that apply to its direction.

    `prompt` is the text that its solution was asked with; None where it came with the source. `same` compares final answers:
    `Mathematics.same_answer` takes formulas in, too. `duplicate` is left to where rows stand in order.
    """
    solution = Solution(row.reasoning, row.answer, row.final_answer)
    annotate = _annotate_forward if row.direction == "forward" else _annotate_reverse
    results = annotate(source, row, solution, prompt, benchmarks, same)
    return row.model_copy(update={"verdict": row.verdict | results})


def _annotate_forward(
    source: ForwardExample, row: Example, solution: Solution, prompt: str | None, benchmarks: Benchmarks, same: SameAnswer
) -> dict[str, CheckResult]:
    question = read_question(source.question)
    return {
        "boxed": check_boxed(solution),
        "intact": check_intact(None if prompt is None else row.question, solution, prompt),
        "agreement": check_key(source, solution.answer, question, same),
        "degenerate": check_degenerate(source.question, solution),
        "contamination": benchmarks.check(question, row.source_type),
    }


def _annotate_reverse(
    source: ForwardExample, row: Example, solution: Solution, prompt: str | None, benchmarks: Benchmarks, same: SameAnswer
) -> dict[str, CheckResult]:
    pair = pair_of(source, row, same)
    return {
        "boxed": check_boxed(solution),
        "intact": check_intact(row.question, solution, prompt, row.reference_answer),
        "reversed": check_reversed(pair, copied=row.verdict["copy"].status == "fail"),
        "hedged": check_hedged(solution),
        "agreement": check_agreement(pair),
        "degenerate": check_degenerate(row.question, solution),
        "contamination": benchmarks.check(pair.reverse, row.source_type, pair.forward),
    }
