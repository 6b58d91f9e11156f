"""Completions kept from rollout to rollout: as what a checkpoint holds, and back into groups."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from progrpo.types import Completion, Group, Problem, Verdict

Entry = Mapping[str, Any]
"""One completion with its prompt and verdict: numbers, strings, lists, dictionaries and tensors."""


def entry_of(group: Group, index: int) -> Entry:
    """The completion number `index` of a group. Of its problem's `info` nothing is kept: the verdict is given. Its `facts` are,
    by which evaluations and metrics tell problems apart."""
    problem, completion, verdict = group.problem, group.completions[index], group.verdicts[index]
    prompt = problem.prompt if isinstance(problem.prompt, str) else [dict(message) for message in problem.prompt]
    values = {field.name: _own(getattr(completion, field.name)) for field in fields(Completion)}
    return {
        "problem": {
            "id": problem.id,
            "prompt": prompt,
            "answer": problem.answer,
            "accepted": list(problem.accepted),
            "facts": dict(problem.facts),
        },
        "prompt_ids": _own(group.prompt_ids),
        "prompt_logprobs": _own(group.prompt_logprobs),
        "completion": values,
        "verdict": {field.name: getattr(verdict, field.name) for field in fields(Verdict)}
        | {"parts": dict(verdict.parts)},
    }


def completion_of(entry: Entry) -> tuple[Completion, Verdict]:
    """What `entry_of` kept."""
    return Completion(**entry["completion"]), Verdict(**entry["verdict"])


def group_of(entries: Sequence[Entry], size: int, *, fill: Entry | None = None) -> Group:
    """Completions of one problem as a group of `size`.

    Args:
        fill: what stands, not trained on, in the place of what is missing; None takes the first.
    """
    first = entries[0] if fill is None else fill
    copied, verdict = completion_of(first)
    pairs = [completion_of(entry) for entry in entries]
    pairs += [(untrained(copied), verdict)] * (size - len(pairs))
    given = first["problem"]
    prompt = given["prompt"] if isinstance(given["prompt"], str) else tuple(given["prompt"])
    return Group(
        problem=Problem(
            id=given["id"],
            prompt=prompt,
            answer=given["answer"],
            accepted=tuple(given["accepted"]),
            facts=given.get("facts", {}),  # checkpoints of before have none
        ),
        prompt_ids=first["prompt_ids"],
        prompt_logprobs=first["prompt_logprobs"],
        completions=tuple(completion for completion, _ in pairs),
        verdicts=tuple(verdict for _, verdict in pairs),
    )


def untrained(completion: Completion) -> Completion:
    """The completion with no token to train on."""
    return replace(completion, trained=torch.zeros(len(completion.token_ids), dtype=torch.bool))


def _own(value: Any) -> Any:
    # A tensor of a completion may be a view of a whole rollout's.
    return value.clone() if isinstance(value, Tensor) else value
