"""Which method runs inside TRL and whose loss it has: TRL's fields and the method's settings made one, or refused by name.

Two answers to "whose loss" (`loss_from`):
    method  the method's own, as in progrpo's trainer. Where TRL has a field for a setting that all methods share, the field
            sets it (`SHARED`); what nobody set is the method's default, not TRL's.
    trl     TRL's, field by field and by its own code; the method changes the advantages alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from progrpo import methods, plugins
from progrpo.adapters._hosted import LOSS_HOOKS, probe
from progrpo.errors import ConfigError
from progrpo.methods import Advantages, Method
from progrpo.settings import Choice
from progrpo.types import RolloutBatch

LossFrom = Literal["method", "trl"]

_SCALES = {"group": "std", "none": "none"}
_AGGREGATES = {"grpo": "sequence", "dapo": "token", "dr_grpo": "fixed", "group_token": "group_token"}
_TRUNCATED = {True: "drop", False: "keep"}
SHARED: dict[str, tuple[str, Mapping[Any, str] | None]] = {
    "epsilon": ("clip_low", None),
    "epsilon_high": ("clip_high", None),
    "delta": ("dual_clip", None),
    "beta": ("kl_coef", None),
    "entropy_coef": ("entropy_coef", None),
    "scale_rewards": ("scale", _SCALES),
    "loss_type": ("aggregate", _AGGREGATES),
    "mask_truncated_completions": ("truncated", _TRUNCATED),
}
"""TRL's field -> (the setting of every method that it is, TRL's value -> ours; None where they are the same number)."""

TRL_EPS = 1e-4
"""What TRL adds to the standard deviation of a group, in units of the reward; its ddof is 1."""

_UNMET = {
    "values": "values of a net of its own",
    "token_states": "the model's hidden states",
    "prompt_states": "the model's hidden states",
    "top_logprobs": "log-probs of other tokens than the sampled ones",
    "entropy_gradients": "more of the model's distributions than log-probs and entropies",
    "certainties": "more of the model's distributions than log-probs and entropies",
    "raw_logits": "more of the model's distributions than log-probs and entropies",
    "proxy_logprobs": "more of the model's distributions than log-probs and entropies",
    "nucleus_entropies": "more of the model's distributions than log-probs and entropies",
    "token_texts": "texts of tokens",
    "answer_logprobs": "a pass over the problems' answers",
    "verdicts": "verdicts with their solutions, and TRL's reward functions give numbers alone",
    "whole_groups": "a group's completions in one micro-batch, and TRL shuffles them over all",
}
"""Needs that TRL cannot meet."""

_ONLY_TRL: dict[str, tuple[Any, str]] = {
    "top_entropy_quantile": (1.0, "method='high_entropy' is that"),
    "importance_sampling_level": ("token", "method='gspo' is that"),
    "off_policy_mask_threshold": (None, "no method has it"),
    "use_adaptive_entropy": (False, "no method has it"),
    "multi_objective_aggregation": ("sum_then_normalize", "no method has it"),
    "use_bias_correction_kl": (False, "the KL penalty of a method has no ratio"),
}
"""Fields of TRL's loss that no method's loss has: name -> (the value that means off, what to do instead)."""

FIELDS = (*SHARED, *_ONLY_TRL)
"""The fields of TRL that are read here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostedMethod:
    """A method set up for TRL.

    Attributes:
        fields: what TRL's own fields become.
        reads_logprobs: whether anything is computed from the log-probs of a rollout before the loss, so that a scoring pass
            is needed.
    """

    method: Method
    loss_from: LossFrom
    fields: Mapping[str, Any]
    reads_logprobs: bool


def as_mapping(params: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    """Settings as TRL takes a dictionary: one, a JSON text of one (on its command line), or None.

    Raises:
        ConfigError: the text is no JSON object.
    """
    if params is None:
        return {}
    if not isinstance(params, str):
        return params
    try:
        read = json.loads(params)
    except ValueError as error:
        raise ConfigError(f"method_params={params!r}: not readable as JSON: {error}") from error
    if not isinstance(read, dict):
        raise ConfigError(f"method_params={params!r}: expected a JSON object, for instance '{{\"alpha\": 0.3}}'")
    return read


def choose(
    name: str,
    params: Mapping[str, Any],
    loss_from: LossFrom,
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    group: int,
) -> HostedMethod:
    """Set up a method for TRL.

    Args:
        given: TRL's fields as the user wrote them, None where he wrote nothing. defaults: TRL's own.
        group: completions of each prompt.

    Raises:
        ConfigError: the method needs what TRL does not have, a field of TRL that this method's loss does not have is set, or
            the same thing is set twice and differently.
        PluginError: no such method.
    """
    if loss_from not in ("method", "trl"):
        raise ConfigError(f"loss_from={loss_from!r}: expected 'method' or 'trl'")
    method, fields = (_with_own_loss if loss_from == "method" else _with_trl_loss)(name, dict(params), config, defaults)
    _refuse(method)
    state, reads = probe(method, group)
    if state:
        raise ConfigError(
            f"method {name} remembers {', '.join(sorted(state))} from rollout to rollout, which TRL's checkpoints would not "
            "keep; switch that off in method_params (dcpo: smooth=False) or use progrpo's trainer"
        )
    step_hooks = _defines(method, "reweight") or _defines(method, "clip_range")
    return HostedMethod(method=method, loss_from=loss_from, fields=fields, reads_logprobs=reads or step_hooks)


def advantages_from(method: Method, batch: RolloutBatch, host: torch.Tensor) -> Advantages:
    """Advantages where TRL's own [P, G] are the base (`loss_from="trl"`): what the method adds to them; TRL's as they are
    where it changes none; the method's own where it replaces them."""
    if _defines(method, "add_to"):
        result: Advantages = method.module.add_to(host, batch, method.params)
    elif _defines(method, "advantages") or _defines(method, "shape_reward"):
        return method.advantages(batch)
    else:
        result = Advantages(values=host)
    if method.added is not None:
        more: Advantages = method.added.module.add_to(result.values, batch, method.added.params)
        result = replace(more, stats={**result.stats, **more.stats}, columns={**result.columns, **more.columns})
    return result


def _with_own_loss(
    name: str, params: dict[str, Any], config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[Method, dict[str, Any]]:
    for field, (off, instead) in _ONLY_TRL.items():
        if config[field] not in (None, off):
            raise ConfigError(
                f"{field}={config[field]!r} is part of TRL's loss and not of this method's: {instead}; leave it out, or take "
                "TRL's loss with loss_from='trl'"
            )
    for field, (setting, values) in SHARED.items():
        if config[field] is None:
            continue
        value = _translated(field, config[field], values)
        if setting in params and params[setting] != value:
            raise ConfigError(
                f"{field}={config[field]!r} and method_params[{setting!r}]={params[setting]!r} set the same thing differently; "
                "leave one out"
            )
        params[setting] = value
    method = methods.load(Choice(name=name, **params))
    fields = {}
    for field, (setting, values) in SHARED.items():
        value = getattr(method.params, setting)
        fields[field] = value if values is None else next(ours for ours, theirs in values.items() if theirs == value)
    return method, fields | {field: off for field, (off, _) in _ONLY_TRL.items()}


def _with_trl_loss(
    name: str, params: dict[str, Any], config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[Method, dict[str, Any]]:
    fields = {field: defaults[field] if value is None else value for field, value in config.items()}
    module = plugins.load("methods", name)
    if hooks := [hook for hook in LOSS_HOOKS if hasattr(module, hook)]:
        raise ConfigError(
            f"method {name} changes more than the advantages ({', '.join(hooks)}), so that TRL's loss would not be its loss; "
            "leave loss_from at 'method'"
        )
    preset = getattr(module, "PRESETS", {}).get(params.get("preset"), {})
    if idle := sorted((params.keys() | preset.keys()) & methods.Params.model_fields.keys()):
        raise ConfigError(
            f"method_params: with loss_from='trl' nobody would read {', '.join(idle)}: these are TRL's fields there; set them "
            "as such, or take the method's loss with loss_from='method'"
        )
    scale = {True: "group", False: "none"}.get(fields["scale_rewards"], fields["scale_rewards"])
    replaces = hasattr(module, "shape_reward") or (hasattr(module, "advantages") and not hasattr(module, "add_to"))
    if replaces and (scale not in _SCALES or fields["multi_objective_aggregation"] != "sum_then_normalize"):
        raise ConfigError(
            f"method {name} replaces TRL's advantages, and has none for scale_rewards={fields['scale_rewards']!r}, "
            f"multi_objective_aggregation={fields['multi_objective_aggregation']!r}; expected 'group' or 'none', "
            "'sum_then_normalize'"
        )
    theirs = {"scale": _SCALES.get(scale, "std"), "ddof": 1, "eps": TRL_EPS, "kl_coef": 0.0, "entropy_coef": 0.0}
    return methods.load(Choice(name=name, **params, **theirs)), fields


def _translated(field: str, value: Any, values: Mapping[Any, str] | None) -> Any:
    if values is None:
        return value
    value = {True: "group", False: "none"}.get(value, value) if field == "scale_rewards" else value
    if value not in values:
        raise ConfigError(
            f"{field}={value!r}: a method's own loss has no such thing; expected {', '.join(map(repr, values))}, or TRL's loss "
            "with loss_from='trl'"
        )
    return values[value]


def _refuse(method: Method) -> None:
    """What TRL cannot honour.

    Raises:
        ConfigError: naming it.
    """
    for need in sorted(method.needs):
        if need in _UNMET:
            raise ConfigError(
                f"method {method.name} needs {_UNMET[need]}: not to be had inside TRL; use progrpo's trainer"
            )
    if _defines(method, "net"):
        raise ConfigError(
            f"method {method.name} trains a net of its own, which TRL's optimiser would not; use progrpo's trainer"
        )
    if method.samples is not None:
        raise ConfigError(
            f"method {method.name}: {method.samples}. TRL samples by itself, and once; or use progrpo's trainer"
        )
    if "ref_logprobs" in method.needs and not method.params.kl_coef:
        raise ConfigError(
            f"method {method.name} reads the model as it was before training, which TRL keeps only for a KL penalty: set beta "
            "above 0, or use progrpo's trainer"
        )
    if method.pool == "micro":
        raise ConfigError(
            f"method {method.name}: pool=micro takes statistics within micro-batches, which TRL makes anew by shuffling; set "
            "pool=step"
        )


def refuse_later_steps(method: Method, steps: int) -> None:
    """Refuse what has to read the policy anew before each of several steps per rollout, or acts in the later ones alone.

    Raises:
        ConfigError: naming the needs.
    """
    needs = sorted(method.needs & {"refresh", "refresh_advantages"})
    if needs and steps > 1:
        raise ConfigError(
            f"method {method.name} reads the policy anew before each optimiser step ({', '.join(needs)}), and TRL "
            f"makes {steps} of a generation batch without: set num_iterations=1 and steps_per_generation to (a divisor of) "
            "gradient_accumulation_steps"
        )
    if needs and method.idle_on_policy:
        raise ConfigError(
            f"method {method.name} does nothing in the first optimiser step of a rollout and reads the policy anew before the "
            "later ones, which TRL makes without: use progrpo's trainer, with batch.minibatch_prompts below batch.prompts"
        )


def _defines(method: Method, hook: str) -> bool:
    return hasattr(method.module, hook)
