"""Values of completions of unequal lengths as the columns of one tensor."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def pad_columns(values: Sequence[Tensor], width: int | None = None) -> Tensor:
    """Stack 1-D tensors as rows, padded with 0 on the right to `width` (or the longest)."""
    padded = torch.zeros(len(values), width or max(1, *(len(value) for value in values), 1), dtype=values[0].dtype)
    for row, value in enumerate(values):
        padded[row, : len(value)] = value
    return padded


def column_mask(lengths: Int[Tensor, " N"], width: int) -> Bool[Tensor, "N S"]:
    """True on the first `lengths[n]` columns of row n."""
    return torch.arange(width)[None, :] < lengths[:, None]
