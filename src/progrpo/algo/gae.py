"""Generalised advantage estimation."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo.algo.shapes import require_shape


def generalised_advantages(
    values: Float[Tensor, "N S"],
    mask: Bool[Tensor, "N S"],
    rewards: Float[Tensor, " N"],
    *,
    gamma: float = 1.0,
    lam: float = 1.0,
) -> Float[Tensor, "N S"]:
    """The advantage of each token over the value of what stood before it, where the reward comes with the last token.

        δ_t = r_t + γ V_{t+1} − V_t,    A_t = δ_t + γ λ A_{t+1},    V after the last token = 0

    Source: arXiv:1506.02438, Eq. 16. With γ = λ = 1 it is rewards − V_t.

    Args:
        values: V_t, of the state before token t. mask: True on a row's first tokens, False behind them.
        rewards: one per row, any scale.
        gamma, lam: in [0, 1].

    Returns:
        float32, 0 where masked; no gradient.

    Raises:
        ShapeError: shapes disagree.
    """
    shape = tuple(values.shape)
    require_shape(values=(values, (None, None)), mask=(mask, shape), rewards=(rewards, shape[:1]))
    known = torch.where(mask, values.detach().float(), 0.0)
    result = torch.zeros_like(known)
    following, ahead = torch.zeros_like(known[:, 0]), torch.zeros_like(known[:, 0])
    last = mask & ~torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    for t in reversed(range(known.shape[1])):
        reward = torch.where(last[:, t], rewards.detach().float(), 0.0)
        ahead = torch.where(mask[:, t], reward + gamma * following - known[:, t] + gamma * lam * ahead, 0.0)
        following = known[:, t]
        result[:, t] = ahead
    return result
