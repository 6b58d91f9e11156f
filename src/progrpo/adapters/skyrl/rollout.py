"""SkyRL's tensors and settings as the methods see them. SkyRL pads on the left: responses end in the last column.

B sequences, L padded length of prompt and response, S of the response.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.adapters._hosted import HostLimits, Loss, acts_on_equal_rewards, choose
from progrpo.adapters._rows import HostRows
from progrpo.errors import ConfigError
from progrpo.methods import Method

ESTIMATOR = "progrpo"
"""The value of trainer.algorithm.advantage_estimator."""

_AGGREGATES = {
    "token_mean": "token",
    "sequence_mean": "sequence",
    "prompt_mean": "group_token",
    "seq_mean_token_sum_norm": "fixed",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WidePass:
    """A pass over whole sequences taken apart.

    Attributes:
        logprobs: [B, S] of responses. prompt_logprobs, prompt_mask: [B, L - S] of prompts, False on padding and first tokens.
    """

    logprobs: Float[Tensor, "B S"]
    prompt_logprobs: Float[Tensor, "B Q"]
    prompt_mask: Bool[Tensor, "B Q"]


def method_of(spec: Mapping[str, Any], algorithm: Any, *, step_wise: bool, scored: bool) -> tuple[Method, float]:
    """The method, and the reward above which a completion is correct.

    Args:
        algorithm: SkyRL's `trainer.algorithm`. scored: whether SkyRL makes its pass for old log-probs.

    Raises:
        ConfigError: SkyRL cannot honour the method, or contradicts its settings.
    """
    spec = dict(spec)
    above = float(spec.pop("correct_above", 0.0))
    where = "trainer.algorithm"
    if algorithm.advantage_estimator != ESTIMATOR:
        raise ConfigError(
            f"{where}.advantage_estimator={algorithm.advantage_estimator}: the method would be asked by nobody; set it to "
            f"{ESTIMATOR}, or take SkyRL's own trainer"
        )
    if algorithm.advantage_batch_normalize:
        raise ConfigError(
            f"{where}.advantage_batch_normalize would normalise the method's advantages again; leave it off"
        )
    if step_wise:
        raise ConfigError(
            "generator.step_wise_trajectories: SkyRL shows an estimator the last step alone, without its tokens; use one "
            "sequence for each trajectory"
        )
    dual = algorithm.clip_ratio_c if algorithm.policy_loss_type == "dual_clip" else None
    reduction = algorithm.loss_reduction
    fields = {
        "clip_low": (f"{where}.eps_clip_low", algorithm.eps_clip_low),
        "clip_high": (f"{where}.eps_clip_high", algorithm.eps_clip_high),
        "dual_clip": (f"{where}.policy_loss_type and clip_ratio_c", dual),
        "aggregate": (f"{where}.loss_reduction", _AGGREGATES.get(reduction, reduction)),
        "kl_coef": (f"{where}.kl_loss_coef", algorithm.kl_loss_coef if algorithm.use_kl_loss else 0.0),
        "entropy_coef": (
            f"{where}.entropy_loss_coef",
            algorithm.entropy_loss_coef if algorithm.use_entropy_loss else 0.0,
        ),
    }
    limits = HostLimits(
        name="SkyRL" if scored else f"SkyRL with {where}.policy_loss_type={algorithm.policy_loss_type}",
        gives=frozenset({"prompt_logprobs"}) if scored else frozenset(),
        logprobs=scored,
    )
    method = choose(limits, spec, Loss(fields=fields))
    if method.params.scale == "std" and not algorithm.grpo_norm_by_std:
        raise ConfigError(
            f"{where}.grpo_norm_by_std=False is read by SkyRL's estimators alone; give the method scale='none'"
        )
    if algorithm.zero_variance_filter and acts_on_equal_rewards(method):
        raise ConfigError(
            f"{where}.zero_variance_filter masks groups of equal rewards, where this method has advantages; switch it off, or "
            "take skip='degenerate'"
        )
    return method, above


def taken_apart(
    logprobs: Float[Tensor, "B W"], attention_mask: Int[Tensor, "B L"], response_mask: Int[Tensor, "B S"]
) -> WidePass:
    """A pass that was asked for the log-probs of all tokens but the first, W = L - 1."""
    width, total = response_mask.shape[1], attention_mask.shape[1]
    aligned = torch.cat([logprobs.new_zeros(len(logprobs), 1), logprobs], dim=1)  # [B, L] of the token itself
    real = attention_mask.bool()
    conditioned = real & torch.cat([torch.zeros_like(real[:, :1]), real[:, :-1]], dim=1)
    response = torch.zeros_like(real)
    response[:, total - width :] = response_mask.bool()
    return WidePass(
        logprobs=aligned[:, total - width :],
        prompt_logprobs=aligned,
        prompt_mask=conditioned & ~response,
    )


def rows_of(
    uids: Sequence[str],
    scores: Float[Tensor, " B"],
    rewards: Float[Tensor, " B"],
    loss_mask: Float[Tensor, "B S"],
    *,
    padding: int,
    above: float,
    logprobs: Float[Tensor, "B S"] | None,
    prompts: WidePass | None,
) -> HostRows:
    """SkyRL's batch as the methods see it.

    Args:
        scores: raw rewards, which say what is correct. rewards: what trains, after a KL penalty where there is one.
        padding: how many of the last sequences are there to fill the batch.
    """
    count = len(scores)
    made_up = torch.arange(count) >= count - padding
    return HostRows(
        groups=[f"padding {row}" if made_up[row] else uid for row, uid in enumerate(uids)],
        rewards=rewards.detach().cpu().float().masked_fill(made_up, torch.nan),
        correct=scores.detach().cpu() > above,
        mask=loss_mask.detach().cpu() > 0,
        logprobs=None if logprobs is None else logprobs.detach().cpu(),
        prompt_logprobs=None if prompts is None else prompts.prompt_logprobs.detach().cpu(),
        prompt_mask=None if prompts is None else prompts.prompt_mask.cpu(),
    )
