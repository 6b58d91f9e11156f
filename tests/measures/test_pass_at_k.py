"""pass@k against exact fractions and against every subset."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.measures.pass_at_k import Params, estimate, measure, powers_of_two
from progrpo.types import ProblemResult, Sample

cases = st.integers(1, 1024).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


@given(cases)
def test_estimate_is_the_exact_fraction(case: tuple[int, int, int]) -> None:
    n, c, k = case
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert estimate(n, c, k) == pytest.approx(float(exact), rel=1e-12, abs=0)


def test_estimate_is_the_share_of_subsets_with_a_correct_sample() -> None:
    for c in range(7):
        samples = [True] * c + [False] * (6 - c)
        for k in range(1, 7):
            found = [any(subset) for subset in combinations(samples, k)]
            assert estimate(6, c, k) == pytest.approx(sum(found) / len(found))


def test_estimate_is_unbiased_where_the_naive_one_is_not() -> None:
    # p = 0.1, n = 8, k = 4: 1 - 0.9**4 = 0.3439. The expectation over the binomial number of correct samples.
    chances = [math.comb(8, c) * 0.1**c * 0.9 ** (8 - c) for c in range(9)]
    assert sum(chance * estimate(8, c, 4) for c, chance in enumerate(chances)) == pytest.approx(0.3439)
    naive = sum(chance * (1 - (1 - c / 8) ** 4) for c, chance in enumerate(chances))
    assert naive < 0.30
    # And by sampling: 20,000 draws leave a standard error of 0.0025.
    drawn = np.random.default_rng(0).binomial(8, 0.1, size=20_000)
    assert np.mean([estimate(8, int(c), 4) for c in drawn]) == pytest.approx(0.3439, abs=0.01)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0)])
def test_estimate_refuses_what_it_cannot_know(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"n={n}, c={c}, k={k}"):
        estimate(n, c, k)


def test_measure_by_hand() -> None:
    # 2 of 6 correct: 1 - C(4,k)/C(6,k) is 1/3, 3/5, 14/15, and 1.
    samples = tuple(Sample(text="", status=status) for status in ["correct"] * 2 + ["wrong", "timeout"] * 2)
    found = measure(ProblemResult(problem="p", samples=samples), Params())
    assert found == pytest.approx({"pass@1": 1 / 3, "pass@2": 3 / 5, "pass@4": 14 / 15, "pass@6": 1})
    assert powers_of_two(1) == [1]
    assert powers_of_two(8) == [1, 2, 4, 8]
    every = measure(ProblemResult(problem="p", samples=samples), Params(every=True))
    assert list(every) == [f"pass@{k}" for k in range(1, len(samples) + 1)]
    assert every.items() >= found.items()
