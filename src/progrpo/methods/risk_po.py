"""RiskPO: problems are bundled, and a bundle's score counts by where it lies among the quantiles of scores.

    bundles of B problems in the order of the rollout; paper g: completion g of each of them; S its summed reward
    RVaR  (S − q_a)⁺ − (S − q_b)⁺ + q_a − q_b, over (b − a + eps);   CVaR  −(q_a − S)⁺, over (a + eps)
    A of the paper = (ω CVaR + RVaR)/(ω + 1), over (standard deviation of the bundle's papers + eps) with `scale: std`, 1 in
                     place of a deviation below `least_deviation`
    credit=std       A_i = A/(standard deviation of the problem's rewards + eps), 1 in place of a deviation below 0.001
    credit=uniform   A_i = A
    credit=sum_mean  A_i = A (r_i − mean r)/Σ over the paper, A/B where that sum is 0
    q of a level: the quantile of the papers of the first rollout, then q ← q + lr (level − share of papers below q)

The quantiles in use are those of the rollouts before; in the first, of each bundle's own papers (`track: track`); `mix` takes
the mean of these two, `bundle` the bundle's own always. They are kept in the checkpoint. A problem that is not judged counts as
the mean of its completions, and has no advantage. No advantage is above 0: the best papers have 0. The paper's ratio of whole
completions is not in the script. The released code divides by a bundle's deviation whatever it is, and its script asks for the
quantiles of earlier rollouts, which the trainer keeps and then does not hand over, so that every bundle has its own (`preset:
released`). With both, papers that all fail would get millions: `least_deviation` is against that.

Source: arXiv:2510.00911; RTkenny/RiskPO@65ec40c core_algos.py, ray_trainer.py and scripts/run_qwen2.5_1.5b_MVaR_math.sh.
Evidence: code.
Reproduce: the defaults are its MATH script, a group of 5, two optimiser steps per rollout; level_high=0.8 in the paper,
second-hand.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.types import RolloutBatch, WeightedMean

PRESETS = {"released": {"dual_clip": 3.0, "least_deviation": 0.0, "track": "bundle"}}


class Params(methods.Params):
    aggregate: How = "token"
    bundle: int = Field(5, ge=1)
    """B, problems of a bundle; the last may have fewer."""
    level_low: float = Field(0.2, gt=0, lt=1)
    """a."""
    level_high: float = Field(0.9, gt=0, lt=1)
    """b."""
    omega: float = Field(1.5, ge=0)
    """ω, weight of the tail below q_a; 0 leaves it to what lies between."""
    quantile_lr: float = Field(0.1, ge=0)
    """lr, in units of the score."""
    least_deviation: float = Field(1e-3, ge=0)
    """A bundle whose papers deviate by less is not scaled, as a problem is not whose rewards do."""
    track: Literal["track", "mix", "bundle"] = "track"
    """Which quantiles a paper is held against."""
    credit: Literal["std", "uniform", "sum_mean"] = "std"
    """How a paper's advantage comes to its completions."""

    @model_validator(mode="after")
    def _ordered(self) -> "Params":
        if self.level_low >= self.level_high:
            raise ValueError(f"level_low={self.level_low:g} is not below level_high={self.level_high:g}")
        return self


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    rewards = _rewards(batch)  # [P, G]
    known = batch.state.get("quantiles")
    parts, papers = [], []
    for rows in torch.arange(len(rewards)).split(params.bundle):
        group_rewards = rewards[rows]
        papers.append(group_rewards.sum(dim=0))
        parts.append(_of_bundle(group_rewards, known, params))
    values = torch.cat(parts).float().masked_fill(~batch.judged, 0.0)
    quantiles = _tracked(torch.cat(papers), known, params)
    return methods.Advantages(
        values=values,
        state={"quantiles": quantiles},
        stats={
            "risk_po/quantile_low": WeightedMean(quantiles[0], 1),
            "risk_po/quantile_high": WeightedMean(quantiles[1], 1),
        },
    )


def _rewards(batch: RolloutBatch) -> Float[Tensor, "P G"]:
    """float64; the mean of the group where there is no verdict, 0 in a group without any."""
    rewards = batch.rewards.double()
    count = batch.judged.sum(dim=1, keepdim=True)
    mean = rewards.masked_fill(~batch.judged, 0.0).sum(dim=1, keepdim=True) / count.clamp(min=1)
    return torch.where(batch.judged, rewards, mean)


def _of_bundle(rewards: Float[Tensor, "B G"], known: Any, params: Params) -> Float[Tensor, "B G"]:
    score = rewards.sum(dim=0)  # [G]
    low, high = (_quantile(score, level) for level in (params.level_low, params.level_high))
    if known is not None and params.track != "bundle":
        share = 1.0 if params.track == "track" else 0.5
        low, high = (share * k + (1 - share) * now for k, now in zip(known, (low, high), strict=True))
    between = (score - low).clamp(min=0) - (score - high).clamp(min=0) + low - high
    between = between / (params.level_high - params.level_low + params.eps)
    tail = -(low - score).clamp(min=0) / (params.level_low + params.eps)
    paper = (params.omega * tail + between) / (params.omega + 1)
    if params.scale == "std":
        spread = _deviation(score, params)
        paper = paper / (torch.where(spread >= params.least_deviation, spread, 1.0) + params.eps)
    if params.credit == "uniform":
        return paper.expand(rewards.shape)
    if params.credit == "std":
        spread = torch.stack([_deviation(row, params) for row in rewards])[:, None]  # [B, 1]
        return paper / (torch.where(spread > 1e-3, spread, 1.0) + params.eps)
    apart = rewards - rewards.mean(dim=1, keepdim=True)
    total = apart.sum(dim=0)
    shared = total.abs() > 1e-6
    return torch.where(shared, paper * apart / torch.where(shared, total, 1.0), paper / len(rewards))


def _deviation(values: Tensor, params: Params) -> Tensor:
    """Of one value alone 1, as in the released code."""
    return values.std(correction=params.ddof) if len(values) > 1 else values.new_ones(())


def _quantile(values: Tensor, level: float) -> float:
    return float(values.quantile(level))


def _tracked(papers: Tensor, known: Any, params: Params) -> list[float]:
    """The quantiles that the next rollout is held against."""
    levels = (params.level_low, params.level_high)
    if known is None:
        return [_quantile(papers, level) for level in levels]
    return [
        q + params.quantile_lr * (level - float((papers < q).double().mean()))
        for q, level in zip(known, levels, strict=True)
    ]
