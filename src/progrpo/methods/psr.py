"""PSR: positive samples alone, pushed up alike; the wrong ones leave the batch.

    A = 1 for correct completions; J = mean over their tokens

Source: arXiv:2506.01347; TianHongZXY/RLVR-Decomposed@a5d4e7c.
Evidence: code.
Reproduce: entropy_coef=0.001, and otherwise the defaults.
"""

from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.methods._signs import judged_as, signed
from progrpo.types import RolloutBatch


class Params(methods.Params):
    aggregate: How = "token"


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    return judged_as(batch, correct=True)


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    return methods.Advantages(values=signed(batch, correct=1.0, wrong=0.0))
