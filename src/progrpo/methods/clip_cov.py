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

import math

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.algo.surrogate import log_ratio
from progrpo.methods._pools import covariance

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
    """See `cov_high`."""
    cov_high: float = 5.0
    """Only tokens with a covariance between these are candidates."""
    pool: methods.Pool = "step"
    """Over which tokens the statistic is taken: all of the optimiser step, or those of a micro-batch, as some code does."""


def pool(params: Params) -> methods.Pool:
    return params.pool


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    ratio = log_ratio(step.logprobs, step.old_logprobs).exp()
    clipped = ((step.advantages > 0) & (ratio > 1 + params.clip_high)) | (
        (step.advantages < 0) & (ratio < 1 - params.clip_low)
    )
    # One number per token, drawn for the whole step: which tokens go does not depend on the order of the pools.
    order = torch.rand(step.mask.shape, generator=step.generator)

    def spared(mask: Tensor) -> Tensor:
        cov = covariance(step.advantages, step.logprobs, mask)
        candidates = (mask & ~clipped & (cov > params.cov_low) & (cov < params.cov_high)).flatten()
        # A ratio such as 0.29 of 100 tokens must be 29, whatever 0.29 is in binary.
        wanted = max(1, math.floor(params.ratio * int(mask.sum()) + 1e-9)) if params.ratio else 0
        indices = candidates.nonzero()[:, 0]
        chosen = indices[order.flatten()[indices].argsort()[:wanted]]
        return torch.ones(mask.numel()).index_fill(0, chosen, 0.0).view(mask.shape)

    return methods.Reweighted(weights=step.per_pool(spared))
