"""Unlikeliness reward: of the correct completions of a group, the likelier ones get less reward.

    r_i ← r_i · (1 − β · rank_i / G),   rank 0 for the completion with the lowest mean log p_old, G − 1 for the highest

Ranks go over all completions of the group; the mean and the standard deviation are taken of the rewards so changed, so that
a group of correct completions alone trains at full strength. Two of equal mean log p have the mean of their ranks. A reward of
0 or less stays what it is: less of a negative one would be more.

Source: arXiv:2506.02355; AndreHe02/rewarding-unlikely-release@ca1cff0.
Evidence: code.
Reproduce: beta=0.25, two optimiser steps per rollout, rewards 0/1.
"""

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.confidence import sequence_log_confidence
from progrpo.types import RolloutBatch


class Params(methods.Params):
    beta: float = Field(0.25, ge=0, le=1)
    """β, the share of the reward that the likeliest completion of a large group loses; 0 gives GRPO."""


def shape_reward(batch: RolloutBatch, params: Params) -> Tensor:
    if params.beta == 0:
        return batch.rewards
    mean_logprob = sequence_log_confidence(batch.old_logprobs, batch.mask, fraction=1.0).view(batch.rewards.shape)
    known = batch.judged & ~mean_logprob.isnan()
    below = (mean_logprob[:, None, :] < mean_logprob[:, :, None]) & known[:, None, :]  # [P, G, G]
    equal = (mean_logprob[:, None, :] == mean_logprob[:, :, None]) & known[:, None, :]
    rank = below.sum(dim=2) + (equal.sum(dim=2) - 1) / 2
    factor = 1 - params.beta * rank / batch.rewards.shape[1]
    return torch.where(known & (batch.rewards > 0), batch.rewards * factor, batch.rewards)
