"""R³, second-hand: where a problem's completions are all alike, earlier ones of the other kind take the place of some.

    a group that is all correct, or all incorrect, gives up its last `samples` completions for the latest `samples` of that
    problem that were incorrect, or correct (as many as are known); then GRPO, with the ratio to the policy that sampled each

Of the paper's three parts this is the replay. Its reflection (hard problems are asked again with an error from before) and its
ranking of completions that were cut, by the entropies of their tokens, are not here: the form of the question, and how two
entropies make one rank, were not read.

Source: arXiv:2601.19620.
Evidence: second-hand: notes on the paper, which was not read; no code was found. That the latest are taken, and that they take
the place of others so that a group keeps its size, is how they are read here. How many are taken is not in them, so that
`samples` has no default; how many problems are remembered is this file's own.
Reproduce: groups of 8 or more, several epochs: a problem must come again; samples by trial.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.methods._replay import Entry, completion_of, entry_of
from progrpo.methods._sampling import plain_groups
from progrpo.types import Group, WeightedMean

NEEDS = frozenset({"sampled_logprobs"})
_BUFFER = "r3_buffer"


class Params(methods.Params):
    samples: int = Field(ge=1)
    """Completions of the other kind that a group takes; as many of each kind are kept of each problem."""
    buffer_problems: int = Field(1024, ge=1)
    """Problems of which completions are kept; those that were met longest ago are forgotten first."""


def check(params: Params, group: int) -> list[str]:
    """Raises ConfigError if nothing of a group would be left."""
    if params.samples >= group:
        raise ConfigError(
            f"method r3: method.samples={params.samples} completions of earlier rollouts would take the place of all "
            f"batch.group={group}; expected fewer"
        )
    return []


def samples(params: Params) -> str | None:
    return "groups that are all alike take completions of earlier rollouts; method.name=grpo is without"


def sample(problems: methods.Problems, generate: methods.Generate, params: Params) -> methods.SampledGroups:
    buffer: dict[str, Any] = dict(generate.state.get(_BUFFER, {}))
    fresh = plain_groups(problems.take(), generate)
    groups, taken = [], 0
    for group in fresh:
        right = _kind(group, generate)
        others = [] if right is None else buffer.get(group.problem.id, {}).get(_name(not right), [])
        groups.append(_with(group, others))
        taken += len(others)
    for group in fresh:
        buffer[group.problem.id] = _renewed(buffer.pop(group.problem.id, {}), group, params.samples, generate)
    for forgotten in list(buffer)[: -params.buffer_problems]:
        del buffer[forgotten]
    return methods.SampledGroups(
        groups=tuple(groups),
        stats={"r3/replaced": WeightedMean(taken, len(groups) * generate.group)},
        state={_BUFFER: buffer},
    )


def _kind(group: Group, generate: methods.Generate) -> bool | None:
    """Whether all that were judged are correct; None where they are not alike, or none was judged."""
    kinds = {verdict.correct for verdict in group.verdicts if generate.judged(verdict)}
    return kinds.pop() if len(kinds) == 1 else None


def _name(correct: bool) -> str:
    return "correct" if correct else "incorrect"


def _with(group: Group, others: Sequence[Entry]) -> Group:
    """The group with these in the place of its last completions."""
    left = len(group.completions) - len(others)
    pairs = [completion_of(entry) for entry in others]
    return replace(
        group,
        completions=(*group.completions[:left], *(completion for completion, _ in pairs)),
        verdicts=(*group.verdicts[:left], *(verdict for _, verdict in pairs)),
    )


def _renewed(known: dict[str, Any], group: Group, count: int, generate: methods.Generate) -> dict[str, Any]:
    """What is kept of a problem after this group: the latest of each kind, the latest last."""
    made: dict[str, list[Entry]] = {"correct": [], "incorrect": []}
    for index, verdict in enumerate(group.verdicts):
        if generate.judged(verdict) and len(group.completions[index].token_ids):
            made[_name(verdict.correct)].append(entry_of(group, index))
    return {kind: [*known.get(kind, []), *entries][-count:] for kind, entries in made.items()}
