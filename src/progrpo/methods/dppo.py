"""DPPO: a token stops at a divergence of its probability instead of a ratio, so that rare tokens may go further.

    p, q = π, π_old of the token;   ρ = p/q;   J_t = sg(min(ρ_t, c)) · A_t · log π_t   where the token is within bounds, else 0
    divergence=tv    A > 0: p − q <= δ_high;   A <= 0: q − p <= δ_low
    divergence=kl    KL of the two-way choice "this token or another", q log(q/p) + (1 − q) log((1 − q)/(1 − p)), <= δ of its
                     side; a token that moved against its advantage is within bounds, as with tv

A ratio clipped at 1.2 stops a token of probability 0.001 at 0.0012 and lets one of 0.8 go to 0.96; here both may move by δ.
policy/clip_low, policy/clip_high and policy/ratio speak of ratios, which bound nothing here.

Source: arXiv:2602.04879; verl-project/verl@1dda039 core_algos.py and examples/dppo_trainer.
Evidence: code, contributed by the paper's authors.
Reproduce: the defaults are its script (centred rewards, sums over a constant length, δ = 0.15) with the bound on ρ of the loss
itself; the script lifts that to 10000, `preset: released`. `preset: kl` for its other divergence, δ = 0.05; its script,
`preset: released_kl`.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.algo.surrogate import log_ratio

PRESETS = {
    "released": {"largest_ratio": 10_000.0},
    "kl": {"divergence": "kl", "clip_low": 0.05, "clip_high": 0.05},
    "released_kl": {"divergence": "kl", "clip_low": 0.05, "clip_high": 0.05, "largest_ratio": 10_000.0},
}
SURROGATE = False
OFF_POLICY = (
    "dppo stops tokens that the earlier steps of the rollout have moved too far, so that with one step its gradient is "
    "dr_grpo's; set batch.minibatch_prompts to a part of batch.prompts"
)


class Params(methods.Params):
    scale: Literal["std", "none"] = "none"
    aggregate: How = "fixed"
    clip_low: float = Field(0.15, ge=0, le=1)
    """δ_low, a divergence: how far a token with a negative advantage may fall."""
    clip_high: float = Field(0.15, ge=0)
    """δ_high, likewise: how far one with a positive advantage may rise."""
    divergence: Literal["tv", "kl"] = "tv"
    """The difference of the two probabilities, or the KL divergence of this token against all others; in nats."""
    largest_ratio: float = Field(20.0, gt=1)
    """c, bound of the importance weight."""


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    now, old = micro.logprobs.detach().float(), micro.old_logprobs.float()
    moved = _moved(now, old, params.divergence)
    within = torch.where(micro.advantages > 0, moved <= params.clip_high, -moved <= params.clip_low)
    weight = log_ratio(now, old).exp().clamp(max=params.largest_ratio)
    return torch.where(within, weight * micro.advantages * micro.logprobs, 0.0)


def _moved(now: Tensor, old: Tensor, divergence: Literal["tv", "kl"]) -> Tensor:
    """The divergence from the policy that sampled, with the sign of the token's own change."""
    p, q = now.exp(), old.exp()
    if divergence == "tv":
        return p - q
    tiny = 1e-8
    others = (1 - q) * ((1 - q + tiny) / (1 - p + tiny)).log()
    return (q * (old - now) + others) * (p - q).sign()
