"""UCAS: right completions count more the less certain the policy was, wrong ones the more; certain tokens are held back.

    c_i = Σ_t (log Σ_v exp z_tv − mean_v z_tv), standardised within the group: ĉ_i
    A_i ← A_i exp(−β₊ ĉ_i) where A_i > 0, A_i exp(β₋ ĉ_i) elsewhere
    A_t = A_i − γ n_t,  at least 0 where A_i > 0;   n_t the token's own logit, scaled to [0, 1] between the least and the
    largest of the rollout; 1/2 where all are equal

z are the logits of the policy that sampled, at the sampling temperature; n is of those before it. c sums over tokens, so that
it grows with length (`certainty: mean` takes the mean). A group without an advantage still has −γ n_t, a push away from every
token it sampled; `skip: degenerate` leaves such groups alone. Without a verdict nothing is pushed. ĉ is standardised whatever
`scale` does to the rewards; the released code takes Σ c − mean then, of which e^(β c) makes nothing or everything. No gradient
flows through ĉ or n.

Source: arXiv:2510.10649; xvolcano02/UCAS@b122ff2 core_algos.py.
Evidence: code.
Reproduce: `preset: released` (verl's dual clip), a group of 16, 8 optimiser steps per rollout.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.advantages import group_advantages
from progrpo.algo.aggregate import How
from progrpo.algo.surrogate import MAX_LOG_RATIO
from progrpo.types import RolloutBatch

NEEDS = frozenset({"certainties", "raw_logits"})
PRESETS = {"released": {"dual_clip": 3.0}}
TOKEN_LEVEL = True


class Params(methods.Params):
    aggregate: How = "token"
    beta_positive: float = Field(0.25, ge=0)
    """β₊, per standard deviation of certainty."""
    beta_negative: float = Field(0.35, ge=0)
    """β₋, likewise."""
    gamma: float = Field(0.05, ge=0)
    """γ, what the token with the largest logit of the rollout loses, in units of the advantage."""
    certainty: Literal["sum", "mean"] = "sum"
    """c: over the tokens of a completion, the sum (as released) or the mean."""
    skip: Literal["never", "degenerate"] = "never"
    """Groups left alone: none (as released), or those whose advantages are all 0."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    certain = _certainty(batch, params)  # [P, G]
    exponent = torch.where(values > 0, -params.beta_positive, params.beta_negative) * certain
    values = values * exponent.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    acted_on = batch.judged
    if params.skip == "degenerate":
        acted_on = acted_on & (values != 0).any(dim=1, keepdim=True)
    tokens = _held_back(batch, values, acted_on, params)
    return methods.Advantages(values=values, tokens=tokens)


def _certainty(batch: RolloutBatch, params: Params) -> Float[Tensor, "P G"]:
    """ĉ, 0 without a verdict, without a token, and where all of a group are equal."""
    if batch.certainties is None:
        return torch.zeros_like(batch.rewards)
    total = batch.certainties.double().masked_fill(~batch.mask, 0.0).sum(dim=1).view(batch.rewards.shape)
    if params.certainty == "mean":
        total = total / batch.lengths.clamp(min=1)
    total = total.float().masked_fill(~(batch.judged & (batch.lengths > 0)), torch.nan)
    return group_advantages(total, scale="std", ddof=params.ddof, eps=params.eps)


def _held_back(
    batch: RolloutBatch, values: Float[Tensor, "P G"], acted_on: Bool[Tensor, "P G"], params: Params
) -> Float[Tensor, "N S"]:
    per_token = values.flatten()[:, None].expand(batch.mask.shape)  # [N, S]
    if batch.raw_logits is None or not bool(batch.mask.any()):
        return per_token.masked_fill(~batch.mask, 0.0)
    logits = batch.raw_logits.float()
    least, most = logits[batch.mask].min(), logits[batch.mask].max()
    # torch.isclose, as in the released code: a range of rounding errors is none
    level = torch.isclose(least, most)
    place = torch.full_like(logits, 0.5) if bool(level) else (logits - least) / (most - least + 1e-6)
    moved = per_token - params.gamma * place
    moved = torch.where(per_token > 0, moved.clamp(min=0.0), moved)
    return torch.where(acted_on.flatten()[:, None], moved, per_token).masked_fill(~batch.mask, 0.0)
