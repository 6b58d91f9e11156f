"""Completions that say the same again: within themselves, and among those of their group."""

from collections.abc import Sequence

import torch
from torch import Tensor

from progrpo.types import Group, WeightedMean

PERIOD = 64
"""Longest stretch of tokens, in tokens, whose repetition is looked for."""
TIMES = 4
"""It has to stand so often in a row, up to the end."""
LEAST = 24
"""And the whole of it has to be so many tokens long: a line of figures is no loop."""
_TAIL = PERIOD * TIMES + 1


def sameness_metrics(groups: Sequence[Group]) -> dict[str, WeightedMean]:
    """Share of completions that end in a repetition, and of those that repeat another of their group, token for token.

    duplicates = sum over groups of (G - distinct) / sum over groups of (G - 1)
    """
    completions = [completion.token_ids for group in groups for completion in group.completions]
    distinct = [len({tuple(one.token_ids.tolist()) for one in group.completions}) for group in groups]
    sizes = [len(group.completions) for group in groups]
    return {
        "rollout/repeated": WeightedMean(float(end_in_repetition(completions).sum()), len(completions)),
        "rollout/duplicates": WeightedMean(float(sum(sizes) - sum(distinct)), sum(sizes) - len(sizes)),
    }


def end_in_repetition(completions: Sequence[Tensor]) -> Tensor:
    """Whether each sequence of tokens ends in a stretch of p <= 64 tokens that stands four times in a row, and over 24 tokens
    at least; its last token (the end token, where it has one) may be another.

        x[t] = x[t - p]    for the last max(3 p, 24 - p) tokens t

    Returns:
        [N] boolean.
    """
    if not completions:
        return torch.zeros(0, dtype=torch.bool)
    whole = _loops([tokens[-_TAIL:] for tokens in completions])
    return whole | _loops([tokens[-_TAIL:-1] for tokens in completions])


def _loops(tails: Sequence[Tensor]) -> Tensor:
    longest = max(len(tail) for tail in tails)
    tokens = torch.full((len(tails), longest), -1)  # [N, S], the last token in the last column
    for row, tail in zip(tokens, tails, strict=True):
        if len(tail):
            row[longest - len(tail) :] = tail.cpu()
    loops = torch.zeros(len(tails), dtype=torch.bool)
    for period in range(1, min(PERIOD, longest // TIMES) + 1):
        needed = max((TIMES - 1) * period, LEAST - period)
        if needed + period > longest:
            continue
        last = tokens[:, longest - needed :]
        same = (last == tokens[:, longest - needed - period : longest - period]) & (last >= 0)
        loops |= same.all(dim=1)
    return loops
