"""SimKO: at uncertain tokens of correct completions the likeliest tokens share the push, and of wrong ones they bear more.

    at tokens with H_t above the τ-quantile of their completion's entropies:
    correct:   ρ'_t = (1 − α) ρ_t + α/K Σ_{j ≤ K} sg(ρ_t/ρ_tj) ρ_tj,   ρ_tj of the K likeliest tokens in this place
    A_t < 0 and the sampled token is the likeliest:   A_t ← λ A_t
    J_t = min(ρ'_t A_t, clip(ρ'_t) A_t)

The value of ρ' is that of ρ, and the policies of the past cancel in it; its gradient is ρ times that of
(1 − α) log π_t + α/K Σ_j log π_tj, which is what is computed here. H and the K likeliest tokens are the current policy's. The
released code compares the j-th likeliest token now with the j-th likeliest then, though it may be another; by the same
cancelling that changes nothing.

Source: arXiv:2510.14807; CLR-Lab/SimKO@306f4ff core_algos.py and run_qwen2.5-math-7b_SimKO.sh.
Evidence: code.
Reproduce: the defaults, a group of 8, four optimiser steps per rollout. The code has λ as a number in its text; its
entropy bonus of 0.001 has no gradient.
"""

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.algo.surrogate import clipped_surrogate
from progrpo.methods._pools import quantile_of_rows

NEEDS = frozenset({"entropies", "refresh", "top_logprobs"})


class Params(methods.Params):
    aggregate: How = "token"
    alpha: float = Field(0.01, ge=0, le=1)
    """α, the share of the push that goes to the K likeliest tokens; 0 with penalty=1 gives GRPO with this mean."""
    k: int = Field(3, ge=1)
    """K, how many of the likeliest tokens share it; the sampled token may be one of them."""
    quantile: float = Field(0.8, ge=0, le=1)
    """τ: a token is uncertain whose entropy is above this quantile (linear interpolation) of its completion's."""
    penalty: float = Field(1.1, ge=0)
    """λ, factor of a negative advantage of the likeliest token."""


def top_tokens(params: Params) -> int:
    return params.k


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    """Marks the uncertain tokens."""
    if step.entropies is None:
        return methods.Reweighted()
    threshold = quantile_of_rows(step.entropies.float(), step.mask, params.quantile)
    return methods.Reweighted(marks=step.mask & (step.entropies.float() > threshold[:, None]))


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    assert micro.marks is not None
    assert micro.top_logprobs is not None
    logprobs, top = micro.logprobs, micro.top_logprobs
    # 0 in value: only where the push goes is changed.
    moved = (top - top.detach()).mean(dim=-1) - (logprobs - logprobs.detach())
    shared = micro.marks & micro.correct[:, None]
    likeliest = micro.marks & (micro.advantages < 0) & (logprobs.detach() >= top[..., 0].detach())
    return clipped_surrogate(
        torch.where(shared, logprobs + params.alpha * moved, logprobs),
        micro.old_logprobs,
        torch.where(likeliest, params.penalty * micro.advantages, micro.advantages),
        clip_low=params.clip_low,
        clip_high=params.clip_high,
        dual_clip=params.dual_clip,
    )
