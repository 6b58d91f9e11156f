"""RLSC, "confidence is all you need": the model's own samples are made likelier, without labels.

    L = −(sg(p(o|q)) + a) · log p(o|q)

p is the probability of the whole completion; it underflows for long ones, and then a is all that is left: imitation of
its own samples. A control of the opposite sign to ProGRPO; verdicts play no part.

Source: arXiv:2506.06395.
Evidence: paper.
Reproduce: a=0.1 (a=0 is its basic form), 16 samples at temperature 0.5, optim.lr=1e-5, 10 to 20 steps.
"""

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.types import RolloutBatch


class Params(methods.Params):
    aggregate: How = "fixed"
    fixed_length: int | None = 1
    a: float = Field(0.1, ge=0)
    """Added to the probability."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    """1 for every completion: none is worth more than another, unless something is added."""
    return methods.Advantages(values=torch.ones_like(batch.rewards))


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    whole = torch.where(micro.mask, micro.logprobs.detach(), 0.0).sum(dim=1).exp()  # [M]
    return (whole + params.a)[:, None] * micro.advantages * micro.logprobs
