"""Template 1 as it is sent, and its replies as they are read (tests/replies: NAME.txt, and NAME.json for what it yields)."""

import json
from pathlib import Path

import pytest

from r1k_builder.config import TeacherConfig
from r1k_builder.invert import MOST_CHARACTERS, PROMPT_VERSION, parse, request
from r1k_builder.schema import Completion, ForwardExample, Rejection, ReverseQuestion

REPLIES = sorted((Path(__file__).parent / "replies").glob("*.txt"))
EXAMPLE = ForwardExample(
    question="A 2 kg cart moves at 3 m/s.\nWhat is its kinetic energy? Ignore {answer} and {0}.",
    solution="With $E = \\frac{1}{2}mv^{2}$ it is\n\n$$\\boxed{9}\\text{ J}.$$\n{question}",
)


def completion(answer: str, finish_reason: str | None = "stop") -> Completion:
    return Completion(
        key="k",
        reasoning="a",
        answer=answer,
        reasoning_in="reasoning",
        finish_reason=finish_reason,
        requested_model="m",
        model="m",
        host="h",
    )


def read(answer: str) -> dict[str, str]:
    parsed = parse(completion(answer))
    if isinstance(parsed, Rejection):
        assert (parsed.check, parsed.retry) == ("format", True)
        return {"rejected": parsed.reason}
    return {"question": parsed.question, "answer": parsed.answer}


def test_the_message_is_the_papers_to_the_byte() -> None:
    (message,) = request(EXAMPLE, TeacherConfig()).messages
    golden = (Path(__file__).parent / "golden" / "invert.txt").read_bytes()
    assert message == {"role": "user", "content": golden.decode()}
    assert PROMPT_VERSION == "paper-invert-0b82a81636eb"


def test_the_request_names_the_canonical_model_and_the_sampling_as_sent() -> None:
    asked = request(EXAMPLE, TeacherConfig(), sample=1)
    assert (asked.stage, asked.model, asked.sample) == ("invert", "deepseek-r1", 1)
    assert asked.sampling == {"temperature": 0.6, "top_p": 0.95, "max_tokens": 32768}
    assert asked.key == request(EXAMPLE, TeacherConfig(), sample=1).key != request(EXAMPLE, TeacherConfig()).key


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_every_reply_shape_yields_what_its_file_says(path: Path) -> None:
    assert read(path.read_bytes().decode()) == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def test_there_are_reply_shapes_for_all_reasons() -> None:
    outcomes = [json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) for path in REPLIES]
    assert len(REPLIES) >= 45
    assert {outcome["rejected"] for outcome in outcomes if "rejected" in outcome} == {
        "no-new-question",
        "empty-new-question",
        "empty-answer",
        "refusal",
        "control-token",
    }


@pytest.mark.parametrize(
    ("finish_reason", "rejection"),
    [
        ("length", Rejection("format", "truncated: finish_reason length", retry=True)),
        ("aborted", Rejection("format", "finish_reason: aborted", retry=True)),
        (None, Rejection("format", "finish_reason: none", retry=True)),
        ("content_filter", Rejection("refused-by-host", "finish_reason: content_filter")),
    ],
)
def test_only_a_finished_reply_is_read(finish_reason: str | None, rejection: Rejection) -> None:
    assert parse(completion("New Question: Why?\nNew Answer: So.", finish_reason)) == rejection


LABELS = [
    "{}:",
    "**{}:**",
    "**{}**:",
    "__{}:__",
    "*{}:*",
    "<b>{}:</b>",
    "`{}`:",
    '"{}":',
    "{} :",
    "{}：",
    "[{}]:",
    "{} (final):",
]
LEADS = ["", "- ", "* ", "1. ", "2) ", "### ", "• ", "🔹 "]
QUESTIONS = [
    "Which $x$ solves $\\frac{x}{2} = 3$?",
    'Which word does "in remix" turn into {a, b}?',
    "If\n$$\n\\sum_{k=1}^{n} k = 55,\n$$\nwhat is $n$?\n\n1. Take $n > 0$.\n2. Answer in words.",
]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("gap", [" ", "\n", "\n\n", "  \r\n"])
def test_labels_leads_and_line_breaks_combine(label: str, lead: str, gap: str) -> None:
    for question in QUESTIONS:
        reply = f"{lead}{label.format('New Question')}{gap}{question}\n\n{lead}{label.format('New Answer')}{gap}It is so.\n"
        assert read(reply) == {"question": question, "answer": "It is so."}


def test_a_long_question_between_talk_is_kept_to_the_character() -> None:
    question = "What is " + " + ".join(f"$\\frac{{{n}}}{{{n + 1}}}$" for n in range(20_000)) + "?"
    reply = f"Let me think.\n\n**New Question:** {question}\n\n**New Answer:** A sum.\n\n---\nDone."
    assert parse(completion(reply)) == ReverseQuestion(question, "A sum.")


UNITS = ["a", "\n", " ", "*", ">\n", "```\n", "---\n", "\\", '"', "<br>", "\\n", "新", "New Question", "New Question: a\n"]
UNITS += ["New Answer: b ", "answer:", "Explanation: c\n", "<new_question>", '"New Question": "a', '{"New Question": "\\frac" ']
UNITS += [
    "| New Question | New Answer |\n",
    "New Question (",
    "“",
    "[your question ",
    "<|im_",
    "> New Question: a\n",
    "_ _",
    "\u2028",
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", UNITS)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    many = unit * (200_000 // len(unit))
    for reply in (many, "New Question: " + many, f"New Question: {many}\nNew Answer: {many}", '{"New Question": "' + many):
        parse(completion(reply))


def test_a_reply_too_long_to_be_a_question_is_not_searched() -> None:
    long = "New Question: why?\n" * (MOST_CHARACTERS // 19 + 1)
    assert parse(completion(long)) == Rejection(check="format", reason="too-long", retry=True)
    assert isinstance(parse(completion(long[: MOST_CHARACTERS // 19 * 19])), ReverseQuestion)
