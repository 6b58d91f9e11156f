"""The sequences of a rollout as token ids, and how they are cut into micro-batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from progrpo.types import Group


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenRows:
    """The N sequences of a rollout, in group order, on the CPU.

    Attributes:
        prompts: prompt token ids of each sequence. completions: its sampled token ids.
        group: G.
    """

    prompts: tuple[Int[Tensor, " Q"], ...]
    completions: tuple[Int[Tensor, " T"], ...]
    group: int


def make_rows(groups: Sequence[Group]) -> TokenRows:
    return TokenRows(
        prompts=tuple(group.prompt_ids for group in groups for _ in group.completions),
        completions=tuple(completion.token_ids for group in groups for completion in group.completions),
        group=len(groups[0].completions),
    )


def pools(
    rows: TokenRows, index: Int[Tensor, " K"], *, budget: int, share: bool, keep_groups_together: bool = False
) -> Int[Tensor, " K"]:
    """The number of the micro-batch that each sequence falls into, where all of `index` are forwarded; `index` ascends.

    Args: see `progrpo.train.micro_batch.micro_batches`.
    """
    cuts = cut(rows, index, budget=budget, share=share, keep_groups_together=keep_groups_together)
    number = {n: place for place, chosen in enumerate(cuts) for n in chosen}
    return torch.tensor([number[n] for n in index.tolist()], dtype=torch.long)


def cut(
    rows: TokenRows, index: Int[Tensor, " K"], *, budget: int, share: bool, keep_groups_together: bool = False
) -> list[list[int]]:
    """The sequences of each micro-batch that `index` falls into (see `progrpo.train.micro_batch.micro_batches`)."""
    if share:
        return [
            [n for part in parts for n in part] for parts in packed_sequences(rows, index, budget, keep_groups_together)
        ]
    return [chosen for chosen, _ in rectangles(rows, index, budget, keep_groups_together)]


def rectangles(
    rows: TokenRows, index: Tensor, budget: int, keep_groups_together: bool
) -> Iterator[tuple[list[int], int]]:
    """The sequences of each rectangle and its width: groups (or else sequences) of like length."""
    units = list(by_group(rows, index).values()) if keep_groups_together else [[n] for n in index.tolist()]
    widths = [max(len(rows.prompts[n]) + len(rows.completions[n]) for n in unit) for unit in units]
    order = sorted(range(len(units)), key=lambda place: -widths[place])
    chosen: list[int] = []
    width = 0
    for place in order:
        if chosen and (len(chosen) + len(units[place])) * width > budget:
            yield chosen, width
            chosen = []
        width = width if chosen else widths[place]
        chosen = chosen + units[place]
    if chosen:
        yield chosen, width


def packed_sequences(rows: TokenRows, index: Tensor, budget: int, keep_groups_together: bool) -> list[list[list[int]]]:
    """The sequences of each packed sequence, by group: parts of groups within the budget (or whole groups), each in the
    first one with space."""
    parts: list[tuple[int, list[int]]] = []
    for sequences in by_group(rows, index).values():
        prompt = len(rows.prompts[sequences[0]])
        part: list[int] = []
        size = prompt
        for n in sequences:
            length = len(rows.completions[n])
            if part and size + length > budget and not keep_groups_together:
                parts.append((size, part))
                part, size = [], prompt
            part.append(n)
            size += length
        parts.append((size, part))
    packed: list[tuple[int, list[list[int]]]] = []
    for size, part in sorted(parts, key=lambda one: (-one[0], one[1][0])):
        place = next((at for at, (used, _) in enumerate(packed) if used + size <= budget), None)
        if place is None:
            packed.append((size, [part]))
        else:
            packed[place] = (packed[place][0] + size, [*packed[place][1], part])
    return [parts for _, parts in packed]


def shortest(rows: TokenRows) -> int:
    """The sequence with the fewest tokens, of those whose completion is not empty (if there are any)."""
    sizes = [
        (not len(after), len(before) + len(after)) for before, after in zip(rows.prompts, rows.completions, strict=True)
    ]
    return sizes.index(min(sizes))


def by_group(rows: TokenRows, index: Tensor) -> dict[int, list[int]]:
    """The sequences `index` of each group, in their order."""
    groups: dict[int, list[int]] = {}
    for n in index.tolist():
        groups.setdefault(n // rows.group, []).append(n)
    return groups
