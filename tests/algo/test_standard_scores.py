"""The shift free of its scale: among the correct completions of a group, in standard deviations."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.algo.reweight import (
    confidence_shift,
    correlation_within_groups,
    reweight_advantages,
    shift_share,
    without_length_trend,
)
from progrpo.errors import ShapeError

UNUSED = torch.tensor([math.nan])
AMONG_CORRECT = {"baseline": "correct_mean", "apply_to": "correct", "skip": "all_wrong", "spread": "group_std"}


def shift(scores: list[float], correct: list[bool] | None = None, **changes: str) -> list[float]:
    verdicts = torch.tensor([correct if correct is not None else [True] * len(scores)])
    settings = AMONG_CORRECT | changes
    result: list[float] = confidence_shift(verdicts, UNUSED, torch.tensor([scores]), **settings)[0].tolist()
    return result


def test_three_correct_by_hand() -> None:
    # scores 1 2 6 of the correct: mean 3, sample variance (4 + 1 + 9)/2 = 7; z = 2, 1, -3 over sqrt(7) = 2.64575;
    # 2 tanh(z/2) = 0.72188, 0.37353, -1.02623, whose mean is 0.02306. The two wrong ones count for nothing.
    found = shift([1.0, 5.0, 2.0, 6.0, -9.0], [True, False, True, True, False])
    assert found == pytest.approx([0.69882, 0.0, 0.35047, -1.04929, 0.0], abs=2e-5)


def test_two_correct_always_lie_as_far_apart() -> None:
    # z = +-1/sqrt(2), 2 tanh(0.35355) = 0.67905
    for scores in ([0.3, 0.4], [-700.0, -1.0], [1e-30, 2e-30]):
        assert shift(scores) == pytest.approx([0.67905, -0.67905], abs=2e-5)


def test_the_mean_over_the_correct_without_a_scale() -> None:
    # mean of 0.9 and 0.5 is 0.7: -0.2 and 0.2; against it the wrong ones: 0.5, 0.3
    correct = [True, False, True, False]
    scores = [0.9, 0.2, 0.5, 0.4]
    assert shift(scores, correct, spread="none") == pytest.approx([-0.2, 0.0, 0.2, 0.0])
    assert shift(scores, correct, spread="none", apply_to="all") == pytest.approx([-0.2, 0.5, 0.2, 0.3])
    assert shift(scores, correct, spread="none", skip="degenerate") == pytest.approx([-0.2, 0.0, 0.2, 0.0])
    assert shift(scores, [True] * 4, skip="degenerate") == [0.0] * 4


def test_over_the_whole_group() -> None:
    # 1 2 6 as above, verdicts wrong right right; the shift acts on all
    found = shift([1.0, 2.0, 6.0], [False, True, True], baseline="group_mean", apply_to="all")
    assert found == pytest.approx([0.69882, 0.35047, -1.04929], abs=2e-5)
    # ... or on the two correct ones, 0.37353 and -1.02623, and is centred on them: +-0.69988
    found = shift([1.0, 2.0, 6.0], [False, True, True], baseline="group_mean")
    assert found == pytest.approx([0.0, 0.69988, -0.69988], abs=2e-5)


groups = st.lists(
    st.tuples(st.integers(-999, 999).map(lambda n: n / 100), st.booleans()), min_size=2, max_size=16
).filter(lambda rows: len({score for score, right in rows if right}) > 1)
"""Scores in steps of 0.01 with verdicts; at least two different scores among the correct."""


def parts(group: list[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [score for score, _ in group], [right for _, right in group]


@given(groups, st.sampled_from([1e-3, 0.5, 3.0, 1e3]), st.integers(-50, 50))
def test_it_is_the_same_when_scores_are_scaled_or_moved(group: list[tuple[float, bool]], by: float, to: int) -> None:
    scores, correct = parts(group)
    expected = shift(scores, correct)
    assert shift([score * by for score in scores], correct) == pytest.approx(expected, abs=1e-4)
    assert shift([score + to for score in scores], correct) == pytest.approx(expected, abs=1e-2)


@given(groups)
def test_it_sums_to_zero_within_its_bound_and_leaves_the_others(group: list[tuple[float, bool]]) -> None:
    scores, correct = parts(group)
    found = shift(scores, correct)
    count = sum(correct)
    assert sum(found) == pytest.approx(0.0, abs=1e-5)
    assert max(abs(value) for value in found) < 4 * (count - 1) / count
    assert all(value == 0 for value, right in zip(found, correct, strict=True) if not right)


@given(groups)
def test_it_strictly_falls_with_the_score_among_the_correct(group: list[tuple[float, bool]]) -> None:
    scores, correct = parts(group)
    acted = sorted((s, v) for s, v, right in zip(scores, shift(scores, correct), correct, strict=True) if right)
    for (low, above), (high, below) in pairwise(acted):
        assert above > below if low < high else above == below


def test_two_outliers_on_one_side_keep_their_order() -> None:
    # 2.5 standard deviations off, where a clamp at 2 would make them equal
    found = shift([0.0] * 14 + [-1.0, -1.1])
    assert found[15] > found[14] > 1.5


@given(groups)
def test_both_precisions_agree(group: list[tuple[float, bool]]) -> None:
    scores, correct = parts(group)
    double = torch.tensor([scores], dtype=torch.float64)
    found = confidence_shift(torch.tensor([correct]), UNUSED.double(), double, **AMONG_CORRECT)[0]
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(shift(scores, correct), abs=1e-4)


@pytest.mark.parametrize("score", [0.1, 0.3, -7.7, 1e-20, 0.0, -123.456])
@pytest.mark.parametrize("count", [2, 3, 7, 10, 16])
@pytest.mark.parametrize("spread", ["none", "group_std"])
def test_equal_scores_give_exactly_zero(score: float, count: int, spread: str) -> None:
    assert shift([score] * count, spread=spread) == [0.0] * count
    # ... whatever the wrong ones have, and for these too with group_std: there is no unit to measure them in
    mixed = shift([score] * count + [5.0], [True] * count + [False], spread=spread, apply_to="all")
    assert mixed[:count] == [0.0] * count
    assert (mixed[count] == 0) is (spread == "group_std")


def test_nearly_equal_scores_do_not() -> None:
    assert shift([0.5, 0.5 + 2**-20]) == pytest.approx([0.67905, -0.67905], abs=2e-5)


def test_fewer_than_two_correct_give_zero() -> None:
    assert shift([0.3, 0.8, 0.1], [False, True, False]) == [0.0] * 3
    assert shift([0.3, 0.8, 0.1], [False, False, False]) == [0.0] * 3
    assert shift([0.3, 0.8], [False, True], baseline="group_mean") == [0.0] * 2  # one that it acts on
    assert shift([0.3, math.nan, math.nan]) == [0.0] * 3


@pytest.mark.parametrize("unknown", [math.nan, -math.inf, math.inf])
def test_what_is_not_finite_is_left_alone_and_out_of_mean_and_spread(unknown: float) -> None:
    found = shift([1.0, unknown, 2.0, 6.0])
    assert found == pytest.approx([0.69882, 0.0, 0.35047, -1.04929], abs=2e-5)


@pytest.mark.parametrize("baseline", ["prompt", "one_minus_prompt", "one", "none"])
def test_a_baseline_that_centring_would_cancel_is_refused(baseline: str) -> None:
    with pytest.raises(ValueError, match="needs baseline 'group_mean' or 'correct_mean', got"):
        shift([0.1, 0.2], baseline=baseline)


def test_permuting_a_group_permutes_the_shift() -> None:
    scores, correct, order = [1.0, 5.0, 2.0, 6.0, -9.0], [True, False, True, True, True], [4, 2, 0, 1, 3]
    found = shift(scores, correct)
    moved = shift([scores[n] for n in order], [correct[n] for n in order])
    assert moved == pytest.approx([found[n] for n in order], abs=1e-6)


def test_alpha_and_advantages() -> None:
    # alpha 0.5 of the hand-worked shift on advantages of 1; alpha 0 to the bit; no gradient, nothing written
    scores = torch.tensor([[1.0, 2.0, 6.0]], requires_grad=True)
    correct, ones = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 3)
    found = reweight_advantages(ones, correct, UNUSED, scores, alpha=0.5, **AMONG_CORRECT)
    assert found[0].tolist() == pytest.approx([1.34941, 1.17523, 0.47536], abs=2e-5)
    assert not found.requires_grad
    assert scores[0].tolist() == [1.0, 2.0, 6.0]
    assert torch.equal(reweight_advantages(ones, correct, UNUSED, scores, alpha=0.0, **AMONG_CORRECT), ones)


def test_the_trend_in_the_length_is_taken_out_by_hand() -> None:
    # lengths 1 2 3 4, scores -1 -3 -2 -6: means 2.5 and -3; cov sum = (-1.5)(2) + (-.5)(0) + (.5)(1) + (1.5)(-3) = -7,
    # variance sum 5, slope -1.4; line -0.9 -2.3 -3.7 -5.1; residuals -0.1 -0.7 1.7 -0.9; the mean -3 stays
    scores, lengths = torch.tensor([[-1.0, -3.0, -2.0, -6.0]]), torch.tensor([[1, 2, 3, 4]])
    found = without_length_trend(scores, lengths, torch.ones(1, 4, dtype=torch.bool))
    assert found[0].tolist() == pytest.approx([-3.1, -3.7, -1.3, -3.9], abs=1e-6)
    # fitted to the first three alone: slope -0.5 about mean 2 and -2; residuals 0.5 -1 0.5, the fourth -4 + 0.5 * 2 = -3
    found = without_length_trend(scores, lengths, torch.tensor([[True, True, True, False]]))
    assert found[0].tolist() == pytest.approx([-1.5, -3.0, -1.5, -5.0], abs=1e-6)


@given(groups, st.integers(0, 1000))
def test_what_is_left_has_no_correlation_with_the_length(group: list[tuple[float, bool]], seed: int) -> None:
    scores, correct = parts(group)
    values, among = torch.tensor([scores]), torch.tensor([correct])
    lengths = torch.randint(1, 30, values.shape, generator=torch.Generator().manual_seed(seed))
    left = without_length_trend(values, lengths, among)
    of_lengths, of_left = ((row - row[among].mean())[among] for row in (lengths.double(), left.double()))
    assert float((of_lengths * of_left).sum()) == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize("lengths", [[3, 9], [4, 4]])
def test_of_two_completions_nothing_is_left_unless_their_lengths_agree(lengths: list[int]) -> None:
    scores, among = torch.tensor([[-0.7, -5.3]]), torch.ones(1, 2, dtype=torch.bool)
    left = without_length_trend(scores, torch.tensor([lengths]), among)
    gone = shift(left[0].tolist()) == [0.0, 0.0]
    assert gone is (lengths[0] != lengths[1])


def test_a_perfect_line_leaves_no_rounding_errors_to_be_standardised() -> None:
    lengths = torch.tensor([[3, 7, 11, 12, 20]])
    scores = -0.1 * lengths.float() - 0.3
    left = without_length_trend(scores, lengths, torch.ones(1, 5, dtype=torch.bool))
    assert shift(left[0].tolist()) == [0.0] * 5


def test_share_of_the_advantage_by_hand() -> None:
    # shifts 0.1 0.3 (mean 0.2: 0.1 + 0.1 within) and 0.5 0.5 (0 within); |A| 1 + 1 + 2 + 0
    advantages, moved = torch.tensor([[1.0, -1.0], [2.0, 0.0]]), torch.tensor([[0.1, 0.3], [0.5, 0.5]])
    assert shift_share(advantages, moved, torch.ones(2, 2, dtype=torch.bool)) == pytest.approx((0.2, 4.0))
    # a completion without a verdict counts in neither
    judged = torch.tensor([[True, True], [True, False]])
    assert shift_share(advantages, moved + torch.tensor([[0.0, 0.0], [0.0, 9.0]]), judged) == pytest.approx((0.2, 4.0))


def test_correlation_within_groups_by_hand() -> None:
    # deviations -1 1 | -2 2 and 1 -1 | -1 1 over the first two of each row: (-1 - 1 + 2 + 2) / sqrt(10 * 4)
    one = torch.tensor([[1.0, 3.0, 50.0], [10.0, 14.0, -50.0]])
    other = torch.tensor([[5, 3, 7], [1, 3, 7]])
    among = torch.tensor([[True, True, False]] * 2)
    assert correlation_within_groups(one, other, among) == (pytest.approx(2 / 40**0.5), 4)
    assert correlation_within_groups(one, torch.ones_like(other), among) == (0.0, 0)


def test_shapes_are_compared() -> None:
    square, wide = torch.zeros(2, 2), torch.zeros(2, 3)
    yes = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(ShapeError, match="lengths"):
        without_length_trend.__wrapped__(square, wide.long(), yes)
    with pytest.raises(ShapeError, match="advantages"):
        shift_share.__wrapped__(wide, square, yes)
    with pytest.raises(ShapeError, match="others"):
        correlation_within_groups.__wrapped__(square, wide, yes)
