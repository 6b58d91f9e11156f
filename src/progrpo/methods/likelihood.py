"""Likelihood rewards, second-hand: the reward is how likely the reference answer is after the completion's reasoning.

    log_prob       r_i = log π(a*|q, z_i) = Σ_t log π(a*_t|q, z_i, a*_<t)        mean_log_prob   the same over the tokens of a*
    prob           r_i = π(a*|q, z_i)   (VeriFree)                              mean_prob       1/|a*| Σ_t π(a*_t|...)   (RLPR)
    A_i = r_i − mean of the others of the group   (leave-one-out)

π is the policy that sampled, at the sampling temperature. z_i is the completion up to the token in which the first `after`
ends; where it never stands there, the whole completion without its end token, and `after` put behind it. Only the tokens of z_i
are trained on: an answer that the model gave itself has no part in its reward. a* is the problem's `answer` (the first, of
several), as the tokenizer cuts it by itself. Verdicts play no part.

No gradient flows through the reward. The expected reward also changes with π(a*|q, z_i) itself; the paper adds that gradient,
which is supervised learning of a*, and here it is left out. So is JEPO's reward, which is one of the whole group.

Source: arXiv:2602.03979; VeriFree arXiv:2505.21493.
Evidence: second-hand: two summaries of the paper; the format of its prompts is theirs (<think>, <answer>).
Reproduce: a group of 32 and `kl_coef=0.001` on mathematics, a group of 4 without it on long answers, `optim.lr=1e-5`.
"""

from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from progrpo import methods
from progrpo.algo.advantages import group_advantages
from progrpo.methods._texts import place_of
from progrpo.types import RolloutBatch, WeightedMean


class Params(methods.Params):
    form: Literal["log_prob", "mean_log_prob", "prob", "mean_prob"] = "log_prob"
    """What of the answer's probability is the reward."""
    after: str | None = "<answer>"
    """What a completion gives its answer after; None takes all of it for reasoning."""


def needs(params: Params) -> frozenset[str]:
    return frozenset({"answer_logprobs"} | (set() if params.after is None else {"token_texts"}))


def answer_after(params: Params) -> str | None:
    return params.after


def shape_reward(batch: RolloutBatch, params: Params) -> Tensor:
    if batch.answer_logprobs is None or batch.answer_mask is None:
        return batch.rewards
    logs, known = batch.answer_logprobs.double(), batch.answer_mask
    logs = logs.masked_fill(~known, 0.0)
    count = known.sum(dim=1).clamp(min=1)
    if params.form == "mean_prob":
        rewards = logs.exp().masked_fill(~known, 0.0).sum(dim=1) / count
    else:
        rewards = logs.sum(dim=1)
        rewards = rewards / count if params.form == "mean_log_prob" else rewards
        rewards = rewards.exp() if params.form == "prob" else rewards
    return rewards.float().view(batch.rewards.shape)


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    """Of shaped rewards."""
    group = batch.rewards.shape[1]
    values = group_advantages(batch.rewards, scale="none") * (group / max(1, group - 1))
    known = batch.rewards[batch.judged].double()
    return methods.Advantages(
        values=values,
        carried={"reasoning": _reasoning(batch, params).float()},
        stats={"likelihood/reward": WeightedMean(float(known.sum()), known.numel())},
    )


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    return methods.Reweighted(keep=step.carried["reasoning"] > 0)


def _reasoning(batch: RolloutBatch, params: Params) -> Bool[Tensor, "N S"]:
    """The tokens up to the answer."""
    mask = torch.ones_like(batch.mask)
    if params.after is None:
        return mask
    for row, texts in enumerate(batch.token_texts):
        place = place_of(texts, params.after)
        if place is not None:
            mask[row, place.end :] = False
    return mask
