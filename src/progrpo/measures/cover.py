"""Cover@τ: the share of problems that are solved reliably, by at least a share τ of the samples (arXiv:2510.08325).

Pass@k asks whether luck can find an answer, and for large k it is mostly the low end of this curve; Cover@τ asks how many
problems the model can be relied on for. Methods rank differently by the two.
"""

from fractions import Fraction
from typing import Annotated

from pydantic import Field

from progrpo.schema.quantity import Quantity
from progrpo.settings import Settings
from progrpo.types import ProblemResult

__all__ = ["covered"]

_MEANING = "share of problems of whose n samples at least a share {} is correct (Cover@τ, arXiv:2510.08325)"
COLUMNS = (
    Quantity(
        key="cover@0.5",
        label="Cover@0.5",
        unit="%",
        percent=True,
        better="higher",
        meaning=_MEANING.format("0.5"),
        drawn=("page", "benchmarks"),
    ),
    Quantity(
        key="cover@NAME",
        label="Cover@NAME",
        unit="%",
        percent=True,
        better="higher",
        meaning=_MEANING.format("NAME")
        + "; 0.25, 0.5 and 0.75 unless `tau` says otherwise. Compare at equal n: the share "
        "is that of the samples, not of the policy",
    ),
)


class Params(Settings):
    tau: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.25, 0.5, 0.75), min_length=1)
    """Shares of correct samples from which a problem counts as solved."""


def covered(n: int, c: int, tau: float) -> bool:
    """Whether c of n samples are at least a share τ of them: c/n >= τ, with τ as it is written in decimals, so that 7 of 10
    reach 0.7.

        Cover@τ = 1/P · Σ_p 1[c_p / n_p >= τ]

    Pass@k under drawing with replacement is an average of it, with weights k (1−τ)^(k−1) that lie near τ = 0 for large k.

    Raises:
        ValueError: not (n >= 1, 0 <= c <= n, 0 < τ <= 1).
    """
    if not (n >= 1 and 0 <= c <= n and 0 < tau <= 1):
        raise ValueError(f"cover@τ: expected n >= 1, 0 <= c <= n and 0 < τ <= 1, got n={n}, c={c}, τ={tau}")
    return Fraction(c, n) >= Fraction(repr(tau))


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """`cover@τ` for each of `tau`: 1 or 0, so that its mean over problems is Cover@τ."""
    return {f"cover@{tau!r}": float(covered(judged.n, judged.correct, tau)) for tau in params.tau}
