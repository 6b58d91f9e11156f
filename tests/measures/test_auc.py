"""AUC@K against the trapezoids over every subset, and by hand."""

from fractions import Fraction
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.measures import Params
from progrpo.measures.auc import areas, measure
from progrpo.measures.pass_at_k import estimate
from stand_ins.judged import counts, judged


def test_by_hand() -> None:
    # n = 4, c = 1: Pass@k = k/4. K = 2: (1/4 + 2/4)/2 = 3/8. K = 3: (3/8 + 5/8)/2 = 1/2. K = 4: (3/8 + 5/8 + 7/8)/3 = 5/8.
    assert areas(4, 1) == pytest.approx([3 / 8, 1 / 2, 5 / 8])
    # n = 3, c = 2: Pass@1 = 2/3, then 1. K = 2: 5/6. K = 3: (5/6 + 1)/2 = 11/12.
    assert areas(3, 2) == pytest.approx([5 / 6, 11 / 12])
    assert areas(1, 1) == []
    assert measure(judged(3, 2), Params()) == pytest.approx({"auc@2": 5 / 6, "auc@3": 11 / 12})
    assert measure(judged(1, 1), Params()) == {}


@given(st.lists(st.booleans(), min_size=2, max_size=7))
def test_it_is_the_trapezoid_over_all_subsets(right: list[bool]) -> None:
    def passed(k: int) -> Fraction:
        subsets = list(combinations(right, k))
        return Fraction(sum(any(subset) for subset in subsets), len(subsets))

    for big, area in enumerate(areas(len(right), sum(right)), start=2):
        steps = [(passed(k) + passed(k + 1)) / 2 for k in range(1, big)]
        assert area == pytest.approx(float(sum(steps) / (big - 1)), abs=1e-12)


@given(counts)
def test_it_lies_within_the_curve_and_grows(case: tuple[int, int]) -> None:
    n, c = case
    values = areas(n, c)
    assert all(one <= other + 1e-12 for one, other in pairwise(values))
    for k, area in enumerate(values, start=2):
        assert estimate(n, c, 1) - 1e-12 <= area <= estimate(n, c, k) + 1e-12
    assert c < n or values == [1.0] * (n - 1)


def test_many_samples_neither_overflow_nor_cancel() -> None:
    # Pass@k of one right sample among n is k/n, a straight line: the mean height up to n is that of its ends.
    assert areas(4096, 1)[-1] == pytest.approx((1 / 4096 + 1) / 2, rel=1e-12)


@pytest.mark.parametrize("case", [(0, 0), (3, 4), (3, -1)])
def test_what_cannot_be_is_refused(case: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="auc@K: expected n >= 1"):
        areas(*case)
