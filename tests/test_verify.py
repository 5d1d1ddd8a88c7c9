"""A row's checks: what each says of invented rows, of good ones, and of hostile text."""

import time
from collections import Counter
from functools import cache
from itertools import islice

import pytest

from r1k_builder import invert, solve
from r1k_builder.config import TeacherConfig
from r1k_builder.embedded import answer, rows
from r1k_builder.final_answer import final_answer
from r1k_builder.schema import CHECKS, Completion, ForwardExample, Rejection, Request, ReverseQuestion, Solution, Verdict
from r1k_builder.verify import REJECTING, rejection
from r1k_builder.verify.degenerate import check_degenerate
from r1k_builder.verify.intact import check_intact
from r1k_builder.verify.response import check_boxed, check_format, check_hedged
from tests.checked import verify_forward, verify_reverse

SOURCE = ForwardExample(question="What is 2 + 3?", solution="5", reasoning="Two and three make 5.", answer="It is \\boxed{5}.")
ASKED = ReverseQuestion("Which number plus 3 gives 5?", "2")
SOLVED = Solution("Taking 3 from 5 leaves 2.", "It is \\boxed{2}.", "2")


def solution(text: str, reasoning: str = "So it is.") -> Solution:
    return Solution(reasoning, text, final_answer(text))


# ------------------------------------------------------------------------------------------------------------ verdicts

ROW_CHECKS = {"format", "boxed", "copy", "intact", "reversed", "hedged", "agreement", "degenerate"}
"""Those that need one row and nothing else."""


def test_every_verdict_names_every_check_in_order() -> None:
    for verdict in (
        verify_forward(SOURCE, SOLVED),
        verify_forward(SOURCE, Rejection("format", "empty-answer")),
        verify_reverse(SOURCE, ASKED, SOLVED),
        verify_reverse(SOURCE, None, Rejection("format", "no-new-question")),
    ):
        assert tuple(verdict) == CHECKS
        assert all(result.reason is None or 0 < len(result.reason) <= 200 for result in verdict.values())


def test_what_does_not_apply_is_not_run() -> None:
    def run(verdict: Verdict) -> set[str]:
        return {name for name, result in verdict.items() if result.status != "not-run"}

    assert run(verify_forward(SOURCE, SOLVED)) == ROW_CHECKS - {"copy", "reversed", "hedged"}
    assert run(verify_forward(SOURCE, Rejection("format", "x"))) == {"format"}
    assert run(verify_reverse(SOURCE, ASKED, SOLVED)) == ROW_CHECKS
    assert run(verify_reverse(SOURCE, ASKED, Rejection("format", "x"))) == {"format", "copy"}
    assert run(verify_reverse(SOURCE, None, Rejection("format", "x"))) == {"format"}


def test_a_good_row_passes_everything() -> None:
    verdict = verify_reverse(SOURCE, ASKED, SOLVED, "Solve: " + ASKED.question)
    assert {name for name, result in verdict.items() if result.status == "pass"} == ROW_CHECKS


def test_only_format_and_copy_make_a_row_unusable() -> None:
    hedging = "I guess, and I assume, but it is unclear, I am not sure, it is not given, so I settle on"
    bad = verify_reverse(
        SOURCE, ReverseQuestion("How much is the sum of 2 and 3?", "6"), Solution(hedging, "It is \\( \\boxed{5}.", "5")
    )
    assert {"intact", "reversed", "hedged"} <= {name for name, result in bad.items() if result.status == "fail"}
    assert rejection(bad) is None
    copied = rejection(verify_reverse(SOURCE, ReverseQuestion("what is 2+3", "5"), SOLVED))
    assert copied is not None
    assert copied.check == "copy"
    unread = rejection(verify_forward(SOURCE, Rejection("format", "empty-answer")))
    assert unread == Rejection("format", "empty-answer")
    assert set(REJECTING) <= set(CHECKS)


def test_a_check_is_a_pure_function_of_the_row() -> None:
    assert verify_reverse(SOURCE, ASKED, SOLVED) == verify_reverse(SOURCE, ASKED, SOLVED)


# -------------------------------------------------------------------------------------------------------------- format


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (SOLVED, "pass"),
        (Rejection("format", "truncated: finish_reason length"), "fail"),
        (Solution("", "It is 4.", None), "fail"),
        (Solution("So.", " \n", None), "fail"),
        (Solution("So.", "It is 4.<|im_end|>", None), "fail"),
        (Solution("So </think> it is.", "4", None), "fail"),
        (Solution("So [/INST] it is.", "4", None), "fail"),
        (Solution("If a < b | c > d, I think> so.", "4", None), "pass"),
        (Solution("Let A = <u, v>.", "\\boxed{4}", "4"), "pass"),
    ],
)
def test_format(reply: Solution | Rejection, status: str) -> None:
    assert check_format(reply).status == status


# --------------------------------------------------------------------------------------------------------------- boxed


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("So it is \\boxed{4}.", "pass"),
        ("\\boxed{\\text{odd}}", "pass"),
        ("42", "fail"),
        ("-3.5 m/s.", "fail"),
        ("1,200", "fail"),
        ("Adding them gives the total.\n\n**Answer:** 42", "fail"),
        ("There are many ways. The answer is 3/4.", "fail"),
        ("We divide both sides by two and find **17**.", "fail"),
        ("The cat sat on the mat.", "unknown"),
        ("It lies between 3 and 5.", "unknown"),
        ("The answer is (B).", "unknown"),
        ("An unclosed \\boxed{4", "unknown"),
        ("", "unknown"),
    ],
)
def test_boxed(text: str, status: str) -> None:
    assert check_boxed(solution(text)).status == status


# -------------------------------------------------------------------------------------------------------------- intact

PROSE = "The wheel turns twice. Then it stops."


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        (PROSE, None),
        ("x" * 32_766 + ".", "32,767"),
        ("a" * 65_534 + ".", "65,535"),
        ("x" * 32_765 + ".", None),
        ("First\n\\\nThen\n  \\  \nDone.", "2 lines of a lone backslash"),
        ("Rows:\n\\begin{matrix} 1 \\\\\n2 \\end{matrix}\nDone.", None),
        ("We get \\left_{0}^{1} and so on.", "lacks its bracket"),
        ("We get \\left[ x \\right]_{0}^{1}, \\left\\{ y \\right. and a \\leftarrow b.", None),
        ("We get \\left( x and so on.", "1 \\left and 0 \\right"),
        ("Take \\( x + 1. Then square.", "unbalanced"),
        ("Take \\( x + 1 \\). Then square it: \\[ y \\].", None),
        ("\\begin{align} x \\end{align} \\begin{align} y.", "unbalanced"),
        ("The sum is $$ x + y. Then stop.", "$$"),
        ("Tea costs $2 and coffee $3.50.", None),
        ("```python\nprint(1)\n", "code fence"),
        ("```python\nprint(1)\n```", None),
        ("It is \\boxed{\\frac{1}{2}.", "a brace"),
        ("The set \\{1, 2\\} is \\boxed{\\{1\\}}.", None),
        ("The wheel turns twice. Then it stops and the", "mid-sentence"),
        ("The wheel turns twice. Then we have x =", "mid-sentence"),
        ("The wheel turns twice. It depends on speed,", "mid-sentence"),
        ("The wheel turns twice. Then the brake slows everything down", "mid-sentence"),
        ("The wheel turns; the whe", "middle of a word"),
        ("Turning the wheel, one whee", "middle of a word"),
        ("**Answer:** the red wheel", None),
        ("It turns. So the answer is the red wheel", None),
        ("It turns.\n\n- the red wheel\n- the blue wheel", None),
        ("It turns.\n\n---", None),
        ("It turns by 40", None),
        ("它转动。然后停下", None),
        ("Nova Scotia", None),
    ],
)
def test_intact_answer(text: str, sign: str | None) -> None:
    result = check_intact(None, Solution("So it turns.", text, None))
    assert result.status == ("fail" if sign else "pass"), result.reason
    assert sign is None or sign in str(result.reason)


@pytest.mark.parametrize(
    ("reasoning", "final", "sign"),
    [
        ("First 3 × 4 = 12. Then 12 + 5", "17", "ends before its result"),
        ("First 3 × 4 = 12. Then 12 + 5 = 17", "17", None),
        ("First 3 × 4 = 12, which takes a while.", "17", "ends before its result"),
        ("Let me see.", "17", None),
        ("I worked the product out and checked it twice.", "17", None),
        ("The share is 0.25 of it", "25%", None),
        ("It comes to 3.14159", "3.14", None),
        ("There are seven of them", "7", None),
        ("The sum is 1,700", "1700", None),
        ("No numbers here", "\\text{red}", None),
    ],
)
def test_intact_reasoning_comes_to_its_result(reasoning: str, final: str, sign: str | None) -> None:
    result = check_intact(None, solution(f"It is \\boxed{{{final}}}.", reasoning))
    assert result.status == ("fail" if sign else "pass"), result.reason


@pytest.mark.parametrize(
    ("question", "sign"),
    [
        ("What is the mass of a car that weighs 100 N?", None),
        ("A car weighs 100 N. Find the mass of the car.", None),
        ("For a car, the weight is 100 N and the accel", "before it asks"),
        ("For a car, the weight is 100 N. Determine the", "mid-sentence"),
        ("Simplify the fraction of x over the square of x", None),
        ("Is it true that all cars have a mass?", None),
        ("Ein Auto wiegt 100 N und rollt über den Hof", None),
        ("Red cars only", None),
    ],
)
def test_intact_question(question: str, sign: str | None) -> None:
    result = check_intact(question, SOLVED)
    assert result.status == ("fail" if sign else "pass"), result.reason
    assert sign is None or sign in str(result.reason)


@pytest.mark.parametrize(
    ("answer", "expected", "status"),
    [
        ("The acceleration is \\boxed{7}", "7 m/s²", "fail"),
        ("The acceleration is \\boxed{7} m/s².", "7 m/s²", "pass"),
        ("The ratio is \\boxed{7}", "7", "pass"),
        ("The final answer is $\\boxed{7}$", "7 m/s²", "pass"),
        ("**Final answer**\n\\boxed{7}", "7 m/s²", "pass"),
    ],
)
def test_an_answer_that_ends_before_its_unit(answer: str, expected: str, status: str) -> None:
    assert check_intact("What is it?", Solution("14 / 2 = 7", answer, "7"), None, expected).status == status


def test_intact_prompt_holds_the_question() -> None:
    assert check_intact("What is \\sqrt[3]{8} + 1?", SOLVED, "Solve: What is \\sqrt[3]{8} + 1? Be brief.").status == "pass"
    damaged = check_intact("What is \\sqrt[3]{8} + 1?", SOLVED, "Solve: What is \\sqrt{8} + 1? Be brief.")
    assert (damaged.status, damaged.reason) == ("fail", "the prompt does not hold the question")


# -------------------------------------------------------------------------------------------------------------- hedged


@pytest.mark.parametrize(
    ("reasoning", "status", "named"),
    [
        ("Wait, maybe. Hmm, perhaps it is 4. Alternatively 5. I think 4.", "pass", None),
        ("Let me assume that n is even. Assume too that m is odd.", "pass", "2 doubts (the first at 12 %): assume 2"),
        ("I'm not sure.", "pass", "1 doubt (the first at 30 %): not sure 1"),
        ("It isn’t given. It doesn't specify. I guess. Ambiguous! I'll settle on 4.", "fail", "5 doubts"),
        ("GUESS " * 5, "fail", "5 doubts (the first at 0 %): guess 5"),
        ("guess " * 4, "pass", "4 doubts"),
    ],
)
def test_hedged(reasoning: str, status: str, named: str | None) -> None:
    result = check_hedged(Solution(reasoning, "4", None))
    assert result.status == status
    assert (result.reason is None) if named is None else str(result.reason).startswith(named)


# ---------------------------------------------------------------------------------------------------------- degenerate

CHAIN = "\n".join(f"Step {n}: {n} squared is {n * n}, so that with {n + 7} it makes {n * n + n + 7}." for n in range(200))


@pytest.mark.parametrize(
    ("reasoning", "sign"),
    [
        (CHAIN, None),
        (CHAIN + " I should check that again, and then once more." * 100, "a loop at byte"),
        (CHAIN + "\n" + CHAIN[:900], None),
        ("All is well. " * 100, "a loop"),
        ("na" * 2000, "a loop"),
        ("So.\n" + "12 / 4 = 3\n" * 4, "4 times 12 / 4 = 3"),
        ("So.\n" + "12 / 4 = 3\n" * 3, None),
        ("First this is so. Then that. " * 6, "6 times First this is so."),
        ("We add the two. 所以我们得到答案。 That is 4.", "another script"),
        ("We add the two. 因此 it is 4.", "another script"),
        ("We add the two. Таким образом, it is 4.", "another script"),
        ("We add the two. لذلك it is 4.", "another script"),
        ("With α, β, Γ, ∑, ∫, √2, ℏ, ≤ and é, ü, ñ it is 4 °C → 5 µm. Ш is a group.", None),
        ("x" * 400_001, "400,001 characters"),
        ("", None),
    ],
)
def test_degenerate(reasoning: str, sign: str | None) -> None:
    result = check_degenerate("What is 2 + 2?", Solution(reasoning, "It is \\boxed{4}.", "4"))
    assert result.status == ("fail" if sign else "pass"), result.reason
    assert sign is None or sign in str(result.reason)


def test_the_script_of_the_question_is_no_switch() -> None:
    assert check_degenerate("二加二等于多少？", Solution("二加二等于四，所以答案是四。", "\\boxed{4}", "4")).status == "pass"


def test_answers_and_questions_have_their_limits() -> None:
    assert check_degenerate("x" * 20_001, SOLVED).status == "fail"
    assert check_degenerate("x", solution("x" * 100_001)).status == "fail"


# ---------------------------------------------------------------------------------------------------------- good rows

TEACHER = TeacherConfig(preset="embedded")


def reply(request: Request) -> Completion:
    """What the embedded teacher answers."""
    said = answer(request.messages[0]["content"])
    return Completion(
        key=request.key,
        reasoning=said.reasoning,
        answer=said.content,
        reasoning_in="reasoning_content",
        finish_reason="stop",
        requested_model="m",
        model="m",
        host="h",
        raw_text=said.content,
    )


@cache
def bank(count: int = 360) -> list[tuple[ForwardExample, ReverseQuestion, Solution, str]]:
    """Rows of the embedded bank, really inverted and solved, with the prompt of template 2."""
    made = []
    for example in islice(rows(seed=11), count):
        asked = invert.parse(reply(invert.request(example, TEACHER)))
        assert isinstance(asked, ReverseQuestion)
        request = solve.request(asked.question, TEACHER)
        solved = solve.parse(reply(request))
        assert isinstance(solved, Solution)
        made.append((example, asked, solved, request.messages[0]["content"]))
    return made


def test_no_check_fails_a_good_row() -> None:
    verdicts = [verify_reverse(*row) for row in bank()]
    assert len(verdicts) >= 300
    failed = [(name, result) for verdict in verdicts for name, result in verdict.items() if result.status == "fail"]
    assert failed == []
    assert sum(verdict["reversed"].status == "pass" for verdict in verdicts) >= 0.95 * len(verdicts)
    assert sum(verdict["agreement"].status == "pass" for verdict in verdicts) >= 0.95 * len(verdicts)


def test_no_check_fails_a_good_forward_row() -> None:
    for example, *_ in bank():
        assert example.reasoning is not None
        assert example.answer is not None
        verdict = verify_forward(example, solution(example.answer, example.reasoning))
        assert {result.status for result in verdict.values()} == {"pass", "not-run"}


def test_rows_of_another_pair_are_found() -> None:
    shifted = [verify_reverse(bank()[place - 7][0], *row[1:])["reversed"].status for place, row in enumerate(bank())]
    assert Counter(shifted)["fail"] >= 0.95 * len(shifted)


def test_the_forward_question_in_other_words_is_found() -> None:
    """What the bank's inversion of an inversion asks is the first unknown again."""
    for example, asked, _, _ in bank(100):
        again = ReverseQuestion(f"Please tell me this. {example.question}", example.solution)
        solved = solution(str(example.answer), str(example.reasoning))
        assert verify_reverse(example, again, solved)["reversed"].status == "fail"
        leaked = ReverseQuestion(f"{asked.question} (The answer is {asked.answer}.)", asked.answer)
        assert verify_reverse(example, leaked, solved)["reversed"].status == "fail"


def test_a_wrong_answer_is_found() -> None:
    for example, asked, solved, prompt in bank(100):
        wrong = solved.answer.replace(f"{{{solved.final_answer}}}", "{-7654}")
        assert verify_reverse(example, asked, solution(wrong, solved.reasoning), prompt)["agreement"].status == "fail"


# ------------------------------------------------------------------------------------------------------------- hostile

SIZE = 1_000_000
HOSTILE = [
    *(sign * SIZE for sign in ("a", " ", "\n", "(", "{", "$", "\\", "*", "-", "1", ".", "\0", "所")),
    *(
        part * (SIZE // len(part))
        for part in (
            "\\left",
            "\\boxed{",
            "\\boxed{1} ",
            "\\frac{1}{2}",
            "1,234",
            "5% ",
            "3 \\times 10^{5} ",
            "9^{",
            "\\sqrt",
            "what ",
            "answer: ",
            "\n(A) x (B) y (C) z",
            "```\n",
            "A, ",
            "$$x",
            "**a",
            "<script>alert(1)</script>",
            "{0}%s{x!r}",
            "\ud800 ",
            "if ",
            "<think",
        )
    ),
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
def test_hostile_text_ends_as_a_verdict(text: str) -> None:
    """A pattern of quadratic time would take hours."""
    began = time.process_time()
    everywhere = ForwardExample(question=text, solution=text, reasoning=text, answer=text)
    for cut in (200, 19_000, SIZE):
        solved = Solution(text[:cut], text[:cut], text[:cut])
        verdicts = [
            verify_reverse(everywhere, ReverseQuestion(text[:cut], text[:cut]), solved, text),
            verify_reverse(SOURCE, ASKED, solved),
            verify_forward(everywhere, solved),
        ]
        for verdict in verdicts:
            assert tuple(verdict) == CHECKS
            for result in verdict.values():
                assert result.reason is None or (
                    len(result.reason) <= 200 and result.reason.encode() and result.reason.isprintable()
                )
    assert time.process_time() - began < 20


def test_ten_megabytes_take_seconds() -> None:
    text = "So we get \\( x = 3 \\), and (A) 4 is what 5% of it gives, I guess. " * 150_000
    began = time.process_time()
    verdict = verify_reverse(SOURCE, ReverseQuestion(text[:900_000], "2"), Solution(text, text, None))
    assert verdict["degenerate"].status == "fail"
    assert time.process_time() - began < 20
