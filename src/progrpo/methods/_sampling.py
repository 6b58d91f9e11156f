"""What the hook `sample` is given and what it gives back, and the ways of sampling that methods share.

A method that samples as GRPO does, G completions of each of P problems, has no such hook. One that has it asks for problems,
for completions of them as often as it likes, from a prefix where it likes, and says which groups make the batch.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Int
from torch import Tensor

from progrpo.types import Group, Problem, RolloutBatch, TokenTemperatures, Verdict, WeightedMean


class Taken(NamedTuple):
    """A problem of the run's order, and the epoch it was taken in."""

    epoch: int
    problem: Problem


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draw:
    """Completions that are wanted of one problem.

    Attributes:
        taken: one that `Problems.take` gave.
        first, count: completions number `first` to `first + count` of the problem in this rollout. Each number has a seed of
            its own, so that the same number asked for twice from the same prefix is the same completion.
        prefix: tokens that the completions begin with. They are part of what is verified, recorded and limited by
            `sampling.max_new_tokens`, and are not trained on (`Completion.trained`). None: none.
        limit: tokens that follow the prefix at most; None for as many as there may be.
    """

    taken: Taken
    first: int
    count: int
    prefix: Int[Tensor, " T"] | None = None
    limit: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampledGroups:
    """What the hook `sample` returns.

    Attributes:
        groups: P groups of G completions each, with their verdicts.
        stats: metrics, keys as in docs/metrics.md. state: what the method remembers from now on, as in `Advantages`.
    """

    groups: tuple[Group, ...]
    stats: Mapping[str, WeightedMean] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Problems(Protocol):
    """The problems of the run in their order.

    Attributes:
        size: P, groups of a batch.
    """

    size: int

    def take(self) -> tuple[Taken, ...]:
        """The P problems that come next."""


@runtime_checkable
class Generate(Protocol):
    """Draws completions and has them verified. The same calls give the same completions in one process and in several.

    Attributes:
        group: G. longest: `sampling.max_new_tokens`. state: what the method remembers, not to be written into.
    """

    group: int
    longest: int
    state: Mapping[str, Any]

    def __call__(self, draws: Sequence[Draw], temperatures: TokenTemperatures | None = None) -> tuple[Group, ...]:
        """A group of `count` completions for each draw, in this order, each verified from its first token to its last.

        Args:
            temperatures: of each token (the needs name "token_temperatures"); None leaves the run's.
        """

    def judged(self, verdict: Verdict) -> bool:
        """Whether training will take this for a verdict: one that the verifier failed to give is none, but with
        `verify.failed=wrong`, when it is that of a wrong completion."""

    def spelled(self, token: int) -> str | None:
        """What a token spells by itself; None for a special one."""

    def random(self, taken: Taken | None, *parts: int | str) -> random.Random:
        """Random numbers that hang on the run's seed, the rollout, the problem (if one is named) and `parts` alone."""


def plain_groups(
    taken: Sequence[Taken], generate: Generate, temperatures: TokenTemperatures | None = None
) -> tuple[Group, ...]:
    """G completions of each problem, as GRPO samples them but for `temperatures`."""
    return generate([Draw(taken=one, first=0, count=generate.group) for one in taken], temperatures)


def mixed(generate: Generate) -> Callable[[Group], bool]:
    """Tells groups of which some of the judged completions are correct and some are not."""
    return lambda group: len({verdict.correct for verdict in group.verdicts if generate.judged(verdict)}) == 2


def in_rounds(
    problems: Problems,
    generate: Generate,
    *,
    rounds: int,
    wanted: Callable[[Group], bool],
    draw: Callable[[Sequence[Taken], Generate], tuple[Group, ...]] = plain_groups,
) -> SampledGroups:
    """Dynamic sampling (arXiv:2503.14476): keep the groups that are wanted and go on with further problems until there are P of
    them, at most `rounds` times; what is then missing is filled up with the others, in their order.

    Args:
        draw: makes the groups of the problems of one round.
    """
    made: list[Group] = []
    count, good = 0, 0
    while count < rounds and good < problems.size:
        made += draw(problems.take(), generate)
        count += 1
        good = sum(map(wanted, made))
    kept = [*filter(wanted, made), *(group for group in made if not wanted(group))][: problems.size]
    stats = {"rollout/rounds": WeightedMean(count, 1), "rollout/mixed_groups": WeightedMean(good, len(made))}
    return SampledGroups(groups=tuple(kept), stats=stats)


def in_words(rounds: int) -> str | None:
    """What the hook `samples` says of dynamic sampling; None of a single round."""
    return f"{rounds} rounds of sampling for one batch; set method.max_rounds=1" if rounds > 1 else None


def kept_of_rounds(batch: RolloutBatch, rounds: int) -> Bool[Tensor, "P G"]:
    """The sequences that train under dynamic sampling: of mixed groups alone, not of those that fill up. All in one round."""
    mixed = batch.correct.any(dim=1, keepdim=True) & ~batch.correct.all(dim=1, keepdim=True)
    return (mixed | (rounds == 1)).expand_as(batch.correct)
