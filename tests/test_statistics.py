import numpy as np
import pytest

from progrpo.statistics import (
    Interval,
    bootstrap_mean,
    difference_over_seeds,
    holm,
    mean_of_means,
    over_seeds,
    paired_difference,
    sign_flip_test,
    smooth,
    smoothing_width,
    win_tie_loss,
)


def test_identical_values_give_an_interval_of_no_width() -> None:
    found = bootstrap_mean([0.25] * 8)
    assert (found.mean, found.low, found.high, found.count) == (0.25, 0.25, 0.25, 8)


def test_one_success_in_ten() -> None:
    # The number of times the success is drawn is Bin(10, 0.1): P(0) = 0.349 > 2.5 %; P(<=2) = 0.930 < 97.5 %,
    # P(<=3) = 0.987 > 97.5 %. So the interval of the mean is [0/10, 3/10].
    found = bootstrap_mean([1.0] + [0.0] * 9)
    assert (found.low, found.high) == pytest.approx((0.0, 0.3))
    assert found.mean == pytest.approx(0.1)


def test_each_group_has_the_same_weight() -> None:
    # Means 0.5 and 1; problems of the second all agree, so that only the first moves: by at most 0.5, half of it here.
    found = mean_of_means([[0.0, 1.0], [1.0] * 6])
    assert (found.mean, found.low, found.high, found.count) == (0.75, 0.5, 1.0, 8)
    with pytest.raises(ValueError, match=r"sizes \[2, 0\]"):
        mean_of_means([[0.0, 1.0], []])


def test_half_width_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap_mean(values)
    # 1.96 * s / sqrt(n), s with divisor n as the bootstrap draws from the sample itself
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.high - found.mean == pytest.approx(half, rel=0.05)
    assert found.mean - found.low == pytest.approx(half, rel=0.05)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    found = [bootstrap_mean(generator.normal(size=30)) for _ in range(60)]
    covered = sum(one.low <= 0 <= one.high for one in found)
    assert 50 <= covered <= 60  # Bin(60, ~0.93): 50 or fewer has a chance below 2 %


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(2).random(50)
    assert bootstrap_mean(values) == bootstrap_mean(values.copy())


def test_memory_limit_does_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).random(101)
    whole = bootstrap_mean(values)
    monkeypatch.setattr("progrpo.statistics._AT_A_TIME", 101 * 7)
    assert bootstrap_mean(values) == whole


def test_paired_difference_of_shifted_values_is_the_shift() -> None:
    base = np.random.default_rng(4).random(20)
    found = paired_difference(base + 0.5, base)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_paired_difference_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="got 2, 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0]]])
def test_unusable_values_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite value per problem"):
        bootstrap_mean(values)


def test_win_tie_loss() -> None:
    assert win_tie_loss([3, 2, 1, 1], [1, 2, 3, 4]) == (1, 1, 2)


def test_smooth_averages_over_what_the_window_holds() -> None:
    # ends: (1+2)/2 and (4+8)/2; inside: (1+2+4)/3, (2+4+8)/3... of 1 2 4 8
    assert smooth(np.array([1.0, 2.0, 4.0, 8.0]), 3) == pytest.approx([1.5, 7 / 3, 14 / 3, 6.0])


def test_smooth_of_width_one_and_of_nothing() -> None:
    assert smooth(np.array([1.0, 5.0]), 1).tolist() == [1.0, 5.0]
    assert smooth(np.array([]), 3).size == 0


@pytest.mark.parametrize(("points", "width"), [(0, 3), (10, 3), (100, 5), (200, 11), (1000, 51)])
def test_smoothing_width_is_odd(points: int, width: int) -> None:
    assert smoothing_width(points) == width


def test_sign_flips_by_hand() -> None:
    # Differences 1, 1, 1: of the 8 assignments of signs 2 have a mean of size 1: p = 2 / 8.
    assert sign_flip_test([1, 2, 3], [0, 1, 2]) == pytest.approx(0.25)
    # Differences 1, -1: every assignment gives a mean of at least 0 in size.
    assert sign_flip_test([1, 0], [0, 1]) == 1.0
    # A single problem is as large with either sign, and problems without a difference change nothing.
    assert sign_flip_test([1], [0]) == 1.0
    assert sign_flip_test([1, 2, 3, 5, 5], [0, 1, 2, 5, 5]) == pytest.approx(0.25)
    # No difference at all says nothing against chance.
    assert sign_flip_test([1.0, 2.0], [1.0, 2.0]) == 1.0


def test_sign_flips_of_many_problems_are_drawn_and_the_same_each_time() -> None:
    values = np.random.default_rng(0).random(60)
    found = sign_flip_test(values + 0.3, values)
    assert 0 < found < 0.001
    assert sign_flip_test(values + 0.3, values) == found


def test_sign_flips_refuse_nothing() -> None:
    with pytest.raises(ValueError, match="expected one value per problem"):
        sign_flip_test([], [])


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04: times 3, 2, 1 gives 0.03, 0.06, 0.04; the last may not be below the one before it.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_over_seeds_is_students_interval() -> None:
    # 1 2 3: mean 2, s = 1, t(2) at 97.5 % = 4.30265, so the half width is 4.30265 / sqrt(3)
    found = over_seeds([1.0, 2.0, 3.0])
    assert found is not None
    assert (found.mean, found.count) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert over_seeds([1.0]) is None
    # Two benchmarks of 30 problems that happen to come out alike say nothing of a third.
    assert over_seeds([1 / 30, 0.1 / 3]) is None
    with pytest.raises(ValueError, match="finite"):
        over_seeds([1.0, float("nan")])


def test_means_over_other_seeds_differ_by_welchs_interval() -> None:
    # 1 3 against 0 0: means 2 and 0, variance of the first mean 2/2 = 1, of the second 0: one degree of freedom, t = 12.7062
    found = difference_over_seeds([1.0, 3.0], [0.0, 0.0])
    assert found is not None
    assert (found.mean, found.high) == (2.0, pytest.approx(2 + 12.7062, abs=1e-3))
    assert difference_over_seeds([1.0, 1.0], [0.0, 0.0, 0.0]) is None
    assert difference_over_seeds([1.0, 2.0], [1.0]) is None


def test_an_interval_is_clear_when_it_leaves_out_nothing() -> None:
    ends = {(-1.0, 1.0): False, (0.0, 1.0): False, (0.1, 1.0): True, (-1.0, -0.1): True}
    assert {one: Interval(mean=0.0, low=one[0], high=one[1], count=2).clear for one in ends} == ends
