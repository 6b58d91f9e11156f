"""REAL, rewards as labels: each group is a classification of its completions, the log-ratio being the logit.

    s_i = 1/|o_i| Σ_t log(π_t/π_old,t)
    L = 1/P Σ_p [ log(1 + Σ_{i correct} exp(−s_i/τ)) + log(1 + Σ_{i wrong} exp(s_i/τ)) ]    over the groups with both kinds

P counts all problems of the step. The pull on a completion is at most 1/τ and fades as it is classified; there is no advantage,
clip, or length weight: `scale`, `aggregate` and the clip range play no part. The released code has two variants beside this one
(a binary cross-entropy for each completion, and a product) that are not here.

Source: arXiv:2602.05630; Red-RL/REAL@1c30726 core_algos.py (compute_policy_loss_real).
Evidence: code.
Reproduce: tau=0.5, a group of 8, four optimiser steps per rollout, optim.lr=2e-6, sampling.temperature=0.6.
"""

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.surrogate import log_ratio
from progrpo.methods._groups import by_group, sequence_log_ratio
from progrpo.types import RolloutBatch

NEEDS = frozenset({"whole_groups"})
FROM_VERDICTS = True


class Params(methods.Params):
    tau: float = Field(0.5, gt=0)
    """τ, in nats per token: how far apart the log-ratios are pushed."""


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    """A completion without a verdict has no label."""
    return batch.judged


def group_loss(micro: methods.MicroView, params: Params) -> Tensor:
    score = sequence_log_ratio(micro, log_ratio(micro.logprobs, micro.old_logprobs), mean=True)
    scores, there, correct = by_group(micro, score / params.tau)  # [g, G]
    wrong = there & ~correct
    mixed = correct.any(dim=1) & wrong.any(dim=1)
    loss = _soft_sum(-scores, correct) + _soft_sum(scores, wrong)  # [g]
    return torch.where(mixed, loss, 0.0).sum() / max(1, micro.problems)


def _soft_sum(logits: Tensor, among: Tensor) -> Tensor:
    """[g] log(1 + Σ exp of the logits `among` each row)."""
    one = logits.new_zeros(len(logits), 1)
    return torch.cat([one, logits.masked_fill(~among, -torch.inf)], dim=1).logsumexp(dim=1)
