"""W-REINFORCE: wrong completions are pushed down with weight 1, correct ones up with a small weight.

    A = λ for correct completions, −1 for wrong ones; no baseline

Source: arXiv:2506.01347; TianHongZXY/RLVR-Decomposed@a5d4e7c.
Evidence: code.
Reproduce: entropy_coef=0.001, and otherwise lam=0.1.
"""

from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.methods._signs import signed
from progrpo.types import RolloutBatch


class Params(methods.Params):
    aggregate: How = "token"
    lam: float = Field(0.1, ge=0)
    """λ, advantage of a correct completion; 0 is NSR with the correct completions still in the mean, 1 REINFORCE with ±1."""


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    """A completion without a verdict has no sign."""
    return batch.judged


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    return methods.Advantages(values=signed(batch, correct=params.lam, wrong=-1.0))
