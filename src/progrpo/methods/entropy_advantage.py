"""Entropy advantage shaping: uncertain tokens are pushed more, never so much that an advantage turns its sign.

    A_t ← A_t + min(α · H_t, |A_t| / κ)

H is the entropy of the policy that sampled, a constant of the update. The third-party port below takes that of the current
policy in each micro-batch instead, which is the same in the first step of a rollout.

Source: arXiv:2506.14758.
Evidence: second-hand for the constants; a third-party port (Linn3a/siren@fa59a8d) has κ = 1.
Reproduce: alpha=0.4 with GRPO, 0.1 with PPO; kappa=2; rewards +1/−1.
"""

import torch
from pydantic import Field

from progrpo import methods
from progrpo.types import RolloutBatch, WeightedMean

NEEDS = frozenset({"entropies"})
TOKEN_LEVEL = True


class Params(methods.Params):
    alpha: float = Field(0.4, ge=0)
    """Advantage per nat of entropy; 0 gives GRPO."""
    kappa: float = Field(2.0, ge=1)
    """The bonus is at most |A| / κ: with κ > 1 no negative advantage becomes positive."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    base = values.flatten()[:, None].expand(batch.mask.shape)  # [N, S]
    entropies = torch.zeros_like(base) if batch.entropies is None else batch.entropies.float()
    bonus = torch.minimum(params.alpha * entropies, base.abs() / params.kappa).masked_fill(~batch.mask, 0.0)
    return methods.Advantages(
        values=values,
        tokens=base + bonus,
        stats={"entropy_advantage/bonus": WeightedMean(float(bonus.double().sum()), float(batch.mask.sum()))},
    )
