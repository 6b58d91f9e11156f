"""Two models on equal numbers of correct completions."""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest

from progrpo.measures._matched import Pair, matched
from progrpo.measures.diversity import self_bleu
from progrpo.types import ProblemResult, Sample


def problem(name: str, *correct: str, wrong: int = 0) -> ProblemResult:
    right = tuple(Sample(text=text, status="correct") for text in correct)
    return ProblemResult(problem=name, samples=(Sample(text="wrong", status="wrong"),) * wrong + right)


def kinds(samples: Sequence[Sample]) -> float:
    return float(len({sample.text for sample in samples}))


def test_few_subsets_are_all_taken() -> None:
    # a has 3 correct of 2 kinds, b has 2 of 2. Pairs of a: xx, xy, xy: (1 + 2 + 2) / 3. Nothing is drawn.
    found = matched([problem("p", "x", "x", "y")], [problem("p", "u", "v", wrong=5)], kinds)
    assert found == [Pair(problem="p", samples=2, a=pytest.approx(5 / 3), b=2)]


def test_problems_with_fewer_than_two_on_a_side_are_dropped() -> None:
    first = [problem("p", "x", "y"), problem("q", "x", "y"), problem("only here", "x", "y"), problem("r", "x", "y")]
    second = [
        problem("r", "x", "x"),
        problem("q", "x", wrong=3),
        problem("p", "x", "x"),
        problem("only there", "x", "x"),
    ]
    assert [pair.problem for pair in matched(first, second, kinds)] == ["p", "r"]


def test_many_subsets_are_drawn_without_replacement_and_near_the_exact_mean() -> None:
    texts = [f"t{index // 4}" for index in range(16)]
    big, small = [problem("p", *texts)], [problem("p", *"abcd")]
    (found,) = matched(big, small, kinds, draws=1000)
    exact = fmean(len(set(subset)) for subset in combinations(texts, 4))
    assert found.a == pytest.approx(exact, abs=0.1)
    assert found.b == 4
    # Four equal texts at most: with replacement, subsets of one object would occur.
    sizes: set[int] = set()
    matched(big, small, lambda samples: sizes.add(len({id(sample) for sample in samples})) or 0.0, draws=200)
    assert sizes == {4}


def test_draws_follow_the_seed_and_the_problem_alone() -> None:
    texts = [f"t{index % 5}" for index in range(20)]
    big, small = [problem(name, *texts) for name in "pq"], [problem(name, *"abcde") for name in "pq"]
    found = matched(big, small, kinds, draws=7)
    assert matched(big[::-1], small, kinds, draws=7) == found[::-1]
    assert found[0].a != found[1].a  # the same texts under two ids: by their streams alone
    assert matched(big, small, kinds, draws=7, seed=1) != found
    exchanged = matched(small, big, kinds, draws=7)
    assert [(pair.b, pair.a) for pair in exchanged] == [(pair.a, pair.b) for pair in found]


def test_matching_removes_what_the_number_of_texts_does_to_self_bleu() -> None:
    # One generator on both sides. Sixteen of its texts look less diverse than four; four of the sixteen do not.
    generator = np.random.default_rng(0)
    texts = [" ".join(map(str, generator.integers(12, size=30))) for _ in range(20)]
    big, small = problem("p", *texts[:16]), problem("p", *texts[16:])

    def value(samples: Sequence[Sample]) -> float:
        return self_bleu([sample.text for sample in samples], 2)

    raw = value(big.samples) - value(small.samples)
    (pair,) = matched([big], [small], value, draws=70)
    assert raw > 0.2
    assert abs(pair.a - pair.b) < 0.1


def test_undefined_values_drop_the_problem() -> None:
    assert matched([problem("p", "x", "y")], [problem("p", "x", "x")], lambda samples: math.nan) == []


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="draws >= 1"):
        matched([], [], kinds, draws=0)
    with pytest.raises(ValueError, match="'p' more than once"):
        matched([problem("p", "x", "y")] * 2, [], kinds)
