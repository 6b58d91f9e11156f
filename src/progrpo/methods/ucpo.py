"""UCPO: the positive advantages of a group are shared out anew among its correct completions, more to the less likely.

    l_i = mean log p_old of completion i;   q = softmax of l over the correct ones, at least `floor`
    w_i = n ((1 − τ)/n + τ (1/q_i) / Σ_j (1/q_j)),   A_i ← A_i · w_i    for the n >= 2 correct completions of a group

Incorrect completions keep their advantage; the sum of the weights is n, so that the positive advantage of the group is kept. No
gradient flows through w.

Source: arXiv:2605.00365; AnamikaLochab/UCPO@93ce506.
Evidence: code.
Reproduce: tau=0.2 and floor=1e-6; `preset: released` (the mean over all tokens and the dual clip of its trainer), a group of 8,
one optimiser step per rollout.
"""

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.confidence import sequence_log_confidence
from progrpo.types import RolloutBatch, WeightedMean

PRESETS = {"released": {"aggregate": "token", "dual_clip": 3.0, "eps": 1e-8}}


class Params(methods.Params):
    tau: float = Field(0.2, ge=0, le=1)
    """τ, the share of the positive advantage that goes by 1/q; 0 gives GRPO."""
    floor: float = Field(1e-6, gt=0, lt=1)
    """Smallest q."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    weights = _weights(batch, params)
    spread = (weights - 1).abs()[weights != 1]
    return methods.Advantages(
        values=values * weights,
        stats={"ucpo/weight_spread": WeightedMean(float(spread.double().sum()), float(spread.numel()))},
        columns={"ucpo_weight": weights},
    )


def _weights(batch: RolloutBatch, params: Params) -> Tensor:
    """[P, G] the factor of each advantage; 1 for what is not correct, and where fewer than two are."""
    mean_logprob = sequence_log_confidence(batch.old_logprobs, batch.mask, fraction=1.0).view(batch.rewards.shape)
    shared = batch.correct & batch.judged & mean_logprob.isfinite()
    shared = shared & (shared.sum(dim=1, keepdim=True) >= 2)
    share = mean_logprob.masked_fill(~shared, -torch.inf).softmax(dim=1).clamp(min=params.floor)  # q [P, G]
    inverse = share.reciprocal().masked_fill(~shared, 0.0)
    count = shared.sum(dim=1, keepdim=True)
    weights = (1 - params.tau) + count * params.tau * inverse / inverse.sum(dim=1, keepdim=True)
    return torch.where(shared, weights, 1.0)
