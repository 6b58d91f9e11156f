"""DLER: short completions by truncation alone: what is cut is worth a tenth, and advantages are whitened over the batch.

    r'_i = penalty · r_i of a completion cut at the limit, where r_i > 0; r_i elsewhere
    A = r' − mean of its group, then (A − mean)/√(variance + 1e-8) over all tokens that are trained on
    A ← A + bonus for completions with r >= 1, cut ones among them
    only groups whose r differ train: more problems are sampled until P groups do, at most `max_rounds` times

Each token has its completion's A, so that long completions weigh more in the mean and in the (sample) variance. Completions
without a verdict are in none of these and have A = 0, nor are groups that only fill up a batch. Bonus and choice of groups go
by the reward before the penalty, as in the code: of two right completions one of which was cut nothing is learnt. `scale`,
`ddof` and `eps` play no part.

Source: arXiv:2510.15110; NVlabs/DLER@ea7d4f7 verl-dler/dler_slurm.sh, core_algos.py, dp_actor.py and reward_manager/dapo.py.
Evidence: code.
Reproduce: `preset: released` (dynamic sampling, KL penalty, dual clip), a group of 16, sampling.max_new_tokens=4000.
"""

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.methods._sampling import in_rounds, in_words
from progrpo.types import Group, RolloutBatch

PRESETS = {"released": {"max_rounds": 10, "kl_coef": 5e-4, "dual_clip": 10.0}}


class Params(methods.Params):
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "token"
    penalty: float = Field(0.1, ge=0, le=1)
    """Factor of the reward of a completion cut at the limit; 1 for none."""
    bonus: float = Field(0.1, ge=0)
    """Added to the advantage of completions whose reward, before the penalty, is 1 or more."""
    max_rounds: int = Field(1, ge=1)
    """Rollouts that may be made for one batch of groups whose rewards differ; 1 samples once and trains on what came. The
    released code has no bound."""


def rounds(params: Params) -> int:
    return params.max_rounds


def samples(params: Params) -> str | None:
    return in_words(params.max_rounds)


def sample(problems: methods.Problems, generate: methods.Generate, params: Params) -> methods.SampledGroups:
    def differs(group: Group) -> bool:
        return len({verdict.reward for verdict in group.verdicts if generate.judged(verdict)}) > 1

    return in_rounds(problems, generate, rounds=params.max_rounds, wanted=differs)


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    """With dynamic sampling groups whose rewards differ alone: whitening and bonus give the others advantages, too."""
    return (_differing(batch.rewards, batch)[:, None] | (params.max_rounds == 1)).expand_as(batch.correct)


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    judged = batch.judged & sequence_keep(batch, params)
    rewards = batch.rewards.double()
    cut = rewards.minimum(params.penalty * rewards)  # a tenth of a negative reward would be more of it
    penalised = torch.where(batch.truncated, cut, rewards)
    differing = _differing(penalised, batch)[:, None]
    penalised = penalised.masked_fill(~judged, 0.0)
    centred = penalised - penalised.sum(dim=1, keepdim=True) / judged.sum(dim=1, keepdim=True).clamp(min=1)
    centred = torch.where(differing, centred, 0.0)
    tokens = batch.lengths.double().masked_fill(~judged, 0.0)
    if float(tokens.sum()) < 2:
        return methods.Advantages(values=torch.zeros_like(batch.rewards))
    mean = (tokens * centred).sum() / tokens.sum()
    variance = (tokens * (centred - mean).square()).sum() / (tokens.sum() - 1)
    values = (centred - mean) / (variance + 1e-8).sqrt()
    values = values + params.bonus * (rewards >= 1 - 1e-5)
    return methods.Advantages(values=values.masked_fill(~judged, 0.0).float())


def _differing(rewards: Float[Tensor, "P G"], batch: RolloutBatch) -> Bool[Tensor, " P"]:
    """Whether the judged completions of a group differ in these."""
    lowest = rewards.masked_fill(~batch.judged, torch.inf).amin(dim=1)
    return lowest < rewards.masked_fill(~batch.judged, -torch.inf).amax(dim=1)
