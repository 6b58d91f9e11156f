"""From per-token objectives to one number: every rule is one weight per sequence, fixed for the whole step."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.algo.shapes import require_shape

How = Literal["group_token", "token", "sequence", "fixed"]


def sequence_weights(
    lengths: Int[Tensor, "P G"],
    *,
    how: How = "group_token",
    fixed_length: int | None = None,
    kept: Bool[Tensor, "P G"] | None = None,
) -> Float[Tensor, "P G"]:
    """The weight w of each sequence in  J = sum_n w[n] * sum_t J[n,t].

        "group_token"  1 / (P * tokens of the group)   token mean within each group, mean over problems
        "token"        1 / tokens of the step          every token counts alike (verl's token-mean)
        "sequence"     1 / (N * len_n)                 token mean within each sequence, mean over sequences
        "fixed"        1 / (N * fixed_length)          token sums over a constant

    Source: "group_token" arXiv:2602.05281, Eq. 7, and DAPO (arXiv:2503.14476); Alg. 1 sums over problems where Eq. 7
    averages: the same up to the factor P. "sequence" Eq. 3 (GRPO). "fixed" Dr. GRPO (arXiv:2503.20783).

    Because the weights come from the whole optimiser step, splitting it into micro-batches changes no gradient.

    Args:
        lengths: completion tokens, >= 0, of all sequences of the step.
        fixed_length: > 0, in tokens; needed by "fixed" alone.
        kept: sequences that count in N, and the groups with one of them in P; the others weigh 0. None keeps all, the
            empty ones too.

    Returns:
        float32, >= 0; an empty sequence (and an empty group) weighs 0.

    Raises:
        ShapeError: lengths is not [P, G].
        ValueError: fixed_length is missing for "fixed" or not positive.
    """
    require_shape(lengths=(lengths, (None, None)))
    counted = torch.ones_like(lengths, dtype=torch.bool) if kept is None else kept
    require_shape(kept=(counted, tuple(lengths.shape)))
    tokens = lengths.double().masked_fill(~counted, 0.0)
    problems, sequences = int(counted.any(dim=1).sum()), int(counted.sum())
    match how:
        case "group_token":
            inverse = problems * tokens.sum(dim=1, keepdim=True).expand_as(tokens)
        case "token":
            inverse = tokens.sum().expand_as(tokens)
        case "sequence":
            inverse = sequences * tokens
        case "fixed":
            if fixed_length is None or fixed_length <= 0:
                raise ValueError(f"fixed_length: 'fixed' needs a positive number of tokens, got {fixed_length}")
            inverse = torch.full_like(tokens, sequences * fixed_length)
    weights = torch.where(inverse > 0, 1 / inverse.clamp(min=1), torch.zeros_like(inverse))
    return weights.masked_fill(tokens == 0, 0.0).float()


def weighted_sum(
    values: Float[Tensor, "N S"], mask: Bool[Tensor, "N S"], weights: Float[Tensor, " N"]
) -> Float[Tensor, ""]:
    """sum_n w[n] * sum_t mask[n,t] values[n,t], float32; gradient flows into `values` where `mask` is True.

    Masked positions may hold anything, nan included.

    Raises:
        ShapeError: shapes disagree.
    """
    require_shape(
        values=(values, (None, None)), mask=(mask, tuple(values.shape)), weights=(weights, (values.shape[0],))
    )
    kept = torch.where(mask, values.float(), torch.zeros((), device=values.device))
    return (kept.sum(dim=1) * weights.detach().float()).sum()
