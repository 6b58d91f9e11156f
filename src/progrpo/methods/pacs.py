"""PACS: the verdict is a label, and the log-ratio of a completion against those of its group the logit that predicts it.

    s_i = β Σ_t log(π_t/π_old,t),   ψ_i = s_i − mean of s over the other completions of the group
    L = 1/N Σ_i w_i BCE(σ(ψ_i), correct_i),   w_i = n/(2 · completions of i's kind) in a group with both kinds, else 1

ψ keeps the gradient through all completions of the group. Groups of one kind are trained on, too: their ψ sum to 0, so that
little comes of it in the first step. There is no advantage, clip or length weight: `scale`, `aggregate` and the clip range play
no part. N counts the judged completions of the step.

Source: arXiv:2509.02522; ritzz-ai/PACS@bbe1dc6 pacs_core_algos.py and scripts/pacs.
Evidence: code.
Reproduce: the defaults, `beta=2` in its other script; a group of 8, four optimiser steps per rollout.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from progrpo import methods
from progrpo.algo.surrogate import log_ratio
from progrpo.methods._groups import by_group, sequence_log_ratio
from progrpo.types import RolloutBatch

NEEDS = frozenset({"whole_groups"})
FROM_VERDICTS = True


class Params(methods.Params):
    beta: float = Field(1.0, gt=0)
    """β, the scale of the logit."""
    score: Literal["log_ratio", "mean_logprob"] = "log_ratio"
    """s: the summed log-ratio to the policy that sampled (the code's method 1), or β times the mean log-prob (method 2)."""
    balance: bool = True
    """Weigh the two kinds of a group alike; false: w = 1."""


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    """A completion without a verdict has no label."""
    return batch.judged


def group_loss(micro: methods.MicroView, params: Params) -> Tensor:
    if params.score == "log_ratio":
        score = sequence_log_ratio(micro, log_ratio(micro.logprobs, micro.old_logprobs), mean=False)
    else:
        score = sequence_log_ratio(micro, micro.logprobs, mean=True)
    scores, there, correct = by_group(micro, params.beta * score)  # [g, G]
    count = there.sum(dim=1, keepdim=True)
    others = (scores.sum(dim=1, keepdim=True) - scores) / (count - 1).clamp(min=1)
    labels = correct.float()
    right = correct.sum(dim=1, keepdim=True)
    of_kind = torch.where(correct, right, count - right).clamp(min=1)
    mixed = (right > 0) & (right < count)
    weights = torch.where(mixed, count / (2 * of_kind), 1.0) if params.balance else torch.ones_like(labels)
    each = binary_cross_entropy_with_logits(scores - others, labels, reduction="none")
    return torch.where(there, weights * each, 0.0).sum() / max(1, micro.count)
