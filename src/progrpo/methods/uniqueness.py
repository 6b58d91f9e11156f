"""Uniqueness-aware RL, second-hand: of a group's completions, those whose solution others have, too, count less.

    A_i ← A_i / f_i^α,   f_i how many completions of the group have the solution of i, itself included

The paper lets a language model sort the completions of a problem by the strategy they follow. Here a solution is what the
verifier names it by: its canonical form (countdown, grid_path, ...), under which equal solutions are equal, or the extracted
answer, by which correct completions of a problem with one answer are all alike. A completion in which none was found has
f = 1; one without a verdict is not counted. Negative advantages are divided, too (`apply_to: all`).

Source: arXiv:2601.08763.
Evidence: second-hand: the factor and that it meets advantages of either sign are those of published summaries of the paper,
which was not read; there is no code, and α is not published, so that it has no default.
Reproduce: `solution: canonical` on tasks that have canonical forms is the exact grouping that the paper's judge approximates.
"""

from collections import Counter
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.types import RolloutBatch, Verdict, WeightedMean

NEEDS = frozenset({"verdicts"})


class Params(methods.Params):
    alpha: float = Field(ge=0)
    """α, how much less a solution counts that others have; 0 gives GRPO, at 1 each solution of a group counts once."""
    solution: Literal["canonical", "answer"] = "canonical"
    """What tells solutions apart: the verdict's canonical form, or the extracted answer as text."""
    apply_to: Literal["all", "correct"] = "all"
    """Completions whose advantage is divided."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    return add_to(methods.base_advantages(batch, params), batch, params)


def add_to(plain: Tensor, batch: RolloutBatch, params: Params) -> methods.Advantages:
    """Advantages [P, G] of any method, divided (`method.add`).

    Raises:
        ConfigError: a correct completion has no solution of the kind that is asked for.
    """
    named = [[_solution(verdict, params) for verdict in row] for row in batch.verdicts]
    if len(named) != len(plain):
        raise ValueError(f"verdicts: expected those of {len(plain)} groups, got {len(named)}")
    judged = batch.judged.tolist()
    counts = [
        Counter(name for name, known in zip(row, there, strict=True) if known and name is not None)
        for row, there in zip(named, judged, strict=True)
    ]
    sizes = torch.tensor(
        [
            [max(1, count[name]) if name is not None else 1 for name in row]
            for count, row in zip(counts, named, strict=True)
        ]
    )
    acted_on = batch.judged & batch.correct if params.apply_to == "correct" else batch.judged
    weights = torch.where(acted_on, sizes.float().pow(-params.alpha), 1.0)
    solved = [len(count) for count in counts if count]
    return methods.Advantages(
        values=plain * weights,
        stats={"uniqueness/solutions": WeightedMean(sum(solved), len(solved))},
        columns={"uniqueness_weight": weights},
    )


def _solution(verdict: Verdict, params: Params) -> str | None:
    solution = verdict.canonical if params.solution == "canonical" else verdict.extracted
    if solution is None and verdict.correct:
        other = "answer" if params.solution == "canonical" else "canonical"
        raise ConfigError(
            f"method uniqueness: solution={params.solution}: this run's verifier gives a correct completion none, so that "
            f"nothing tells its solutions apart and this would be GRPO; set method.solution={other} or choose another method"
        )
    return solution
