"""Clip_B: of the tokens pushed down, those whose loss would cut the entropy most are left out.

    S_t = p (log p + H_t),   z_t = S_t − mean S;   a token with A < 0 and z_t < −μ · std S leaves the objective and its mean

p and H are of the policy that sampled; mean and (population) standard deviation are over all tokens of the rollout, once.
Tokens with A >= 0 are always kept. A step on the sampled logit alone changes the entropy by −S to first order; what the other
logits add is in Clip_V.

Source: arXiv:2602.03392; pan-x-c/Trinity-RFT@e8be774 clipb_advantage.py, agentscope-ai/Trinity-RFT@7305496 examples/entropy.
Evidence: code.
Reproduce: `preset: released` (the mean over all tokens and the dual clip of its trainer, which its settings leave as they are),
a group of 16. With the mean of each completion, the default here, what stays of one counts more for each token that has left.
"""

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.methods._pools import deviation
from progrpo.types import RolloutBatch

NEEDS = frozenset({"entropies"})
PRESETS = {"released": {"aggregate": "token", "dual_clip": 3.0}}


class Params(methods.Params):
    mu: float = Field(2.5, ge=0)
    """μ, in standard deviations over the tokens of the rollout."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    return methods.Advantages(values=values, carried={"left_out": _below(batch, params).float()})


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    return methods.Reweighted(keep=~((step.advantages < 0) & (step.carried["left_out"] > 0)))


def _below(batch: RolloutBatch, params: Params) -> Bool[Tensor, "N S"]:
    if batch.entropies is None:
        return torch.zeros_like(batch.mask)
    logprobs = batch.old_logprobs.float()
    centred, spread = deviation(logprobs.exp() * (logprobs + batch.entropies.float()), batch.mask)
    return batch.mask & (centred < -params.mu * spread)
