"""TTRV, second-hand: the reward of an answer is how many of the group gave it, without labels.

    r_i = share of the group's judged completions whose extracted answer is that of i; 0 without an answer

The released reward subtracts 0.75 times the entropy of the group's answers, which is one number for all completions of a group:
it cancels in their advantages, and is left out. Answers are compared as the text that the verifier extracted. Verdicts play no
part but for those that failed, which have no reward. Where one answer is all a group gives, nothing is learned.

Source: arXiv:2510.06783, for models that see; its code @b9cf778.
Evidence: second-hand: reviews of the paper and notes on the released code.
Reproduce: the defaults.
"""

from collections import Counter

import torch
from torch import Tensor

from progrpo import methods
from progrpo.types import RolloutBatch, Verdict

NEEDS = frozenset({"verdicts"})


def shape_reward(batch: RolloutBatch, params: methods.Params) -> Tensor:
    rewards = torch.tensor([_shares(row) for row in batch.verdicts]).view(batch.rewards.shape)
    return rewards.masked_fill(~batch.judged, torch.nan)


def _shares(row: tuple[Verdict, ...]) -> list[float]:
    judged = [verdict for verdict in row if not verdict.failed]
    counts = Counter(verdict.extracted for verdict in judged if verdict.extracted is not None)
    return [counts.get(verdict.extracted, 0) / max(1, len(judged)) if verdict.extracted else 0.0 for verdict in row]
