"""Advantages from the verdict alone, shared by the three methods of arXiv:2506.01347."""

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
