"""GSPO: the importance ratio of the whole completion, per token, clipped as one.

    s_n = exp(1/|o_n| Σ_t log(π_t / π_old,t)),    J = 1/N Σ_n min(s_n A_n, clip(s_n, 1 − ε_low, 1 + ε_high) A_n)

policy/clip_low, policy/clip_high and policy/ratio speak of the tokens' own ratios, which this method does not use.

Source: arXiv:2507.18071.
Evidence: paper, with its range.
Reproduce: the defaults; four optimiser steps per rollout.
"""

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.surrogate import log_ratio

SURROGATE = False
OFF_POLICY = (
    "gspo clips importance ratios of whole completions, which are all 1 in the first step, so that with one step its gradient "
    "is GRPO's; set batch.minibatch_prompts to a part of batch.prompts (the paper makes 4 steps)"
)


class Params(methods.Params):
    clip_low: float = Field(3e-4, ge=0, le=1)
    clip_high: float = Field(4e-4, ge=0)


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    lengths = micro.mask.sum(dim=1).clamp(min=1)
    differences = torch.where(micro.mask, log_ratio(micro.logprobs, micro.old_logprobs), 0.0)
    ratio = (differences.sum(dim=1) / lengths).exp()  # [M]
    advantages = torch.where(micro.mask, micro.advantages, 0.0).sum(dim=1) / lengths
    clipped = ratio.clamp(1 - params.clip_low, 1 + params.clip_high)
    objective = torch.minimum(ratio * advantages, clipped * advantages)
    # The mean over a sequence's tokens (aggregate: sequence) gives back the one value.
    return objective[:, None].expand(micro.mask.shape)
