"""verl's columns as the methods see them. verl's keys are "uid_session_index": the prompt, which of its n answers, and which of
the trajectories that an agent made on the way to it.

N rows of verl, S padded response length, Q padded prompt length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.adapters._rows import HostRows, RowAdvantages, advantages_of
from progrpo.errors import ConfigError
from progrpo.methods import Method


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A key of verl taken apart."""

    prompt: str
    session: str
    index: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VerlRollout:
    """A rollout as verl's trainer has it before the advantages.

    Attributes:
        keys: [N]. scores: [N] sum of the raw rewards. padding: [N] True on rows that verl made up to fill a batch.
        mask, logprobs, entropies: [N, S]. prompt_logprobs, prompt_mask: [N, Q] of the rows of `first_rows`, 0 elsewhere; None
            where nobody asked.
    """

    keys: Sequence[str]
    scores: Float[Tensor, " N"]
    padding: Bool[Tensor, " N"]
    mask: Bool[Tensor, "N S"]
    logprobs: Float[Tensor, "N S"] | None = None
    entropies: Float[Tensor, "N S"] | None = None
    prompt_logprobs: Float[Tensor, "N Q"] | None = None
    prompt_mask: Bool[Tensor, "N Q"] | None = None


def split_key(key: str) -> Key:
    """Take a key apart.

    Raises:
        ConfigError: it is not one of verl's.
    """
    parts = key.rsplit("_", 2)
    if len(parts) != 3 or not parts[2].isdigit():
        raise ConfigError(f"key {key!r} of verl's rollout: expected uid_session_index")
    return Key(prompt=parts[0], session=parts[1], index=int(parts[2]))


def first_rows(keys: Sequence[str]) -> list[int]:
    """Of each prompt a row that begins with it: the first trajectory of a session."""
    best: dict[str, tuple[int, int]] = {}
    for row, key in enumerate(map(split_key, keys)):
        best[key.prompt] = min(best.get(key.prompt, (key.index, row)), (key.index, row))
    return sorted(row for _, row in best.values())


def final_rows(keys: Sequence[str]) -> tuple[list[int], Int[Tensor, " N"]]:
    """The last trajectory of each session, which alone counts (as in verl's grpo), and which of them each row belongs to."""
    last: dict[tuple[str, str], tuple[int, int]] = {}
    sessions = [(key.prompt, key.session) for key in map(split_key, keys)]
    for row, (session, key) in enumerate(zip(sessions, map(split_key, keys), strict=True)):
        last[session] = max(last.get(session, (key.index, row)), (key.index, row))
    order = {session: number for number, session in enumerate(last)}
    return [row for _, row in last.values()], torch.tensor([order[session] for session in sessions])


def prompt_part(
    logprobs: Sequence[Float[Tensor, " T"]], responses: Sequence[int]
) -> tuple[Float[Tensor, "R Q"], Bool[Tensor, "R Q"]]:
    """The prompts' own log-probs out of those of whole sequences.

    Args:
        logprobs: of each of R rows, prompt and response; entry t is the log-prob of token t + 1, as verl's engines give it.
        responses: the response's length in tokens.

    Returns:
        [R, Q] of the prompt's tokens and the mask of those that have one; the first has no condition and is not among them.
    """
    known = [row[: len(row) - length - 1] for row, length in zip(logprobs, responses, strict=True)]
    width = max((len(row) for row in known), default=0) + 1
    values, mask = torch.zeros(len(known), width), torch.zeros(len(known), width, dtype=torch.bool)
    for number, row in enumerate(known):
        values[number, 1 : len(row) + 1] = row.detach().float().cpu()
        mask[number, 1 : len(row) + 1] = True
    return values, mask


def method_advantages(
    method: Method, rollout: VerlRollout, rewards: Float[Tensor, " N"], *, above: float
) -> RowAdvantages:
    """The advantages of verl's rows.

    Args:
        rewards: what trains, in the rollout's order: raw, or less verl's KL penalty. What is correct `rollout.scores` say.

    Raises:
        ConfigError: advantages of tokens, and sessions of several trajectories.
    """
    finals, owner = final_rows(rollout.keys)

    def of_finals(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[finals]

    prompts, prompt_mask = rollout.prompt_logprobs, rollout.prompt_mask
    groups = [split_key(key).prompt for key in rollout.keys]
    if prompts is not None and prompt_mask is not None:
        start = {groups[row]: row for row in first_rows(rollout.keys)}
        chosen = [start[groups[row]] for row in finals]
        prompts, prompt_mask = prompts[chosen], prompt_mask[chosen]
    rows = HostRows(
        groups=[groups[row] for row in finals],
        rewards=rewards.float().masked_fill(rollout.padding, torch.nan)[finals],
        correct=(rollout.scores > above)[finals],
        mask=rollout.mask[finals],
        logprobs=of_finals(rollout.logprobs),
        entropies=of_finals(rollout.entropies),
        prompt_logprobs=prompts,
        prompt_mask=prompt_mask,
    )
    result = advantages_of(method, rows)
    if result.per_sequence is None:
        if len(finals) != len(groups):
            raise ConfigError(
                f"method {method.name} gives each token an advantage of its own, and an agent's answers consist of several "
                "trajectories here; use a method with advantages of whole sequences"
            )
        back = torch.empty(len(finals), dtype=torch.long)
        back[torch.tensor(finals)] = torch.arange(len(finals))
        return replace(result, values=result.values[back], kept=result.kept[back])
    per_sequence = result.per_sequence[owner]
    return replace(
        result,
        values=per_sequence[:, None] * rollout.mask.cpu(),
        per_sequence=per_sequence,
        kept=result.kept[owner],
    )
