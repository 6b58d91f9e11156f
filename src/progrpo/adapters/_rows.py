"""Sequences as a host has them, in any order and in groups of any size, as the methods see them, and back.

N sequences of the host, P groups in the order of their first sequence, G completions of the largest group, S padded completion
length, Q padded prompt length. A group that has fewer than G is filled up with places that hold no completion: no verdict, no
token, no advantage.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.algo.shapes import require_shape
from progrpo.methods import Advantages, Method
from progrpo.types import RolloutBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HostRows:
    """What a host knows of its sequences, row by row. Per-token tensors are aligned to their own token.

    Attributes:
        groups: [N] what the completions of one prompt share.
        rewards: [N] any scale; nan where there is no verdict.
        correct: [N] the verdicts; None: not known but by `rewards` (see `correct_above`).
        correct_above: a completion is correct if its reward is above this, where `correct` is None.
        mask: [N, S] True on the model's own tokens.
        truncated: [N] cut at the length limit; None where the host does not say.
        logprobs: [N, S] under the policy that sampled; None where nobody has them. entropies: [N, S] in nats, likewise.
        prompt_logprobs: [N, Q] and prompt_mask: [N, Q] (False on padding and on a token without condition), likewise. Of a
            group the first row stands for all.
    """

    groups: Sequence[Hashable]
    rewards: Float[Tensor, " N"]
    mask: Bool[Tensor, "N S"]
    correct: Bool[Tensor, " N"] | None = None
    correct_above: float = 0.0
    truncated: Bool[Tensor, " N"] | None = None
    logprobs: Float[Tensor, "N S"] | None = None
    entropies: Float[Tensor, "N S"] | None = None
    prompt_logprobs: Float[Tensor, "N Q"] | None = None
    prompt_mask: Bool[Tensor, "N Q"] | None = None

    def __post_init__(self) -> None:
        count, width = self.mask.shape[0], self.mask.shape[1]
        require_shape(rewards=(self.rewards, (count,)), groups=(torch.empty(len(self.groups)), (count,)))
        for name in ("correct", "truncated", "logprobs", "entropies"):
            value = getattr(self, name)
            if value is not None:
                require_shape(**{name: (value, (count,) if value.dim() == 1 else (count, width))})
        if self.prompt_logprobs is not None and self.prompt_mask is not None:
            require_shape(
                prompt_logprobs=(self.prompt_logprobs, (count, None)),
                prompt_mask=(self.prompt_mask, tuple(self.prompt_logprobs.shape)),
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RowAdvantages:
    """The advantages of a host's sequences.

    Attributes:
        values: [N, S] of each token; 0 on masked ones.
        per_sequence: [N]; None where the method gives each token its own.
        kept: [N] False for sequences that the method drops or leaves out of the loss.
        whole: what the method returned.
    """

    values: Float[Tensor, "N S"]
    per_sequence: Float[Tensor, " N"] | None
    kept: Bool[Tensor, " N"]
    whole: Advantages


def advantages_of(method: Method, rows: HostRows) -> RowAdvantages:
    """Put a host's sequences into groups, ask the method, and give each sequence its own.

    No gradient; computed on the CPU in float32, as in progrpo's trainer.
    """
    batch, place = gathered(rows)
    result = method.advantages(batch)
    mask = rows.mask.cpu()
    values = result.values.flatten()[place]
    tokens = values[:, None].expand(mask.shape) if result.tokens is None else result.tokens[place]
    kept = torch.ones_like(result.values, dtype=torch.bool) if result.keep is None else result.keep
    kept = kept if result.left_out is None else kept & ~result.left_out
    return RowAdvantages(
        values=tokens.masked_fill(~mask, 0.0),
        per_sequence=values if result.tokens is None else None,
        kept=kept.flatten()[place],
        whole=result,
    )


def gathered(rows: HostRows) -> tuple[RolloutBatch, Int[Tensor, " N"]]:
    """The rows in groups, on the CPU, and the place p * G + g of each row among them."""
    numbers: dict[Hashable, int] = {}
    sizes: list[int] = []
    spots: list[tuple[int, int]] = []
    for name in rows.groups:
        group = numbers.setdefault(name, len(numbers))
        if group == len(sizes):
            sizes.append(0)
        spots.append((group, sizes[group]))
        sizes[group] += 1
    count, size = len(sizes), max(sizes, default=0)
    place = torch.tensor([group * size + spot for group, spot in spots], dtype=torch.long)

    def placed(values: Tensor, filler: float) -> Tensor:
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        result = torch.full((count * size, *values.shape[1:]), filler, dtype=values.dtype)
        result[place] = values
        return result

    mask = placed(rows.mask.bool(), False)
    rewards = placed(rows.rewards.float(), torch.nan).view(count, size)
    if rows.correct is None:
        correct = correct_of(rewards, ~rewards.isnan(), above=rows.correct_above)
    else:
        known = placed(rows.correct.float(), torch.nan).view(count, size)
        correct = correct_of(known, ~rewards.isnan(), above=0.5)
    truncated = torch.zeros_like(correct)
    if rows.truncated is not None:
        truncated = placed(rows.truncated.bool(), False).view(count, size)
    scores = torch.zeros(mask.shape) if rows.logprobs is None else placed(rows.logprobs.float(), 0.0)
    entropies = None if rows.entropies is None else placed(rows.entropies.float(), 0.0).masked_fill(~mask, 0.0)
    prompts = prompt_mask = None
    if rows.prompt_logprobs is not None and rows.prompt_mask is not None:
        prompt_mask = placed(rows.prompt_mask.bool(), False).view(count, size, -1)[:, 0]
        prompts = placed(rows.prompt_logprobs.float(), 0.0).view(count, size, -1)[:, 0].masked_fill(~prompt_mask, 0.0)
    batch = RolloutBatch(
        rewards=rewards,
        correct=correct,
        truncated=truncated,
        lengths=mask.sum(dim=1).view(count, size),
        mask=mask,
        old_logprobs=scores.masked_fill(~mask, 0.0),
        entropies=entropies,
        prompt_logprobs=prompts,
        prompt_mask=prompt_mask,
        problems=tuple(map(str, numbers)),
    )
    return batch, place


def correct_of(values: Float[Tensor, "P G"], judged: Bool[Tensor, "P G"], *, above: float) -> Bool[Tensor, "P G"]:
    """Which completions are correct: those whose value is above a threshold. Where there is no verdict, what all others of the
    group are, as `RolloutBatch` has it."""
    known = judged & ~values.isnan()
    right = known & (values > above)
    return right | (~known & ((right | ~known).all(dim=1) & right.any(dim=1))[:, None])
