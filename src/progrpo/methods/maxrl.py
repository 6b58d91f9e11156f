"""MaxRL: advantages divided by the group's share of correct completions: the likelihood of being correct, not its mean.

    A_i = (r_i − mean r) / (mean r + eps),   r the verdicts, 1 or 0, of the judged completions of a group

Its expected gradient is Σ_{k < G} 1/k ∇ Pass@k, the series of the gradient of log Pass@1 cut off below the group's size, of
which REINFORCE has the first term. A correct completion has 1/mean − 1 (of 8 completions 7 if it is the only one, 0.14 if it is
one of 7), a wrong one of a mixed group −1. Groups without a correct completion, or without a wrong one, have 0. Rewards of
another scale than 0/1, for which the quotient has no meaning, play no part; nor do `scale` and `ddof`.

Source: arXiv:2602.02710; tajwarfahim/maxrl@c0698eb core_algos.py.
Evidence: code.
Reproduce: `preset: released` (verl's mean over all tokens and dual clip, neither of which is the method's), a group of 16, one
optimiser step per rollout.
"""

from torch import Tensor

from progrpo import methods
from progrpo.methods._signs import correct_share
from progrpo.types import RolloutBatch

PRESETS = {"released": {"aggregate": "token", "dual_clip": 3.0}}


def advantages(batch: RolloutBatch, params: methods.Params) -> methods.Advantages:
    share = correct_share(batch)[:, None]  # [P, 1]
    values: Tensor = (batch.correct.float() - share) / (share + params.eps)
    mixed = (share > 0) & (share < 1)
    return methods.Advantages(values=values.masked_fill(~(mixed & batch.judged), 0.0))
