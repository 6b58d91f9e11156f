"""Draw tokens by inverting their cumulative distribution at a given uniform number."""

import numpy as np
import torch
from torch import Tensor

from progrpo.engines import Sampling
from progrpo.types import TokenTemperatures

_BLOCK = 256
_TINY = 1e-8
"""The least entropy whose logarithm is taken."""


def uniforms_of(seed: int) -> np.random.Generator:
    """The random numbers of the completion of this seed: its token number t is drawn at number t, in every engine."""
    return np.random.Generator(np.random.Philox(key=seed))


def kept(sampling: Sampling) -> int:
    """How many values `sample` gives of a token."""
    return 5 if sampling.raw else 3


def sample(logits: Tensor, uniform: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Draw one token per row by inverting its cumulative distribution at `uniform`.

    Args:
        logits: [R, V]. uniform: [R] float64 in [0, 1).

    Returns:
        token [R]; and [3, R] its log-probability, the entropy in nats of its distribution and the gradient of that entropy
        (see `Completion`), float32, at the sampling temperature and before top-k, top-p and `sampling.temperatures` (at
        temperature 0: of the untempered distribution). With `sampling.raw` [5, R]: then the first two at temperature 1.
    """
    tempered = sampling.temperature not in (0, 1)
    scaled = logits.float() / sampling.temperature if tempered else logits
    probs = scaled.softmax(dim=-1, dtype=torch.float32)
    drawn_from = probs if sampling.temperatures is None else _retempered(scaled, probs, sampling.temperatures)
    token = scaled.argmax(dim=-1) if sampling.temperature == 0 else invert(truncate(drawn_from, sampling), uniform)
    values: tuple[Tensor, ...] = _of_token(probs, token)
    if sampling.raw:
        values += (_of_token(logits.softmax(dim=-1, dtype=torch.float32), token) if tempered else values)[:2]
    return token, torch.stack(values)


def _retempered(logits: Tensor, probs: Tensor, temperatures: TokenTemperatures) -> Tensor:
    """The distribution of each row at a temperature of its own (see `TokenTemperatures`), [R, V]."""
    logs = torch.special.entr(probs).sum(dim=-1).clamp(min=_TINY).log() - temperatures.centre
    height = torch.where(logs > 0, logs / temperatures.above, logs / temperatures.below).clamp(-1, 1)
    factor = 1 + temperatures.strength * height
    return (logits.float() / factor[:, None]).softmax(dim=-1)


def _of_token(probs: Tensor, token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    parts = torch.special.entr(probs)  # -p log p
    entropy, index = parts.sum(dim=-1), token[:, None]
    p, part = probs.gather(-1, index)[:, 0], parts.gather(-1, index)[:, 0]
    # -p(log p + H) + sum_v p_v^2 (log p_v + H), written in the parts at hand
    gradient = part - p * entropy - torch.linalg.vecdot(probs, parts) + entropy * torch.linalg.vecdot(probs, probs)
    return p.log(), entropy, gradient


def invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first entry of each row whose cumulative weight exceeds `uniform` times the row's sum; never one of weight 0.

    Sums run over blocks first, then in float64 inside the block that was hit: one cumulative sum over a whole
    vocabulary would cost more than the rest of sampling.
    """
    size = weights.shape[-1]
    width = _BLOCK if size > 4 * _BLOCK else size
    blocks = torch.nn.functional.pad(weights, (0, -size % width)).unflatten(-1, (-1, width))  # [R, blocks, width]
    sums = blocks.sum(dim=-1).double()
    ends = sums.cumsum(dim=-1)
    threshold = uniform.double()[:, None] * ends[:, -1:]
    # right=True picks the first entry *above* the threshold: a weight of 0 can never be drawn.
    block = torch.searchsorted(ends, threshold, right=True).clamp(max=ends.shape[1] - 1)  # [R, 1]
    inside = blocks.gather(1, block[..., None].expand(-1, -1, width))[:, 0].double().cumsum(dim=-1)
    # Rounding may leave a threshold at the block's very end or before its start.
    last = torch.nextafter(inside[:, -1:], inside.new_zeros(1))
    left = (threshold - (ends - sums).gather(1, block)).clamp(min=0).minimum(last)
    entry = block * width + torch.searchsorted(inside, left, right=True)
    return entry[:, 0].clamp(max=size - 1)


def truncate(probs: Tensor, sampling: Sampling) -> Tensor:
    """Zero what top-k and top-p leave out (not renormalised). Ties at the edge of top-k are kept."""
    if 0 < sampling.top_k < probs.shape[-1]:
        edge = probs.topk(sampling.top_k, dim=-1).values[:, -1:]
        probs = torch.where(probs >= edge, probs, 0.0)
    if sampling.top_p < 1:
        sorted_probs, order = probs.sort(dim=-1, descending=True, stable=True)
        before = sorted_probs.cumsum(dim=-1) - sorted_probs
        dropped = before >= sampling.top_p * probs.sum(dim=-1, keepdim=True)
        probs = torch.zeros_like(probs).scatter(-1, order, sorted_probs.masked_fill(dropped, 0.0))
    return probs
