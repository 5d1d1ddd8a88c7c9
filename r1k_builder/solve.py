"""Template 2: the teacher reasons about a question and answers it. The request, and the reading of its reply.

Serves the reverse question, and the forward one where the source has no reasoning for it.
"""

import hashlib

from r1k_builder.config import TeacherConfig
from r1k_builder.final_answer import final_answer
from r1k_builder.reply import format_failure, holds_control_token, unusable
from r1k_builder.schema import Completion, Rejection, Request, Solution

# arXiv 2509.13079, A.1, verbatim; the line breaks inside a quoted string are the page's.
TEMPLATE = r""""role_definition":
"You are an AI model that is designed to generate solutions to a given question. All numerical answers must be explicitly marked with \boxed{}."

- Question: {question}

"instructions":
"Ensure your answer is absolutely correct and standard."

"expected_output":
Presents the complete and concise answer.
If the answer contains only one numerical value, it must be marked in the form of \boxed{}"""  # noqa: E501

PROMPT_VERSION = "paper-solve-" + hashlib.sha256(TEMPLATE.encode()).hexdigest()[:12]

_BEFORE, _AFTER = TEMPLATE.split("{question}")


def request(question: str, teacher: TeacherConfig, sample: int = 0) -> Request:
    """One user message: the template around the question, whose braces mean nothing to it."""
    return Request(
        stage="solve",
        messages=({"role": "user", "content": _BEFORE + question + _AFTER},),
        model=teacher.canonical_model,
        sampling=teacher.sampling,
        sample=sample,
    )


def parse(completion: Completion) -> Solution | Rejection:
    """Reasoning and answer to the character, with the final answer read out of the answer.

    Rejects what `unusable` does, and by the check `format`: `no-reasoning`, `control-token`.
    """
    if (rejection := unusable(completion)) is not None:
        return rejection
    reasoning, answer = completion.reasoning, completion.answer
    if reasoning is None or not reasoning.strip():
        return format_failure("no-reasoning")
    if holds_control_token(reasoning) or holds_control_token(answer):
        return format_failure("control-token")
    return Solution(reasoning=reasoning, answer=answer, final_answer=final_answer(answer))
