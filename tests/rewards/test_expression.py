from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.rewards.expression import ExpressionError, Params, canonical_form, parse_expression, score
from progrpo.types import Problem

PROBLEM = Problem(id="x", prompt="", answer="24", info={"numbers": [2, 3, 4, 10]})
LOOSE = Problem(id="x", prompt="", answer="24", info={"numbers": [2, 3, 4, 10], "min_used": 2})


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("10*3-4-2", "correct"),
        (" ( 10 * 3 ) - 4 - 2 ", "correct"),
        ("10*3-(4+2)", "correct"),
        ("10*3-4", "wrong"),  # leaves 2 out
        ("10+10+4", "wrong"),  # 10 twice
        ("10*3-4-2-0", "wrong"),  # 0 was not given
        ("10*(3-4)-2", "wrong"),  # -12
        ("10/(2-2)", "wrong"),  # divides by zero (and uses 2 twice)
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
        ("１０*3-4-2", "no_answer"),  # full-width digits
        ("010*3-4-2", "no_answer"),
        ("10*3-4-2\n", "correct"),
        ("(" * 200 + "1" + ")" * 20, "no_answer"),
        ("1+" * 200 + "1", "no_answer"),  # longer than 256 characters
        ("4(10-4)", "no_answer"),  # a call, in Python's grammar
        ("10,3", "no_answer"),
    ],
)
def test_verdicts(text: str, status: str) -> None:
    verdict = score(text, PROBLEM, Params())
    assert verdict.status == status
    assert verdict.reward == (1.0 if status == "correct" else 0.0)
    assert (verdict.canonical is not None) or status != "correct"
    assert verdict.detail or status == "correct"


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


def form(text: str) -> str:
    return canonical_form(parse_expression(text)).text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1+2", "2+1"),
        ("1+(2+3)", "(3+1)+2"),
        ("9-(5-2)", "9+2-5"),
        ("9-5-2", "9-(2+5)"),
        ("8/(4/2)", "8*2/4"),
        ("8/4/2", "8/(2*4)"),
        ("(1-2)*(3-4)", "(2-1)*(4-3)"),
        ("(1-2)*(4-3)", "(2-1)*(3-4)"),
        ("5-(2-7)*3", "5+(7-2)*3"),
        ("7-7+8", "8-7+7"),
        ("(7-7)*3+1", "1+3*(7-7)"),
        ("6/(2-5)", "0-6/(5-2)"),
    ],
)
def test_equal_solutions_share_a_form(one: str, other: str) -> None:
    if other.startswith("0-"):
        assert form(one) == f"-({form(other[2:])})"
    else:
        assert form(one) == form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("2*3", "2+4"), ("8*1", "8/1"), ("2+2", "2*2"), ("(1+2)*3", "1+2*3"), ("1-2", "2-1"), ("6/3", "3/6")],
)
def test_different_solutions_do_not(one: str, other: str) -> None:
    assert form(one) != form(other)


def expressions(depth: int) -> st.SearchStrategy[str]:
    leaf = st.integers(1, 20).map(str)
    return st.recursive(
        leaf, lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
        max_leaves=depth,
    )  # fmt: skip


@given(expressions(6))
def test_the_form_parses_to_the_same_value_and_is_its_own_form(text: str) -> None:
    try:
        whole = canonical_form(parse_expression(text))
    except ZeroDivisionError:
        return
    if whole.sign > 0 and whole.over:
        again = canonical_form(parse_expression(whole.text))
        assert again.value == whole.value
        assert again.text == whole.text
    assert whole.value == Fraction(eval_exact(text))


def eval_exact(text: str) -> Fraction:
    """An independent evaluation: every number becomes a Fraction, Python does the rest (test input only)."""
    import re

    return eval(re.sub(r"(\d+)", r"Fraction(\1)", text), {"Fraction": Fraction})


@pytest.mark.parametrize("text", ["", " ", "x", "1+", "1 2", "+1", "()", "1" * 300])
def test_unparsable(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(text)
