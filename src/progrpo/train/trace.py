"""What each token went through in an optimiser step, for what is written down of it and for what computes it again."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from progrpo.methods import MicroView
from progrpo.methods.step import Decided
from progrpo.processes import Processes


class MicroTrace(NamedTuple):
    """One micro-batch: which sequences of the step it held, and its part of the loss."""

    places: tuple[int, ...]
    loss: float


@dataclass(kw_only=True, slots=True, eq=False)
class StepTrace:
    """Filled in by `progrpo.train.update.update`; tensors [K, S] float32 on the CPU, 0 for what was not forwarded.

    Attributes:
        logprobs: of the training pass. weights: dJ/dlog-prob of each token, that is -dL/dlog-prob. advantages: of each token,
            as the method decided.
        loss: of the whole step, penalties included. micros: of this process, in order.
    """

    logprobs: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    weights: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    advantages: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    loss: float = 0.0
    micros: list[MicroTrace] = field(default_factory=list)

    def begin(self, decided: Decided) -> None:
        """Before the first micro-batch."""
        self.advantages = decided.advantages
        self.logprobs = torch.zeros(decided.mask.shape)
        self.weights = torch.zeros(decided.mask.shape)

    def add(self, view: MicroView, place: Tensor, loss: Tensor) -> None:
        """After the backward pass of a micro-batch, whose log-probs kept their gradient."""
        self.logprobs[place] = view.logprobs.detach().float().cpu()
        if view.logprobs.grad is not None:
            self.weights[place] = -view.logprobs.grad.float().cpu()
        self.micros.append(MicroTrace(tuple(place.tolist()), float(loss.detach())))

    def end(self, processes: Processes) -> None:
        """After the last micro-batch; every process has to call it."""
        processes.sum(self.logprobs, self.weights)
        losses = [micro.loss for part in processes.gather(self.micros) for micro in part]
        self.loss = sum(losses)
