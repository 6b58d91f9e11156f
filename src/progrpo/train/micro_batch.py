"""Micro-batches as they go through the model: packed sequences with a shared prefix, or rectangles of padded rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from progrpo.attention.packed import Packed, concatenate, pack
from progrpo.train.columns import column_mask
from progrpo.train.rows import TokenRows, packed_sequences, rectangles
from progrpo.train.token_counts import TokenCounts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PromptPlace:
    """Where a prompt stands in a micro-batch.

    Attributes:
        first: the first sequence of the micro-batch it belongs to. row, column: of its first token. length: in tokens.
    """

    first: int
    row: int
    column: int
    length: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MicroBatch:
    """Some sequences as the model sees them: packed with shared prompts on one row, or as rows of a rectangle.

    Attributes:
        index: [M] which sequences, in the order in which their completions stand in `tokens`.
        tokens: [B, L]. present: [B, L] not padding. scored: [B, L] the completions' tokens.
        previous: [B, L] the token before each, as a position in the flattened tokens; a first token names itself.
        mask: [M, S] the scored tokens as columns of the rollout batch.
        positions: [B, L] of each token in its own sequence, and layout: who sees whom; None for a rectangle.
        prompts: each prompt that stands here. repeated: prompt tokens that this pass over the policy has had before.
    """

    index: Int[Tensor, " M"]
    tokens: Int[Tensor, "B L"]
    present: Bool[Tensor, "B L"]
    scored: Bool[Tensor, "B L"]
    previous: Int[Tensor, "B L"]
    mask: Bool[Tensor, "M S"]
    prompts: tuple[PromptPlace, ...]
    repeated: int
    positions: Int[Tensor, "B L"] | None = None
    layout: Packed | None = None

    @property
    def token_counts(self) -> TokenCounts:
        """What a pass over this micro-batch costs, its completions being scored."""
        positions = self.tokens.numel()
        return TokenCounts(
            positions=positions,
            padding=positions - int(self.present.sum()),
            repeated_prompt=self.repeated,
            logit_rows=int(self.scored.sum()),
        )

    def as_columns(self, values: Tensor) -> Tensor:
        """Move values [B, L] of the scored tokens to completion columns [M, S]; 0 elsewhere. Keeps the gradient."""
        empty = torch.zeros(self.mask.shape, dtype=values.dtype, device=values.device)
        return empty.masked_scatter(self.mask, values.masked_select(self.scored))


def micro_batches(
    rows: TokenRows,
    index: Int[Tensor, " K"],
    *,
    columns: int,
    budget: int,
    pad_id: int,
    device: torch.device,
    share: bool,
    bf16: bool = False,
    keep_groups_together: bool = False,
) -> Iterator[MicroBatch]:
    """Cut the sequences `index` into micro-batches of at most `budget` tokens (one sequence at least), longest first.

    The longest first shows at once whether the budget fits the memory.

    Args:
        share: packed on one row without padding, each prompt forwarded once for all of its completions there.
            Prompt plus completions never exceed the prompt once per completion, in linear work as in attention, so
            there is no size at which sharing costs more; a group beyond the budget is cut and its prompt repeated.
            Else rectangles, of sequences of like length.
        bf16: whether attention runs in bf16 (see `attention.pack`).
        keep_groups_together: a group's sequences stay in one micro-batch, even beyond the budget.
    """
    seen: set[int] = set()
    if share:
        for parts in packed_sequences(rows, index, budget, keep_groups_together):
            yield _packed(rows, parts, columns, device, bf16, seen)
        return
    for chosen, width in rectangles(rows, index, budget, keep_groups_together):
        yield _rectangle(rows, torch.tensor(chosen), width, columns, pad_id, device, seen)


def _rectangle(
    rows: TokenRows, index: Tensor, width: int, columns: int, pad_id: int, device: torch.device, seen: set[int]
) -> MicroBatch:
    chosen = index.tolist()
    tokens = torch.full((len(chosen), width), pad_id)
    for row, n in enumerate(chosen):
        both = torch.cat([rows.prompts[n], rows.completions[n]])
        tokens[row, : len(both)] = both
    before = torch.tensor([len(rows.prompts[n]) for n in chosen])
    after = torch.tensor([len(rows.completions[n]) for n in chosen])
    present = column_mask(before + after, width)
    previous = torch.arange(tokens.numel()).view(tokens.shape) - 1
    previous[:, 0] += 1
    return MicroBatch(
        index=index,
        tokens=tokens.to(device),
        present=present.to(device),
        scored=(present & ~column_mask(before, width)).to(device),
        previous=previous.to(device),
        mask=column_mask(after, columns).to(device),
        prompts=tuple(
            PromptPlace(first=n, row=row, column=0, length=len(rows.prompts[n])) for row, n in enumerate(chosen)
        ),
        repeated=_count_repeated(rows, chosen, seen),
    )


def _packed(
    rows: TokenRows, parts: list[list[int]], columns: int, device: torch.device, bf16: bool, seen: set[int]
) -> MicroBatch:
    tokens, segments = concatenate(
        [rows.prompts[part[0]] for part in parts], [[rows.completions[n] for n in part] for part in parts]
    )
    index = [n for part in parts for n in part]
    previous, scored, positions = torch.arange(len(tokens)) - 1, torch.zeros(len(tokens), dtype=torch.bool), []
    for segment in segments:
        positions.append(torch.arange(segment.prefix_length, segment.keys))
        if segment.prefix_length:
            scored[segment.start : segment.start + segment.length] = True
            if segment.length:
                previous[segment.start] = segment.prefix_start + segment.prefix_length - 1
        else:
            previous[segment.start] = segment.start
    prompts = [segment for segment in segments if not segment.prefix_length]
    return MicroBatch(
        index=torch.tensor(index),
        tokens=tokens[None].to(device),
        present=torch.ones_like(scored)[None].to(device),
        scored=scored[None].to(device),
        previous=previous[None].to(device),
        mask=column_mask(torch.tensor([len(rows.completions[n]) for n in index]), columns).to(device),
        prompts=tuple(
            PromptPlace(first=part[0], row=0, column=segment.start, length=segment.length)
            for part, segment in zip(parts, prompts, strict=True)
        ),
        repeated=_count_repeated(rows, [part[0] for part in parts], seen),
        positions=torch.cat(positions)[None].to(device),
        layout=pack(segments, device, bf16=bf16),
    )


def _count_repeated(rows: TokenRows, firsts: list[int], seen: set[int]) -> int:
    """Tokens of the prompts of these sequences whose group is in `seen` already; the groups are added."""
    repeated = 0
    for n in firsts:
        group = n // rows.group
        repeated += len(rows.prompts[n]) if group in seen else 0
        seen.add(group)
    return repeated
