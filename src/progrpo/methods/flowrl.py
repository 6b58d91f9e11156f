"""FlowRL: match the reward distribution instead of maximising the reward; a learned partition function per prompt.

    Δ = log Z(q) + 1/|o| log π(o|q) − β A − 1/|o| log π_ref(o|q),     L = 1/N Σ_n w_n Δ_n²

A is GRPO's advantage. Z is a network of three layers on the mean hidden state of the prompt; its gradient reaches the
policy. w is a constant of the update. The objective logged as policy/objective is −L. The gradient of Z's network is
clipped apart from the model's, each to optim.grad_clip, so that neither scales the other down; the released code, where it
is part of the actor, clips the norm of both together.

Where the released code departs from the paper: the paper clips w = π/π_old of the whole completion to [1−ε, 1+ε]
(`importance: ppo`); the code computes that and uses the unclipped one (`none`); verl's port has variants for both, and one
that caps it at 10 (`max10`).

Source: arXiv:2509.15207; Xuekai-Zhu/FlowRL@decbc57; verl-recipe flowrl/.
Evidence: code; the paper's clipping second-hand.
Reproduce: the defaults; `preset: released` for the code.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.surrogate import MAX_LOG_RATIO
from progrpo.types import RolloutBatch

NEEDS = frozenset({"ref_logprobs", "prompt_states"})
PRESETS = {"released": {"importance": "none"}, "port": {"importance": "max10"}}


class Params(methods.Params):
    beta: float = Field(15.0, ge=0)
    """β, weight of the advantage; the paper's best of 5, 10, 15, 30."""
    importance: Literal["ppo", "none", "max10"] = "ppo"
    """w: clipped to [1 − clip_low, 1 + clip_high], as it is, or at most 10."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """In the network of Z; above 0 the gradient depends on how the step is cut into micro-batches."""


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    """A completion without a verdict has no advantage to match."""
    return batch.judged


def net(width: int, params: Params) -> torch.nn.Module:
    """log Z: mean prompt states [M, D] -> [M]."""
    hidden = [
        layer
        for _ in range(2)
        for layer in (
            torch.nn.Linear(width, width),
            torch.nn.GELU(),
            torch.nn.LayerNorm(width),
            torch.nn.Dropout(params.dropout),
        )
    ]
    return torch.nn.Sequential(*hidden, torch.nn.Linear(width, 1), torch.nn.Flatten(0))


def group_loss(micro: methods.MicroView, params: Params) -> Tensor:
    assert micro.prompt_states is not None
    assert micro.ref_logprobs is not None
    tokens = micro.mask.sum(dim=1)
    length = tokens.clamp(min=1)

    def total(values: Tensor) -> Tensor:
        return torch.where(micro.mask, values, 0.0).sum(dim=1)  # [M]

    log_z = micro.net(micro.prompt_states.float())
    advantages = total(micro.advantages) / length
    delta = log_z + total(micro.logprobs) / length - params.beta * advantages - total(micro.ref_logprobs) / length
    log_ratio = total(micro.logprobs.detach() - micro.old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    weight = log_ratio.exp()
    if params.importance == "ppo":
        weight = weight.clamp(1 - params.clip_low, 1 + params.clip_high)
    elif params.importance == "max10":
        weight = weight.clamp(max=10.0)
    loss: Tensor = (weight * delta.square() * (tokens > 0)).sum() / max(1, micro.count)
    return loss
