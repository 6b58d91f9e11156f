"""HAPO: token-level group averages, and advantages and clip ranges that go by each token's entropy.

    h_t = log H_t − (0.8-quantile of log H);   h̃_t = h_t / max h where h_t > 0, h_t / |min h| elsewhere: in [−1, 1]
    A  token t is drawn at T (1 + τ h̃_t), quantile and extremes being those of the rollout before, h̃ held in [−1, 1]
    B  A = (r − μ)/(σ + eps), μ and σ over the tokens of the group, each with its completion's reward: Σ_t A = 0; where some
       |A| >= 5 the group keeps GRPO's
    C  A_t ← A_t (1 + h̃_t) where h̃_t > 0 and ρ_t is outside (1 − ε_low/2, 1 + ε_high/2), or h̃_t <= 0 and ρ_t is inside
    D  ε_low ← ε_low (1 − h̃_t) where h̃_t <= 0;   ε_high ← ε_high (1 + h̃_t) where h̃_t > 0

H and ρ are those of the policy before each optimiser step, without gradient; quantile and extremes are over all tokens of
the step (`pool: step`; the code's are of each micro-batch). C's ε are those that D has made. Part A is off (τ = 0) unless it
is asked for: it wants engine hf, which has the entropies where tokens are drawn; log-probs, ratio and entropies stay those at
T, as in the code. The first rollout is drawn at T. The released code has h̃ of the wrong sign where h <= 0 (it divides by the
minimum, which is negative) and clips at 0.2 on both sides; `preset: released` has both (`low_sign: -1`), its pools and its
dual clip; its scripts have temperature_tau=0.05 beside it.

Source: arXiv:2509.16591; starriver030515/HAPO@7671dde core_algos.py and recipe/qwen2.5_math_7b.sh.
Evidence: code; second-hand for the paper's sign and clip range.
Reproduce: `preset: paper`, a group of 16, 16 optimiser steps per rollout, DAPO's dynamic sampling and reward for length beside
it; `preset: released` for the code.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.algo.surrogate import log_ratio
from progrpo.methods._sampling import plain_groups
from progrpo.types import RolloutBatch, TokenTemperatures

PRESETS = {
    "paper": {"temperature_tau": 0.1},
    "released": {"low_sign": -1, "clip_high": 0.2, "pool": "micro", "dual_clip": 10.0},
}
_STATE = "hapo/log_entropy"
_FARTHEST = 5.0
"""From this advantage on the token-level average of a group gives way to GRPO's."""
_TINY = 1e-8
"""The least entropy whose logarithm is taken, and the least extreme that is divided by."""


class Params(methods.Params):
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "token"
    temperature_tau: float = Field(0.0, ge=0, lt=1)
    """Part A: τ, how far a token's temperature goes from the run's; 0 for none, 0.1 in the paper."""
    token_average: bool = True
    """Part B."""
    adaptive_advantage: bool = True
    """Part C."""
    adaptive_clip: bool = True
    """Part D."""
    quantile: float = Field(0.8, ge=0, le=1)
    """Of log H, at which h is 0: the nearest value, as in the code."""
    low_sign: Literal[1, -1] = 1
    """1: h̃ is negative for the tokens of low entropy. -1: positive, the released code's slip."""
    pool: methods.Pool = "step"
    """Over which tokens the statistic is taken: all of the optimiser step, or those of a micro-batch, as some code does."""


def needs(params: Params) -> frozenset[str]:
    return frozenset({"entropies", "refresh"} | ({"token_temperatures"} if params.temperature_tau else set()))


def pool(params: Params) -> methods.Pool:
    return params.pool


def samples(params: Params) -> str | None:
    tau = params.temperature_tau
    return "it draws each token at a temperature of its own; set method.temperature_tau=0" if tau else None


def sample(problems: methods.Problems, generate: methods.Generate, params: Params) -> methods.SampledGroups:
    known = generate.state.get(_STATE)
    temperatures = None
    if known is not None:
        temperatures = TokenTemperatures(
            strength=params.temperature_tau,
            centre=known["centre"],
            above=known["above"],
            below=params.low_sign * known["below"],
        )
    return methods.SampledGroups(groups=plain_groups(problems.take(), generate, temperatures))


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    plain = methods.base_advantages(batch, params)
    return methods.Advantages(
        values=_token_average(batch, plain, params) if params.token_average else plain,
        state=_of_rollout(batch, params) if params.temperature_tau else None,
    )


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    if not params.adaptive_advantage or step.entropies is None:
        return methods.Reweighted()
    height = step.per_pool(lambda mask: _height(step, mask, params))
    low, high = _range(height, params)
    ratio = log_ratio(step.logprobs, step.old_logprobs).exp()
    inside = (ratio > 1 - low / 2) & (ratio < 1 + high / 2)
    acting = torch.where(height > 0, ~inside, inside)
    return methods.Reweighted(advantages=torch.where(acting, step.advantages * (1 + height), step.advantages))


def clip_range(step: methods.StepBatch, params: Params) -> tuple[float | Tensor, float | Tensor]:
    if not params.adaptive_clip or step.entropies is None:
        return params.clip_low, params.clip_high
    return _range(step.per_pool(lambda mask: _height(step, mask, params)), params)


def _of_rollout(batch: RolloutBatch, params: Params) -> dict[str, Any] | None:
    """Quantile and extremes of log H over the tokens of a rollout, for the temperatures of the next."""
    if batch.entropies is None or not bool(batch.mask.any()):
        return None
    ordered = batch.entropies[batch.mask].float().clamp(min=_TINY).log().sort().values
    centre = float(ordered[round(params.quantile * (len(ordered) - 1))])
    above, below = (max(_TINY, float(span)) for span in (ordered[-1] - centre, centre - ordered[0]))
    return {_STATE: {"centre": centre, "above": above, "below": below}}


def _range(height: Float[Tensor, "K S"], params: Params) -> tuple[Float[Tensor, "K S"], Float[Tensor, "K S"]]:
    low, high = torch.full_like(height, params.clip_low), torch.full_like(height, params.clip_high)
    if not params.adaptive_clip:
        return low, high
    return torch.where(height <= 0, low * (1 - height), low), torch.where(height > 0, high * (1 + height), high)


def _height(step: methods.StepBatch, mask: Bool[Tensor, "K S"], params: Params) -> Float[Tensor, "K S"]:
    """h̃ of the masked tokens, 0 elsewhere."""
    if step.entropies is None or not bool(mask.any()):
        return torch.zeros_like(step.advantages, dtype=torch.float32)
    logs = step.entropies.float().clamp(min=_TINY).log()
    ordered = logs[mask].sort().values
    height = (logs - ordered[round(params.quantile * (len(ordered) - 1))]).masked_fill(~mask, 0.0)
    highest, lowest = height.max().clamp(min=_TINY), (-height.min()).clamp(min=_TINY)
    return torch.where(height > 0, height / highest, params.low_sign * height / lowest)


def _token_average(batch: RolloutBatch, plain: Float[Tensor, "P G"], params: Params) -> Float[Tensor, "P G"]:
    """Rewards against their mean over the group's tokens; GRPO's advantages where that goes too far or there is no token."""
    known = batch.judged & (batch.lengths > 0)
    tokens = batch.lengths.double().masked_fill(~known, 0.0)
    total = tokens.sum(dim=1, keepdim=True).clamp(min=1)
    rewards = batch.rewards.double().masked_fill(~batch.judged, 0.0)
    centred = rewards - (tokens * rewards).sum(dim=1, keepdim=True) / total
    if params.scale == "std":
        variance = (tokens * centred.square()).sum(dim=1, keepdim=True) / total
        centred = centred / (variance.sqrt() + params.eps)
    centred = centred.masked_fill(~batch.judged, 0.0)
    keeps = (centred.abs() >= _FARTHEST) & known
    # A group whose rewards are all equal has advantages of exactly 0, whatever the rounding of their mean.
    flat = (plain == 0).all(dim=1) | keeps.any(dim=1) | ~known.any(dim=1)
    return torch.where(flat[:, None], plain, centred.float())
