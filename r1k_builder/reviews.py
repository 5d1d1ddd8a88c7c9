"""What reviewers said of reverse rows: each click durable at once, and the `human` verdict that it makes of a row.

A reviewer has a file of their own, `.build/reviews/NAME.jsonl`, to which lines are only added. Reviews made on several
machines come together by copying files. A review belongs to the text that was read: where a row is made anew in other words,
the old review stays in its file and says nothing of the new row.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from r1k_builder.errors import LocalError, UsageError
from r1k_builder.schema import CheckResult, Record, Status

FOLDER = "reviews"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
MOST_NOTE = 2_000
"""Characters of a reviewer's own words that are kept."""

QUESTIONS: Mapping[str, Mapping[str, Status]] = {
    "reversed": {"yes": "pass", "partly": "unknown", "no": "fail", "unsure": "unknown"},
    "answerable": {"yes": "pass", "no": "fail", "unsure": "unknown"},
    "correct": {"yes": "pass", "no": "fail", "unsure": "unknown"},
    "leaks": {"yes": "fail", "no": "pass", "unsure": "unknown"},
}
"""What a reviewer is asked of a row, and what each answer counts for."""

REASONS = (
    "same unknown again", "asks why or proof", "asks another part", "answer not used", "several answers",
    "not all given", "states its answer", "solution wrong", "forward key wrong", "text damaged",
)  # fmt: skip
"""Named reasons, by what was found in real pairs."""


@dataclass(frozen=True)
class Judgement:
    """What one reviewer says of one row."""

    row: str
    """`row_digest` of the text that was read."""
    answers: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    note: str = ""

    @property
    def complete(self) -> bool:
        return len(self.answers) == len(QUESTIONS)

    @property
    def status(self) -> Status:
        """`fail` where one answer counts against the row, `pass` where all count for it, else `unknown`."""
        found = {QUESTIONS[question][answer] for question, answer in self.answers.items()}
        if "fail" in found:
            return "fail"
        return "pass" if self.complete and found == {"pass"} else "unknown"


Judgements = Mapping[str, Judgement]
"""One reviewer's, by pair_id."""


def row_digest(pair_id: str, question: str, reasoning: str, answer: str) -> str:
    """Names the text of a reverse row: 80 bits of SHA-256, as 20 hex digits."""
    exact = json.dumps([pair_id, question, reasoning, answer], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(exact.encode("utf-8", "surrogatepass")).hexdigest()[:20]


# -- the verdict ---------------------------------------------------------------------------------------------------


def combined(statuses: Iterable[Status]) -> Status:
    """What several reviewers come to: one who rejects is enough, as is one who accepts where nobody does."""
    found = set(statuses)
    return next((status for status in ("fail", "pass") if status in found), "unknown")


def human_verdict(judgements: Iterable[Judgement]) -> CheckResult:
    """The `human` verdict of a row, from what its reviewers, at least one, say of it. It names no reviewer."""
    found = list(judgements)
    status = combined(judgement.status for judgement in found)
    by = sum(judgement.status == status for judgement in found)
    said = [
        f"{question}: {answer}"
        for question, means in QUESTIONS.items()
        for answer in means
        if means[answer] == status != "pass" and any(j.answers.get(question) == answer for j in found)
    ]
    if status == "unknown" and not all(judgement.complete for judgement in found):
        said.append("not judged to the end")
    given = [reason for reason in REASONS if any(reason in judgement.reasons for judgement in found)]
    reviewers = f"{by} of {len(found)} reviewer{'s' * (len(found) > 1)}"
    detail = ", ".join(said) + (f" ({', '.join(given)})" if given and status != "pass" else "")
    return CheckResult(status=status, reason=f"{reviewers}: {detail}" if detail else reviewers)


class Reviews:
    """All reviewers' judgements of a build."""

    def __init__(self, by_reviewer: Mapping[str, Judgements]) -> None:
        self.by_reviewer = dict(sorted(by_reviewer.items()))

    @classmethod
    def of(cls, state: Path) -> Self:
        """Those in a build's `.build` folder. Raises LocalError where a file can't be read."""
        return cls({path.stem: judgements(_events(path)) for path in sorted((state / FOLDER).glob("*.jsonl"))})

    def of_pair(self, pair_id: str) -> dict[str, Judgement]:
        """By reviewer, whatever text they were about."""
        found = ((reviewer, made.get(pair_id)) for reviewer, made in self.by_reviewer.items())
        return {reviewer: judgement for reviewer, judgement in found if judgement is not None and judgement.answers}

    def verdict(self, pair_id: str, question: str, reasoning: str, answer: str) -> CheckResult | None:
        """The `human` verdict of a reverse row; None where nobody has reviewed this text of it."""
        if pair_id not in self:
            return None
        digest = row_digest(pair_id, question, reasoning, answer)
        said = [made for made in self.of_pair(pair_id).values() if made.row == digest]
        return human_verdict(said) if said else None

    def __contains__(self, pair_id: str) -> bool:
        return any(pair_id in made for made in self.by_reviewer.values())


# -- the file ------------------------------------------------------------------------------------------------------


class Event(Record):
    """One click: a line of a reviewer's file. `undo` takes back the last one that is not taken back yet."""

    at: str
    """When, UTC, ISO 8601."""
    pair_id: str = ""
    row: str = ""
    field: str = ""
    """A question, `reasons` or `note`."""
    value: str | tuple[str, ...] | None = None
    undo: bool = False


def judgements(events: Iterable[Event]) -> dict[str, Judgement]:
    """What a reviewer's clicks come to, by pair_id. Words about an older text of a row give way to those about a newer."""
    made: dict[str, Judgement] = {}
    for event in standing(events):
        known = made.get(event.pair_id)
        judgement = known if known is not None and known.row == event.row else Judgement(event.row)
        made[event.pair_id] = _changed(judgement, event)
    return made


def standing(events: Iterable[Event]) -> list[Event]:
    """The clicks that are not taken back."""
    kept: list[Event] = []
    for event in events:
        if not event.undo:
            kept.append(event)
        elif kept:
            kept.pop()
    return kept


def _changed(judgement: Judgement, event: Event) -> Judgement:
    if event.field == "reasons":
        return replace(judgement, reasons=tuple(reason for reason in event.value or () if reason in REASONS))
    if event.field == "note":
        return replace(judgement, note=str(event.value or ""))
    answers = {**judgement.answers, event.field: str(event.value)}
    known = {question: answers[question] for question in QUESTIONS if answers.get(question) in QUESTIONS[question]}
    return replace(judgement, answers=known)


class ReviewLog:
    """One reviewer's file, open to be written by this process alone. Every change is on the disk when its method returns."""

    def __init__(self, state: Path, reviewer: str) -> None:
        """Raises UsageError for a name that can't be a file's, LocalError where the file can't be had."""
        if not NAME.fullmatch(reviewer):
            raise UsageError(f"{reviewer!r} can't be a reviewer's name: type --reviewer NAME, of letters, digits, . _ and -")
        self.reviewer = reviewer
        self._path = state / FOLDER / f"{reviewer}.jsonl"
        try:
            self._path.parent.mkdir(exist_ok=True)
            self._file = self._path.open("ab")
        except OSError as error:
            raise LocalError(f"{self._path}: {error.strerror}; reviews need a folder that you may write to") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise LocalError(f"{reviewer} is reviewing here already: end that page, or choose another --reviewer") from None
        self._drop_torn_line()
        self._events = _events(self._path)
        self.judgements: Judgements = judgements(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, pair_id: str, row: str, name: str, value: str | tuple[str, ...]) -> None:
        """Sets a question's answer, the `reasons` or the `note` of a row."""
        if isinstance(value, str):
            value = value[:MOST_NOTE]
        self._append(Event(at=_now(), pair_id=pair_id, row=row, field=name, value=value))

    def undo(self) -> Event | None:
        """Takes back the last click that is not taken back yet, also of an earlier session; None where there is none."""
        kept = standing(self._events)
        if not kept:
            return None
        self._append(Event(at=_now(), undo=True))
        return kept[-1]

    def _append(self, event: Event) -> None:
        line = event.model_dump_json(exclude_defaults=True).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise LocalError(f"{self._path}: {error.strerror}; the last click is not recorded") from None
        self._events.append(event)
        self.judgements = judgements(self._events)

    def _drop_torn_line(self) -> None:
        """A process that was killed while it wrote can leave half a line, which was never acknowledged."""
        content = self._path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.ftruncate(self._file.fileno(), content.rfind(b"\n") + 1)


def _events(path: Path) -> list[Event]:
    """The whole lines of a reviewer's file."""
    events = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            events.append(Event.model_validate_json(line))
        except ValidationError:
            raise LocalError(
                f"{path}: line {number} is no review: mend or delete that line, and type the command again"
            ) from None
    return events


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
