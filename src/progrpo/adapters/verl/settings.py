"""Which method runs inside verl, from verl's configuration; verl's own settings say what the loss is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from progrpo.adapters._hosted import HostLimits, Loss, choose
from progrpo.errors import ConfigError
from progrpo.methods import Method

ESTIMATOR = "progrpo"
"""The value of algorithm.adv_estimator."""

TOKEN_LOSSES = ("cispo", "dppo", "gspo", "reinforce", "rlsc")
"""Methods that change the loss of each token from that token's own numbers: loss_mode=progrpo_NAME."""

_AGGREGATES = {"token-mean": "token", "seq-mean-token-mean": "sequence", "seq-mean-token-sum-norm": "fixed"}
_DIVERGENCES = {"kl": "k1", "k1": "k1", "mse": "k2", "k2": "k2", "low_var_kl": "k3", "k3": "k3"}
_ACTOR = "actor_rollout_ref.actor"


@dataclass(frozen=True, kw_only=True, slots=True)
class VerlMethod:
    """A method set up for verl.

    Attributes:
        above: a completion is correct if the sum of its raw rewards is above this.
    """

    method: Method
    above: float


def from_trainer(config: Mapping[str, Any]) -> VerlMethod:
    """The method of a whole configuration of verl, as plain dictionaries, where the trainer is one of ours.

    Raises:
        ConfigError: the estimator is another's, verl's settings contradict the method's, or verl cannot honour it.
    """
    algorithm, actor = config["algorithm"], config["actor_rollout_ref"]["actor"]
    if algorithm["adv_estimator"] != ESTIMATOR:
        raise ConfigError(
            f"algorithm.adv_estimator={algorithm['adv_estimator']}: the trainer mode is progrpo's, whose method would be asked "
            f"by nobody; set algorithm.adv_estimator={ESTIMATOR}, or trainer.v1.trainer_mode=sync"
        )
    spec, above = _spec(algorithm)
    name = spec.get("name", "progrpo")
    mode = (actor.get("policy_loss") or {}).get("loss_mode", "vanilla")
    _fits(name, mode, spec)
    bypass = bool((algorithm.get("rollout_correction") or {}).get("bypass_mode", False))
    fields = _fields(actor)
    hooks = {"token_loss"} if name in TOKEN_LOSSES else set()
    if fields["aggregate"][1] == "token":
        hooks.add("sequence_keep")  # verl's denominator there is the sum of a mask that a trainer may write
    limits = HostLimits(
        name="verl with rollout_correction.bypass_mode" if bypass else "verl",
        gives=frozenset() if bypass else frozenset({"prompt_logprobs", "entropies"}),
        hooks=frozenset(hooks),
    )
    method = choose(limits, spec, Loss(fields=fields))
    if method.params.scale == "std" and not algorithm.get("norm_adv_by_std_in_grpo", True):
        raise ConfigError(
            "algorithm.norm_adv_by_std_in_grpo=False is read by verl's own estimators alone; set +algorithm.progrpo.scale=none"
        )
    return VerlMethod(method=method, above=above)


def from_estimator(algorithm: Mapping[str, Any]) -> VerlMethod:
    """The method where the trainer is verl's own, which hands an estimator rewards and a mask, and nothing else.

    Raises:
        ConfigError: the method needs more; the message names the trainer mode that has it.
    """
    if algorithm.get("use_kl_in_reward"):
        raise ConfigError(
            "algorithm.use_kl_in_reward: verl's own trainer shows an estimator the rewards less the penalty, which do not "
            "tell what is correct; set trainer.v1.trainer_mode=progrpo"
        )
    spec, above = _spec(algorithm)
    _fits(spec.get("name", "progrpo"), "vanilla", spec)
    limits = HostLimits(
        name="verl's own trainer mode (trainer.v1.trainer_mode=progrpo does)", gives=frozenset(), logprobs=False
    )
    return VerlMethod(method=choose(limits, spec, Loss()), above=above)


def _spec(algorithm: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    spec = dict(algorithm.get("progrpo") or {})
    return spec, float(spec.pop("correct_above", 0.0))


def _fits(name: str, mode: str, spec: Mapping[str, Any]) -> None:
    """Refuse a policy loss that is not the method's."""
    wanted = f"progrpo_{name}" if name in TOKEN_LOSSES else None
    if wanted is not None and mode != wanted:
        raise ConfigError(
            f"method {name} has a loss of its own: set {_ACTOR}.policy_loss.loss_mode={wanted} (now {mode}) and "
            "trainer.v1.trainer_mode=progrpo"
        )
    if wanted is None and mode.startswith("progrpo_"):
        raise ConfigError(
            f"{_ACTOR}.policy_loss.loss_mode={mode} is the loss of another method than {name}; set +algorithm.progrpo.name="
            f"{mode.removeprefix('progrpo_')}, or loss_mode=vanilla"
        )
    if wanted is not None and (extra := sorted(spec.keys() - {"name", "scale", "ddof", "eps", "add"})):
        raise ConfigError(
            f"method {name}: {', '.join(extra)}: verl hands a policy loss its own settings alone, so that the workers would "
            "not know; leave it at its default, and give the clip range as clip_ratio_low and clip_ratio_high"
        )


def _fields(actor: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """verl's loss in our words, each with verl's name."""
    clip = actor.get("clip_ratio", 0.2)
    low, high = (actor.get(f"clip_ratio_{side}") for side in ("low", "high"))
    mode = actor.get("loss_agg_mode", "token-mean")
    fields = {
        "clip_low": (f"{_ACTOR}.clip_ratio_low", clip if low is None else low),
        "clip_high": (f"{_ACTOR}.clip_ratio_high", clip if high is None else high),
        "dual_clip": (f"{_ACTOR}.clip_ratio_c", actor.get("clip_ratio_c", 3.0)),
        "aggregate": (f"{_ACTOR}.loss_agg_mode", _AGGREGATES.get(mode, mode)),
        "kl_coef": (f"{_ACTOR}.kl_loss_coef", actor.get("kl_loss_coef", 0.0) if actor.get("use_kl_loss") else 0.0),
        "entropy_coef": (f"{_ACTOR}.entropy_coeff", float(actor.get("entropy_coeff", 0.0))),
    }
    if actor.get("use_kl_loss"):
        kind = actor.get("kl_loss_type", "low_var_kl")
        fields["kl"] = (f"{_ACTOR}.kl_loss_type", _DIVERGENCES.get(kind, kind))
    if fields["aggregate"][1] == "fixed":
        fields["fixed_length"] = (f"{_ACTOR}.loss_scale_factor", actor.get("loss_scale_factor"))
    return fields
