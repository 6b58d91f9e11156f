from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.rewards.expression import Params, RuleError, UnreadableError, read_expression, read_steps, score
from progrpo.types import Problem

PROBLEM = Problem(id="x", prompt="", answer="24", info={"numbers": [2, 3, 4, 10]})
LOOSE = Problem(id="x", prompt="", answer="24", info={"numbers": [2, 3, 4, 10], "min_used": 2})
STEPS = Problem(id="x", prompt="", answer="24", info={"numbers": [2, 3, 4, 10], "min_used": 3, "grammar": "steps"})


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("10*3-4-2", "correct"),
        (" ( 10 * 3 ) - 4 - 2 ", "correct"),
        ("10*3-(4+2)", "correct"),
        ("10*3-4-2\n", "correct"),
        ("10*3-4", "wrong"),  # leaves 2 out
        ("10+10+4", "wrong"),  # 10 twice
        ("10*3-4-2-0", "wrong"),  # 0 was not given
        ("10*(3-4)-2", "wrong"),  # 3-4 is not positive
        ("(3-2-1)*10", "wrong"),  # 0 is not positive
        ("10/4*2*3", "wrong"),  # 10/4 is not whole
        ("10/(2-2)", "wrong"),
        ("24", "wrong"),
        ("", "no_answer"),
        ("10*3-4-2=24", "no_answer"),
        ("10*3-4-", "no_answer"),
        ("(10*3-4-2", "no_answer"),
        ("2**3*(10-4-3)", "no_answer"),  # no powers
        ("10//3", "no_answer"),
        ("-2+10*3-4", "no_answer"),  # no unary minus
        ("9**9**9**9", "no_answer"),
        ("__import__('os').system('true')", "no_answer"),
        ("1_0*3-4-2", "no_answer"),
        ("0xA*3-4-2", "no_answer"),
        ("10.0*3-4-2", "no_answer"),
        ("\uff11\uff10*3-4-2", "no_answer"),  # full-width digits
        ("010*3-4-2", "no_answer"),
        ("(" * 200 + "1" + ")" * 20, "no_answer"),
        ("1+" * 200 + "1", "no_answer"),  # longer than 256 characters
        ("4(10-4)", "no_answer"),  # a call, in Python's grammar
        ("10,3", "no_answer"),
        ("()", "no_answer"),
    ],
)
def test_expressions(text: str, status: str) -> None:
    verdict = score(text, PROBLEM, Params())
    assert verdict.status == status
    assert verdict.reward == (1.0 if status == "correct" else 0.0)
    assert (verdict.canonical is not None) or status != "correct"
    assert verdict.detail or status == "correct"


def test_a_difference_of_zero_is_no_number_on_the_way() -> None:
    problem = replace(PROBLEM, answer="6", info={"numbers": [2, 2, 6]})
    verdict = score("2-2+6", problem, Params())
    assert (verdict.status, verdict.detail) == ("wrong", "2-2 is not a positive whole number")
    assert score("6-2+2", problem, Params()).status == "correct"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("10*3=30,30-4=26,26-2=24", "correct"),
        ("10*2=20,20+4=24", "correct"),  # three numbers are enough here
        (" 10*2 = 20 , 20+4 = 24 ", "correct"),
        ("2*3=6,4*6=24", "correct"),
        ("10-4=6,2*3=6,6*6=36", "wrong"),
        ("10*2=20,20+4=25", "wrong"),  # a false sum
        ("10*2=20,10+4=14", "wrong"),  # 10 is gone
        ("10*2=20,20+5=25", "wrong"),  # 5 was not given
        ("2-3=1,4*6=24", "wrong"),  # not positive
        ("10/4=2,2*3=6", "wrong"),  # not whole
        ("20+4=24", "wrong"),
        ("10+4=14,10-4=6", "wrong"),
        ("", "no_answer"),
        ("24", "no_answer"),
        ("10*2=20,", "no_answer"),
        ("10*2=20;20+4=24", "no_answer"),
        ("10*2=20,20+4", "no_answer"),
        ("10**2=100", "no_answer"),
        ("10*3-4=26,26-2=24", "no_answer"),
        ("1=1," * 200, "no_answer"),
    ],
)
def test_steps(text: str, status: str) -> None:
    assert score(text, STEPS, Params()).status == status


def test_steps_and_expression_share_the_canonical_form() -> None:
    written = score("10*3-(4+2)", PROBLEM, Params()).canonical
    assert written == "10*3-2-4"
    assert score("4+2=6,3*10=30,30-6=24", STEPS, Params()).canonical == written


def test_a_result_is_preferred_to_an_equal_number() -> None:
    # 3+3=6 with another 6 given: the 6 of the second step is the result, so all of 3 3 6 are used
    assert read_steps("3+3=6,6*6=36", [3, 3, 6]).leaves == (3, 3, 6)
    assert read_steps("3+3=6,6*2=12", [3, 3, 6, 2]).text == "(3+3)*2"


@pytest.mark.parametrize(
    ("text", "status"), [("10*2+4", "correct"), ("10*3-4-2", "correct"), ("3*4*2", "correct"), ("24", "wrong")]
)
def test_a_problem_may_allow_fewer_numbers(text: str, status: str) -> None:
    assert score(text, LOOSE, Params()).status == status


def test_tag_takes_the_last_one() -> None:
    params = Params(tag="answer")
    text = "maybe <answer>10+4</answer>, no: <answer>\n10*3-4-2 </answer> done"
    assert score(text, PROBLEM, params).status == "correct"
    assert score("10*3-4-2", PROBLEM, params).status == "no_answer"


def test_rewards_are_settings() -> None:
    params = Params(correct_reward=1.0, wrong_reward=-1.0)
    assert score("10*3-4-2", PROBLEM, params).reward == 1.0
    assert score("10", PROBLEM, params).reward == -1.0
    assert score("?", PROBLEM, params).reward == -1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1+2", "2+1"),
        ("1+(2+3)", "(3+1)+2"),
        ("9-(5-2)", "9+2-5"),
        ("9-5-2", "9-(2+5)"),
        ("8/(4/2)", "8*2/4"),
        ("8/4/2", "8/(2*4)"),
        ("(2-1)*(4-3)", "(4-3)*(2-1)"),
        ("8-7+7", "7+8-7"),
        ("3*(7-2)+5", "5+(7-2)*3"),
        ("6+6/3", "6/3+6"),
    ],
)
def test_equal_solutions_share_a_form(one: str, other: str) -> None:
    assert read_expression(one) == read_expression(other)
    assert read_expression(one).text == read_expression(other).text


@pytest.mark.parametrize(
    ("one", "other"),
    [("2*3", "2+4"), ("8*1", "8/1"), ("2+2", "2*2"), ("(1+2)*3", "1+2*3"), ("4*3", "12"), ("6/3*2", "6*2-3")],
)
def test_different_solutions_do_not(one: str, other: str) -> None:
    assert read_expression(one) != read_expression(other)


LEAVES = st.integers(1, 20).map(str)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_the_form_reads_as_itself_with_the_same_value(text: str) -> None:
    try:
        form = read_expression(text)
    except RuleError:
        return
    again = read_expression(form.text)
    assert (again.text, again.value, again.leaves) == (form.text, form.value, form.leaves)
    assert form.value == python_value(text)


def python_value(text: str) -> Fraction:
    """An independent evaluation: every number becomes a Fraction and Python does the rest (our own text only)."""
    import re

    return eval(re.sub(r"(\d+)", r"Fraction(\1)", text), {"Fraction": Fraction})


@pytest.mark.parametrize("text", ["", " ", "x", "1+", "1 2", "+1", "()", "1" * 300])
def test_unreadable(text: str) -> None:
    with pytest.raises(UnreadableError):
        read_expression(text)


@pytest.mark.parametrize("text", ["6/0", "4/(0*2)", "2+4/0"])
def test_division_by_zero_is_the_answer_s_fault(text: str) -> None:
    problem = Problem(id="p", prompt="", answer="6", info={"numbers": [6, 4, 2], "min_used": 2})
    assert score(text, problem, Params()).status == "wrong"


@pytest.mark.parametrize(
    ("answer", "info"),
    [
        ("x", {"numbers": [1, 2]}),
        (None, {"numbers": [1, 2]}),
        ("3", {}),
        ("3", {"numbers": [1, "2"]}),
        ("3", {"numbers": [1, 2], "min_used": "x"}),
    ],
)
def test_a_problem_that_cannot_be_judged_is_bad_gold(answer: str | None, info: dict[str, object]) -> None:
    assert score("1+2", Problem(id="p", prompt="", answer=answer, info=info), Params()).status == "bad_gold"
