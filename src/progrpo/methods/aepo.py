"""AEPO of QwenLong-L1.5, second-hand: while the entropy is too high, completions with a negative advantage are left out.

    H the mean entropy of the rollout's tokens;   H > high: completions with A < 0 leave the batch, until H < low

The switch is kept in the checkpoint; between the two it stays as it was, so that it does not flicker. H is of the policy that
sampled. The thresholds are not published and have no default. The repository's README shows a snippet that leaves completions
out inside the band instead of above it, and those with an advantage or a reward of 0, too, which leave no gradient but the
mean's divisor; this is the paper's text. Its standard deviation over the rewards of a whole task is not here.

Source: arXiv:2512.12967; Tongyi-Zhiwen/Qwen-Doc@12489b0 QwenLong-L1.5/README.md.
Evidence: second-hand: notes on the paper's text, which was not read.
Reproduce: thresholds by trial, around the entropy of the first rollouts.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor

from progrpo import methods
from progrpo.types import RolloutBatch, WeightedMean

NEEDS = frozenset({"entropies"})


class Params(methods.Params):
    low: float = Field(ge=0)
    """Below it all completions are trained on again, in nats per token."""
    high: float = Field(ge=0)
    """Above it those with a negative advantage are left out, in nats per token."""

    @model_validator(mode="after")
    def _ordered(self) -> "Params":
        if self.low > self.high:
            raise ValueError(f"low={self.low:g} is above high={self.high:g}")
        return self


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    left_out = _left_out(batch, params)
    return methods.Advantages(
        values=methods.base_advantages(batch, params),
        state={"left_out": left_out},
        stats={"aepo/left_out": WeightedMean(float(left_out), 1)},
    )


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    if not _left_out(batch, params):
        return torch.ones_like(batch.correct)
    return methods.base_advantages(batch, params) >= 0


def _left_out(batch: RolloutBatch, params: Params) -> bool:
    """Whether completions with a negative advantage stay out of this rollout's batch."""
    before = bool(batch.state.get("left_out", False))
    if batch.entropies is None or not bool(batch.mask.any()):
        return before
    entropy = float(batch.entropies[batch.mask].double().mean())
    return entropy > params.high or (before and entropy >= params.low)
