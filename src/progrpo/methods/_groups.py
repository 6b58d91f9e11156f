"""Values of sequences put together by group, for the losses that compare the completions of one problem with each other."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo.methods._data import MicroView


def by_group(
    micro: MicroView, values: Float[Tensor, " M"]
) -> tuple[Float[Tensor, "g G"], Bool[Tensor, "g G"], Bool[Tensor, "g G"]]:
    """Values of the sequences of a micro-batch that holds whole groups, a row for each problem in it.

    Returns:
        The values with their gradient, 0 for a completion that is not trained on; which are trained on (not dropped, not left
        out, not empty); and which of these are correct.
    """
    problems, row = torch.unique(micro.sequences // micro.group, return_inverse=True)
    place = (row, micro.sequences % micro.group)
    trained = micro.mask.any(dim=1)
    shape = (len(problems), micro.group)
    there = trained.new_zeros(shape).index_put(place, trained)
    correct = trained.new_zeros(shape).index_put(place, trained & micro.correct)
    return values.new_zeros(shape).index_put(place, torch.where(trained, values, 0.0)), there, correct


def sequence_log_ratio(micro: MicroView, log_ratio: Float[Tensor, "M S"], *, mean: bool) -> Float[Tensor, " M"]:
    """The sum of a log-ratio over the tokens of each sequence, or its mean; with gradient."""
    total = torch.where(micro.mask, log_ratio, 0.0).sum(dim=1)
    return total / micro.mask.sum(dim=1).clamp(min=1) if mean else total
