"""REINFORCE: the reward times the gradient of the log-probability, no baseline, no ratio, no clip.

    J = 1/N · Σ_n R_n · log π(o_n | q_n)                    (arXiv:2602.05281, Eq. 1)

The sum runs over the tokens of a completion. There is no importance ratio: it is the policy gradient only in the first
optimiser step of a rollout, so leave batch.minibatch_prompts at null.

Source: Williams 1992; arXiv:2602.05281, Eq. 1.
Evidence: paper.
Reproduce: the defaults; `baseline: mean` subtracts the mean reward of the rollout.
"""

from typing import Literal

import torch
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.types import RolloutBatch

SURROGATE = False
ON_POLICY = (
    "this method has no importance ratio, so that only the first step follows the policy gradient; leave "
    "batch.minibatch_prompts at null"
)


class Params(methods.Params):
    aggregate: How = "fixed"
    fixed_length: int | None = 1
    baseline: Literal["none", "mean"] = "none"
    """Subtracted from the reward: nothing (Eq. 1), or the mean over all judged completions of the rollout."""


def check(params: Params, group: int) -> list[str]:
    """Eq. 1 sums log-probabilities over whole completions."""
    if params.aggregate == "fixed" and params.fixed_length == 1:
        return []
    return [f"aggregate={params.aggregate} scales each completion's log-probability by its length; Eq. 1 sums it"]


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    rewards, judged = batch.rewards.float(), batch.judged
    if params.baseline == "mean" and bool(judged.any()):
        rewards = rewards - rewards[judged].mean()
    return methods.Advantages(values=torch.where(judged, rewards, 0.0))


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    return micro.advantages * micro.logprobs
