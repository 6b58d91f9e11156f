"""SPINE, second-hand: by the group's vote, at uncertain tokens alone, whose entropy is held within a band; without labels.

    r_i = 1 where the extracted answer of i is the group's most frequent one, else 0;   then GRPO
    only the ⌈0.2 · tokens⌉ tokens with the largest entropy H_t train, and only they count in the means
    L = L_PG + w_band mean[ (H_t − Q50)⁺ + (Q10 − H_t)⁺ ] + w_kl mean k3(π, π_ref)        over these tokens

Q50 and Q10 are quantiles of H over these tokens of the optimiser step, under the policy before it, constants of the update;
over all tokens, as the notes could be read, too, each of these would lie above Q50. H in the loss has its gradient. Of two
answers given as often, the one that was given first is the group's; no answer is nobody's. Verdicts play no part but for those
that failed, which have no reward and no vote.

Source: arXiv:2511.17938.
Evidence: second-hand: notes on the paper, which was not read; no code was found. The two weights are not in them, so that they
have no default; that the band is of the tokens that train, and that k3 is the divergence, is how they are read here.
Reproduce: a group of 8; the weights by trial.
"""

from collections import Counter

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How, weighted_sum
from progrpo.algo.divergence import kl_estimate
from progrpo.methods._pools import quantile_of_rows, top_share
from progrpo.types import RolloutBatch, Verdict

NEEDS = frozenset({"verdicts", "entropies", "refresh", "entropy_grad", "ref_logprobs"})


class Params(methods.Params):
    aggregate: How = "token"
    band_coef: float = Field(ge=0)
    """w_band, per nat."""
    anchor_coef: float = Field(ge=0)
    """w_kl, of the divergence from the model before training; beside `kl_coef`, which acts on all tokens."""
    fraction: float = Field(0.2, gt=0, le=1)
    """Share of the tokens that train."""
    low: float = Field(0.1, ge=0, le=1)
    """Quantile below which their entropy is pushed up."""
    high: float = Field(0.5, ge=0, le=1)
    """Quantile above which it is pushed down."""


def shape_reward(batch: RolloutBatch, params: Params) -> Tensor:
    votes = torch.tensor([_votes(row) for row in batch.verdicts]).view(batch.rewards.shape)
    return votes.masked_fill(~batch.judged, torch.nan)


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    if step.entropies is None or not bool(step.mask.any()):
        return methods.Reweighted()
    keep = top_share(step.entropies, step.mask, params.fraction, at_least=1, rounding="ceil")
    kept, shape = step.entropies.float()[keep][None], step.mask.shape
    everything = torch.ones_like(kept, dtype=torch.bool)
    quantiles = (("low", params.low), ("high", params.high))
    band = {name: float(quantile_of_rows(kept, everything, at)) for name, at in quantiles}
    return methods.Reweighted(keep=keep, carried={name: torch.full(shape, value) for name, value in band.items()})


def extra_loss(micro: methods.MicroView, params: Params) -> Tensor:
    assert micro.entropies is not None
    assert micro.ref_logprobs is not None
    if "low" not in micro.carried:
        return micro.logprobs.new_zeros(())
    entropies = micro.entropies.float()
    # relu, unlike clamp, leaves the token that a quantile falls on alone
    outside = torch.relu(entropies - micro.carried["high"]) + torch.relu(micro.carried["low"] - entropies)
    drift = kl_estimate(micro.logprobs, micro.ref_logprobs, kind="k3")
    return weighted_sum(params.band_coef * outside + params.anchor_coef * drift, micro.mask, micro.weights)


def _votes(row: tuple[Verdict, ...]) -> list[float]:
    counts = Counter(verdict.extracted for verdict in row if not verdict.failed and verdict.extracted is not None)
    winner = counts.most_common(1)[0][0] if counts else None
    return [float(verdict.extracted is not None and verdict.extracted == winner) for verdict in row]
