"""F-GRPO, second-hand: groups that are solved often count less, as easy examples do in the focal loss.

    A_i ← (1 − c/G)^γ · A_i,   c the correct ones of the G judged completions of the group

All completions of a group are scaled alike, wrong ones too. The paper puts it on GRPO, DAPO and CISPO: `add=f_grpo` to a method
does that.

Source: arXiv:2602.06717.
Evidence: second-hand: the factor is that of published summaries of the paper (v2), which was not read; no code was found, and
which γ its runs had is not known here, so that it has no default.
Reproduce: groups of 8, with GRPO, or added to DAPO or CISPO; γ by trial.
"""

from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.methods._signs import correct_share
from progrpo.types import RolloutBatch, WeightedMean


class Params(methods.Params):
    gamma: float = Field(ge=0)
    """γ, how fast the weight falls with the share of correct completions; 0 gives GRPO."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    return add_to(methods.base_advantages(batch, params), batch, params)


def add_to(plain: Tensor, batch: RolloutBatch, params: Params) -> methods.Advantages:
    """Advantages [P, G] of any method, scaled (`method.add`)."""
    weights = (1 - correct_share(batch)).pow(params.gamma)  # [P]
    acting = (plain != 0).any(dim=1)
    return methods.Advantages(
        values=plain * weights[:, None],
        stats={"f_grpo/weight": WeightedMean(float(weights[acting].double().sum()), int(acting.sum()))},
    )
