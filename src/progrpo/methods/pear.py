"""PEAR, second-hand: correct completions are worth less the less certain their thinking is, against their answer.

    r_i ← min(1, r_i − P_i) of a correct completion,   P_i = max(0, mean H(thinking) − α mean H(answer))

H is the entropy of the policy that sampled; thinking are the tokens before the one in which `mark` begins, the answer those
after the one in which it ends. Without the mark all of a completion is thinking and its answer's mean is 0, as in the paper;
likewise the mean of a part without tokens. What is not correct keeps the verifier's reward (the paper's reward for form), and
what has no verdict has none. Then GRPO. It is made for shorter completions, not for exploration.

Source: arXiv:2510.08026, Eq. 5 and 7; iNLP-Lab/PEAR.
Evidence: second-hand: notes on the paper and its reviews; neither its text nor its code could be had.
Reproduce: the defaults, rewards of 0 and 1.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.methods._texts import place_of
from progrpo.types import RolloutBatch, WeightedMean

NEEDS = frozenset({"entropies", "token_texts"})


class Params(methods.Params):
    alpha: float = Field(1.0, ge=0)
    """α: what the answer's entropy makes up for; 0 punishes the entropy of the thinking alone."""
    mark: str = Field("</think>", min_length=1)
    """What ends the thinking, in the completion's own text."""


def shape_reward(batch: RolloutBatch, params: Params) -> Tensor:
    return torch.where(
        batch.correct & batch.judged, (batch.rewards - _penalty(batch, params)).clamp(max=1.0), batch.rewards
    )


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    acting = batch.correct & batch.judged
    total = float(_penalty(batch, params)[acting].double().sum())
    return methods.Advantages(
        values=methods.base_advantages(batch, params),
        stats={"pear/penalty": WeightedMean(total, int(acting.sum()))},
    )


def _penalty(batch: RolloutBatch, params: Params) -> Float[Tensor, "P G"]:
    if batch.entropies is None:
        return torch.zeros_like(batch.rewards)
    means = []
    for texts, entropies, trained in zip(batch.token_texts, batch.entropies.double(), batch.mask, strict=True):
        place = place_of(texts, params.mark)
        first, end = (len(texts), len(texts)) if place is None else place
        means.append([_mean(entropies[:first][trained[:first]]), _mean(entropies[end:][trained[end:]])])
    thinking, answer = torch.tensor(means, dtype=torch.float64).unbind(dim=1)  # [N]
    return (thinking - params.alpha * answer).clamp(min=0).float().view(batch.rewards.shape)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
