"""Answers of a problem: their spelling, their number, and maj@k against every subset."""

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.measures import Params
from progrpo.measures.answers import majority, measure, normalized
from progrpo.measures.pass_at_k import estimate, powers_of_two
from progrpo.types import ProblemResult, Sample

COUNTS = ("distinct_answers", "distinct_wrong_answers")
votes = st.lists(st.tuples(st.sampled_from([None, "a", "b", "c", "d"]), st.booleans()), min_size=1, max_size=8)


def brute_force(samples: list[tuple[str | None, bool]], k: int) -> Fraction:
    """Mean over all k-subsets of the mean share of correct samples of the most frequent answers."""
    total = Fraction(0)
    for subset in combinations(samples, k):
        counts = Counter(answer for answer, _ in subset if answer is not None)
        winners = [answer for answer, count in counts.items() if count == max(counts.values())]
        for winner in winners:
            right = sum(correct for answer, correct in subset if answer == winner)
            total += Fraction(right, counts[winner] * len(winners))
    return total / math.comb(len(samples), k)


@given(votes)
def test_majority_is_the_mean_over_all_subsets(samples: list[tuple[str | None, bool]]) -> None:
    samples = [(answer, correct and answer is not None) for answer, correct in samples]
    sizes = Counter(answer for answer, _ in samples if answer is not None)
    right = Counter(answer for answer, correct in samples if correct)
    found = majority(list(sizes.values()), [right[answer] / size for answer, size in sizes.items()], len(samples))
    expected = [float(brute_force(samples, k)) for k in range(1, len(samples) + 1)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_majority_by_hand() -> None:
    # Right twice, wrong once, no answer once. k = 2 of 4: both right 1 subset, right and wrong 2 (a tie: 1/2),
    # right and none 2, wrong and none 1: (1 + 1 + 2) / 6. k = 3: {r r w} 1, {r r -} 1, {r w -} 2 of 1/2: 3/4.
    assert majority([2, 1], [1, 0], 4) == pytest.approx([2 / 4, 4 / 6, 3 / 4, 1])
    assert majority([], [], 3) == [0, 0, 0]
    assert majority([3], [1], 3) == pytest.approx([1, 1, 1])


def test_majority_of_many_samples() -> None:
    # 128 samples, all answers different, one of them right: the winner is drawn at random, so 1/128 for every k.
    assert majority([1] * 128, [1.0] + [0.0] * 127, 128) == pytest.approx([1 / 128] * 128, rel=1e-9)
    # An answer with 600 of 1024 votes and its rival with the rest: at k = 1 its share, at k = 1024 certain.
    found = majority([600, 424], [1, 0], 1024)
    assert found[0] == pytest.approx(600 / 1024, rel=1e-9)
    assert found[-1] == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("call", [((2,), (1,), 1), ((0,), (1,), 1), ((1,), (), 1), ((), (), 0), ((), (), 1025)])
def test_majority_refuses_what_cannot_be(call: tuple[tuple[int, ...], tuple[float, ...], int]) -> None:
    with pytest.raises(ValueError, match="maj@k: expected"):
        majority(*call)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("025", "25"),
        ("+7", "7.0"),
        ("-0.50", "-0.5"),
        ("000", "0"),
        (r"\dfrac{1}{2}", r"$\frac{1}{2}$"),
        (r"\left( 3, \tfrac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"\text{even}", r"\mathrm{even}"),
        ("x + 1.", "x+1"),
        (r"10\,000", "10000"),
    ],
)
def test_layout_is_no_difference(one: str, other: str) -> None:
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("-7", "7"), ("10", "1"), ("x", "X"), ("1,2", "12"), ("0.5", "0.05"), (r"\leftarrow", "arrow"), ("1/2", "0.5")],
)
def test_other_answers_stay_apart(one: str, other: str) -> None:
    assert normalized(one) != normalized(other)


def sample(status: str, extracted: str | None, canonical: str | None = None) -> Sample:
    return Sample(text="", status=status, extracted=extracted, canonical=canonical)


def test_answers_of_a_problem() -> None:
    samples = (
        sample("correct", "12"),
        sample("correct", "12.0"),
        sample("wrong", "13"),
        sample("wrong", "13 "),
        sample("wrong", "14"),
        sample("no_answer", None),
        sample("timeout", "12"),
        sample("no_answer", "unreadable ("),
    )
    found = measure(ProblemResult(problem="p", samples=samples), Params())
    assert found["distinct_answers"] == 3
    assert found["distinct_wrong_answers"] == 2
    # All 8: "12" has 3 votes and wins; two of its three samples were judged correct.
    assert found["maj@8"] == pytest.approx(2 / 3)
    assert found["maj@1"] == pytest.approx(estimate(8, 2, 1))
    assert set(found) == {*COUNTS, "distinct_answers/solved", *(f"maj@{k}" for k in powers_of_two(8))}
    assert found["distinct_answers/solved"] == 3


def test_canonical_forms_go_before_texts() -> None:
    samples = (sample("correct", "1+2", "1+2"), sample("correct", "2 + 1", "1+2"), sample("wrong", "4"))
    found = measure(ProblemResult(problem="p", samples=samples), Params())
    assert found["distinct_answers"] == 2
    assert found["maj@3"] == pytest.approx(1)


def test_unrecorded_answers_are_not_measured() -> None:
    assert measure(ProblemResult(problem="p", samples=(sample("correct", "1"), sample("wrong", None))), Params()) == {}


def test_more_samples_than_a_float_holds_have_no_majority() -> None:
    found = measure(ProblemResult(problem="p", samples=(sample("correct", "1"),) * 1025), Params())
    assert set(found) == {*COUNTS, "distinct_answers/solved"}


def test_answers_are_counted_apart_where_none_is_correct() -> None:
    """So that the mean over solved problems, and that over unsolved ones, stand beside the mean over all."""
    tries = (sample("wrong", "1"), sample("wrong", "2"), sample("no_answer", None))
    unsolved = measure(ProblemResult(problem="p", samples=tries), Params())
    assert (unsolved["distinct_answers"], unsolved["distinct_answers/unsolved"]) == (2, 2)
    assert "distinct_answers/solved" not in unsolved
    solved = measure(ProblemResult(problem="p", samples=(*tries, sample("correct", "3"))), Params())
    assert (solved["distinct_answers"], solved["distinct_answers/solved"]) == (3, 3)
    assert "distinct_answers/unsolved" not in solved
