"""From groups to tensors: the rollout batch that methods see."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from progrpo.rollout.verify import FailedAs
from progrpo.train.columns import column_mask, pad_columns
from progrpo.types import Completion, Group, RolloutBatch


def make_rollout_batch(groups: Sequence[Group], needs: frozenset[str], failed: FailedAs = "neutral") -> RolloutBatch:
    """Stack rewards, verdicts and the engine's log-probs.

    Args:
        needs: which other tensors to include.
        failed: what a completion counts as that the verifier failed to judge (see `VerifySettings.failed`).
    """
    completions = [completion for group in groups for completion in group.completions]
    lengths = torch.tensor([[len(c.token_ids) for c in group.completions] for group in groups])
    longest = max(1, int(lengths.max()))
    sampler_logprobs = pad_columns([completion.sampler_logprobs for completion in completions], longest)
    known_entropies = [c.entropies for c in completions if c.entropies is not None]
    known_gradients = [c.entropy_gradients for c in completions if c.entropy_gradients is not None]
    prompt_logprobs = prompt_mask = None
    if "prompt_logprobs" in needs:
        scored = [group.prompt_logprobs for group in groups]
        prompt_logprobs = pad_columns([values for values in scored if values is not None])
        prompt_mask = column_mask(torch.tensor([len(group.prompt_ids) for group in groups]), prompt_logprobs.shape[1])
        prompt_mask[:, 0] = False
    rewards = torch.tensor([[verdict.reward for verdict in group.verdicts] for group in groups])
    correct = torch.tensor([[verdict.correct for verdict in group.verdicts] for group in groups])
    if failed == "neutral":
        lost = torch.tensor([[verdict.failed for verdict in group.verdicts] for group in groups])
        rewards = rewards.masked_fill(lost, torch.nan)
        correct = correct | (lost & ((correct | lost).all(dim=1) & correct.any(dim=1))[:, None])
    return RolloutBatch(
        rewards=rewards,
        correct=correct,
        truncated=torch.tensor([[c.finish == "length" for c in group.completions] for group in groups]),
        lengths=lengths,
        mask=_trained(completions, column_mask(lengths.flatten(), longest)),
        old_logprobs=sampler_logprobs,
        sampler_logprobs=sampler_logprobs,
        entropies=pad_columns(known_entropies, longest) if "entropies" in needs else None,
        prompt_logprobs=prompt_logprobs,
        prompt_mask=prompt_mask,
        entropy_gradients=pad_columns(known_gradients, longest) if len(known_gradients) == len(completions) else None,
        verdicts=tuple(group.verdicts for group in groups) if "verdicts" in needs else (),
        problems=tuple(group.problem.id for group in groups),
    )


def within_mask(batch: RolloutBatch) -> RolloutBatch:
    """The batch with 0 for every number of a token that is not trained on, where there are such tokens before the padding."""
    if int(batch.mask.sum()) == int(batch.lengths.sum()):
        return batch
    changes: dict[str, Any] = {
        field.name: value.masked_fill(~batch.mask, 0.0)
        for field in fields(batch)
        if isinstance(value := getattr(batch, field.name), Tensor)
        and value.shape == batch.mask.shape
        and value.is_floating_point()
    }
    return replace(batch, **changes)


def _trained(completions: Sequence[Completion], mask: Bool[Tensor, "N S"]) -> Bool[Tensor, "N S"]:
    """Without the tokens that are not trained on."""
    for row, completion in enumerate(completions):
        if completion.trained is not None:
            mask[row, : len(completion.trained)] = completion.trained
    return mask
