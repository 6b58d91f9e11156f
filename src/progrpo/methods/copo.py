"""COPO, second-hand: where a group agrees on its answer, problems are compared with each other instead of its completions.

    E_p = −Σ_a f_a log2 f_a over the extracted answers a of the group, f_a their shares
    R_p = mean r · (1 − λ E_p),   λ = (1 − 1/G)/log2 G;   A_p its standard score over the problems of the rollout
    w_p = σ(k (E_p − b)), 0 where all advantages of the group are 0
    J = w_p J(A_i) + (1 − w_p) J(A_p)        each with PPO's clip

A group of one opinion has no advantages of its own and still learns, by its A_p. Completions without an answer are one answer.
A mean below 0 is not shrunk, which would reward disagreement of wrong answers.
The repository has four modes that differ slightly; this is its scripts' default.

Source: arXiv:2508.04138; hijih/copo-code.
Evidence: second-hand: notes on the released code, of which the part in question could not be read.
Reproduce: the defaults.
"""

import math
from collections import Counter

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.advantages import group_advantages
from progrpo.algo.surrogate import clipped_surrogate
from progrpo.types import RolloutBatch, Verdict

NEEDS = frozenset({"verdicts"})


class Params(methods.Params):
    steepness: float = Field(1.0, ge=0)
    """k, per bit."""
    middle: float = Field(0.5, ge=0)
    """b, in bits: the disagreement at which both parts count alike."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    group = batch.rewards.shape[1]
    entropy = torch.tensor([_disagreement(row) for row in batch.verdicts], dtype=torch.float32)  # [P]
    known = batch.judged.any(dim=1)
    mean = batch.rewards.masked_fill(~batch.judged, 0.0).sum(dim=1) / batch.judged.sum(dim=1).clamp(min=1)
    slope = (1 - 1 / group) / math.log2(group) if group > 1 else 0.0
    scores = mean.minimum(mean * (1 - slope * entropy)).masked_fill(~known, torch.nan)
    among_problems = group_advantages(scores[None], scale=params.scale, ddof=params.ddof, eps=params.eps)[0]  # [P]
    within = (params.steepness * (entropy - params.middle)).sigmoid()
    within = torch.where((values != 0).any(dim=1), within, 0.0)

    def each_token(of_problem: Tensor) -> Tensor:
        flat = torch.where(batch.judged, of_problem[:, None], 0.0).flatten()
        return flat[:, None].expand(batch.mask.shape)

    return methods.Advantages(values=values, carried={"among": each_token(among_problems), "own": each_token(within)})


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    among = clipped_surrogate(
        micro.logprobs,
        micro.old_logprobs,
        micro.carried["among"],
        clip_low=params.clip_low,
        clip_high=params.clip_high,
        dual_clip=params.dual_clip,
    )
    within = micro.carried["own"]
    return within * surrogate + (1 - within) * among


def _disagreement(row: tuple[Verdict, ...]) -> float:
    """Entropy of a group's answers, in bits."""
    counts = Counter(verdict.extracted for verdict in row if not verdict.failed)
    total = sum(counts.values())
    return -sum((count / total * math.log2(count / total) for count in counts.values()), start=0.0)
