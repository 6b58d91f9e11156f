"""What the verdicts alone say of completions and groups, shared by the methods that go by them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo.types import RolloutBatch


def signed(batch: RolloutBatch, *, correct: float, wrong: float) -> Float[Tensor, "P G"]:
    """`correct` for correct completions, `wrong` for the others, 0 without a verdict."""
    values = torch.where(batch.correct, correct, wrong)
    return torch.where(batch.judged, values, 0.0)


def judged_as(batch: RolloutBatch, *, correct: bool) -> Bool[Tensor, "P G"]:
    """The completions that were judged so."""
    return batch.judged & (batch.correct == correct)


def correct_share(batch: RolloutBatch) -> Float[Tensor, " P"]:
    """The share of the judged completions of each group that are correct, in [0, 1]; 0 where none was judged."""
    right, judged = (batch.correct & batch.judged).sum(dim=1), batch.judged.sum(dim=1)
    return right / judged.clamp(min=1)
