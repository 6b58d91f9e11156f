"""What the adapter takes for granted of TRL, and the refusal where it is otherwise."""

import dataclasses
from typing import Any

from progrpo.adapters._versions import check_host
from progrpo.errors import HostError

TESTED = ("1.15.0", "1.16.0")
"""The versions that the tests were run with (docs/adapters.md)."""

OVERRIDDEN: dict[str, tuple[str, ...]] = {
    "_calculate_rewards": ("self", "inputs", "prompts", "completions", "completion_ids_list"),
    "_compute_loss": ("self", "model", "inputs"),
    "_generate_and_score_completions": ("self", "inputs"),
    "_get_per_token_logps_and_entropies": (
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
    ),
}
"""Methods of GRPOTrainer that the adapter overrides: name -> the parameters it knows, which must come first."""

CONFIG_FIELDS = (
    "beta",
    "delta",
    "entropy_coef",
    "epsilon",
    "epsilon_high",
    "importance_sampling_level",
    "loss_type",
    "mask_truncated_completions",
    "multi_objective_aggregation",
    "num_iterations",
    "off_policy_mask_threshold",
    "scale_rewards",
    "steps_per_generation",
    "top_entropy_quantile",
    "use_adaptive_entropy",
    "use_bias_correction_kl",
)
"""Fields of GRPOConfig that the adapter reads or gives another default."""


def check(trainer: type, config: type, version: str) -> None:
    """Compare what the adapter overrides and reads with what this TRL has.

    Raises:
        HostError: a name is missing, or a method has other parameters; the message names them and the remedy.
    """
    remedy = f"install a version the adapter knows: pip install 'trl=={TESTED[-1]}'"
    there = {field.name for field in dataclasses.fields(config)}
    if missing := [name for name in CONFIG_FIELDS if name not in there]:
        raise HostError(f"trl {version}: {config.__name__} has no field {', '.join(missing)}; {remedy}")
    known = {f"{trainer.__name__}.{name}": (trainer, name, parameters) for name, parameters in OVERRIDDEN.items()}
    check_host("trl", version, TESTED, known, remedy=remedy)


def defaults(config: type, names: tuple[str, ...] = CONFIG_FIELDS) -> dict[str, Any]:
    """The defaults of GRPOConfig itself: what a field means that nobody set."""
    return {field.name: field.default for field in dataclasses.fields(config) if field.name in names}
