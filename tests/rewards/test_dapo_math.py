import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.rewards.dapo_math import Params, gold_fault, normalise, score
from progrpo.types import Problem


def problem(gold: str | None) -> Problem:
    return Problem(id="x", prompt="", answer=gold)


def status(text: str, gold: str = "34", **params: object) -> str:
    return score(text, problem(gold), Params(**params)).status


ACCEPTED = [
    "Answer: 34",
    "Answer: $34$",
    r"Answer: \boxed{34}",
    r"Answer: $\boxed{34}$",
    "Answer: x = 34",
    "Answer: 35=34",  # a false positive of the grader, like the next five
    "Answer: 34 degrees",
    "Answer: $34$ and $35$",
    "Answer: 3 4",
    "Answer: 3a 4",
    "Answer: an 34",
    "Answer: $34.$",
    "Answer: $34$.",
    "Answer:\n34",
    "answer : 34",
    "ANSWER: 34",
    "The final answer: 34",
    "Answer: 33\nAnswer: 34",
    r"Answer: \text{34}",
    r"Answer: \textbf{34}",
    r"Answer: 34^\circ",
    r"Answer: 34^{\circ}",
    r"Answer: \$34",
    "Answer: 34 dollars",
    'Answer: "34"',
    r"Answer: 34\ldots",
    r"Answer: 34 \text{ m}",
    r"Answer: 3\;4",
    "Answer: 34\nand some words",
]

REJECTED = [
    "Answer: 35",
    "**Answer:** 34",
    "**Answer: 34**",
    "Answer: 34.",
    "Answer: 034",
    "Answer: 34.0",
    r"Answer: \(34\)",
    "Answer: 34 apples",
    "Answer: 34%",
    "Answer: 34<|im_end|>",
    "Answer: 34\nAnswer: 35",
    "Answer: $35$ and $34$",
    "Answer: [INVALID]",
    "Answer: ",  # a blank is an answer; none at all is not
]

NONE = [
    "",
    "34",
    r"\boxed{34}",
    r"$\boxed{34}$ is the final result",
    "The answer is 34",
    "Answer 34",
    "Answer:",
    "Answer: 34" + " x" * 150,  # more than 300 characters after it
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text: str) -> None:
    assert status(text) == "correct"


@pytest.mark.parametrize("text", REJECTED)
def test_rejected(text: str) -> None:
    assert status(text) == "wrong"


@pytest.mark.parametrize("text", NONE)
def test_no_answer(text: str) -> None:
    assert status(text) == "no_answer"


def test_the_last_300_characters_are_read() -> None:
    # "Answer: 34" has 10 characters, so 290 may follow.
    assert status("Answer: 34\n" + "x" * 289) == "correct"
    assert status("Answer: 34\n" + "x" * 290) == "no_answer"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("x = y = 5", "5"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\frac123", r"\frac{1}{2}3"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        (r"\sqrt2", r"\sqrt{2}"),
        (r"\sqrt{2}", r"\sqrt{2}"),
        ("1,000,000", "1000000"),
        ("1{,}000", "1000"),
        (r"1,\!000", "1000"),
        ("(1,2)", "(1,2)"),
        ("1,2", "12"),
        ("tan x", "tx"),  # "an " is deleted inside words too
        (r"\overline{AB}", "AB"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"5\text{ and }6", "56"),
        (r"1,\text{and}2", "12"),
        (r"\mbox{east}", "east"),
        (r"5\text{ cm}^2", "5"),
        ("$x$ or $y$", "x"),
        ("4 square units", "4"),
        ("", ""),
        ("²", "²"),
    ],
)
def test_normalisation(answer: str, expected: str) -> None:
    assert normalise(answer) == expected


def test_gold_is_normalised_too() -> None:
    assert status(r"Answer: \frac12", r"\frac{1}{2}") == "correct"
    assert status("Answer: 1000", "1,000") == "correct"
    assert status("Answer: 34", "x=34") == "correct"


def test_rewards_are_plus_and_minus_one_unless_set() -> None:
    assert [score(text, problem("34"), Params()).reward for text in ("Answer: 34", "Answer: 35", "")] == [
        1.0,
        -1.0,
        -1.0,
    ]
    assert score("", problem("34"), Params(wrong_reward=0)).reward == 0.0
    assert score("Answer: 34", problem("34"), Params(correct_reward=2)).reward == 2.0


@pytest.mark.parametrize(
    ("text", "fallback", "only"),
    [
        (r"\boxed{34}", "correct", "correct"),
        (r"\boxed{35} and \boxed{34}", "correct", "correct"),
        (r"\boxed{34} and \boxed{35}", "wrong", "wrong"),
        (r"\boxed{ 34 }", "wrong", "wrong"),  # exact text
        (r"\boxed{034}", "wrong", "wrong"),
        (r"\boxed{34", "no_answer", "no_answer"),
        ("Answer: 34", "correct", "no_answer"),
        ("Answer: 35\n\\boxed{34}", "wrong", "correct"),  # the line comes first
        (r"Answer: \boxed{34}", "correct", "correct"),
        ("nothing", "no_answer", "no_answer"),
        (r"\boxed{34}" + "x" * 90, "correct", "correct"),  # 100 characters
        (r"\boxed{34}" + "x" * 91, "no_answer", "no_answer"),
    ],
)
def test_strict_box(text: str, fallback: str, only: str) -> None:
    assert status(text, strict_box="fallback") == fallback
    assert status(text, strict_box="only") == only


def test_a_box_is_compared_unchanged() -> None:
    assert status(r"\boxed{1,000}", "1000", strict_box="only") == "wrong"
    assert status(r"\boxed{1,000}", "1,000", strict_box="only") == "correct"
    assert status(r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", strict_box="only") == "correct"


def test_bad_gold() -> None:
    assert status("Answer: 34", "") == "bad_gold"
    assert gold_fault(problem("34"), Params()) is None
    assert gold_fault(problem("34"), Params(strict_box="only")) is None
    assert gold_fault(problem(r"\frac{1}{2}"), Params(strict_box="fallback")) is None
    assert "no gold" in (gold_fault(problem(None), Params()) or "")
    assert "empty" in (gold_fault(problem("x ="), Params()) or "")  # any "Answer: =" would match
    assert "characters" in (gold_fault(problem("1" * 400), Params()) or "")
    assert "own text" in (gold_fault(problem("1\n2"), Params()) or "")
    assert "box" in (gold_fault(problem("{"), Params(strict_box="only")) or "")


@given(st.text(alphabet=st.characters(), max_size=60), st.text(alphabet=st.characters(), min_size=1, max_size=10))
def test_survives_any_text(text: str, gold: str) -> None:
    for completion in (text, f"Answer: {text}", rf"\boxed{{{text}}}"):
        for strict_box in ("never", "fallback", "only"):
            verdict = score(completion, problem(gold), Params(strict_box=strict_box))
            (verdict.extracted or "").encode()  # can be written to a file


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_integers_are_equal_only_to_themselves(one: int, other: int) -> None:
    assert status(f"Answer: {other}", str(one)) == ("correct" if one == other else "wrong")


@pytest.mark.parametrize("strict_box", ["never", "fallback", "only"])
def test_a_gold_without_end_is_refused_at_once(strict_box: str) -> None:
    """Normalising 3 MB took longer than anybody waits."""
    params = Params.model_validate({"strict_box": strict_box})
    long = problem("1 + " * 750_000)
    started = time.monotonic()
    assert "the gold answer has 3000000 characters" in str(gold_fault(long, params))
    assert score("Answer: 3", long, params).status == "bad_gold"
    assert time.monotonic() - started < 5
