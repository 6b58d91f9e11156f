"""Coverage of the solutions against every subset; the entropy of forms by hand."""

import math
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.errors import DataError
from progrpo.measures import Params
from progrpo.measures.coverage import class_entropy, coverage, measure
from progrpo.types import ProblemResult, Sample


def judged(forms: list[str | None], **facts: int) -> ProblemResult:
    """A sample per entry, correct where it has a form."""
    samples = tuple(Sample(text="", status="correct" if form else "wrong", canonical=form) for form in forms)
    return ProblemResult(problem="p", samples=samples, facts=facts)


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=1, max_size=7), st.integers(3, 6))
def test_coverage_is_the_mean_over_all_subsets(forms: list[str | None], solutions: int) -> None:
    counts = [forms.count(form) for form in {form for form in forms if form}]
    for k in range(1, len(forms) + 1):
        found = [len(set(subset) - {None}) for subset in combinations(forms, k)]
        expected = Fraction(sum(found), len(found) * solutions)
        assert coverage(counts, len(forms), k, solutions) == pytest.approx(float(expected), abs=1e-12)


def test_one_problem_by_hand() -> None:
    # Four solutions, of which two were found, by 2 and 1 of 4 samples. k = 1: (2/4 + 1/4) / 4. k = 2: chances to see them
    # 1 - C(2,2)/6 = 5/6 and 1 - C(3,2)/6 = 1/2, so 4/3 of 4. k = 4: 2 of 4.
    found = measure(judged(["x", "x", "y", None], solutions=4), Params())
    assert found == {
        "class_entropy": pytest.approx(-(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)),
        "coverage@1": pytest.approx(3 / 16),
        "coverage@2": pytest.approx(1 / 3),
        "coverage@4": pytest.approx(1 / 2),
    }


def test_entropy_of_forms() -> None:
    assert class_entropy([5]) == 0
    assert class_entropy([2, 2, 2]) == pytest.approx(math.log(3))


def test_what_is_not_known_is_left_out() -> None:
    assert measure(judged(["x", None]), Params()) == {}
    assert measure(judged([None, None], solutions=3), Params()) == {"coverage@1": 0, "coverage@2": 0}


@pytest.mark.parametrize("solutions", [0, 1])
def test_too_few_solutions_are_refused(solutions: int) -> None:
    with pytest.raises(DataError, match=rf"problem 'p'.*found, 2; got {solutions}"):
        measure(judged(["x", "y"], solutions=solutions), Params())
