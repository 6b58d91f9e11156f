import pytest

from progrpo.rewards.math import Params, extract, score
from progrpo.types import Problem


@pytest.mark.parametrize(
    ("gold", "text", "status"),
    [
        ("34", r"so it is \boxed{34}.", "correct"),
        ("34", r"\boxed{34.0}", "correct"),
        ("34", r"\boxed{034}", "correct"),
        ("34", r"\boxed{$34$}", "correct"),
        ("34", "Answer: 34", "correct"),
        ("34", "answer : $34$.", "correct"),
        ("34", "**Answer:** 34", "correct"),
        ("34", r"\boxed{35}", "wrong"),
        ("34", "it is 34", "no_answer"),
        ("34", "", "no_answer"),
        ("34", r"\boxed{34", "no_answer"),  # never closed
        ("34", r"\boxed{33} no: \boxed{34}", "correct"),  # the last box
        ("1234", r"\boxed{1}. Hmm, \boxed{234}", "wrong"),  # Math-Verify alone joins the two
        ("34", r"<think>\boxed{34}</think> \boxed{35}", "wrong"),
        ("34", r"\boxed{34}</think> nothing", "no_answer"),
        (r"\frac{1}{2}", r"\boxed{0.5}", "correct"),
        (r"\frac{1}{2}", r"\boxed{\dfrac{2}{4}}", "correct"),
        (r"\frac{1}{2}", r"\boxed{\frac{1}{3}}", "wrong"),
        ("4.4e7", r"\boxed{4.4 \times 10^7}", "correct"),  # Math-Verify alone reads 4.4 * e * 7
        ("44000000", r"\boxed{4.4e7}", "correct"),
        (r"\sqrt{8}", r"\boxed{2\sqrt{2}}", "correct"),
        ("(1,2)", r"\boxed{(1, 2)}", "correct"),
        ("(1,2)", r"\boxed{(2, 1)}", "wrong"),
        (r"\{1,2\}", r"\boxed{\{2, 1\}}", "correct"),
        ("", r"\boxed{1}", "bad_gold"),
        ("x", r"\boxed{" + "1" * 600 + "}", "wrong"),  # longer than max_characters
    ],
)
def test_table(gold: str, text: str, status: str) -> None:
    problem = Problem(id="x", prompt="", answer=gold)
    assert score(text, problem, Params()).status == status


def test_answer_line_can_be_switched_off() -> None:
    assert extract("Answer: 3", answer_line=False) is None


def test_only_the_end_of_a_long_text_counts() -> None:
    assert extract(r"\boxed{1}" + " x" * 4000) is None


def test_rewards_are_settings() -> None:
    problem = Problem(id="x", prompt="", answer="1")
    params = Params(correct_reward=1.0, wrong_reward=-1.0)
    assert score(r"\boxed{1}", problem, params).reward == 1.0
    assert score("nothing", problem, params).reward == -1.0
