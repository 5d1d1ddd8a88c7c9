"""What one source row goes through, as generators that yield requests and are sent completions.

They know no host, clock or file. The pipeline drives them with a teacher; an export, a dry run or a resume drives
the very same ones with the journal alone, so a row is what its replies make of it and nothing else.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from r1k_builder import cycle, invert, judge, solve
from r1k_builder.config import BuildConfig, TeacherConfig
from r1k_builder.final_answer import final_answer
from r1k_builder.schema import (
    GEMINI_TEACHER,
    CheckResult,
    Completion,
    Direction,
    Example,
    ForwardExample,
    Provenance,
    RejectedRow,
    Rejection,
    Request,
    ReverseQuestion,
    Solution,
    Stage,
    Verdict,
)
from r1k_builder.verify import (
    Benchmarks,
    Pair,
    check_cycle,
    consensus,
    evidence,
    failures,
    judged,
    mask,
    no_verdict,
    pair_of,
    passed,
    quote,
    rejection,
    same_answer,
    screen,
    unknown,
)

Parsed = TypeVar("Parsed", ReverseQuestion, Solution)
T = TypeVar("T")
Asking: TypeAlias = Generator[Request, Completion | Rejection, T]
"""A completion, or the Rejection of a request that the host refuses, goes in for each request that comes out."""
Row = Example | RejectedRow
Flow = Asking[Row]

NO_BENCHMARKS = Benchmarks(())
"""Whether a question is new, to the dataset and to benchmarks, is no matter of how it was inverted: nothing is asked again."""


def _code_version() -> str:
    """Names the code that reads replies and decides rows."""
    here = Path(__file__).parent
    readers = ("cycle", "final_answer", "flow", "invert", "judge", "reply", "solve")
    modules = [*(here / f"{name}.py" for name in readers), *sorted((here / "verify").glob("*.py"))]
    return hashlib.sha256(b"".join(module.read_bytes() for module in modules)).hexdigest()[:12]


CODE_VERSION = _code_version()
"""Rows settled by other parsers or checks are read again, which costs nothing."""


def prompt_version(config: BuildConfig) -> str:
    """Names both prompts that a reverse row is made by."""
    return f"{invert.prompt_version(config.templates)}+{solve.PROMPT_VERSION}"


# -- asking


@dataclass(frozen=True)
class _Sample(Generic[Parsed]):
    """What a stage ended with: the record or the rejection, the request, and its completion where there is one."""

    parsed: Parsed | Rejection
    request: Request
    completion: Completion | None


def _once(request: Request, parse: Callable[[Completion], Any]) -> Asking[Any]:
    """What is read from the reply to `request`, or why nothing is. There is no second try: no verdict is `unknown`."""
    completion = yield request
    return completion if isinstance(completion, Rejection) else parse(completion)


def _sampled(
    make: Callable[[TeacherConfig, int], Request],
    parse: Callable[[Completion], Parsed | Rejection],
    config: BuildConfig,
    numbers: Iterator[int],
    wanted: int = 1,
) -> Asking[list[_Sample[Parsed]]]:
    """The first `wanted` samples that can be read, while no more than `attempts` can't; or the last that can't, alone.

    After a truncated sample the next ones get twice the tokens; where the host refuses that, the truncation stands.
    `numbers` gives each sample its own, so that more that are wanted later begin where these end.
    """
    teacher = config.teacher
    read: list[_Sample[Parsed]] = []
    unread: list[_Sample[Parsed]] = []
    while len(read) < wanted and len(unread) < config.attempts:
        request = make(teacher, next(numbers))
        completion = yield request
        if isinstance(completion, Rejection):
            unread = unread or [_Sample(completion, request, None)]
            break
        sample = _Sample(parse(completion), request, completion)
        if not isinstance(sample.parsed, Rejection):
            read.append(sample)
            continue
        unread.append(sample)
        if not sample.parsed.retry:
            break
        if completion.finish_reason == "length" and config.teacher.max_tokens is not None:
            teacher = config.teacher.model_copy(update={"max_tokens": 2 * config.teacher.max_tokens})
    return read or unread[-1:]


# -- the directions


def forward(example: ForwardExample, config: BuildConfig) -> Flow:
    """The forward row: the source's own reasoning and answer, or template 2 on the forward question."""
    if example.reasoning is not None and example.answer is not None:
        return _given(example, example.reasoning, example.answer, example.teacher)
    (solved,) = yield from _sampled(partial(solve.request, example.question), solve.parse, config, count())
    verdict = screen(example, None, solved.parsed)
    row = _Row(example, "forward", example.question, example.solution, verdict, _provenance(config, solved))
    return row.judge(solved.parsed, solved.completion, "solve")


def gemini(example: ForwardExample) -> Example | None:
    """The forward row by the source's Gemini columns, where it has them beside another teacher's."""
    if example.gemini_reasoning is None or example.gemini_answer is None:
        return None
    row = _given(example, example.gemini_reasoning, example.gemini_answer, GEMINI_TEACHER)
    return row if isinstance(row, Example) else None


def reverse(example: ForwardExample, config: BuildConfig) -> Flow:
    """The reverse row: template 1 on question and solution, then template 2 on the question that it made.

    With `until_verified`, the best of the inversions that `inversions` makes. One that is not verified is kept, too: only an
    unusable one is rejected.
    """
    return best((yield from inversions(example, config)))


def best(rows: Sequence[Row]) -> Row:
    """The first of a row's inversions that nothing fails; else of those that can be used the one with the fewest failed
    checks, the earliest of equals; else the last."""
    usable = [row for row in rows if isinstance(row, Example)]
    return min(usable, key=lambda row: len(failures(row.verdict))) if usable else rows[-1]


def replaced(rows: Sequence[Row]) -> tuple[RejectedRow, ...]:
    """A row's inversions but for the best, oldest first: the first check that each fails, its texts, its whole verdict."""
    kept = best(rows)
    return tuple(_turned_down(row, number) for number, row in enumerate(rows, 1) if row is not kept)


def _turned_down(row: Row, number: int) -> RejectedRow:
    name = f"{row.id}-{number}"
    if isinstance(row, RejectedRow):
        return row.model_copy(update={"id": name})
    check = failures(row.verdict)[0]
    shared = {field: getattr(row, field) for field in RejectedRow.model_fields if field in Example.model_fields}
    told = {"id": name, "check": check, "reason": row.verdict[check].reason or "", "stage": "solve", "text": row.answer}
    return RejectedRow.model_validate(shared | told)


def inversions(example: ForwardExample, config: BuildConfig) -> Asking[list[Row]]:
    """A row's inversions, oldest first: up to `until_verified`, none after one that nothing fails or that the host refuses.

    What costs further requests is asked of those that no check fails so far, and of the one that is kept.
    """
    rows: list[Row] = []
    told: list[bool] = []
    numbers = count()
    while len(rows) < config.until_verified:
        row = yield from _inversion(example, config, numbers)
        told.append(isinstance(row, Example) and not failures(row.verdict))
        if isinstance(row, Example) and told[-1]:
            row = yield from _with_verdicts(example, row, config)
        rows.append(row)
        if told[-1] and not failures(row.verdict):
            break
        if isinstance(row, RejectedRow) and (row.stage, row.check) == ("invert", "refused-by-host"):
            break
    kept = best(rows)
    place = rows.index(kept)
    if isinstance(kept, Example) and not told[place]:
        rows[place] = yield from _with_verdicts(example, kept, config)
    return rows


def _inversion(example: ForwardExample, config: BuildConfig, numbers: Iterator[int]) -> Asking[Row]:
    """One inversion with its solution; with all that the free checks say where more inversions may hang on that."""
    request = partial(invert.request, example, templates=config.templates)
    (inverted,) = yield from _sampled(request, invert.parse, config, numbers)
    asked = inverted.parsed
    if isinstance(asked, Rejection):
        verdict = screen(example, None, asked)
        row = _Row(example, "reverse", None, "", verdict, _provenance(config, inverted, inverted))
        return row.judge(asked, inverted.completion, "invert")
    solved = yield from _sampled(partial(solve.request, asked.question), solve.parse, config, count(), config.samples)
    kept, agreeing = _consensus(solved)
    verdict = screen(example, asked, kept.parsed)
    if config.samples > 1 and agreeing is not None:
        verdict["consistency"] = agreeing
    row = _Row(example, "reverse", asked.question, asked.answer, verdict, _provenance(config, kept, inverted))
    made = row.judge(kept.parsed, kept.completion, "solve")
    if isinstance(made, Example) and config.until_verified > 1:
        return evidence(example, made, kept.request.messages[-1]["content"], NO_BENCHMARKS)
    return made


def _consensus(solved: Sequence[_Sample[Solution]]) -> tuple[_Sample[Solution], CheckResult | None]:
    """The solution to keep, and how many agree with it; None where none could be read."""
    solutions = [sample.parsed for sample in solved if isinstance(sample.parsed, Solution)]
    if not solutions:
        return solved[-1], None
    place, agreeing = consensus(solutions)
    return solved[place], agreeing


# -- what else may be asked of a reverse row


def _with_verdicts(example: ForwardExample, row: Example, config: BuildConfig) -> Asking[Example]:
    """`row` with what --cycle and --judge have found; what was found already is not asked again."""
    found: Verdict = {}
    pair = pair_of(example, row)
    if config.cycle:
        found["cycle"] = yield from _cycle(pair, config)
    if config.judging is not None:
        found |= yield from _judgement(pair, config.judging)
    return row.model_copy(update={"verdict": row.verdict | found}) if found else row


def _cycle(pair: Pair, config: BuildConfig) -> Asking[CheckResult]:
    masked = mask(pair)
    if masked is None:
        return unknown("there is no value of the forward answer's in the question, or no final answer to go back from")
    answered = yield from _once(cycle.request(masked.question, masked.answer, config.teacher), cycle.parse)
    return check_cycle(masked, answered)


def _judgement(pair: Pair, model: TeacherConfig) -> Asking[Verdict]:
    """The four verdicts of the judge (judge.py says what it sees for each)."""
    question, answer = pair.asked.question, pair.solution.answer if pair.solution else ""
    final = pair.final or answer[-judge.LONGEST_ANSWER :]
    forward_final = next(iter(pair.forward_finals), pair.source.solution[-judge.LONGEST_ANSWER :])
    alone = yield from _once(judge.on_question(question, model), partial(judge.parse, verdict=judge.OnQuestion))
    relation = judge.on_relation(pair.source.question, forward_final, question, final, model)
    related = yield from _once(relation, partial(judge.parse, verdict=judge.OnRelation))
    return {
        **_on_relation(related),
        "judge_answerable": (
            no_verdict(alone) if isinstance(alone, Rejection) else judged(alone.answerable, alone.reason, "yes")
        ),
        "judge_correct": (yield from _correct(question, final, alone, model)),
    }


def _on_relation(related: judge.OnRelation | Rejection) -> Verdict:
    if isinstance(related, Rejection):
        return dict.fromkeys(("judge_reversed", "judge_leak"), no_verdict(related))
    return {
        "judge_reversed": judged(related.reversed, related.reversed_reason, "yes"),
        "judge_leak": judged(related.leaks, related.leaks_reason, "no"),
    }


def _correct(question: str, final: str, alone: judge.OnQuestion | Rejection, model: TeacherConfig) -> Asking[CheckResult]:
    """Whether the row's final answer is the judge's own; where that is not plain, whether it finds it right among both."""
    own = None if isinstance(alone, Rejection) else alone.final
    if own is not None and same_answer(own, final):
        return passed(f"the judge's own answer is {quote(own)}")
    if not isinstance(alone, Rejection) and alone.answerable == "no":
        return unknown("the judge finds that it can't be answered")
    request, letters = judge.on_answers(question, list(dict.fromkeys(filter(None, (final, own)))), model)
    said = yield from _once(request, partial(judge.parse, verdict=judge.OnAnswers))
    if isinstance(said, Rejection):
        return no_verdict(said)
    return judged(said.verdicts.get(letters[final]), said.reason, "correct")


# -- rows


@dataclass(frozen=True)
class _Row:
    """A row of the dataset but for its response."""

    source: ForwardExample
    direction: Direction
    question: str | None
    reference: str
    verdict: Verdict
    provenance: Provenance

    def judge(
        self,
        parsed: ReverseQuestion | Solution | Rejection,
        completion: Completion | None,
        stage: Stage,
        teacher: str | None = None,
    ) -> Example | RejectedRow:
        """The row itself, or, where a reply or a check turns it down, the rejected row with its text."""
        refused = parsed if isinstance(parsed, Rejection) else rejection(self.verdict)
        source = self.source
        given = parsed if isinstance(parsed, Solution) else None  # a response that came with the source has no completion
        if refused is None and isinstance(parsed, Solution) and self.question is not None:
            return Example(
                id=f"{source.pair_id}-{self.direction}",
                pair_id=source.pair_id,
                direction=self.direction,
                question=self.question,
                reasoning=parsed.reasoning,
                answer=parsed.answer,
                final_answer=parsed.final_answer,
                reference_answer=self.reference,
                domain=source.domain,
                source_type=source.source_type,
                teacher=teacher or self.provenance.returned_model or self.provenance.requested_model,
                verdict=self.verdict,
                provenance=self.provenance,
            )
        assert refused is not None  # noqa: S101
        return RejectedRow(
            id=f"{source.pair_id}-{self.direction}",
            pair_id=source.pair_id,
            direction=self.direction,
            question=self.question,
            check=refused.check,
            reason=refused.reason,
            stage=stage,
            reasoning=completion.reasoning if completion else given and given.reasoning,
            text=completion.raw_text if completion else given.answer if given else "",
            domain=source.domain,
            source_type=source.source_type,
            verdict=self.verdict,
            provenance=self.provenance,
        )


def _given(example: ForwardExample, reasoning: str, answer: str, teacher: str | None) -> Example | RejectedRow:
    """A forward row whose response came with the source."""
    solution = Solution(reasoning, answer, final_answer(answer))
    row = _Row(example, "forward", example.question, example.solution, screen(example, None, solution), Provenance())
    return row.judge(solution, None, "solve", teacher)


def _provenance(config: BuildConfig, answered: _Sample[Any], inverted: _Sample[Any] | None = None) -> Provenance:
    """Where a response came from, and by which inversion its question was made."""
    completion = answered.completion
    asked = {
        "invert_key": inverted.request.key if inverted else None,
        "solve_key": None if answered is inverted else answered.request.key,
        "prompt_version": prompt_version(config),
        "sampling": json.dumps(dict(answered.request.sampling), sort_keys=True),
    }
    if completion is None:
        return Provenance(**asked)
    return Provenance(
        **asked,
        host=completion.host,
        requested_model=completion.requested_model,
        returned_model=completion.model,
        system_fingerprint=completion.fingerprint,
        finish_reason=completion.finish_reason,
        reasoning_in=completion.reasoning_in,
        **completion.usage.model_dump(),
    )
