"""CISPO: the importance ratio is clipped as a weight, so that no token loses its gradient.

    J = 1/(tokens of the group) Σ_i Σ_t sg(clip(ρ_it, 1 − ε_low, 1 + ε_high)) · A_i · log π_it

Source: arXiv:2506.13585; TRL's ScaleRL recipe for the upper bound.
Evidence: paper for the form; the paper gives no ε: it switches the lower bound off and tunes the upper one.
Reproduce: the defaults bound the ratio by 0 and 5, as TRL's recipe; verl's example has clip_high=0.2.
"""

from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.algo.surrogate import log_ratio

SURROGATE = False
OFF_POLICY = (
    "cispo bounds importance ratios, which are all 1 in the first step, so that with one step its gradient is GRPO's (averaged "
    "over the tokens of a group); set batch.minibatch_prompts to a part of batch.prompts"
)


class Params(methods.Params):
    clip_low: float = Field(1.0, ge=0, le=1)
    clip_high: float = Field(4.0, ge=0)
    aggregate: How = "group_token"


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    ratio = log_ratio(micro.logprobs.detach(), micro.old_logprobs).exp()
    return ratio.clamp(1 - params.clip_low, 1 + params.clip_high) * micro.advantages * micro.logprobs
