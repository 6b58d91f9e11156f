"""Statistics over the tokens of a pool, shared by the methods that take them."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo.algo.surrogate import log_ratio
from progrpo.methods._data import StepBatch


def covariance(
    advantages: Float[Tensor, "K S"], logprobs: Float[Tensor, "K S"], mask: Bool[Tensor, "K S"]
) -> Float[Tensor, "K S"]:
    """(A − mean A)(log π − mean log π) of each token, means over `mask`; float32, 0 where masked, no gradient."""
    values, scores = advantages.detach().float(), logprobs.detach().float()
    if not bool(mask.any()):
        return torch.zeros_like(scores)
    centred = (values - values[mask].mean()) * (scores - scores[mask].mean())
    return centred.masked_fill(~mask, 0.0)


def deviation(
    values: Float[Tensor, "K S"], mask: Bool[Tensor, "K S"]
) -> tuple[Float[Tensor, "K S"], Float[Tensor, ""]]:
    """Each value less the mean over `mask`, 0 where masked, and the population standard deviation; float32.

    Values that are all equal deviate by exactly 0: the rounding error of their mean is of no meaning.
    """
    known = values.detach().float()[mask]
    if known.numel() == 0 or bool(known.min() == known.max()):
        return torch.zeros_like(values, dtype=torch.float32), torch.zeros((), device=values.device)
    mean = known.double().mean()
    centred = (values.detach().double() - mean).masked_fill(~mask, 0.0)
    return centred.float(), (centred.square().sum() / known.numel()).sqrt().float()


def largest(values: Float[Tensor, "K S"], mask: Bool[Tensor, "K S"], count: int) -> Bool[Tensor, "K S"]:
    """The `count` masked tokens with the largest values, all of them if there are no more; ties to the earlier token."""
    count = min(int(mask.sum()), count)
    ranked = values.float().masked_fill(~mask, -math.inf).flatten().argsort(descending=True, stable=True)
    chosen = torch.zeros(mask.numel(), dtype=torch.bool, device=mask.device)
    chosen[ranked[:count]] = True
    return chosen.view(mask.shape)


def quantile_of_rows(values: Float[Tensor, "K S"], mask: Bool[Tensor, "K S"], q: float) -> Float[Tensor, " K"]:
    """The q-quantile over the masked values of each row, between two of them by linear interpolation; inf in a row without."""
    ordered = values.masked_fill(~mask, torch.inf).sort(dim=1).values
    # A place such as 0.8 of 5 steps must be 4, whatever 0.8 is in binary.
    place = ((mask.sum(dim=1).clamp(min=1) - 1).double() * q * 1e9).round() / 1e9  # [K]
    low, high = (ordered.gather(1, end.long()[:, None])[:, 0] for end in (place.floor(), place.ceil()))
    return torch.where(low == high, low, low + (place - place.floor()).float() * (high - low))


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
    return largest(values, mask, min(tokens, max(at_least, count)))


def without_covariant(
    step: StepBatch, *, ratio: float, cov_low: float, cov_high: float, clip_low: float, clip_high: float
) -> Float[Tensor, "K S"]:
    """Clip-Cov (arXiv:2505.22617): 0 for a random share of the tokens whose covariance lies in a range, 1 elsewhere.

    Args:
        ratio: share of all tokens that are chosen, one at least; 0 chooses none. clip_low, clip_high: a token that this range
            clips anyway is no candidate.
    """
    importance = log_ratio(step.logprobs, step.old_logprobs).exp()
    clipped = ((step.advantages > 0) & (importance > 1 + clip_high)) | (
        (step.advantages < 0) & (importance < 1 - clip_low)
    )
    # One number per token, drawn for the whole step: which tokens go does not depend on the order of the pools.
    order = torch.rand(step.mask.shape, generator=step.generator)

    def spared(mask: Tensor) -> Tensor:
        cov = covariance(step.advantages, step.logprobs, mask)
        candidates = (mask & ~clipped & (cov > cov_low) & (cov < cov_high)).flatten()
        # A ratio such as 0.29 of 100 tokens must be 29, whatever 0.29 is in binary.
        wanted = max(1, math.floor(ratio * int(mask.sum()) + 1e-9)) if ratio else 0
        indices = candidates.nonzero()[:, 0]
        chosen = indices[order.flatten()[indices].argsort()[:wanted]]
        return torch.ones(mask.numel()).index_fill(0, chosen, 0.0).view(mask.shape)

    return step.per_pool(spared)
