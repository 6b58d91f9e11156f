"""Statistics over the tokens of a pool, shared by the methods that take them."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def covariance(
    advantages: Float[Tensor, "K S"], logprobs: Float[Tensor, "K S"], mask: Bool[Tensor, "K S"]
) -> Float[Tensor, "K S"]:
    """(A − mean A)(log π − mean log π) of each token, means over `mask`; float32, 0 where masked, no gradient."""
    values, scores = advantages.detach().float(), logprobs.detach().float()
    if not bool(mask.any()):
        return torch.zeros_like(scores)
    centred = (values - values[mask].mean()) * (scores - scores[mask].mean())
    return centred.masked_fill(~mask, 0.0)


def top_share(
    values: Float[Tensor, "K S"],
    mask: Bool[Tensor, "K S"],
    share: float,
    *,
    at_least: int,
    rounding: Literal["ceil", "floor"],
) -> Bool[Tensor, "K S"]:
    """The `share` of the masked tokens with the largest values; ties to the earlier token in row order.

    Args:
        share: in [0, 1], of the tokens in `mask`. at_least: tokens that are chosen however small the share.
    """
    tokens = int(mask.sum())
    product = share * tokens
    # A share such as 0.2 of 5 tokens must be 1, whatever 0.2 is in binary.
    count = math.ceil(product - 1e-9) if rounding == "ceil" else math.floor(product + 1e-9)
    count = min(tokens, max(at_least, count))
    ranked = values.float().masked_fill(~mask, -math.inf).flatten().argsort(descending=True, stable=True)
    chosen = torch.zeros(mask.numel(), dtype=torch.bool, device=mask.device)
    chosen[ranked[:count]] = True
    return chosen.view(mask.shape)
