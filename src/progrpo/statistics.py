"""Means over problems with bootstrap intervals, over seeds with Student's, paired differences and tests, and smoothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
"""Share of the resampled means inside an interval."""

_SEED = 20_260_205
_AT_A_TIME = 4_000_000
"""Draws held in memory at once; the result does not depend on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean over problems (or over seeds), and where it would lie for others drawn like these.

    Attributes:
        count: problems (or seeds) that it is over.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def clear(self) -> bool:
        """Whether it leaves out 0."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(values: Sequence[float] | np.ndarray) -> Interval:
    """The mean of one value per problem, with its percentile bootstrap interval.

    Problems are drawn with replacement 10,000 times from a fixed seed, so the same values give the same interval.
    It speaks of other problems, not of other training seeds.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or not data.size or not np.isfinite(data).all():
        raise ValueError(f"bootstrap_mean: expected at least one finite value per problem, got shape {data.shape}")
    means = _resampled_means(data)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean=float(data.mean()), low=float(low), high=float(high), count=data.size)


def mean_of_means(groups: Sequence[Sequence[float]]) -> Interval:
    """The plain mean over groups of problems (benchmarks) of their means, each group with the same weight.

    Its interval resamples the problems of each group on their own; the groups themselves are taken as given.

    Raises:
        ValueError: no groups, or one without values.
    """
    if not groups or not all(map(len, groups)):
        raise ValueError(f"mean_of_means: expected groups with at least one value, got sizes {[*map(len, groups)]}")
    means = np.zeros(RESAMPLES)
    for index, data in enumerate(groups):
        # Counts of the distinct values are all that a mean depends on, and benchmarks of 12,000 problems have few.
        distinct, counts = np.unique(data, return_counts=True)
        generator = np.random.Generator(np.random.Philox([_SEED + 1, index]))
        drawn = generator.multinomial(len(data), counts / len(data), size=RESAMPLES)
        means += drawn @ distinct / (len(data) * len(groups))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    mean = sum(sum(data) / len(data) for data in groups) / len(groups)
    return Interval(mean=mean, low=float(low), high=float(high), count=sum(map(len, groups)))


def paired_difference(values: Sequence[float] | np.ndarray, baseline: Sequence[float] | np.ndarray) -> Interval:
    """The mean of `values - baseline`, problem by problem; what is hard about a problem cancels out.

    Args:
        values, baseline: one value per problem, in the same order of problems.

    Raises:
        ValueError: their lengths differ, or see `bootstrap_mean`.
    """
    if len(values) != len(baseline):
        raise ValueError(f"paired_difference: expected as many values as baselines, got {len(values)}, {len(baseline)}")
    return bootstrap_mean(np.asarray(values, dtype=np.float64) - np.asarray(baseline, dtype=np.float64))


def over_seeds(values: Sequence[float]) -> Interval | None:
    """The mean of one value per training seed, with Student's interval: mean ± t · s / √n with n - 1 degrees of freedom.

    It speaks of other seeds, on the same problems, as far as the values are normally distributed; two seeds give a very wide
    one (t = 12.7). None for fewer than two values, and where all are equal, as benchmarks of few problems have it by chance:
    how seeds differ is not known then.

    Raises:
        ValueError: a value is not finite.
    """
    data = _finite(values)
    if data.size < 2 or _alike(data):
        return None
    return _student(data.mean(), data.var(ddof=1) / data.size, data.size - 1, data.size)


def difference_over_seeds(values: Sequence[float], baseline: Sequence[float]) -> Interval | None:
    """The difference of two means over training seeds that are no pairs, with Welch's interval: variances may differ.

    None where either has fewer than two values, or where no two of either differ. Pairs (the same seeds on both sides) are
    `over_seeds` of their differences.

    Raises:
        ValueError: a value is not finite.
    """
    ours, theirs = _finite(values), _finite(baseline)
    if min(ours.size, theirs.size) < 2 or (_alike(ours) and _alike(theirs)):
        return None
    mean = ours.mean() - theirs.mean()
    a, b = ours.var(ddof=1) / ours.size, theirs.var(ddof=1) / theirs.size
    freedom = (a + b) ** 2 / (a**2 / (ours.size - 1) + b**2 / (theirs.size - 1))
    return _student(mean, a + b, freedom, min(ours.size, theirs.size))


def _finite(values: Sequence[float]) -> np.ndarray:
    data = np.asarray(values, dtype=np.float64)
    if not np.isfinite(data).all():
        raise ValueError(f"an interval over seeds: expected a finite value of each, got {[*values]}")
    return data


def _alike(data: np.ndarray) -> bool:
    """But for rounding."""
    return bool(np.ptp(data) < 1e-12)


def _student(mean: float, variance: float, freedom: float, count: int) -> Interval:
    """mean ± t · √variance; variance: of the mean."""
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * float(np.sqrt(variance))
    return Interval(mean=float(mean), low=float(mean) - half, high=float(mean) + half, count=count)


def win_tie_loss(values: Sequence[float], baseline: Sequence[float]) -> tuple[int, int, int]:
    """Problems on which `values` is above, equal to and below `baseline`."""
    pairs = list(zip(values, baseline, strict=True))
    wins, losses = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    return wins, len(pairs) - wins - losses, losses


def sign_flip_test(values: Sequence[float] | np.ndarray, baseline: Sequence[float] | np.ndarray) -> float:
    """The two-sided p-value of the paired permutation test: how often a mean difference at least as large as the one
    seen comes about when each problem's difference keeps its size and takes its sign by chance.

    Exact for at most 13 problems that differ (2^13 assignments are fewer than 10,000), else from 10,000 draws of a fixed
    seed; never 0. It speaks of these problems and samples, not of other training seeds.

    Raises:
        ValueError: their lengths differ, or there are none.
    """
    differences = np.asarray(values, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    if differences.ndim != 1 or not differences.size:
        raise ValueError(f"sign_flip_test: expected one value per problem on both sides, got shape {differences.shape}")
    # Problems without a difference are the same under every assignment.
    differing = differences[differences != 0]
    if differing.size < 2:
        return 1.0
    from scipy.stats import permutation_test

    result = permutation_test(
        (differing,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=max(1, _AT_A_TIME // differing.size),
        rng=np.random.default_rng(_SEED),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down rule (1979), in the order given; each in [0, 1]."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def smoothing_width(points: int) -> int:
    """An odd number of points to average over: a twentieth of them, at least 3."""
    return max(3, points // 20) | 1


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Centred running mean; near the ends over the part of the window that has values.

    Args:
        width: points in the window, odd, >= 1; 1 returns the values.
    """
    ends = np.cumsum(np.concatenate([[0.0], values]))
    index = np.arange(len(values))
    first = np.maximum(index - width // 2, 0)
    last = np.minimum(index + width // 2 + 1, len(values))
    means: np.ndarray = (ends[last] - ends[first]) / (last - first)
    return means


def _resampled_means(data: np.ndarray) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(_SEED))
    rows = max(1, _AT_A_TIME // data.size)
    parts = [
        data[generator.integers(data.size, size=(min(rows, RESAMPLES - start), data.size))].mean(axis=1)
        for start in range(0, RESAMPLES, rows)
    ]
    return np.concatenate(parts)
