"""The step of `batch_steps.py` on completions written as lists of floats, and its gradient against central differences."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from progrpo.methods import Advantages, Method, Reweighted
from progrpo.train.columns import column_mask
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import descend

Ragged = list[list[float]]
PADDING = {"now": -3.3, "ref": 4.4, "entropies": 99.0, "values": 5.5}
"""What stands behind the last token: numbers that would show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Completions of unequal lengths as lists; sequence n belongs to problem n // group.

    Attributes:
        rewards: one per sequence, nan where there is no verdict.
        now, old, ref: log-probs of the tokens under the policy being trained, the one that sampled, the one before training.
        entropies: of the policy being trained. values: of the method's net at the rollout.
    """

    group: int
    rewards: list[float]
    old: Ragged
    now: Ragged
    ref: Ragged
    entropies: Ragged
    values: Ragged

    @property
    def tokens(self) -> list[tuple[int, int]]:
        return [(n, t) for n, row in enumerate(self.now) for t in range(len(row))]

    @property
    def lengths(self) -> Tensor:
        return torch.tensor([len(row) for row in self.now])  # [N]

    def padded(self, name: str) -> Tensor:
        """One of the ragged fields as [N, S]."""
        ragged: Ragged = getattr(self, name)
        width = max(1, *(len(row) for row in ragged), 1)
        fill = PADDING.get(name, 0.0)
        return torch.tensor([[*row, *[fill] * (width - len(row))] for row in ragged])

    def rollout(self) -> RolloutBatch:
        rewards = torch.tensor(self.rewards).view(-1, self.group)
        old = self.padded("old")
        return RolloutBatch(
            rewards=rewards,
            correct=rewards > 0.5,
            truncated=torch.zeros(rewards.shape, dtype=torch.bool),
            lengths=self.lengths.view(rewards.shape),
            mask=column_mask(self.lengths, old.shape[1]),
            old_logprobs=old,
            entropies=self.padded("entropies"),
            ref_logprobs=self.padded("ref"),
            values=self.padded("values"),
        )


def make_case(group: int, rewards: Sequence[float], old: Ragged, **others: Ragged) -> Case:
    """A case worked out by hand: what is not given is the sampling policy's, or 0."""
    zeros = [[0.0] * len(row) for row in old]
    fields = {"now": old, "ref": old, "entropies": zeros, "values": zeros} | others
    return Case(group=group, rewards=list(rewards), old=old, **fields)


def random_case(seed: int, *, unjudged: float = 0.1, empty: float = 0.05, drift: float = 0.3) -> Case:
    """One to three problems of two to four completions of up to four tokens.

    Args:
        unjudged: probability of a completion without a verdict. empty: of one without a token.
        drift: standard deviation of a token's log-ratio.
    """
    draw = random.Random(seed)
    problems, group = draw.randint(1, 3), draw.randint(2, 4)
    lengths = [0 if draw.random() < empty else draw.randint(1, 4) for _ in range(problems * group)]
    lengths[draw.randrange(len(lengths))] = 4

    def rows(token: Callable[[], float]) -> Ragged:
        return [[token() for _ in range(length)] for length in lengths]

    def near(values: Ragged) -> Ragged:
        return [[value + draw.gauss(0, drift) for value in row] for row in values]

    old = rows(lambda: -draw.uniform(0.05, 3.0))
    rewards = [draw.choice([0.0, 1.0, 1.0, round(draw.uniform(-1, 1), 2)]) for _ in lengths]
    return Case(
        group=group,
        rewards=[math.nan if draw.random() < unjudged else reward for reward in rewards],
        old=old,
        now=near(old),
        ref=near(old),
        entropies=rows(lambda: draw.uniform(0.0, 3.0)),
        values=rows(lambda: draw.uniform(-1.0, 1.0)),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Taken:
    """A step that was taken.

    Attributes:
        loss: of the whole step. objective: its part without penalties and further losses, as it is logged.
        gradient: of the loss, with respect to the log-probs. entropy_gradient: to the entropies.
        made: what the method decided for the whole step.
    """

    loss: float
    objective: float
    gradient: Ragged
    entropy_gradient: Ragged
    advantages: Advantages
    made: Reweighted


def take_step(
    method: Method,
    case: Case,
    *,
    parts: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
    net: Any = None,
    token_states: Tensor | None = None,
    prompt_states: Tensor | None = None,
) -> Taken:
    """Advantages, what is decided for the step, and the loss of each micro-batch with its gradient.

    Args:
        parts: the sequences of each micro-batch; None for one of all. They are the pools where the method says so.
        token_states: [tokens, D] in row order, prompt_states: [P, D]; leaves, whose gradient is left in them.
    """
    rollout = case.rollout()
    leaves = {name: case.padded(name).requires_grad_() for name in ("now", "entropies")}
    advantages = method.advantages(rollout)

    def rows(place: Tensor) -> dict[str, Any]:
        return {
            "entropies": leaves["entropies"][place] if "entropy_grad" in method.needs else None,
            "token_states": None if token_states is None else _of_sequences(token_states, case, place.tolist()),
            "prompt_states": None if prompt_states is None else prompt_states[place // case.group],
            "net": net,
        }

    places = None if parts is None else [torch.tensor(part) for part in parts]
    loss, objective, decided = descend(
        method, rollout, advantages, leaves["now"], rows, parts=places, seed=seed, longest=9
    )
    return Taken(
        loss=loss,
        objective=objective,
        gradient=_gradient(leaves["now"], rollout.mask),
        entropy_gradient=_gradient(leaves["entropies"], rollout.mask),
        advantages=advantages,
        made=decided.reweighted,
    )


def split(case: Case) -> list[list[int]]:
    """Two micro-batches that cut through the groups."""
    index = range(len(case.now))
    return [[n for n in index if n % 3 != 1][::-1], [n for n in index if n % 3 == 1]]


def slopes(function: Callable[[Ragged], float], at: Ragged, step: float = 1e-5) -> Ragged:
    """The gradient of a function of floats, by central differences."""

    def moved(n: int, t: int, by: float) -> float:
        return function([[value + by * ((n, t) == (i, j)) for j, value in enumerate(row)] for i, row in enumerate(at)])

    return [
        [(moved(n, t, step) - moved(n, t, -step)) / (2 * step) for t in range(len(row))] for n, row in enumerate(at)
    ]


def require_same(taken: Taken, loss: Callable[[Ragged], float], case: Case) -> None:
    """The step's loss and its gradient are those of `loss`, up to the rounding of float32."""
    assert taken.loss == pytest.approx(loss(case.now), rel=1e-4, abs=1e-5)
    require_close(taken.gradient, slopes(loss, case.now))


def require_close(one: Ragged, other: Ragged) -> None:
    largest = max(abs(value) for row in other for value in row)
    for own, expected in zip(one, other, strict=True):
        assert own == pytest.approx(expected, rel=1e-4, abs=1e-6 + 1e-5 * largest)


def _of_sequences(states: Tensor, case: Case, part: Sequence[int]) -> Tensor:
    by_sequence = states.split(case.lengths.tolist())
    return torch.cat([by_sequence[n] for n in part])


def _gradient(leaf: Tensor, mask: Tensor) -> Ragged:
    gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    assert not gradient[~mask].any(), "padding has a gradient"
    return [row[own].tolist() for row, own in zip(gradient, mask, strict=True)]
