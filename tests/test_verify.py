"""The checks: what each says, and that what can't be told is unknown."""

import pytest

from r1k_builder.schema import CHECKS, Rejection, Solution
from r1k_builder.verify import check_boxed, check_copy, rejection, verify_forward, verify_reverse


@pytest.mark.parametrize(
    ("answer", "final", "status"),
    [
        ("So it is \\boxed{4}.", "4", "pass"),
        ("42", None, "fail"),
        ("-3.5 m/s.", None, "fail"),
        ("1,200", None, "fail"),
        ("The cat sat on the mat.", None, "unknown"),
        ("An unclosed \\boxed{4", None, "unknown"),
        ("", None, "unknown"),
    ],
)
def test_boxed(answer: str, final: str | None, status: str) -> None:
    assert check_boxed(Solution("r", answer, final)).status == status


@pytest.mark.parametrize(
    ("reverse", "status"),
    [("What is x?", "fail"), ("what is X", "fail"), (" What   is\nx ? ", "fail"), ("Which x gives 4?", "pass")],
)
def test_copy(reverse: str, status: str) -> None:
    assert check_copy("What is x?", reverse).status == status


def test_every_verdict_names_every_check() -> None:
    for verdict in (
        verify_forward(Solution("r", "a", None)),
        verify_forward(Rejection("format", "empty-answer")),
        verify_reverse("q", "p", Solution("r", "a", None)),
        verify_reverse("q", None, Rejection("format", "no-new-question")),
    ):
        assert tuple(verdict) == CHECKS


def test_what_does_not_apply_is_not_run() -> None:
    assert verify_forward(Solution("r", "a", None))["copy"].status == "not-run"
    assert verify_reverse("q", None, Rejection("format", "x"))["copy"].status == "not-run"


def test_only_unusable_rows_are_rejected() -> None:
    assert rejection(verify_reverse("q", "p", Solution("r", "42", None))) is None, "a missing box annotates"
    refused = rejection(verify_reverse("same", "Same", Solution("r", "a", None)))
    assert refused is not None
    assert refused.check == "copy"
