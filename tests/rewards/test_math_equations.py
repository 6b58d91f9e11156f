r"""Which equations give a value: x = 5 and 2+3 = 5 do, 2x = 5, copied from the question, does not. Pairs are (gold, answer)."""

import pytest

from progrpo.rewards.math import Params, fast_verdict, gold_fault, score, warm
from progrpo.types import Problem

GIVEN = {
    "a single name": [
        ("5", "x=5"),
        ("5", "5=x"),
        ("5", "f(x)=5"),
        ("3", "f(-1)=3"),
        ("5", "x_1 = 5"),
        ("4", r"x_{\min} = 4"),
        ("4", "x^{*} = 4"),
        ("60", r"\angle ABC = 60"),
        ("1/2", r"P(A \cup B) = 1/2"),
        ("5", "|z| = 5"),
        ("5", "AB = 5"),
        ("12", r"\text{area} = 12"),
        ("12", r"\text{Area of } ABC = 12"),
        ("12", "Total cost = 12"),
        ("3/5", r"\cos\theta = \frac35"),
        ("6", "[ABC] = 6"),
        ("8", r"\operatorname{Var}(X) = 8"),
        ("x+1", "y = x+1"),
        ("2x", r"\frac{dy}{dx} = 2x"),
        (r"\{1,2\}", r"A \cup B = \{1,2\}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"A^2 = \begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    ],
    "several names": [
        ("7", "a+b=7"),
        ("13", "p+q+r = 13"),
        ("2", r"\frac{AB}{BC} = 2"),
        ("2:3", "a:b = 2:3"),
        ("2/3", r"\frac{a}{b} = \frac23"),
        ("5", "AB = CD = 5"),
    ],
    "a part without letters": [
        ("5", "5 ="),
        ("7", "a+b = 3+4 = 7"),
        ("10", "x^2+y^2 = 1+9 = 10"),
        ("5", "2x = 10/2 = 5"),
        ("3", r"\log_2 8 = 3"),
        ("5", "5 = 2+3"),
    ],
    "an operation": [
        ("6", r"\gcd(12,18) = 6"),
        ("1", r"10 \bmod 3 = 1"),
        ("55", r"\sum_{k=1}^{10} k = 55"),
        ("2", r"\lim_{n\to\infty} a_n = 2"),
        ("2", r"\lfloor 2.5 \rfloor = 2"),
        ("12", r"20\%\text{ of }60 = 12"),
        ("9", r"\det(A) = 9"),
    ],
    "a formula with a name": [("6", r"S = \frac12 ab\sin C = 6"), (r"12\pi", r"V = \pi r^2 h = 12\pi")],
    "an identity": [
        ("x+1", r"\frac{x^2-1}{x-1} = x+1"),
        (r"2\sin x\cos x", r"\sin 2x = 2\sin x\cos x"),
        ("2", "(1+i)(1-i) = 2"),
    ],
    "units": [
        ("5", r"x = 5\text{ cm}"),
        (r"5\text{ cm}", "x = 5"),
        ("500", r"5\text{ m} = 500\text{ cm}"),
        ("7", r"3\text{ apples}+4\text{ apples} = 7"),
    ],
    "a conclusion": [
        ("5", r"2x=10 \implies x=5"),
        ("5", r"2x=10 \Rightarrow x=5"),
        ("5", "2x=10 ⇒ x=5"),
        ("5", "2x=10 => x=5"),
        ("5", r"2x=10 \text{ so } x=5"),
        ("x=5", r"2x=10 \implies x=5"),
        (r"2x=10 \implies x=5", "5"),
    ],
    "approximately": [
        ("1.414", r"x \approx 1.414"),
        (r"\sqrt{2}", r"x = \sqrt{2} \approx 1.414"),
        ("5", r"5 \approx x"),
    ],
    "a gold that is an equation": [
        ("x=5", "5=x"),
        ("x=5", "x = 2+3 = 5"),
        ("x>2", "2<x"),
        ("5+6=11", "11"),
        ("5+6=11", "x=11"),
        (r"\frac{10}{4} = 2.5", "2.5"),
    ],
    "solved inequalities": [
        (r"(-\infty,3)\cup(3,\infty)", r"x \ne 3"),
        (r"(-\infty,3]", r"x \le 3"),
        ("(1,2)", "1<x<2"),
    ],
}

OPEN = {
    "a factor": [
        ("5", "2x=5"),
        ("5", "5=2x"),
        ("3", "-x=3"),
        ("12", r"2\theta=12"),
        ("12", r"2\cdot\text{area}=12"),
        ("7", r"\frac{x}{2}=7"),
        ("x+1", "2y=x+1"),
        (r"\pi", r"2x=\pi"),
        ("12", "a+2b+3c=12"),
    ],
    "a sum": [("-2", "x+5=-2"), ("5", "2x-5=0"), ("0", "2x-5=0"), ("x^2+1", "y-3=x^2+1"), ("6", "xyz+1=6")],
    "a line": [("0", "ax+by+c=0"), ("0", "x+y=0"), ("0", "a+b+c=0"), ("5", "3x+2y=5"), ("5", "ax+by=5")],
    "a power": [
        ("0", "x^2-5x+6=0"),
        ("1", "x^2+y^2=1"),
        ("25", "x^2=25"),
        ("8", "2^x=8"),
        (r"\sqrt{2}", r"x^2=\sqrt{2}"),
        ("1", r"\sin^2 x+\cos^2 x=1"),
    ],
    "a function": [
        ("5", "|x-3|=5"),
        ("5", "5=|2x+1|"),
        ("6", "x(x+1)=6"),
        ("6", "a(b+c)=6"),
        ("5", r"\ln x=5"),
        ("3", r"\log_2 x=3"),
        ("5", r"\sqrt{x+1}=5"),
    ],
    "constants": [("12", "3e=12"), ("4", "2i=4"), ("204", r"\sin 1 = 204")],
    "units": [("5", r"2x=5\text{ cm}"), (r"5\text{ cm}", "2x=5"), ("34", r"35\text{ cm}=34"), ("12", "7 apples = 12")],
    "a conclusion": [("10", r"x=5\implies 2x=10"), ("10", r"x=3 \Rightarrow x+7=10"), ("5", r"2x=5\implies x=2.5")],
    "approximately": [("5", r"5\approx 2x"), ("5", r"2x=5\approx 5.0"), ("5", r"2x\approx 5")],
    "several equations": [
        ("(5,-1)", "2x=5, 3y=-1"),
        ("5,-1", "2x+y=5, x-3y=-1"),
        (r"\{5,-1\}", "2x=5, 3y=-1"),
        ("5", "2x=5, y=3"),
        ("1,2", "x^2-3x+2=0"),
    ],
    "a gold that is an equation": [
        ("x=5", "2x=10"),
        ("x=5", "x-5=0"),
        ("x=5", "10=2x"),
        ("x=5", "5=y"),
        ("x=2", "x^2=4"),
        ("|AB|=1", "2|AB|=2"),
        ("5+6=11", "12"),
    ],
    "inequalities": [
        ("5", "x>5"),
        ("5", r"x\ne 5"),
        (r"(-\infty,3]", r"2x\le 6"),
        ("(-2,2)", "x^2<4"),
        ("x>2", "2x>4"),
        (r"x\le 3", r"2x\le 6"),
    ],
}


@pytest.fixture(scope="module", autouse=True)
def _algebra_is_loaded() -> None:
    warm(Params())


def statuses(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    return {
        (gold, answer): score(rf"\boxed{{{answer}}}", Problem(id="x", prompt="", answer=gold), Params()).status
        for gold, answer in pairs
    }


@pytest.mark.parametrize("kind", GIVEN)
def test_an_equation_that_gives_the_value(kind: str) -> None:
    assert statuses(GIVEN[kind]) == dict.fromkeys(GIVEN[kind], "correct")


@pytest.mark.parametrize("kind", OPEN)
def test_an_equation_that_is_left_open(kind: str) -> None:
    assert statuses(OPEN[kind]) == dict.fromkeys(OPEN[kind], "wrong")


def test_fast_verdict_never_contradicts() -> None:
    for table, expected in ((GIVEN, "correct"), (OPEN, "wrong")):
        for gold, answer in (pair for pairs in table.values() for pair in pairs):
            verdict = fast_verdict(rf"\boxed{{{answer}}}", Problem(id="x", prompt="", answer=gold), Params())
            assert verdict is None or verdict.status == expected, (gold, answer)


def test_an_open_equation_is_decided_without_algebra() -> None:
    """Else x^99 + x = 5, which takes minutes to solve, would be left out of its group and not be wrong."""
    verdict = fast_verdict(r"\boxed{x^{99}+x=5}", Problem(id="x", prompt="", answer="5"), Params())
    assert verdict is not None
    assert verdict.status == "wrong"


@pytest.mark.parametrize(
    "gold", ["5+6=11", "x=5", "a+b=7", "2x+z=1", "x+y=0", r"2x\le 6", "x^2+y^2=1", r"2x=10\implies x=5"]
)
def test_golds_that_are_equations_stay_usable(gold: str) -> None:
    assert gold_fault(Problem(id="x", prompt="", answer=gold), Params()) is None


def test_a_gold_chain_that_is_false_is_none() -> None:
    assert "does not equal itself" in (gold_fault(Problem(id="x", prompt="", answer="5+6=12"), Params()) or "")
