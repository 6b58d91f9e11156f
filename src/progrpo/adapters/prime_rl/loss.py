"""prime-rl's own loss on advantages that ProGRPO has shifted: `import_path` of a custom loss.

c(q) and c(o) are of the trainer's log-probs in this very pass, prompts included, so that both have one policy and one
temperature and no pass is added; that is `logprobs_from: current` of progrpo's trainer.
"""

from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from progrpo.adapters._versions import check_host
from progrpo.adapters.prime_rl.shift import settings_of, shifted_advantages
from progrpo.errors import ConfigError, HostError

try:
    from prime_rl.configs.trainer import DefaultLossConfig, IPOLossConfig
    from prime_rl.trainer.rl import loss as host
except ImportError as error:
    raise HostError(
        f"prime-rl cannot be imported ({error}): install it as its README says; it is on no registry"
    ) from error

TESTED = ("0.8.0",)
"""The versions whose loss the contract tests were run with (docs/adapters.md)."""

try:
    _version = version("prime-rl")
except PackageNotFoundError:
    _version = TESTED[-1]

check_host(
    "prime-rl",
    _version,
    TESTED,
    {
        "default_loss_fn": (host, "default_loss_fn", ("inputs", "loss_config")),
        "ipo_loss_fn": (host, "ipo_loss_fn", ("inputs", "loss_config")),
        "LossInputs": (
            host,
            "LossInputs",
            ("trainer_logprobs", "inference_logprobs", "ref_logprobs", "advantages", "loss_mask"),
        ),
    },
    remedy=f"check out v{TESTED[-1]}",
)


@cache
def _settings(two_rewards: bool, params: tuple[tuple[str, Any], ...]) -> Any:
    return settings_of(two_rewards, **dict(params))


def progrpo_loss(
    inputs: Any,
    *,
    base: str = "default",
    base_kwargs: dict[str, Any] | None = None,
    two_rewards: bool = False,
    **params: Any,
) -> Any:
    """prime-rl's loss of one sequence, with ProGRPO's shift in its advantages.

    Args:
        inputs: prime-rl's LossInputs. base: whose loss: "default" or "ipo". base_kwargs: that loss's own settings.
        two_rewards, params: see `shift.settings_of`.

    Raises:
        ConfigError: what a loss of one sequence cannot honour; at the first call.
    """
    chosen = _settings(two_rewards, tuple(sorted(params.items())))
    changed = replace(
        inputs,
        advantages=shifted_advantages(inputs.trainer_logprobs, inputs.advantages, inputs.loss_mask, chosen),
    )
    if base == "default":
        outputs = host.default_loss_fn(changed, DefaultLossConfig(**(base_kwargs or {})))
    elif base == "ipo":
        outputs = host.ipo_loss_fn(changed, IPOLossConfig(**(base_kwargs or {})))
    else:
        raise ConfigError(f"base={base!r}: expected 'default' or 'ipo'")
    trained = inputs.loss_mask
    moved = (changed.advantages - inputs.advantages)[trained].abs().sum() / trained.sum().clamp(min=1)
    outputs.metrics["progrpo/shift_abs"] = moved
    return outputs
