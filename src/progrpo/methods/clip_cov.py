"""Clip-Cov: a few random tokens of high covariance between log-probability and advantage get no gradient.

    cov_t as in KL-Cov;  candidates: low < cov_t < high and not clipped;  max(1, ⌊ratio · tokens⌋) of them, drawn at random,
    keep their place in the mean and lose their gradient

The draw comes from the step's own seed. Statistics are over all tokens of the step (`pool: step`); the released code
takes those of the micro-batch (`pool: micro`).

Source: arXiv:2505.22617; PRIME-RL/Entropy-Mechanism-of-RL@8850579 core_algos.py and recipe/dapo/*.sh.
Evidence: code.
Reproduce: the defaults are its 7B script (ratio clipped to [0, 2], covariances between 1 and 5, 2e-4 of the tokens);
`preset: released` for the code's pools.
"""

from pydantic import Field

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.methods._pools import without_covariant

NEEDS = frozenset({"refresh"})
PRESETS = {"released": {"pool": "micro"}}


class Params(methods.Params):
    aggregate: How = "token"
    clip_low: float = Field(1.0, ge=0, le=1)
    clip_high: float = Field(1.0, ge=0)
    ratio: float = Field(2e-4, ge=0, le=1)
    """Share of all tokens that lose their gradient, one at least; 0 leaves PPO's clip alone."""
    cov_low: float = 1.0
    """See `cov_high`."""
    cov_high: float = 5.0
    """Only tokens with a covariance between these are candidates."""
    pool: methods.Pool = "step"
    """Over which tokens the statistic is taken: all of the optimiser step, or those of a micro-batch, as some code does."""


def pool(params: Params) -> methods.Pool:
    return params.pool


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    spared = without_covariant(
        step,
        ratio=params.ratio,
        cov_low=params.cov_low,
        cov_high=params.cov_high,
        clip_low=params.clip_low,
        clip_high=params.clip_high,
    )
    return methods.Reweighted(weights=spared)
