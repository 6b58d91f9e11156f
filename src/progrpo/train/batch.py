"""From groups to tensors: the rollout batch that methods see, and the micro-batches that go through the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from progrpo.rollout.verify import FailedAs
from progrpo.types import Group, RolloutBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """The N sequences of a rollout, in group order, on the CPU.

    Attributes:
        prompts: prompt token ids of each sequence. completions: its sampled token ids.
        group: G.
    """

    prompts: tuple[Int[Tensor, " Q"], ...]
    completions: tuple[Int[Tensor, " T"], ...]
    group: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MicroBatch:
    """Some sequences as one rectangle, prompt and completion together, padded on the right.

    Attributes:
        index: [M] which sequences. tokens: [M, L]. present: [M, L] not padding.
        scored: [M, L] the completion's tokens. mask: [M, S] the same tokens as columns of the rollout batch.
    """

    index: Int[Tensor, " M"]
    tokens: Int[Tensor, "M L"]
    present: Bool[Tensor, "M L"]
    scored: Bool[Tensor, "M L"]
    mask: Bool[Tensor, "M S"]

    def as_columns(self, values: Tensor) -> Tensor:
        """Move values [M, L] of the scored tokens to completion columns [M, S]; 0 elsewhere. Keeps the gradient."""
        empty = torch.zeros(self.mask.shape, dtype=values.dtype, device=values.device)
        return empty.masked_scatter(self.mask, values.masked_select(self.scored))


def make_rows(groups: Sequence[Group]) -> Rows:
    return Rows(
        prompts=tuple(group.prompt_ids for group in groups for _ in group.completions),
        completions=tuple(completion.token_ids for group in groups for completion in group.completions),
        group=len(groups[0].completions),
    )


def make_rollout_batch(groups: Sequence[Group], needs: frozenset[str], failed: FailedAs = "neutral") -> RolloutBatch:
    """Stack rewards, verdicts and the engine's log-probs.

    Args:
        needs: which other tensors to include.
        failed: what a completion counts as that the verifier failed to judge (see `VerifySettings.failed`).
    """
    completions = [completion for group in groups for completion in group.completions]
    lengths = torch.tensor([[len(c.token_ids) for c in group.completions] for group in groups])
    longest = max(1, int(lengths.max()))
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
        mask=column_mask(lengths.flatten(), longest),
        logprobs=pad_columns([completion.logprobs for completion in completions], longest),
        entropies=pad_columns([c.entropies for c in completions], longest) if "entropies" in needs else None,
        prompt_logprobs=prompt_logprobs,
        prompt_mask=prompt_mask,
    )


def micro_batches(
    rows: Rows, index: Int[Tensor, " K"], *, columns: int, budget: int, pad_id: int, device: torch.device
) -> Iterator[MicroBatch]:
    """Cut the sequences `index` into rectangles of at most `budget` tokens (one sequence at least), longest first.

    Sorting by length keeps the padding small; the longest first shows at once whether the budget fits the memory.
    """
    lengths = [len(rows.prompts[n]) + len(rows.completions[n]) for n in index.tolist()]
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    start = 0
    while start < len(order):
        width = lengths[order[start]]
        count = max(1, budget // width)
        chosen = index[torch.tensor(order[start : start + count])]
        yield _rectangle(rows, chosen, width, columns, pad_id, device)
        start += count


def pad_columns(values: Sequence[Tensor], width: int | None = None) -> Tensor:
    """Stack 1-D tensors as rows, padded with 0 on the right to `width` (or the longest)."""
    padded = torch.zeros(len(values), width or max(1, *(len(value) for value in values), 1), dtype=values[0].dtype)
    for row, value in enumerate(values):
        padded[row, : len(value)] = value
    return padded


def column_mask(lengths: Int[Tensor, " N"], width: int) -> Bool[Tensor, "N S"]:
    """True on the first `lengths[n]` columns of row n."""
    return torch.arange(width)[None, :] < lengths[:, None]


def _rectangle(rows: Rows, index: Tensor, width: int, columns: int, pad_id: int, device: torch.device) -> MicroBatch:
    chosen = index.tolist()
    tokens = torch.full((len(chosen), width), pad_id)
    for row, n in enumerate(chosen):
        both = torch.cat([rows.prompts[n], rows.completions[n]])
        tokens[row, : len(both)] = both
    before = torch.tensor([len(rows.prompts[n]) for n in chosen])
    after = torch.tensor([len(rows.completions[n]) for n in chosen])
    present = column_mask(before + after, width)
    return MicroBatch(
        index=index,
        tokens=tokens.to(device),
        present=present.to(device),
        scored=(present & ~column_mask(before, width)).to(device),
        mask=column_mask(after, columns).to(device),
    )
