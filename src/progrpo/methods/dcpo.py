"""DCPO: a clip range that widens for rare tokens, and advantages smoothed over the visits to a problem.

    q = π_old(token);  ratio in [1/2 + 1/2 √max(1 − 4 ε_low/q, 0),  min(1/2 + 1/2 √(1 + 4 ε_high/q), 10)]
    A_new over this group, A_tot over all groups of the problem so far, i of them; of
    ((i−1) A_new + A_tot)/i and (A_new + (i−1) A_tot)/i the one smaller in size
    negative advantages: J at least 10 A (`dual_clip`, which the paper does not mention and the released runs set)

Problems are known by their id; what was seen of each (number, sum, sum of squares of its rewards) is kept in the
checkpoint; their variance is that of all of them together (the code weighs sample variances of the visits, which gives
advantages up to a tenth apart). The sources disagree on the mean over tokens: within each
completion (this file), none (`aggregate: fixed`; the Chinese README), over each micro-batch (the released code). `preset:
released` has the latter, over the optimiser step, and the ε_high of its run script.

Source: arXiv:2509.02333; lime-RL/DCPO@01787b0 core_algos.py.
Evidence: code.
Reproduce: the defaults; `preset: released` for its run script.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.types import RolloutBatch

PRESETS = {"released": {"aggregate": "token", "clip_high": 0.28}}


class Params(methods.Params):
    clip_low: float = Field(0.16, ge=0, le=1)
    """ε_low of the bound above, not the bound itself."""
    clip_high: float = Field(0.2, ge=0)
    """ε_high, likewise."""
    largest_ratio: float = Field(10.0, gt=1)
    """Upper bound of the upper bound."""
    dual_clip: float | None = Field(10.0, gt=1)
    smooth: bool = True
    """Smooth advantages over the visits; false keeps GRPO's."""


def clip_range(step: methods.StepBatch, params: Params) -> tuple[Tensor, Tensor]:
    q = step.old_logprobs.float().exp().clamp(min=1e-12)
    lower = 0.5 + 0.5 * (1 - 4 * params.clip_low / q).clamp(min=0).sqrt()
    upper = (0.5 + 0.5 * (1 + 4 * params.clip_high / q).sqrt()).clamp(max=params.largest_ratio)
    return 1 - lower, upper - 1


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    """The surrogate as it is. A method with this hook keeps sequences of advantage 0 in its passes: without them the gradient
    would be the same but for its rounding, and runs made so far could not be repeated bit for bit."""
    return surrogate


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    new = methods.base_advantages(batch, params)
    if not params.smooth:
        return methods.Advantages(values=new)
    seen: dict[str, Any] = dict(batch.state.get("seen", {}))
    rows = []
    for name, rewards, standardised in zip(batch.problems or _numbers(batch), batch.rewards, new, strict=True):
        visits, count, total, squares = seen.get(name, (0, 0.0, 0.0, 0.0))
        known = rewards[~rewards.isnan()].double()
        visits, count = visits + 1, count + float(known.numel())
        total, squares = total + float(known.sum()), squares + float(known.square().sum())
        seen[name] = (visits, count, total, squares)
        rows.append(_smoothed(standardised, rewards, visits, count, total, squares, params))
    return methods.Advantages(values=torch.stack(rows), state={"seen": seen})


def _smoothed(
    standardised: Tensor, rewards: Tensor, visits: int, count: float, total: float, squares: float, params: Params
) -> Tensor:
    """[G] of one problem after `visits` visits."""
    if visits == 1 or count < 2:
        return standardised
    mean = total / count
    variance = max(0.0, squares - count * mean * mean) / (count - params.ddof)
    if variance < 1e-12:
        return standardised
    far = ((rewards - mean) / (variance**0.5 + params.eps) if params.scale == "std" else rewards - mean).float()
    far = torch.where(rewards.isnan(), 0.0, far)
    near, wide = ((visits - 1) * standardised + far) / visits, (standardised + (visits - 1) * far) / visits
    return torch.where(near.abs() < wide.abs(), near, wide)


def _numbers(batch: RolloutBatch) -> tuple[str, ...]:
    return tuple(map(str, range(len(batch.rewards))))
