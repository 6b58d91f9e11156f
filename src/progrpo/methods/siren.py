"""SIREN: the entropy of the peaks, of the likeliest tokens alone, is held where it was at the start.

    H'_t = entropy of the smallest set of the likeliest tokens that has probability 0.8, renormalised
    peaks: H'_t above the 0.8-quantile (linear interpolation) of its completion's
    H = 1/N Σ_n mean of H' over the peaks of completion n;   L = L_PG + β (H − H_anchor)²,   H_anchor = H of the first rollout

The gradient flows through H', not through the choice of peaks or of the likeliest tokens. H is of all completions of the
optimiser step, under the policy before it, which is what the training pass gives, too; the released code takes the H of each
micro-batch. A completion without a peak (one token) counts as 0. The anchor is kept in the checkpoint. The released code leaves
out the token that reaches the probability, so that H' is 0 where one token alone has it (`preset: released`), and looks for it
among the 10000 likeliest.

Source: arXiv:2509.25133; Linn3a/siren@fa59a8d dp_actor.py and exp_scripts/siren.sh.
Evidence: code; second-hand for the paper's set of tokens.
Reproduce: the defaults (centred rewards, sums over a constant length, one clip for both sides), a group of 8.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.algo.distributions import Nucleus
from progrpo.methods._pools import quantile_of_rows
from progrpo.types import RolloutBatch, WeightedMean

NEEDS = frozenset({"nucleus_entropies", "refresh"})
PRESETS = {"released": {"crossing": False, "dual_clip": 3.0}}


class Params(methods.Params):
    scale: Literal["std", "none"] = "none"
    clip_low: float = Field(0.28, ge=0, le=1)
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "fixed"
    beta: float = Field(0.005, ge=0)
    """β, per nat squared; 0 gives the surrogate alone."""
    mass: float = Field(0.8, gt=0, le=1)
    """Probability of the likeliest tokens whose entropy is taken; 1 takes all."""
    crossing: bool = True
    """With the token that reaches the mass."""
    quantile: float = Field(0.8, ge=0, lt=1)
    """Of a completion's H', above which a token is a peak."""


def nucleus(params: Params) -> Nucleus:
    return Nucleus(mass=params.mass, crossing=params.crossing)


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    if batch.nucleus_entropies is None:
        return methods.Advantages(values=values)
    now, _ = _of_peaks(batch.nucleus_entropies, methods.tokens_in_loss(batch, params), params)
    anchor = float(batch.state.get("anchor", now))
    return methods.Advantages(
        values=values,
        carried={"anchor": torch.full(batch.mask.shape, anchor)},
        state={"anchor": anchor},
        stats={"siren/peak_entropy": WeightedMean(now, 1), "siren/anchor": WeightedMean(anchor, 1)},
    )


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    """What each peak's entropy weighs in the loss, and each peak's part of the loss itself."""
    if step.nucleus_entropies is None or not bool(step.mask.any()):
        return methods.Reweighted()
    now, shares = _of_peaks(step.nucleus_entropies, step.mask, params)
    far = now - float(step.carried["anchor"].flatten()[0])
    peaks = shares > 0
    part = params.beta * far**2 / max(1, int(peaks.sum()))
    return methods.Reweighted(carried={"pull": 2 * params.beta * far * shares, "part": part * peaks.float()})


def extra_loss(micro: methods.MicroView, params: Params) -> Tensor:
    """β (H − H_anchor)² of the whole step, the part that these sequences have in it; with its gradient."""
    if micro.nucleus_entropies is None or "pull" not in micro.carried:
        return micro.logprobs.new_zeros(())
    entropies = micro.nucleus_entropies
    moved = micro.carried["pull"] * (entropies - entropies.detach())
    return torch.where(micro.mask, moved + micro.carried["part"], 0.0).sum()


def _of_peaks(
    entropies: Float[Tensor, "K S"], mask: Bool[Tensor, "K S"], params: Params
) -> tuple[float, Float[Tensor, "K S"]]:
    """H, and what each token's entropy counts in it: 1/(N · peaks of its completion), 0 of what is no peak."""
    values = entropies.float()
    peaks = mask & (values > quantile_of_rows(values, mask, params.quantile)[:, None])
    sequences = int(mask.any(dim=1).sum())
    shares = peaks.float() / (max(1, sequences) * peaks.sum(dim=1, keepdim=True).clamp(min=1))
    return float((shares.double() * values.double()).sum()), shares
