"""RLSC, "confidence is all you need": the model's own samples are made likelier, without labels.

    L = −(sg(p(o|q)) + a) · log p(o|q)

p is the probability of the whole completion under the policy as it is before each optimiser step, without gradient; the
paper weighs by a frozen copy, which is the policy that sampled. The two are the same in a rollout's first step; from the
second on there is neither that nor an importance ratio here, and the run warns. p underflows for long completions, and then a
is all that is left: imitation of its own samples. A control of the opposite sign to ProGRPO; verdicts play no part.

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

SURROGATE = False
ON_POLICY = (
    "rlsc weighs each completion by its probability under the policy as it is now, without an importance ratio, so that the "
    "later steps raise what the earlier ones raised; leave batch.minibatch_prompts at null"
)


class Params(methods.Params):
    aggregate: How = "fixed"
    fixed_length: int | None = 1
    a: float = Field(0.1, ge=0)
    """Added to the probability."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    """1 for every completion: none is worth more than another, unless something is added."""
    return methods.Advantages(values=torch.ones_like(batch.rewards))


def token_loss(micro: methods.MicroView, surrogate: Tensor, params: Params) -> Tensor:
    sequence_probs = torch.where(micro.mask, micro.logprobs.detach(), 0.0).sum(dim=1).exp()  # [M]
    return (sequence_probs + params.a)[:, None] * micro.advantages * micro.logprobs
