"""Pass@k training: the reward of a group of k is that of its best, and each completion has its mean over all such groups.

    c correct of G judged completions;   ρ = 1 − C(G−c, k)/C(G, k),   σ = √(ρ (1 − ρ))
    A = (1 − ρ)/σ                                         of a correct completion
    A = (1 − ρ − C(G−c−1, k−1)/C(G−1, k−1))/σ             of a wrong one

ρ is the share of the groups of k that hold a correct completion, the unbiased estimate of Pass@k; a correct completion lifts
all its groups to 1, a wrong one those that have another that is correct. The advantages of the G completions sum to 0; with k=1
they are GRPO's with the population standard deviation. Where every group of k holds a correct one (c > G − k), or none does,
all are 0: problems that are solved so often train no more. Rewards other than the verdicts play no part; nor do `scale` and
`ddof`. verl's grpo_passk is another method (arXiv:2503.19595): it gives the best completion the gap to the second.

Source: arXiv:2508.10751; RUCAIBox/Passk_Training@c3ba575 passk_adv.py.
Evidence: code.
Reproduce: k=4; the code adds eps=1e-6 to σ, as here.
"""

import math

import torch
from pydantic import Field

from progrpo import methods
from progrpo.types import RolloutBatch


class Params(methods.Params):
    k: int = Field(4, ge=1)
    """Completions of which the best counts; 1 is GRPO with ddof=0. Groups with fewer judged completions train nothing."""


def check(params: Params, group: int) -> list[str]:
    """With k = G the one group of k holds a correct completion or none: nothing to compare."""
    if params.k < group:
        return []
    return [
        f"k={params.k} with groups of {group}: every advantage is 0, so that nothing is learned; k has to be smaller"
    ]


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    counts = zip((batch.correct & batch.judged).sum(dim=1).tolist(), batch.judged.sum(dim=1).tolist(), strict=True)
    of_group = [_right_and_wrong(right, judged, params) for right, judged in counts]
    pairs = torch.tensor(of_group).view(-1, 2)  # [P, 2]
    values = torch.where(batch.correct, pairs[:, :1], pairs[:, 1:])
    return methods.Advantages(values=values.masked_fill(~batch.judged, 0.0))


def _right_and_wrong(correct: int, judged: int, params: Params) -> tuple[float, float]:
    """The advantage of a correct completion and that of a wrong one, of a group of `judged`."""
    k = params.k
    if k > judged or correct == 0 or correct > judged - k:
        return 0.0, 0.0
    missed = math.comb(judged - correct, k) / math.comb(judged, k)  # 1 − ρ
    deviation = math.sqrt(missed * (1 - missed)) + params.eps
    lost = math.comb(judged - correct - 1, k - 1) / math.comb(judged - 1, k - 1)
    return missed / deviation, (missed - lost) / deviation
