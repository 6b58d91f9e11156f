"""Unique forms among the correct samples, and pairs that differ, by hand and against every pair."""

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.measures import Params
from progrpo.measures.unique_solutions import different_pairs, measure, over_task, unique_share
from progrpo.types import ProblemResult, Sample

forms = st.lists(st.sampled_from("abcd"), min_size=2, max_size=8)


def judged(of: str) -> ProblemResult:
    """A sample per letter, "-" being a wrong one with a form all the same."""
    samples = tuple(
        Sample(text="", status="wrong" if form == "-" else "correct", canonical="z" if form == "-" else form)
        for form in of
    )
    return ProblemResult(problem=of, samples=samples)


def test_by_hand() -> None:
    # a a a b: 2 forms of 4; of the 6 pairs the three of a with b differ.
    assert measure(judged("aa-ab-"), Params()) == pytest.approx({"unique_correct": 0.5, "different_pairs": 0.5})
    assert measure(judged("a--"), Params()) == {}
    assert measure(judged("---"), Params()) == {}
    # Pooled: 2 + 1 + 0 forms of 4 + 1 + 0 correct samples; the problem with one correct sample counts here.
    found = over_task([judged("aaab"), judged("a-"), judged("--")], Params())
    assert found == pytest.approx({"unique_correct/pooled": 3 / 5})
    assert over_task([judged("-")], Params()) == {}


@given(forms)
def test_pairs_are_counted_one_by_one(letters: list[str]) -> None:
    counts = [letters.count(form) for form in set(letters)]
    pairs = [one != other for one, other in combinations(letters, 2)]
    assert different_pairs(counts) == pytest.approx(float(Fraction(sum(pairs), len(pairs))), abs=1e-12)
    assert unique_share(counts) == pytest.approx(len(set(letters)) / len(letters))


@given(forms)
def test_pairs_do_not_depend_on_how_many_are_correct(letters: list[str]) -> None:
    """The mean over all subsets of m correct samples is the number of all of them; the share of unique ones is higher."""

    def of(letters: tuple[str, ...]) -> list[int]:
        return [letters.count(form) for form in set(letters)]

    for size in range(2, len(letters) + 1):
        subsets = [of(subset) for subset in combinations(letters, size)]
        mean = sum(map(different_pairs, subsets)) / len(subsets)
        assert mean == pytest.approx(different_pairs(of(tuple(letters))), abs=1e-12)
        assert sum(map(unique_share, subsets)) / len(subsets) >= unique_share(of(tuple(letters))) - 1e-12


@given(forms)
def test_they_lie_between_one_way_and_all_different(letters: list[str]) -> None:
    values = measure(judged("".join(letters)), Params())
    assert 0 < values["unique_correct"] <= 1
    assert 0 <= values["different_pairs"] <= 1
    assert (values["different_pairs"] == 0) == (len(set(letters)) == 1)
    assert (values["unique_correct"] == 1) == (len(set(letters)) == len(letters))
