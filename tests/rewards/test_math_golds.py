r"""Golds that are whole solutions: the final answer of one is the gold, and one that hides it is refused with a remedy."""

import pytest

from progrpo.rewards.math import Params, gold_fault, score, warm
from progrpo.rewards.math.golds import after_hashes, final_answer
from progrpo.types import Problem

GSM8K = [
    ("She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 72", "72"),
    ("Betty needs 100 - 50 - 30 - 15 = $<<100-50-30-15=5>>5 more.\n#### 5", "5"),
    ("He made a profit of 200,000-130,000=$<<200000-130000=70000>>70,000\n#### 70,000", "70000"),
    ("The total ratio representing the students is 5+6=11\n#### 11", "11"),
    ("He sprints 3*3=<<3*3=9>>9 times\r\nSo he runs 9*60=<<9*60=540>>540 meters\r\n#### 540\r\n", "540"),
    ("5*40=<<5*40=200>>200 #### 200", "200"),  # lines joined by someone's CSV
    ("#### 72", "72"),
    ("x\n#### 3\nor rather\n#### -1.5", "-1.5"),
    ("It costs half.\n####1/2", "0.5"),
]
BOXED = [
    ("We have $2x=4$, so $x=2$. Hence the answer is $\\boxed{2}$.", "2"),
    ("We have $2x=4$.\nHence $x=\\boxed{2}$ and we are done.", "2"),
    ("The area of the triangle is $\\frac12 \\cdot 3 = \\boxed{\\frac{3}{2}}$.", "1.5"),
    ("Both are right, by symmetry.\n\\[\\boxed{(1, 2)}\\]\nThis ends the proof.", "(1,2)"),
]
AS_THEY_STAND = [
    "5",
    r"\boxed{5}",
    r"x = \boxed{5}",
    "The answer is 42.",
    r"\boxed{3} or \boxed{5}",
    r"\boxed{5}\text{ cm}",
]


@pytest.fixture(scope="module", autouse=True)
def _algebra_is_loaded() -> None:
    warm(Params())


def problem(gold: str) -> Problem:
    return Problem(id="x", prompt="", answer=gold)


@pytest.mark.parametrize(("gold", "answer"), GSM8K + BOXED)
def test_the_final_answer_of_a_solution_is_the_gold(gold: str, answer: str) -> None:
    assert gold_fault(problem(gold), Params()) is None
    for text in (rf"So it is \boxed{{{answer}}}.", f"Answer: {answer}"):
        assert score(text, problem(gold), Params()).status == "correct"
    assert score(r"\boxed{7919}", problem(gold), Params()).status == "wrong"


def test_a_long_solution_has_a_short_answer() -> None:
    gold = "He adds 1 to 2 again and again.\n" * 300 + "#### 3"
    assert gold_fault(problem(gold), Params()) is None
    verdict = score(r"\boxed{4}", problem(gold), Params())
    assert (verdict.status, verdict.detail) == ("wrong", "expected 3")


@pytest.mark.parametrize("gold", AS_THEY_STAND)
def test_what_is_no_solution_stays_as_it_is(gold: str) -> None:
    assert final_answer(gold) == gold


def test_only_hashes_count_for_every_reward() -> None:
    assert [after_hashes(gold) for gold, _ in BOXED] == [gold for gold, _ in BOXED]
    assert [after_hashes(gold) for gold in ("a\n#### 1\nb", "a\n####", "a\n##### 1", "a\n#### <<1=1>>1")] == [
        *("a\n#### 1\nb", "a\n####", "a\n##### 1", "a\n#### <<1=1>>1")
    ]


@pytest.mark.parametrize(
    ("gold", "says"),
    [
        ("He has 5.\n####", "has no single line after its last '####'"),
        ("He has 5.\n#### \n", "has no single line after its last '####'"),
        ("#### Step 1\nHe has 5.\n", "has no single line after its last '####'"),
        ("He earns 3*4=<<3*4=12>>12 dollars", "has the calculator marks <<...>>"),
        ("5*40=$<<5*40=200>>200", "has the calculator marks <<...>>"),
        ("He adds two and two first.\nSo the total is 2+2=4", "has 2 lines of prose"),
        ("First we add it up.\n\nThen we get seventy-two.", "has 2 lines of prose"),
        (r"The roots that remain are \boxed{3} and \boxed{5}.", "has several boxes"),
        ("So the total is 5+6=11.", "is a sentence, and its result alone is not judged correct"),
        (r"The area is $\frac{1}{2} \cdot 3 \cdot 4 = 6$.", "is a sentence"),
        ("2x = 4 so 1x = 2", "is a sentence"),
        (r"\text{Area of the circle with radius } 2 = 4\pi", "is a sentence"),
    ],
)
def test_a_solution_that_hides_its_answer_is_refused(gold: str, says: str) -> None:
    fault = gold_fault(problem(gold), Params()) or ""
    assert says in fault
    assert "name a column that holds the final answer alone, or end each solution with a line '#### ANSWER'" in fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    "gold", ["He earns 3*4=<<3*4=12>>12 dollars", "He has 5.\n####", "We add two and two.\nSo 2+2=4"]
)
def test_a_completion_is_never_wrong_by_such_a_gold(gold: str) -> None:
    """Adapters that check no golds before training: the row is named, no completion is punished."""
    verdict = score(r"\boxed{12}", problem(gold), Params())
    assert (verdict.status, "name a column" in verdict.detail) == ("bad_gold", True)


@pytest.mark.parametrize(
    "gold",
    [
        r"\text{Area} = 7",
        "Area of triangle ABC = 5",
        r"x \text{ such that } x=5",
        "AB^2 = 2BC",
        "max(x,y) = 5",
        "\\begin{pmatrix}\n1 \\\\\n2\n\\end{pmatrix}",
        "\\begin{cases} x & \\text{if it is at least one} \\\\\n -x & \\text{if it is less than one} \\end{cases}",
        "no such function exists",
        "5 apples",
        "x < 5",
    ],
)
def test_golds_with_words_or_lines_are_no_solutions(gold: str) -> None:
    assert "name a column" not in (gold_fault(problem(gold), Params()) or "")
