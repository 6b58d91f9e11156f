"""Clip_V: of the tokens pushed down, the few that would change the entropy most are left out.

    d_t = Σ_v p_v² (log p_v + H_t) − p (log p + H_t);   tokens with A < 0 and d_t > μ · std d leave the objective and its mean,
    at most max(1, ⌊max_fraction · tokens⌋) of a rollout, the largest d first

A ρ d is the exact first-order change of the entropy of a softmax by a step on the token: `policy/predicted_entropy_change` is
made of it. p and H are of the policy that sampled; the (population) standard deviation is over all tokens of the rollout,
once. Where fewer go than the bound allows, the released code lets tokens with A = 0 go by the same rule, which leave nothing
but the mean's divisor; here they stay. Of advantages that something is added to (`method.add`) the sign before the addition
chooses, and a chosen token that is no longer pushed down stays.

Source: arXiv:2602.03392; pan-x-c/Trinity-RFT@e8be774 clipv_advantage.py.
Evidence: code.
Reproduce: `preset: released` (the mean over all tokens and the dual clip of its trainer, which its settings leave as they are),
a group of 16. With the mean of each completion, the default here, what stays of one counts more for each token that has left.
"""

import math

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.methods._pools import deviation, largest
from progrpo.types import RolloutBatch

NEEDS = frozenset({"entropy_gradients"})
PRESETS = {"released": {"aggregate": "token", "dual_clip": 3.0}}


class Params(methods.Params):
    mu: float = Field(8.5, ge=0)
    """μ, in standard deviations over the tokens of the rollout."""
    max_fraction: float = Field(1e-4, ge=0, le=1)
    """Share of the rollout's tokens that may be left out; one may always."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    falling = (values < 0).flatten()[:, None] & batch.mask  # [N, S]
    return methods.Advantages(values=values, carried={"left_out": _beyond(batch, falling, params).float()})


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    return methods.Reweighted(keep=~((step.advantages < 0) & (step.carried["left_out"] > 0)))


def _beyond(batch: RolloutBatch, falling: Bool[Tensor, "N S"], params: Params) -> Bool[Tensor, "N S"]:
    if batch.entropy_gradients is None:
        return torch.zeros_like(batch.mask)
    change = batch.entropy_gradients.float()
    _, spread = deviation(change, batch.mask)
    candidates = falling & (change > params.mu * spread) & (spread > 0)
    # A share such as 0.29 of 100 tokens must be 29, whatever 0.29 is in binary.
    bound = max(1, math.floor(params.max_fraction * int(batch.mask.sum()) + 1e-9))
    return largest(change, candidates, bound)
