"""AUC@K: the area under the curve of Pass@k from 1 to K, one number for the whole curve (arXiv:2601.08763, Eq. 7).

Pass@1 tells the average answer, Pass@K the luckiest of K; two curves that cross are ranked by either end as one likes. The area
weighs every budget alike.
"""

import math

from progrpo.measures import Params
from progrpo.measures.pass_at_k import powers_of_two
from progrpo.schema.quantity import Quantity
from progrpo.types import ProblemResult

__all__ = ["areas"]

COLUMNS = (
    Quantity(
        key="auc@K",
        label="AUC@K",
        unit="%",
        percent=True,
        better="higher",
        meaning="mean height of the curve of Pass@k over k = 1..K (trapezoids, arXiv:2601.08763, Eq. 7), mean over problems; "
        "K = 2, 4, ... n",
        drawn=("page", "benchmarks"),
    ),
)


def areas(n: int, c: int) -> list[float]:
    """AUC@K for K = 2..n, from the unbiased Pass@k, and so unbiased itself.

        AUC@K = 1/(K−1) · Σ_{k=1}^{K−1} (Pass@k + Pass@(k+1)) / 2

    Args:
        n: samples drawn, >= 1. c: correct ones among them, 0..n.

    Returns:
        n − 1 numbers in [0, 1]; that of K lies between Pass@1 and Pass@K, and is never below that of K − 1. Empty for n = 1.

    Raises:
        ValueError: outside these ranges.
    """
    if not (n >= 1 and 0 <= c <= n):
        raise ValueError(f"auc@K: expected n >= 1 and 0 <= c <= n, got n={n}, c={c}")
    failed = [1.0]  # C(n-c, k) / C(n, k) for k = 0, 1, ..., each from the one before: nothing overflows or cancels
    for k in range(1, n + 1):
        failed.append(failed[-1] * max(n - c - k + 1, 0) / (n - k + 1))
    passed = [1.0 - one for one in failed[1:]]
    return [(math.fsum(passed[:k]) - (passed[0] + passed[k - 1]) / 2) / (k - 1) for k in range(2, n + 1)]


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """auc@2, auc@4, ... up to n, and auc@n; nothing of a single sample."""
    heights = areas(judged.n, judged.correct)
    return {f"auc@{k}": heights[k - 2] for k in powers_of_two(judged.n) if k >= 2}
