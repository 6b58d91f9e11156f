"""KL-Cov: a penalty on the tokens whose log-probability and advantage covary most, no clipping.

    cov_t = (A_t − mean A) · (log π_t − mean log π),    J_t = ρ_t A_t − coef · |log π_t − log π_old,t|  on the top k
    k = max(1, ⌊ratio · tokens⌋)

The means and the top k are over all tokens of the step (`pool: step`); the released code takes those of the micro-batch
(`pool: micro`). The gradient flows through |·| and is 0 where π = π_old, so the penalty acts from the second step of a
rollout on. In the first the two differ by rounding alone, of which |·| would make a full gradient of no meaning: no token is
marked there, as the released code would. Where no group is mixed every advantage is 0 and so is every covariance: the ties go
to the first k tokens of the step in row order, and the penalty is all that acts on them.

Source: arXiv:2505.22617; PRIME-RL/Entropy-Mechanism-of-RL@8850579 core_algos.py.
Evidence: code.
Reproduce: ratio=0.002 for 7B, 0.0002 for 32B, coef=1 and 8 optimiser steps per rollout (its scripts), `preset: released` for
the code's pools; verl's port has ratio=0.0002, coef=0.1.
"""

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.algo.surrogate import log_ratio
from progrpo.methods._pools import covariance, top_share

NEEDS = frozenset({"refresh"})
SURROGATE = False
OFF_POLICY = (
    "kl_cov penalises tokens by how far the earlier steps of the rollout have moved them, so that with one step it is policy "
    "gradient without a penalty; set batch.minibatch_prompts to a part of batch.prompts (the paper's scripts make 8 steps)"
)
PRESETS = {
    "7b": {"ratio": 2e-3},
    "32b": {"ratio": 2e-4},
    "released": {"pool": "micro"},
    "verl": {"ratio": 2e-4, "coef": 0.1, "pool": "micro"},
}


class Params(methods.Params):
    aggregate: How = "token"
    ratio: float = Field(2e-3, ge=0, le=1)
    """Share of the tokens that are penalised; 0 penalises none and leaves the unclipped surrogate."""
    coef: float = Field(1.0, ge=0)
    """Weight of the penalty, in units of the advantage per nat."""
    pool: methods.Pool = "step"
    """Over which tokens the statistic is taken: all of the optimiser step, or those of a micro-batch, as some code does."""

    @property
    def resolution(self) -> float:
        """0: |·| makes a full gradient of any difference."""
        return 0.0 if self.ratio and self.coef else 1.0


def pool(params: Params) -> methods.Pool:
    return params.pool


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    def top(mask: Tensor) -> Tensor:
        cov = covariance(step.advantages, step.logprobs, mask)
        return top_share(cov, mask, params.ratio, at_least=1 if params.ratio else 0, rounding="floor")

    return methods.Reweighted(marks=step.per_pool(top) & (step.logprobs != step.old_logprobs))


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    difference = log_ratio(micro.logprobs, micro.old_logprobs)
    objective = difference.exp() * micro.advantages
    if micro.marks is None:
        return objective
    return torch.where(micro.marks, objective - params.coef * difference.abs(), objective)
