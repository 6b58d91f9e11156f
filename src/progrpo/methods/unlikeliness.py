"""Unlikeliness reward: of the correct completions of a group, the likelier ones get less reward.

    r_i ← r_i · (1 − β · rank_i / G),   rank 0 for the completion with the lowest mean log p_old, G − 1 for the highest

Ranks go over all completions of the group; the mean and the standard deviation are taken of the rewards so changed, so that a
group of correct completions alone trains at full strength; the released code leaves such groups out (`skip: degenerate`). Two
of equal mean log p have the mean of their ranks. A reward of 0 or less stays what it is: less of a negative one would be more.

Source: arXiv:2506.02355; AndreHe02/rewarding-unlikely-release@ca1cff0.
Evidence: code.
Reproduce: `preset: released` (with its mean over all tokens and its KL penalty) with beta=0.25, rewards 0/1, a group of 32; its
two passes over each rollout are not here: batch.minibatch_prompts of half a rollout makes two steps of one pass.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.confidence import sequence_log_confidence
from progrpo.methods._signs import correct_share
from progrpo.types import RolloutBatch

PRESETS = {"released": {"skip": "degenerate", "aggregate": "token", "kl_coef": 0.1}}


class Params(methods.Params):
    beta: float = Field(0.25, ge=0, le=1)
    """β, the share of the reward that the likeliest completion of a large group loses; 0 gives GRPO."""
    skip: Literal["never", "degenerate"] = "never"
    """Groups whose rewards stay as they are: none, or, as released, those whose completions are all right or all wrong."""


def shape_reward(batch: RolloutBatch, params: Params) -> Tensor:
    if params.beta == 0:
        return batch.rewards
    mean_logprob = sequence_log_confidence(batch.old_logprobs, batch.mask, fraction=1.0).view(batch.rewards.shape)
    known = batch.judged & ~mean_logprob.isnan()
    below = (mean_logprob[:, None, :] < mean_logprob[:, :, None]) & known[:, None, :]  # [P, G, G]
    equal = (mean_logprob[:, None, :] == mean_logprob[:, :, None]) & known[:, None, :]
    rank = below.sum(dim=2) + (equal.sum(dim=2) - 1) / 2
    factor = 1 - params.beta * rank / batch.rewards.shape[1]
    changed = known & (batch.rewards > 0)
    if params.skip == "degenerate":
        share = correct_share(batch)[:, None]  # [P, 1]
        changed = changed & (share > 0) & (share < 1)
    return torch.where(changed, batch.rewards * factor, batch.rewards)
