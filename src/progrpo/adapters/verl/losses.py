"""Policy losses of verl for methods that change the loss of a token: policy_loss.loss_mode=progrpo_NAME.

The objective of each token is the method's, by the function that progrpo's own trainer calls; clip range, denominators,
penalties and the importance correction are verl's.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss, register_policy_loss

from progrpo import methods
from progrpo.adapters._hosted import token_objective
from progrpo.adapters.verl.settings import TOKEN_LOSSES
from progrpo.algo.surrogate import log_ratio
from progrpo.methods import Method
from progrpo.settings import Choice


@cache
def _method(name: str, low: float, high: float) -> Method:
    return methods.load(Choice(name=name, clip_low=low, clip_high=high))


def policy_loss(name: str) -> Callable[..., tuple[Tensor, dict[str, Any]]]:
    """verl's policy loss of a method."""

    def loss(
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        low, high = (
            config.clip_ratio if side is None else side for side in (config.clip_ratio_low, config.clip_ratio_high)
        )
        mask = response_mask.bool()
        objective = token_objective(_method(name, low, high), log_prob, old_log_prob, advantages, mask)
        if rollout_is_weights is not None:
            objective = objective * rollout_is_weights
        total = agg_loss(
            loss_mat=-torch.where(mask, objective, 0.0),
            loss_mask=response_mask,
            loss_agg_mode=loss_agg_mode,
            **config.global_batch_info,
        )
        moved = torch.where(mask, -log_ratio(log_prob.detach(), old_log_prob), 0.0).sum() / mask.sum().clamp(min=1)
        return total, {"actor/ppo_kl": moved.item()}

    return loss


for _name in TOKEN_LOSSES:
    register_policy_loss(f"progrpo_{_name}")(policy_loss(_name))
