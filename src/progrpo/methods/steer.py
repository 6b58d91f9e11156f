"""STEER: tokens whose update would change the entropy most count less.

    Ω_t = A_t ρ_t p^(power−1) (1 − p)(log p + H_t),   p = π, ρ = π/π_old of the token
    mode=exp      w_t = max(exp(−k |Ω_t|), w_min),   k = −ln(w_min) / max(max |Ω|, 0.02)
    mode=linear   w_t from w_max at the smallest |Ω| down to w_min at the largest; (w_min + w_max)/2 where all are equal
    J_t ← w_t J_t

p, ρ and H are those of the policy before each optimiser step, without gradient; the extremes are over all tokens of the
step. The released code takes those of each micro-batch (`pool: micro`), has DAPO's dual clip, and for Ω what is `power: 1`
here: A/π_old times p(1 − p)(log p + H). A step on the sampled token's logit alone changes the entropy by
−A ρ p (1 − p)(log p + H), one factor p more (`power: 2`): own derivation, tested; which of the two the paper means was not
read. Weights hold for clipped tokens, too, and do not enter the mean's divisor. The
released code takes no p or π_old below 1e-8, which shows where a token below it has the largest |Ω|.

Source: arXiv:2510.10150; zz-haooo/STEER@b31df71 core_algos.py and run/run_exp.sh, run/run_linear.sh.
Evidence: code.
Reproduce: the defaults, a group of 8, 16 optimiser steps per rollout; `preset: released` for the code's pools and its dual
clip, `preset: linear` for its other script.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.algo.surrogate import log_ratio
from progrpo.types import WeightedMean

NEEDS = frozenset({"entropies", "refresh"})
PRESETS = {
    "released": {"pool": "micro", "dual_clip": 10.0},
    "linear": {"mode": "linear", "pool": "micro", "dual_clip": 10.0},
}
_SMALLEST_SCALE = 0.02
"""Below it |Ω| is not stretched to the whole range of weights (mode=exp)."""


class Params(methods.Params):
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "token"
    mode: Literal["exp", "linear"] = "exp"
    """How a weight falls with Ω: exponentially, or in a straight line between `weight_max` and `weight_min`."""
    weight_min: float = Field(0.8, gt=0, le=1)
    """w_min; 1 with mode=exp leaves every token as it is."""
    weight_max: float = Field(1.2, ge=0)
    """w_max, of mode=linear alone; exp has 1."""
    power: Literal[1, 2] = 1
    """Of the probability in Ω, less the one that cancels with 1/π_old: 1 as released, 2 as derived."""
    pool: methods.Pool = "step"
    """Over which tokens the statistic is taken: all of the optimiser step, or those of a micro-batch, as some code does."""

    @model_validator(mode="after")
    def _ordered(self) -> "Params":
        if self.mode == "linear" and self.weight_max < self.weight_min:
            raise ValueError(f"weight_max={self.weight_max:g} is below weight_min={self.weight_min:g}")
        return self


def pool(params: Params) -> methods.Pool:
    return params.pool


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    if step.entropies is None:
        return methods.Reweighted()
    size = _change(step, params)
    weights = step.per_pool(lambda mask: _weights(size, mask, params))
    kept = weights[step.mask]
    return methods.Reweighted(
        weights=weights, stats={"steer/weight": WeightedMean(float(kept.double().sum()), float(kept.numel()))}
    )


def _change(step: methods.StepBatch, params: Params) -> Float[Tensor, "K S"]:
    """|Ω|; 0 where masked."""
    now = step.logprobs.float()
    ratio = log_ratio(now, step.old_logprobs).exp()
    p = now.exp()
    entropies = torch.zeros_like(now) if step.entropies is None else step.entropies.float()
    size = step.advantages.float() * ratio * (1 - p) * (now + entropies) * (p if params.power == 2 else 1.0)
    return size.abs().masked_fill(~step.mask, 0.0)


def _weights(size: Float[Tensor, "K S"], mask: Bool[Tensor, "K S"], params: Params) -> Float[Tensor, "K S"]:
    if not bool(mask.any()):
        return torch.ones_like(size)
    least, most = float(size[mask].min()), float(size[mask].max())
    if params.mode == "exp":
        rate = -math.log(params.weight_min) / max(most, _SMALLEST_SCALE)
        return (-rate * size).exp().clamp(params.weight_min, 1.0)
    if most == least:
        return torch.full_like(size, (params.weight_min + params.weight_max) / 2)
    share = (size - least) / (most - least)
    weights = params.weight_max - (params.weight_max - params.weight_min) * share
    return weights.clamp(params.weight_min, params.weight_max)
