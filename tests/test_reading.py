"""What a response says: its parts, its final answer, its letter."""

import pytest

from r1k_train.reading import MISSING, choice, final_answer, split


@pytest.mark.parametrize(
    ("text", "answer", "finished"),
    [
        ("<think>\nabc\n</think>\n\nIt is 5.", "It is 5.", True),
        ("abc\n</think>\n\nIt is 5.", "It is 5.", True),  # the template opened the reasoning
        ("<think>\nabc </think> again </think> It is 5.", "It is 5.", True),
        ("<think>\nso \\boxed{5} and", "", False),
        ("<|im_start|>think\nabc\n<|im_start|>answer\nAnswer: 5", "Answer: 5", True),
        ("think\nabc\nanswer\nAnswer: 5", "Answer: 5", True),
        ("think\nabc, no end", "", False),
        ("I think\nIt is 5.", "I think\nIt is 5.", True),
        ("It is 5.", "It is 5.", True),
        ("", "", False),
        (MISSING, "", False),
    ],
)
def test_split(text: str, answer: str, finished: bool) -> None:
    response = split(text)
    assert response.answer == answer
    assert response.finished is finished


def test_another_reasoning_end() -> None:
    assert split("abc[/THINK]5", "[/THINK]").answer == "5"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"So \boxed{5}.", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {\left\{ 1, 2 \right\}}", r"\left\{ 1, 2 \right\}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\fbox{7}", "7"),
        (r"\boxed 5", "5"),
        (r"$\boxed5$", "5"),
        (r"\boxed{ 12 }", "12"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{1} is wrong; it is \boxed{2}", "2"),
        (r"$\boxed{3}$ and $\boxed{5}$", "3, 5"),
        (r"$x = \boxed{3}$, $y = \boxed{5}$.", "3, 5"),
        (r"\boxed{4} and so \boxed{4}", "4"),
        (r"\boxed{4}, \boxed{4}", "4"),
        (r"\boxed{} \boxed{9}", "9"),
        (r"\boxed{unclosed", None),
        (r"\boxedfoo{3}", None),
        ("Answer: 12", "12"),
        ("**Answer:** $12$", "12"),
        ("**Final Answer**: 12.", "12"),
        ("The answer is $\\frac{1}{2}$.", r"\frac{1}{2}"),
        ("The final answer is: **7**", "7"),
        ("Answer:\n\n42", "42"),
        ("Answer: 3\nAnswer: 4", "4"),
        ("the answer is the angle $30^\\circ$.", r"30^\circ"),
        ("Adding up gives\n$$x^2$$", "x^2"),
        ("We get\n12.", "12"),
        ("We get\n\\(12\\)", "12"),
        ("I do not know.", None),
        ("There are 12 of them, I believe.", None),
        ("", None),
    ],
)
def test_final_answer(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


CHOICES = ("10 m", "20 m", "A star", "none of these")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{C}", "C"),
        (r"\boxed{\text{C}}", "C"),
        (r"\boxed{\textbf{(C)}}", "C"),
        (r"\boxed{(b)}", "B"),
        (r"\boxed{c}", "C"),
        (r"\boxed{D) 5 m}", "D"),
        (r"\boxed{B. 20 m}", "B"),
        (r"\boxed{\text{Option B}}", "B"),
        (r"\boxed{20 m}", "B"),
        (r"\boxed{20\text{ m}}", "B"),
        (r"\boxed{A star}", "C"),
        (r"\boxed{A}", "A"),
        ("Answer: B", "B"),
        ("**Answer: (B)**", "B"),
        ("The answer is (D).", "D"),
        ("The correct answer is **D**", "D"),
        ("the answer is option C: it holds", "C"),
        ("Therefore\n(A)", "A"),
        ("Therefore\n**D**", "D"),
        (r"\boxed{A or B}", None),
        (r"\boxed{A, B}", None),
        (r"\boxed{17}", None),
        ("A careful reading shows nothing.", None),
        ("The answer is a number that I can't find.", None),
        ("", None),
    ],
)
def test_choice(text: str, expected: str | None) -> None:
    assert choice(text, CHOICES) == expected


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{" * 20_000, None),
        ("{" * 50_000 + "\\boxed{1}", "1"),
        ("answer is " * 20_000, "answer is"),
        ("$" * 50_000, None),
        ("\\boxed{1} " * 5_000, "1"),
        ("and " * 50_000, None),
    ],
    ids=["open-boxes", "braces", "answers", "dollars", "boxes", "words"],
)
def test_nothing_takes_long(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected
    assert choice(text, CHOICES) is None
