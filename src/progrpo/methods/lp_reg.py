"""Lp-Reg: the rarest tokens of wrong completions are pulled towards what the policy would be without its noise.

    p̃ = π_old without the tokens below κ max π_old, renormalised
    at the ⌊share · tokens with A < 0⌋ of them with the lowest log π_t, where log π_t < log p̃_t:
        J_t = ρ_t A_t − β (p̃_t/π_t − log(p̃_t/π_t) − 1)       no clip; the penalty is bounded by 10
    elsewhere PPO's clip in [1 − ε_low, 1 + ε_high]

The tokens are ranked by the policy as it is before each optimiser step, over the whole step; the released code ranks them in
each micro-batch (`pool: micro`). A token that p̃ does not hold is not chosen, and where fewer than two would be, none is. The
paper has the full KL divergence of the two distributions, the code this estimate of it from the sampled token, which is what
is here. Its regularisation of right completions is switched off in its scripts, and left out.

Source: arXiv:2510.03222; CarlanLark/Lp-Reg-dev@33b27e2 core_algos.py and recipe/lp_reg.
Evidence: code.
Reproduce: `preset: 14b` or `32b`, a group of 8, one optimiser step per rollout; `preset: released` for the code's pools, with
share=0.005 beside it for 32B. No gradient flows through p̃.
"""

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.algo.divergence import kl_estimate
from progrpo.algo.surrogate import log_ratio
from progrpo.methods._pools import largest
from progrpo.types import RolloutBatch, WeightedMean

NEEDS = frozenset({"proxy_logprobs", "refresh"})
PRESETS = {"14b": {"share": 0.01}, "32b": {"share": 0.005}, "released": {"pool": "micro"}}
_LARGEST_PENALTY = 10.0


class Params(methods.Params):
    clip_low: float = Field(1.0, ge=0, le=1)
    clip_high: float = Field(9.0, ge=0)
    aggregate: How = "token"
    share: float = Field(0.01, ge=0, le=1)
    """Of the tokens with a negative advantage, by lowest probability; 0 leaves PPO's clip alone."""
    min_p: float = Field(0.02, gt=0, le=1)
    """κ: a token is noise below this share of the likeliest token's probability."""
    beta: float = Field(1.0, ge=0)
    """β, weight of the penalty, in units of the advantage per nat."""
    pool: methods.Pool = "step"
    """Over which tokens the statistic is taken: all of the optimiser step, or those of a micro-batch, as some code does."""


def pool(params: Params) -> methods.Pool:
    return params.pool


def min_p(params: Params) -> float:
    return params.min_p


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    return methods.Advantages(
        values=values, carried={} if batch.proxy_logprobs is None else {"proxy": batch.proxy_logprobs}
    )


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    proxy = step.carried.get("proxy")
    if proxy is None:
        return methods.Reweighted()

    def rarest(mask: Tensor) -> Bool[Tensor, "K S"]:
        falling = mask & (step.advantages < 0)
        # A share such as 0.29 of 100 tokens must be 29, whatever 0.29 is in binary.
        count = int(params.share * int(falling.sum()) + 1e-9)
        return largest(-step.logprobs, falling, count if count > 1 else 0)

    marks = step.per_pool(rarest) & (step.logprobs < proxy)
    trained = step.mask
    return methods.Reweighted(
        marks=marks, stats={"lp_reg/protected": WeightedMean(float(marks.sum()), float(trained.sum()))}
    )


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    if micro.marks is None or not bool(micro.marks.any()):
        return surrogate
    proxy = torch.where(micro.marks, micro.carried["proxy"], micro.logprobs.detach())
    penalty = kl_estimate(micro.logprobs, proxy, kind="k3").clamp(max=_LARGEST_PENALTY)
    ratio = log_ratio(micro.logprobs, micro.old_logprobs).exp()
    return torch.where(micro.marks, ratio * micro.advantages - params.beta * penalty, surrogate)
