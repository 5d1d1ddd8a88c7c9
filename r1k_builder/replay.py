"""What the journal alone makes of a row: the flows driven by recorded replies, without a host.

A resume, an export and a dry run all read rows through here, so that a row is a function of journal and settings.
"""

import hashlib
import json
from typing import Protocol

from r1k_builder import cycle, flow
from r1k_builder.config import BuildConfig
from r1k_builder.flow import Asking, T
from r1k_builder.journal import JournalView, RawReply
from r1k_builder.journals import Journals
from r1k_builder.judge import PROMPT_VERSION
from r1k_builder.reply import BAD_REQUESTS, TRANSIENT_FINISH_REASONS, UnreadableReply, is_bad_request, quote, read_reply
from r1k_builder.schema import Completion, Example, ForwardExample, Outcome, RejectedRow, Rejection, Request
from r1k_builder.verify import Benchmarks, SameAnswer, evidence, same_answer

FLOWS = (flow.forward, flow.reverse)


class Answers(Protocol):
    """What is known of requests: a journal, or several."""

    def replies(self, key: str) -> list[RawReply]: ...
    def refusals(self, key: str) -> list[bytes]: ...
    def prompt(self, key: str) -> str | None: ...


def stored(journal: Answers, request: Request) -> Completion | Rejection | None:
    """What the journal knows of `request`: the first usable completion, or that the host refuses it, or nothing."""
    refusals = []
    for reply in journal.replies(request.key):
        try:
            completion = read_reply(reply.body, key=request.key, host=reply.host, requested_model=reply.model)
        except UnreadableReply as error:
            if is_bad_request(error.status or 0):
                refusals.append(reply.body)
            continue
        if completion.finish_reason not in TRANSIENT_FINISH_REASONS:
            return completion
    refusals += journal.refusals(request.key)
    return refused(quote(refusals[-1])) if len(refusals) >= BAD_REQUESTS else None


def refused(said: str) -> Rejection:
    return Rejection(check="refused-by-host", reason=said)


def replay(journal: Answers, steps: Asking[T]) -> tuple[T | Request, int]:
    """What the journal makes of a flow: its end, or the first request that has no reply; and how many had one."""
    answered = 0
    try:
        request = next(steps)
        while (known := stored(journal, request)) is not None:
            answered += 1
            request = steps.send(known)
    except StopIteration as end:
        ended: T = end.value
        return ended, answered
    return request, answered


def outcome(
    journal: Answers,
    config: BuildConfig,
    example: ForwardExample,
    benchmarks: Benchmarks,
    same: SameAnswer = same_answer,
) -> Outcome:
    """What the journal says of one source row, whose questions are compared with `benchmarks`, and answers by `same`."""
    forward, _ = replay(journal, flow.forward(example, config))
    inverted, _ = replay(journal, flow.inversions(example, config))
    reverse = inverted if isinstance(inverted, Request) else flow.best(inverted)
    gemini = flow.gemini(example)
    return Outcome(
        source=example,
        forward=_checked(journal, example, forward, benchmarks, same),
        reverse=_checked(journal, example, reverse, benchmarks, same),
        gemini=gemini and evidence(example, gemini, None, benchmarks, same),
        replaced=() if isinstance(inverted, Request) else flow.replaced(inverted),
    )


def _checked(
    journal: Answers,
    example: ForwardExample,
    end: Example | RejectedRow | Request,
    benchmarks: Benchmarks,
    same: SameAnswer,
) -> Example | RejectedRow | None:
    """A row with its evidence; None where it is owed."""
    if isinstance(end, Request):
        return None
    if isinstance(end, RejectedRow):
        return end
    key = end.provenance.solve_key
    return evidence(example, end, None if key is None else journal.prompt(key), benchmarks, same)


def flow_version(config: BuildConfig) -> str:
    """Names everything that a row's state depends on beside its replies; rows settled under another one are read again."""
    judge = config.judging
    decides = [
        flow.prompt_version(config),
        flow.CODE_VERSION,
        config.teacher.canonical_model,
        config.teacher.sampling,
        config.attempts,
        config.samples,
        config.cycle and cycle.PROMPT_VERSION,
        judge and [PROMPT_VERSION, judge.canonical_model, judge.sampling],
        config.until_verified,
    ]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def end_of(journal: JournalView | Journals, config: BuildConfig) -> int:
    """The position before which a build's source rows lie. Towards `--accepted`, for which more are read than may be needed,
    that is behind the last row that anything was asked for."""
    limit = config.rows or 2**62
    return limit if config.accepted is None else min(limit, journal.asked_length())
