"""One published method = one file of hooks; GRPO is the method that defines none.

A method file may define, and nothing else that is public and callable:
    Params       its settings, a subclass of `progrpo.methods.Params`
    PRESETS      named sets of settings: {"preset name": {key: value}}
    NEEDS        tensors it reads beyond rewards, verdicts and log-probs (a frozenset of names from `NEEDABLE`), or
    needs        needs(params) -> frozenset, where that depends on its settings
    check        check(params, group) -> list of warnings about settings that are legal and probably unwise
    and the hooks of `HOOKS`. A hook this version does not run is refused by name, never ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import ModuleType
from typing import Any, Literal

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from progrpo import plugins
from progrpo.algo.advantages import group_advantages
from progrpo.algo.aggregate import How, sequence_weights
from progrpo.errors import ConfigError, PluginError
from progrpo.settings import Choice, Settings, parse
from progrpo.types import Ratio, RolloutBatch

HOOKS: dict[str, tuple[bool, str]] = {
    "shape_reward": (False, "shape_reward(batch, params) -> rewards [P, G]: once per rollout, before the advantages"),
    "advantages": (True, "advantages(batch, params) -> Advantages: once per rollout, no gradient"),
    "sequence_keep": (False, "sequence_keep(batch, params) -> bool [P, G]: sequences to train on"),
    "reweight": (False, "reweight(micro, params) -> advantages, weights, keep [N, S]: per micro-batch, no gradient"),
    "clip_range": (True, "clip_range(params) -> (low, high): of the importance ratio, floats or [N, S]"),
    "token_loss": (False, "token_loss(micro, default, params) -> [N, S]: replaces the surrogate on some tokens"),
    "extra_loss": (False, "extra_loss(micro, params) -> scalar, with gradient"),
    "group_loss": (False, "group_loss(groups, params) -> scalar, with gradient: replaces everything above"),
}
"""The eight hooks in the order they run: name -> (run by this version, signature)."""

NEEDABLE = frozenset({"prompt_logprobs", "entropies", "refresh"})
"""`prompt_logprobs` [P, Q]; `entropies` [N, S]; `refresh`: log-probs recomputed before each optimiser step."""

_OTHER_NAMES = frozenset({"needs", "check"})


class Params(Settings):
    """Settings all methods share. The defaults are GRPO's (arXiv:2402.03300; arXiv:2602.05281, Eq. 3)."""

    scale: Literal["std", "none"] = "std"
    """Divide centred rewards by the group's standard deviation, or not."""
    ddof: Literal[0, 1] = 1
    """1: sample standard deviation (TRL, verl). 0: population (arXiv:2602.05281, Eq. 8)."""
    eps: float = Field(1e-6, ge=0)
    """Added to the standard deviation, in units of the reward."""
    clip_low: float = Field(0.2, ge=0, le=1)
    """The importance ratio is clipped below 1 - clip_low."""
    clip_high: float = Field(0.2, ge=0)
    """The importance ratio is clipped above 1 + clip_high."""
    aggregate: How = "sequence"
    """From tokens to one number: see `progrpo.algo.aggregate.sequence_weights`."""
    fixed_length: int | None = Field(None, gt=0)
    """Denominator of aggregate=fixed, in tokens; None takes the longest completion the run allows."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Advantages:
    """What the advantage hook returns.

    Attributes:
        values: [P, G] float32, no gradient.
        stats: metrics for this step, keys as in docs/metrics.md.
        columns: [P, G] values written beside each completion in the rollouts file.
    """

    values: Float[Tensor, "P G"]
    stats: Mapping[str, Ratio] = field(default_factory=dict)
    columns: Mapping[str, Float[Tensor, "P G"]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A method chosen and set up; nobody asks its name again."""

    name: str
    module: ModuleType
    params: Any
    needs: frozenset[str]

    def advantages(self, batch: RolloutBatch) -> Advantages:
        """The method's advantages, or GRPO's."""
        hook = getattr(self.module, "advantages", None)
        if hook is None:
            return Advantages(values=base_advantages(batch, self.params))
        result: Advantages = hook(batch, self.params)
        return result

    def clip_range(self) -> tuple[float | Tensor, float | Tensor]:
        """How far below and above 1 the importance ratio counts."""
        hook = getattr(self.module, "clip_range", None)
        if hook is None:
            return self.params.clip_low, self.params.clip_high
        low, high = hook(self.params)
        return low, high

    def weights(self, lengths: Int[Tensor, "P G"], longest: int) -> Float[Tensor, "P G"]:
        """One weight per sequence of an optimiser step; `longest` is the run's completion limit in tokens."""
        fixed = self.params.fixed_length or longest
        return sequence_weights(lengths, how=self.params.aggregate, fixed_length=fixed)

    def check(self, group: int) -> list[str]:
        """The method's warnings about its settings at this group size."""
        hook = getattr(self.module, "check", None)
        return list(hook(self.params, group)) if hook else []


def base_advantages(batch: RolloutBatch, params: Params) -> Float[Tensor, "P G"]:
    """GRPO's group-relative advantages under the shared settings."""
    return group_advantages(batch.rewards, scale=params.scale, ddof=params.ddof, eps=params.eps)


def load(choice: Choice) -> Method:
    """Import the chosen method, check that it keeps the contract, and validate its settings.

    Raises:
        PluginError: unknown method, a hook that is unknown or not run by this version, or an unknown need.
        ConfigError: unknown preset, unknown or invalid setting.
    """
    module = plugins.load("methods", choice.name)
    _check_contract(choice.name, module)
    params = parse(getattr(module, "Params", Params), _with_preset(choice, module), where=f"method {choice.name}")
    needs = module.needs(params) if hasattr(module, "needs") else getattr(module, "NEEDS", frozenset())
    if unknown := sorted(set(needs) - NEEDABLE):
        raise PluginError(
            f"method {choice.name!r}: unknown need {unknown[0]!r}; expected {', '.join(sorted(NEEDABLE))}"
        )
    return Method(name=choice.name, module=module, params=params, needs=frozenset(needs))


def _with_preset(choice: Choice, module: ModuleType) -> dict[str, Any]:
    """The settings of the named preset, overridden by those written out."""
    params = choice.params
    preset = params.pop("preset", None)
    presets: dict[str, dict[str, Any]] = getattr(module, "PRESETS", {})
    if preset is None:
        return params
    if preset not in presets:
        near = get_close_matches(str(preset), presets, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        known = ", ".join(presets) or "none"
        raise ConfigError(f"method {choice.name}: unknown preset {preset!r}{hint} Presets: {known}")
    return {**presets[preset], **params}


def _check_contract(name: str, module: ModuleType) -> None:
    for attribute, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if attribute.startswith("_") or isinstance(value, type) or not callable(value) or not own:
            continue
        if attribute in HOOKS and not HOOKS[attribute][0]:
            raise PluginError(
                f"method {name!r}: hook {attribute!r} is part of the interface but not run by this version; "
                f"hooks that run: {', '.join(hook for hook, (built, _) in HOOKS.items() if built)}"
            )
        if attribute not in HOOKS and attribute not in _OTHER_NAMES:
            near = get_close_matches(attribute, HOOKS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise PluginError(f"method {name!r}: unknown hook {attribute!r}{hint} Hooks: {', '.join(HOOKS)}")
