"""Pass@k: the chance that at least one of k samples is right, unbiased from n >= k samples (arXiv:2107.03374)."""

import math

from progrpo.schema.quantity import Quantity
from progrpo.settings import Settings
from progrpo.types import ProblemResult

__all__ = ["doublings", "estimate", "powers_of_two"]

COLUMNS = (
    Quantity(
        key="pass@1",
        label="Pass@1",
        unit="%",
        percent=True,
        better="higher",
        meaning="share of correct completions, mean over problems",
        drawn=("held-out", "benchmarks", "overview", "compare", "pass-at-1", "over-k", "progress"),
    ),
    Quantity(
        key="pass@K",
        label="Pass@K",
        unit="%",
        percent=True,
        better="higher",
        meaning="Pass@K, unbiased from n samples (arXiv:2107.03374), mean over problems; K = 1, 2, 4, ... n",
        drawn=("held-out", "benchmarks", "overview", "compare", "pass-at-most", "over-k"),
    ),
)


class Params(Settings):
    every: bool = False
    """Every k from 1 to n; false takes 1, 2, 4, ... and n, which a curve needs."""


def estimate(n: int, c: int, k: int) -> float:
    """1 - C(n-c, k) / C(n, k), in a form that neither overflows nor cancels.

    Args:
        n: samples drawn, >= 1. c: correct ones among them, 0..n. k: 1..n.

    Returns:
        A probability in [0, 1]. The naive 1 - (1 - c/n)^k is biased; it is not what this is.

    Raises:
        ValueError: outside these ranges; k > n has no unbiased estimate from n samples.
    """
    if not (1 <= k <= n and 0 <= c <= n):
        raise ValueError(f"pass@k: expected 1 <= k <= n and 0 <= c <= n, got n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    return -math.expm1(sum(math.log1p(-k / i) for i in range(n - c + 1, n + 1)))


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """pass@1, pass@2, pass@4, ... up to n, and pass@n; or pass@k for every k."""
    ks = range(1, judged.n + 1) if params.every else powers_of_two(judged.n)
    return {f"pass@{k}": estimate(judged.n, judged.correct, k) for k in ks}


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... up to n, and n itself."""
    return sorted({*doublings(n), n})


def doublings(n: int) -> list[int]:
    """1, 2, 4, ... up to n >= 1."""
    return [2**power for power in range(n.bit_length())]
