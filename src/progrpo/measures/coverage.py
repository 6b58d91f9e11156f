"""Coverage: what share of all solutions of a problem the samples reach, and how evenly.

For tasks that know their solutions in canonical form (countdown, grid_path): the direct measure of exploration.
"""

import math
from collections import Counter

from progrpo.errors import DataError
from progrpo.measures import Params
from progrpo.measures.pass_at_k import estimate, powers_of_two
from progrpo.schema.quantity import Quantity
from progrpo.types import ProblemResult

__all__ = ["class_entropy", "coverage"]

NEEDS_CANONICAL = True
COLUMNS = (
    Quantity(
        key="coverage@K",
        label="Coverage@K",
        unit="%",
        percent=True,
        better="higher",
        meaning="share of all solutions of a problem that stand among K samples, exact over all K-subsets, mean over the "
        "problems whose number of solutions is known; K = 1, 2, 4, ... n",
    ),
    Quantity(
        key="class_entropy",
        label="Entropy of the forms",
        unit="nats",
        digits=3,
        better="higher",
        meaning="entropy of the canonical forms of the correct samples, mean over problems with at least two",
    ),
)


def coverage(counts: list[int], n: int, k: int, solutions: int) -> float:
    """Expected share of all solutions that stand among k of the n samples.

        coverage@k = 1/S · Σ_f (1 − C(n−c_f, k) / C(n, k))

    The sum of the chances of finding each form, exact over all k-subsets.

    Args:
        counts: correct samples of each form found, c_f. solutions: S, >= the number of forms.

    Returns:
        In [0, 1]; pass@k is its counterpart for "any solution".
    """
    return math.fsum(estimate(n, count, k) for count in counts) / solutions


def class_entropy(counts: list[int]) -> float:
    """Entropy of the forms of the correct samples, in nats: −Σ_f p_f log p_f with p_f = c_f / Σ c.

    The plug-in estimate: too low on average, by about (forms − 1) / (2 · samples); 0 where all share one form, at most the
    log of the number of samples. Compare it at equal numbers of correct samples.
    """
    total = sum(counts)
    return math.log(total) - math.fsum(count * math.log(count) for count in counts) / total


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """`class_entropy` (nats): for at least two correct samples. `coverage@k` for k = 1, 2, 4, ... and n: where the problem
    says how many solutions there are (`facts["solutions"]`).

    Raises:
        DataError: more forms were found right than there are solutions.
    """
    forms = Counter(sample.canonical for sample in judged.samples if sample.correct and sample.canonical is not None)
    counts = sorted(forms.values())
    values: dict[str, float] = {}
    if sum(counts) >= 2:
        values["class_entropy"] = class_entropy(counts)
    solutions = judged.facts.get("solutions")
    if solutions is None:
        return values
    if solutions < max(1, len(counts)):
        raise DataError(
            f"problem {judged.problem!r}: facts['solutions'] must be at least 1 and at least the number of correct forms "
            f"found, {len(counts)}; got {solutions!r}. Count the solutions with the verifier's own canonical form"
        )
    return values | {f"coverage@{k}": coverage(counts, judged.n, k, solutions) for k in powers_of_two(judged.n)}
