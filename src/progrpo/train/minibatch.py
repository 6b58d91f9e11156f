"""The part of a rollout that one optimiser step learns from, with the sequences that go through the model."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from progrpo.methods import Advantages
from progrpo.methods.step import Step, make_step
from progrpo.train.rows import Rows
from progrpo.train.work import Work
from progrpo.types import RolloutBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MiniBatch:
    """The p problems of one optimiser step: K = p * G sequences that stand together in the rollout.

    Attributes:
        rows: all N sequences of the rollout. first: the first of this mini-batch among them.
        step: the K sequences as the method sees them.
        work: of the scoring passes that were made for this step, to be counted with its own.
    """

    rows: Rows
    first: int
    step: Step
    work: Work = field(default_factory=Work)

    @property
    def index(self) -> Int[Tensor, " K"]:
        """Which sequences of the rollout they are."""
        return self.first + torch.arange(len(self.step.batch.mask))


def make_minibatch(
    rows: Rows,
    batch: RolloutBatch,
    advantages: Advantages,
    problems: slice,
    *,
    seed: int,
    now: RolloutBatch | None = None,
    work: Work | None = None,
) -> MiniBatch:
    """Some problems of a rollout as one optimiser step learns from them: see `progrpo.methods.step.make_step`."""
    step = make_step(batch, advantages, problems, seed=seed, now=now)
    return MiniBatch(rows=rows, first=problems.start * rows.group, step=step, work=work or Work())
