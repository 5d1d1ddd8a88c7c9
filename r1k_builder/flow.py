"""What one source row goes through, as generators that yield requests and are sent completions.

They know no host, clock or file. The pipeline drives them with a teacher; an export, a dry run or a resume drives
the very same ones with the journal alone, so a row is what its replies make of it and nothing else.
"""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from r1k_builder import __version__, invert, solve
from r1k_builder.config import BuildConfig, TeacherConfig
from r1k_builder.final_answer import final_answer
from r1k_builder.schema import (
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
from r1k_builder.verify import rejection, verify_forward, verify_reverse

Parsed = TypeVar("Parsed", ReverseQuestion, Solution)
Asked = Generator[Request, Completion | Rejection, tuple[Parsed | Rejection, Completion | None]]
Flow = Generator[Request, Completion | Rejection, Example | RejectedRow]
"""A completion, or the Rejection of a request that the host refuses, goes in for each request that comes out."""

GEMINI = "gemini-2.0-flash-thinking-exp"
CODE_VERSION = __version__
"""Rows settled by another version of the parsers and checks are read again."""

PROMPT_VERSION = f"{invert.PROMPT_VERSION}+{solve.PROMPT_VERSION}"


def forward(example: ForwardExample, config: BuildConfig) -> Flow:
    """The forward row: the source's own reasoning and answer, or template 2 on the forward question."""
    if example.reasoning is not None and example.answer is not None:
        return _given(example, example.reasoning, example.answer, example.teacher)
    parsed, completion = yield from _sampled(partial(solve.request, example.question), solve.parse, config)
    verdict = verify_forward(parsed)
    row = _Row(example, "forward", example.question, example.solution, verdict, _provenance(completion, config))
    return row.judge(parsed, completion, "solve")


def gemini(example: ForwardExample) -> Example | None:
    """The forward row by the source's Gemini columns, where it has them beside another teacher's."""
    if example.gemini_reasoning is None or example.gemini_answer is None:
        return None
    row = _given(example, example.gemini_reasoning, example.gemini_answer, GEMINI)
    return row if isinstance(row, Example) else None


def reverse(example: ForwardExample, config: BuildConfig) -> Flow:
    """The reverse row: template 1 on question and solution, then template 2 on the question that it made."""
    asked, inversion = yield from _sampled(partial(invert.request, example), invert.parse, config)
    if isinstance(asked, Rejection):
        verdict = verify_reverse(example.question, None, asked)
        row = _Row(example, "reverse", None, "", verdict, _provenance(inversion, config, inverted=inversion))
        return row.judge(asked, inversion, "invert")
    parsed, completion = yield from _sampled(partial(solve.request, asked.question), solve.parse, config)
    verdict = verify_reverse(example.question, asked.question, parsed)
    provenance = _provenance(completion, config, inverted=inversion)
    row = _Row(example, "reverse", asked.question, asked.answer, verdict, provenance)
    return row.judge(parsed, completion, "solve")


def _sampled(
    request: Callable[[TeacherConfig, int], Request],
    parse: Callable[[Completion], Parsed | Rejection],
    config: BuildConfig,
) -> Asked[Parsed]:
    """The first of up to `attempts` samples that can be read, or the last rejection; and the completion it came from.

    After a truncated sample the next ones get twice the tokens; where the host refuses that, the truncation stands.
    """
    teacher = config.teacher
    parsed: Parsed | Rejection
    last: tuple[Rejection, Completion | None] | None = None
    for sample in range(config.attempts):
        completion = yield request(teacher, sample)
        if isinstance(completion, Rejection):
            return last or (completion, None)
        parsed = parse(completion)
        if not isinstance(parsed, Rejection):
            return parsed, completion
        last = (parsed, completion)
        if not parsed.retry:
            break
        if completion.finish_reason == "length" and config.teacher.max_tokens is not None:
            teacher = config.teacher.model_copy(update={"max_tokens": 2 * config.teacher.max_tokens})
    assert last is not None  # `attempts` is at least 1  # noqa: S101
    return last


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
            reasoning=completion.reasoning if completion else None,
            text=completion.raw_text if completion else "",
            domain=source.domain,
            source_type=source.source_type,
            verdict=self.verdict,
            provenance=self.provenance,
        )


def _given(example: ForwardExample, reasoning: str, answer: str, teacher: str | None) -> Example | RejectedRow:
    """A forward row whose response came with the source."""
    solution = Solution(reasoning, answer, final_answer(answer))
    row = _Row(example, "forward", example.question, example.solution, verify_forward(solution), Provenance())
    return row.judge(solution, None, "solve", teacher)


def _provenance(completion: Completion | None, config: BuildConfig, inverted: Completion | None = None) -> Provenance:
    """Where the response came from, and by which inversion its question was made."""
    asked = {"invert_key": inverted.key if inverted else None, "prompt_version": PROMPT_VERSION}
    if completion is None:
        return Provenance(**asked)
    usage = completion.usage
    return Provenance(
        **asked,
        solve_key=None if completion is inverted else completion.key,
        host=completion.host,
        requested_model=completion.requested_model,
        returned_model=completion.model,
        system_fingerprint=completion.fingerprint,
        finish_reason=completion.finish_reason,
        reasoning_in=completion.reasoning_in,
        sampling=json.dumps(config.teacher.sampling, sort_keys=True),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
