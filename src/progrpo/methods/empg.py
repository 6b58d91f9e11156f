"""EMPG, second-hand: what a step of a completion earns goes by its entropy, and by how certain the step after it is.

    H_s = mean entropy of the step's tokens;   Ĥ_s = (H_s − min H)/(max H − min H + 1e-8), over the steps of the rollout
    g_s = exp(−k Ĥ_s)/(mean exp(−k Ĥ) + 1e-8);   f_s = exp(−k' Ĥ_s)
    A_s = A_i g_s + ζ f_{s+1}, less the mean of that over all steps;   a completion's last step has no f

In the paper a step is an agent's turn; here it is a line of the completion (a token with a line break ends it, blank tokens
after it are its own). A is GRPO's. Without verdict a completion has no advantage, and its steps count in no mean. A group
without a difference of rewards has A = 0 and learns from ζ f alone: ζ = 0 is without.

Source: arXiv:2509.09265; the authors' listing on empgseed-seed.github.io; WillDreamer/ARLArena core_algos.py.
Evidence: second-hand: of the authors' listing the beginning was read (Ĥ, g and f; its k = k' = 1, ζ = 0.1), and the rest in two
ports of it, of which one has ζ = 0.05; what the experiments were run with was not read. Lines as steps are this file's own.
Reproduce: the defaults, where turns are lines.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.methods._texts import line_steps
from progrpo.types import RolloutBatch, WeightedMean

NEEDS = frozenset({"entropies", "token_texts"})
TOKEN_LEVEL = True
_TINY = 1e-8


class Params(methods.Params):
    k: float = Field(1.0, ge=0)
    """Of g: how much less the advantage of an uncertain step counts; 0 leaves all alike."""
    k_next: float = Field(1.0, ge=0)
    """k', of f: how much less a step earns that an uncertain one follows."""
    zeta: float = Field(0.1, ge=0)
    """ζ, the most that the step after it can add to an advantage; 0 adds nothing."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    if batch.entropies is None:
        return methods.Advantages(values=values)
    acting = batch.mask & batch.judged.flatten()[:, None]
    steps = line_steps(batch.token_texts, batch.mask.shape[1]).masked_fill(~acting, -1)
    owner, of_token = _numbered(steps)
    count = len(owner)
    tokens = torch.zeros(batch.mask.shape)
    if count:
        earned = _earned(_means(batch.entropies, of_token, count), owner, values.flatten()[owner], params)
        tokens = torch.where(acting, earned.float()[of_token.clamp(min=0)], 0.0)
    completions = int(acting.any(dim=1).sum())
    return methods.Advantages(values=values, tokens=tokens, stats={"empg/steps": WeightedMean(count, completions)})


def _numbered(steps: Int[Tensor, "N S"]) -> tuple[Int[Tensor, " M"], Int[Tensor, "N S"]]:
    """The completion of each of the M steps of the rollout, in order, and the step among these of each token; -1 for none."""
    rows = torch.arange(len(steps))[:, None].expand(steps.shape)
    there = steps >= 0
    pairs = torch.stack([rows[there], steps[there]], dim=1)  # [n, 2]
    known, place = pairs.unique(dim=0, return_inverse=True)
    of_token = torch.full_like(steps, -1)
    of_token[there] = place
    return known[:, 0], of_token


def _means(entropies: Tensor, of_token: Int[Tensor, "N S"], count: int) -> Float[Tensor, " M"]:
    there = of_token >= 0
    sums, sizes = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    sums.index_add_(0, of_token[there], entropies[there].double())
    sizes.index_add_(0, of_token[there], torch.ones(int(there.sum()), dtype=torch.float64))
    return sums / sizes


def _earned(
    entropies: Float[Tensor, " M"], owner: Int[Tensor, " M"], advantages: Float[Tensor, " M"], params: Params
) -> Float[Tensor, " M"]:
    """The advantage of each step."""
    lowest, highest = entropies.min(), entropies.max()
    height = (entropies - lowest) / (highest - lowest + _TINY)
    scale = (-params.k * height).exp()
    scale = scale / (scale.mean() + _TINY)
    follows = torch.zeros_like(height)
    next_of_same = owner[1:] == owner[:-1]
    follows[:-1] = torch.where(next_of_same, (-params.k_next * height[1:]).exp(), 0.0)
    earned = advantages.double() * scale + params.zeta * follows
    return earned - earned.mean()
