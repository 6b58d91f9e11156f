"""How far the sampler's log-probs are from the trainer's, on the same tokens and before either has moved."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo.types import WeightedMean

INSIDE = (0.9, 1.1)
"""Importance ratios trainer / sampler that count as agreement."""


class SamplerGap:
    """Gathers log-ratios over the micro-batches of a step."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def add(self, logprobs: Float[Tensor, "M S"], sampler: Float[Tensor, "M S"], mask: Bool[Tensor, "M S"]) -> None:
        """The trainer's log-probs and the sampler's of some sequences; only tokens of `mask` count."""
        self._parts.append((logprobs.detach() - sampler)[mask].double().cpu())

    def __add__(self, other: "SamplerGap") -> "SamplerGap":
        both = SamplerGap()
        both._parts = [*self._parts, *other._parts]
        return both

    def metrics(self) -> dict[str, WeightedMean]:
        """With d = log p_trainer - log p_sampler of each token: see `sampler/*` in docs/metrics.md; {} without a token."""
        differences = torch.cat(self._parts) if self._parts else torch.zeros(0)
        count = differences.numel()
        if not count:
            return {}
        ratio, size = differences.exp(), differences.abs()
        outside = (ratio < INSIDE[0]) | (ratio > INSIDE[1])
        return {
            "sampler/gap": WeightedMean(float(size.sum()), count),
            "sampler/gap_p95": WeightedMean(_quantile(size, 0.95), 1),
            "sampler/outside": WeightedMean(float(outside.sum()), count),
            "sampler/kl": WeightedMean(float((ratio - 1 - differences).sum()), count),
        }


def _quantile(values: Float[Tensor, " N"], level: float) -> float:
    """As torch.quantile, which takes 16 M values at most: between the two nearest, in proportion."""
    ordered, rank = values.sort().values, level * (len(values) - 1)
    below = int(rank)
    return float(torch.lerp(ordered[below], ordered[min(below + 1, len(values) - 1)], rank - below))
