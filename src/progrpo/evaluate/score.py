"""What several methods make of the same rollouts: statistics of their advantages, and where they differ most."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from progrpo.algo.confidence import low_count, sequence_confidence
from progrpo.schema.quantity import Quantity
from progrpo.types import Completion, Group, Problem, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredMethod:
    """A method as it was applied."""

    label: str
    """Its name, or what `--method LABEL=NAME` calls it."""
    name: str
    settings: Mapping[str, Any]
    """Resolved: preset and defaults included."""
    notes: tuple[str, ...] = ()
    """What a reader should know of how it was applied or set."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoredCompletion:
    """One completion with what each method makes of it.

    Attributes:
        group: number of its group, counted over all files. file: where it was read. index: its place in the group.
        advantages: one per method.
        weights: [T] of each of its tokens in the loss at ratio 1, for each method: the gradient of the objective with respect
            to the token's log-probability, in units of one over the tokens of the optimiser step, so that a mean over all
            tokens of the step gives each token the advantage itself. None where the file holds no tokens.
        entropy_changes: its part in the first-order change of the entropy, for each method; None where not recorded.
        confidence: c(o) by Eq. 6's default variant, in [0, 1]; from the tokens, else as recorded. None: not known.
        recorded: the advantage that the run trained on. None: not in the file.
        low: [T] whether a token counts among the 20 % least likely. None where the file holds no tokens.
    """

    group: int
    file: str
    index: int
    problem: Problem
    completion: Completion
    verdict: Verdict
    advantages: tuple[float, ...]
    weights: tuple[Tensor, ...] | None
    entropy_changes: tuple[float, ...] | None
    confidence: float | None
    recorded: float | None
    low: Tensor | None

    @property
    def difference(self) -> float:
        """Largest distance of any method's advantage from the first's."""
        return max((abs(value - self.advantages[0]) for value in self.advantages), default=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodStatistics:
    """One method's advantages over all completions, and against those of the first method (None for the first itself).

    Attributes:
        mean, spread: of the advantages; spread is the standard deviation. zero_fraction: share that is exactly 0.
        flipped_fraction: share that has the other sign, of the completions to which the first gives no 0.
        reversed_fraction: share that this one orders the other way, of the pairs within a group that the first orders.
        untied_fraction: share that this one orders, of the pairs within a group that the first ties.
        correlation: Pearson's; None where either has no spread.
        recorded_distance: largest distance from the advantages in the file; None where it holds none.
        entropy_change: `policy/predicted_entropy_change` of the first optimiser steps that the file makes, mean over
            them; None where the file holds no entropy gradients.
    """

    mean: float
    spread: float
    zero_fraction: float
    recorded_distance: float | None
    entropy_change: float | None = None
    flipped_fraction: float | None = None
    reversed_fraction: float | None = None
    untied_fraction: float | None = None
    correlation: float | None = None


_STATISTICS = (
    ("mean", "mean", "of all advantages"),
    ("spread", "spread", "standard deviation of all advantages"),
    ("zero_fraction", "exactly 0, %", "completions that the method does not train on"),
    ("recorded_distance", "distance to recorded", "largest distance from the advantage that the run recorded"),
    (
        "entropy_change",
        "predicted dH",
        "first-order change of the entropy by an optimiser step, nats per unit of learning rate on the logits",
    ),
    (
        "flipped_fraction",
        "signs flipped, %",
        "completions with the other sign, of those to which the first method gives no 0",
    ),
    (
        "reversed_fraction",
        "orders reversed, %",
        "pairs of a group ordered the other way, of those that the first method orders",
    ),
    (
        "untied_fraction",
        "ties broken, %",
        "pairs of a group that the method orders, of those that the first method ties",
    ),
    ("correlation", "correlation", "Pearson's, with the first method's advantages"),
)
STATISTICS = tuple(
    Quantity(
        key=key,
        label=label,
        unit="",
        percent=key.endswith("_fraction"),
        digits=1 if key.endswith("_fraction") else 3,
        meaning=meaning,
    )
    for key, label, meaning in _STATISTICS
)
"""The attributes of `MethodStatistics`, in the order of tables."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Several methods on the same rollouts; `completions` in group order."""

    methods: tuple[ScoredMethod, ...]
    completions: tuple[ScoredCompletion, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    steps: int = 1
    """Optimiser steps that the files make."""

    @cached_property
    def values(self) -> np.ndarray:
        """[methods, completions] advantages."""
        return np.array([one.advantages for one in self.completions], dtype=np.float64).T

    @cached_property
    def groups(self) -> list[tuple[ScoredCompletion, ...]]:
        by_group: dict[int, list[ScoredCompletion]] = {}
        for one in self.completions:
            by_group.setdefault(one.group, []).append(one)
        return [tuple(members) for members in by_group.values()]


def statistics(scoring: Scoring) -> list[MethodStatistics]:
    """One per method, in order."""
    first = scoring.values[0]
    recorded = np.array([np.nan if one.recorded is None else one.recorded for one in scoring.completions])
    rows = []
    for number, advantages in enumerate(scoring.values):
        distances = np.abs(advantages - recorded)
        facts: dict[str, Any] = {
            "mean": float(advantages.mean()),
            "spread": float(advantages.std()),
            "zero_fraction": float((advantages == 0).mean()),
            "recorded_distance": None if np.isnan(distances).all() else float(np.nanmax(distances)),
            "entropy_change": _entropy_change(scoring, number),
        }
        if number:
            facts |= _against(scoring, number)
            facts["flipped_fraction"] = _fraction((advantages * first < 0).sum(), (first != 0).sum())
            facts["correlation"] = _correlation(first, advantages)
        rows.append(MethodStatistics(**facts))
    return rows


def groups_apart(scoring: Scoring) -> list[tuple[ScoredCompletion, ...]]:
    """The groups, those first in which the methods' advantages differ most from the first method's, on average."""
    return sorted(scoring.groups, key=lambda members: -group_difference(members))


def group_difference(members: Sequence[ScoredCompletion]) -> float:
    """Mean over a group's completions of the largest distance of a method's advantage from the first's."""
    return math.fsum(one.difference for one in members) / len(members)


def completions_apart(scoring: Scoring) -> list[ScoredCompletion]:
    """The completions, those first on which methods differ most."""
    return sorted(scoring.completions, key=lambda one: -one.difference)


def least_certain(groups: Sequence[Group]) -> tuple[Tensor, Tensor]:
    """c(o) [N] by Eq. 6's default variant, and [N, S] which tokens it is made of; of the tokens that are trained on."""
    completions = [completion for group in groups for completion in group.completions]
    lengths = torch.tensor([len(one.token_ids) for one in completions])
    logprobs = pad_sequence([one.sampler_logprobs for one in completions], batch_first=True)
    if not logprobs.shape[1]:
        logprobs = torch.zeros(len(completions), 1)
    mask = torch.arange(logprobs.shape[1])[None, :] < lengths[:, None]
    for row, one in enumerate(completions):
        if one.trained is not None:
            mask[row, : len(one.trained)] = one.trained
    counts = low_count(mask.sum(dim=1), fraction=0.2, rounding="ceil")  # [N]
    order = logprobs.masked_fill(~mask, torch.inf).sort(dim=1, stable=True).indices  # [N, S]
    chosen = torch.arange(order.shape[1])[None, :] < counts[:, None]
    return sequence_confidence(logprobs, mask), torch.zeros_like(mask).scatter(1, order, chosen)


def prompt_text(problem: Problem) -> str:
    """A prompt as text; of chat messages, the role before each."""
    if isinstance(problem.prompt, str):
        return problem.prompt
    parts = [message if isinstance(message, Mapping) else {"content": message} for message in problem.prompt]
    return "\n".join(f"{part.get('role', '?')}: {part.get('content', '')}" for part in parts)


def _entropy_change(scoring: Scoring, number: int) -> float | None:
    parts = [one.entropy_changes for one in scoring.completions]
    known = [part[number] for part in parts if part is not None]
    return math.fsum(known) / scoring.steps if len(known) == len(parts) else None


def _against(scoring: Scoring, number: int) -> dict[str, float | None]:
    """How a method orders the completions of each group, against how the first does."""
    ordered = turned = tied = untied = 0
    for members in scoring.groups:
        pairs = np.triu_indices(len(members), k=1)
        first, other = (
            np.sign(np.subtract.outer(values, values)[pairs])
            for values in (np.array([one.advantages[method] for one in members]) for method in (0, number))
        )
        ordered += int((first != 0).sum())
        turned += int((first * other < 0).sum())
        tied += int((first == 0).sum())
        untied += int(((first == 0) & (other != 0)).sum())
    return {"reversed_fraction": _fraction(turned, ordered), "untied_fraction": _fraction(untied, tied)}


def _fraction(count: float, of: float) -> float | None:
    return float(count / of) if of else None


def _correlation(first: np.ndarray, other: np.ndarray) -> float | None:
    if np.ptp(first) == 0 or np.ptp(other) == 0:
        return None
    # Scaled first: the squares of small advantages would be 0.
    one, two = ((values - values.mean()) / np.ptp(values) for values in (first, other))
    return float((one * two).sum() / np.sqrt((one * one).sum() * (two * two).sum()))
