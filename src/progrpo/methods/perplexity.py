"""Perplexity shaping, second-hand: completions the policy found surprising count less, expected ones more.

    A_i ← A_i (1 − α w_i),   w_i the log-perplexity of completion i, − mean log π_old, standardised over its group

The opposite of ProGRPO in spirit, as a control: rare correct completions are pushed up less. Beyond α w_i = 1 an advantage
turns its sign. The paper's other half, a bonus that rises with a token's position in its completion, is not here: the curve of
that bonus was not read.

Source: arXiv:2508.02260.
Evidence: second-hand: notes on the paper; that w is standardised over the group, and not over the rollout, is how they are read
here; α is not in them, so that it has no default.
Reproduce: α by trial, below 1 over the largest standard score of a group, √G − 1/√G.
"""

import torch
from pydantic import Field

from progrpo import methods
from progrpo.algo.advantages import group_advantages
from progrpo.algo.confidence import sequence_log_confidence
from progrpo.types import RolloutBatch


class Params(methods.Params):
    alpha: float = Field(ge=0)
    """α, per standard deviation of log-perplexity; 0 gives GRPO."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    mean_logprob = sequence_log_confidence(batch.old_logprobs, batch.mask, fraction=1.0).view(batch.rewards.shape)
    surprise = (-mean_logprob).masked_fill(~(batch.judged & mean_logprob.isfinite()), torch.nan)
    scores = group_advantages(surprise, scale="std", ddof=params.ddof, eps=params.eps)
    return methods.Advantages(values=values * (1 - params.alpha * scores))
