"""Which sequences each process forwards: parts of about equal cost, groups in one piece where that is possible."""

import torch
from jaxtyping import Int
from torch import Tensor

from progrpo.train.rows import TokenRows, by_group


def shares(
    rows: TokenRows, index: Int[Tensor, " K"], count: int, *, keep_groups_together: bool = False
) -> list[Int[Tensor, " k"]]:
    """Divide the sequences `index`, which ascend, among `count` processes; each share ascends, and may be empty.

    A group's completions share their prompt's forward pass, so they stay together, unless their group is larger than a
    process's even share: then it is cut into pieces no larger than that, of one completion at least. The largest pieces are
    given away first, each to the process that has least.

    Args:
        keep_groups_together: no group is cut, whatever its size.

    The cost of a piece is the tokens that are forwarded for it: its prompt once, and its completions.
    """
    if count == 1:
        return [index]
    groups = list(by_group(rows, index).values())
    even = sum(_cost(rows, sequences) for sequences in groups) / count
    pieces = groups if keep_groups_together else [piece for group in groups for piece in _cut(rows, group, even)]
    costs = [_cost(rows, piece) for piece in pieces]
    loads = [0] * count
    chosen: list[list[int]] = [[] for _ in range(count)]
    for place in sorted(range(len(pieces)), key=lambda place: -costs[place]):
        least = loads.index(min(loads))
        loads[least] += costs[place]
        chosen[least] += pieces[place]
    return [torch.tensor(sorted(sequences), dtype=torch.long) for sequences in chosen]


def _cost(rows: TokenRows, sequences: list[int]) -> int:
    return len(rows.prompts[sequences[0]]) + sum(len(rows.completions[n]) for n in sequences)


def _cut(rows: TokenRows, group: list[int], limit: float) -> list[list[int]]:
    pieces: list[list[int]] = [[]]
    for n in group:
        if pieces[-1] and _cost(rows, [*pieces[-1], n]) > limit:
            pieces.append([])
        pieces[-1].append(n)
    return pieces
