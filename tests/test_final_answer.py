"""What counts as a final answer, and what does not."""

import pytest

from r1k_builder.final_answer import final_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"So \boxed{5}.", "5"),
        (r"First \boxed{3}, then \boxed{4}.", "4"),
        (r"\fbox{a b}", "a b"),
        (r"\boxed{3} or \fbox{4}", "4"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed {7}", "7"),
        ("\\boxed\n{7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{x = \}}", r"x = \}"),
        (r"\boxed{a \\}", r"a \\"),
        (r"\boxed{ $12$ }", "12"),
        (r"\boxed{$$x$$}", "x"),
        (r"\boxed{\$5}", r"\$5"),
        (r"\boxed{5\$}", r"5\$"),
        (r"\boxed{5\ }", r"5\ "),
        (r"\boxed{\text{No}}", r"\text{No}"),
        (r"\boxed 5", "5"),
        (r"\boxed 12.", "12"),
        (r"\boxed -3.5$", "-3.5"),
        (r"\boxed{2} is \boxed x", "x"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{3} and \boxed{4", "3"),
        (r"\boxed{3 and \boxed{4}", "4"),
        (r"{ \boxed{3} } }", "3"),
        (r"\\boxed{9}", "9"),
        (r"\\\boxed{9}", "9"),
        (r"\boxed{3} and then \boxed{}", "3"),
        (r"\boxed{B} although the answer is (C)", "B"),
        (r"\boxed{", None),
        (r"\boxed{}", None),
        (r"\boxed{ $ }", None),
        (r"marked with \boxed to show it", None),
        (r"\boxedly{3}", None),
        ("", None),
    ],
)
def test_the_last_closed_box_is_the_answer(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is (B).", "B"),
        ("The answer is B.", "B"),
        ("Answer: C", "C"),
        ("**Answer:** C", "C"),
        ("**Final Answer: D**", "D"),
        ("Answer: C) 5 m/s", "C"),
        ("The correct option is (E), because it is even.", "E"),
        ("The answer is option A.", "A"),
        ("The answer is $\\textbf{(D)}\\ 12$.", "D"),
        ("It falls.\n\n**(A) 2**", "A"),
        ("It falls.\n\n(D)", "D"),
        ("It falls.\n\n**C**", "C"),
        ("The answer is (A), since option (B) is wrong.", "A"),
        ("At first the answer is (A).\nNo: the answer is (C).", "C"),
        ("Answer: (A), (C)", None),
        ("The answer is A and C.", None),
        ("The answer is either (A) or (B).", None),
        ("Answer: A continuous map is closed.", None),
        ("Answer: I think so.", None),
        ("The answer is a prime.", None),
        ("The answer is 42.", None),
        ("(A) is therefore proved.", None),
        ("Options (A) and (B) remain.", None),
        ("The answer is (B).\n" + "But look closer. " * 60, None),
        ("The answer is B'.", None),
    ],
)
def test_a_choice_is_read_only_where_it_is_plainly_named(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [r"\boxed{", r"\boxed", "\\", r"\boxed{}", r"\boxed{$ ", "{", "}", "answer is ", "answer: A, ", "**(A) ", " ", "\n"],
)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    final_answer(r"\boxed{1} " + unit * (1_000_000 // len(unit)))
    final_answer(unit * (1_000_000 // len(unit)))
