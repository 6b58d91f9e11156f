"""The part of a rollout that one optimiser step learns from, with the sequences that go through the model."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from progrpo.methods import Advantages
from progrpo.methods.step import Step, make_step
from progrpo.train.rows import TokenRows
from progrpo.train.token_counts import TokenCounts
from progrpo.types import RolloutBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MiniBatch:
    """The p problems of one optimiser step: K = p * G sequences that stand together in the rollout.

    Attributes:
        rows: all N sequences of the rollout. first: the first of this mini-batch among them.
        step: the K sequences as the method sees them.
        token_counts: of the scoring passes that were made for this step, to be counted with its own.
    """

    rows: TokenRows
    first: int
    step: Step
    token_counts: TokenCounts = field(default_factory=TokenCounts)

    @property
    def index(self) -> Int[Tensor, " K"]:
        """Which sequences of the rollout they are."""
        return self.first + torch.arange(len(self.step.batch.mask))


def make_minibatch(
    rows: TokenRows,
    batch: RolloutBatch,
    advantages: Advantages,
    problems: slice,
    *,
    seed: int,
    now: RolloutBatch | None = None,
    token_counts: TokenCounts | None = None,
) -> MiniBatch:
    """Some problems of a rollout as one optimiser step learns from them: see `progrpo.methods.step.make_step`."""
    step = make_step(batch, advantages, problems, seed=seed, now=now)
    return MiniBatch(
        rows=rows, first=problems.start * rows.group, step=step, token_counts=token_counts or TokenCounts()
    )
