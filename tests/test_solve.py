"""Template 2 as it is sent, and its reply as it is read."""

from pathlib import Path

import pytest

from r1k_builder.config import TeacherConfig
from r1k_builder.schema import Completion, Rejection, Solution
from r1k_builder.solve import PROMPT_VERSION, parse, request

QUESTION = "What speed must a 2 kg cart have for its kinetic energy to be 9 J?\n\n\tTake $\\frac{1}{2}mv^{2}$; {not a field}."
TEACHER = TeacherConfig(temperature=None)


def completion(
    answer: str, reasoning: str | None = "a", finish_reason: str | None = "stop", rule: str = "reasoning"
) -> Completion:
    return Completion(
        key="k",
        reasoning=reasoning,
        answer=answer,
        reasoning_in=rule,
        finish_reason=finish_reason,
        requested_model="m",
        model="m",
        host="h",
    )


def test_the_message_is_the_papers_to_the_byte() -> None:
    (message,) = request(QUESTION, TEACHER).messages
    golden = (Path(__file__).parent / "golden" / "solve.txt").read_bytes()
    assert message == {"role": "user", "content": golden.decode()}
    assert PROMPT_VERSION == "paper-solve-5158389c5a27"


def test_the_request_names_the_canonical_model_and_the_sampling_as_sent() -> None:
    asked = request(QUESTION, TEACHER, sample=2)
    assert (asked.stage, asked.model, asked.sample) == ("solve", "deepseek-r1", 2)
    assert asked.sampling == {"top_p": 0.95, "max_tokens": 32768}
    assert asked.key == request(QUESTION, TEACHER, sample=2).key != request(QUESTION, TEACHER).key


@pytest.mark.parametrize("question", ["{question}", "{answer} {0} %s {question!r}", "\\boxed{} }{", ""])
def test_a_questions_braces_are_text(question: str) -> None:
    content = request(question, TEACHER).messages[0]["content"]
    assert content == request("@@", TEACHER).messages[0]["content"].replace("@@", question)


def test_reasoning_and_answer_are_kept_to_the_character() -> None:
    reasoning, answer = "\n First,\r\n\tv² = 9. \n", "\n\nIt is $\\boxed{3}$ m/s. \n"
    assert parse(completion(answer, reasoning)) == Solution(reasoning, answer, "3")


def test_an_answer_without_a_final_answer_is_still_a_solution() -> None:
    assert parse(completion("It is proved.")) == Solution("a", "It is proved.", None)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (completion("b", None, rule="none"), "no-reasoning"),
        (completion("b", " \n"), "no-reasoning"),
        (completion("", "a", rule="unclosed-think"), "truncated: unclosed think"),
        (completion("b", finish_reason="length"), "truncated: finish_reason length"),
        (completion(" "), "empty-answer"),
        (completion("b<|im_end|>"), "control-token"),
        (completion("b", "a <think> c"), "control-token"),
        (completion("b", finish_reason="insufficient_system_resource"), "finish_reason: insufficient_system_resource"),
    ],
)
def test_what_can_not_be_used_is_named_and_asked_again(reply: Completion, reason: str) -> None:
    assert parse(reply) == Rejection("format", reason, retry=True)


def test_a_filtered_answer_is_not_asked_again() -> None:
    assert parse(completion("", finish_reason="content_filter")) == Rejection(
        "refused-by-host", "finish_reason: content_filter"
    )
