"""A method set up for a host that has a loss of its own: what the host gives, what it honours, and the refusal of the rest.

A host's own loss is used as it is, with its own clip range, denominators and penalties; a setting that all methods share and
that the host has a field for is the host's. Setting it for the method too is refused unless both say the same.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo import methods, plugins
from progrpo.algo.surrogate import clipped_surrogate
from progrpo.errors import ConfigError
from progrpo.methods import NEEDABLE, Method, MicroView
from progrpo.settings import Choice
from progrpo.types import RolloutBatch, Verdict

logger = logging.getLogger(__name__)

OF_ADVANTAGES = ("scale", "ddof", "eps")
"""The shared settings that belong to the advantages, and so to the method in every host."""

LOSS_HOOKS = ("sequence_keep", "reweight", "clip_range", "token_loss", "extra_loss", "group_loss")
"""Hooks that change more than advantages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A host's own loss in the words of the settings that all methods share.

    Attributes:
        fields: setting -> (the host's name for it, its value in our words). What is not here the host does not have.
    """

    fields: Mapping[str, tuple[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostLimits:
    """What a host gives and honours.

    Attributes:
        name: of the host, for messages.
        gives: which of `NEEDABLE` it can hand over. logprobs: whether it has log-probs of completions.
        hooks: which of `LOSS_HOOKS` it honours. per_token: whether a token may have an advantage of its own.
        whole_rollout: whether the method sees all groups of a rollout at once.
    """

    name: str
    gives: frozenset[str] = frozenset()
    logprobs: bool = True
    hooks: frozenset[str] = frozenset()
    per_token: bool = True
    whole_rollout: bool = True


def choose(host: HostLimits, spec: Mapping[str, Any], loss: Loss) -> Method:
    """Set up the method `spec` = {"name": ..., setting: value} for a host.

    Raises:
        ConfigError: the host cannot honour it, or its loss has another value of a setting that was given; the message names
            the setting, both values and the remedy.
        PluginError: no such method.
    """
    spec = dict(spec)
    name = spec.pop("name", "progrpo")
    module = plugins.load("methods", name)
    preset: Mapping[str, Any] = getattr(module, "PRESETS", {}).get(spec.get("preset"), {})
    shared = methods.Params.model_fields.keys() - set(OF_ADVANTAGES)
    for key in sorted((spec.keys() | preset.keys()) & shared):
        _agree(host, name, key, spec.get(key, preset.get(key)), loss)
    # A token loss of the method reads the host's clip range; penalties are the host's, and the method needs nothing for them.
    theirs = {key: loss.fields[key][1] for key in ("clip_low", "clip_high") if key in loss.fields}
    plain = methods.load(Choice(name=name, **spec))
    method = methods.load(Choice(name=name, **{**spec, **theirs, "kl_coef": 0.0, "entropy_coef": 0.0}))
    _refuse(host, method)
    _tell(host, plain, loss)
    return method


def _agree(host: HostLimits, name: str, key: str, value: Any, loss: Loss) -> None:
    if key not in loss.fields:
        raise ConfigError(
            f"method {name}: {key}={value!r}: the loss is {host.name}'s own, which has no such setting; leave it out (a preset "
            "may bring it: then give the preset's other settings one by one), or use progrpo's trainer"
        )
    theirs, setting = loss.fields[key]
    if setting != value:
        raise ConfigError(
            f"method {name}: {key}={value!r}, and {host.name}'s loss has {setting!r} ({theirs}); set {theirs} to match, or "
            f"leave {key} out"
        )


def _tell(host: HostLimits, plain: Method, loss: Loss) -> None:
    """Say where the host's loss is not the method's by default."""
    others = []
    surrogate = getattr(plain.module, "SURROGATE", True)
    for key, (theirs, setting) in loss.fields.items():
        default = getattr(plain.params, key)
        if key == "dual_clip" and not surrogate:
            continue
        if default != setting:
            others.append(f"{key}: {setting!r} ({theirs}) where the method has {default!r}")
    if others:
        logger.warning("method %s with the loss of %s: %s", plain.name, host.name, "; ".join(others))


def _refuse(host: HostLimits, method: Method) -> None:
    elsewhere = "use progrpo's trainer"
    for part in (method, *((method.added,) if method.added is not None else ())):
        for hook in LOSS_HOOKS:
            if hasattr(part.module, hook) and hook not in host.hooks:
                raise ConfigError(
                    f"method {part.name} changes more than the advantages ({hook}: {methods.HOOKS[hook]}), and {host.name} has "
                    f"no place for it; {elsewhere} or another host (docs/adapters.md)"
                )
    for need in sorted(method.needs - host.gives):
        if need == "prompt_logprobs" and not reads_prompts(method):
            continue
        raise ConfigError(
            f"method {method.name} needs {need} ({NEEDABLE[need]}), which {host.name} does not give; {elsewhere}"
        )
    if hasattr(method.module, "net"):
        raise ConfigError(f"method {method.name} trains a net of its own, which {host.name} would not; {elsewhere}")
    if method.samples is not None:
        raise ConfigError(f"method {method.name}: {method.samples}. {host.name} samples by itself; {elsewhere}")
    if not host.per_token and getattr(method.module, "TOKEN_LEVEL", False):
        raise ConfigError(
            f"method {method.name} gives each token an advantage of its own, and {host.name} takes one of each sequence; "
            f"{elsewhere}"
        )
    if method.params.truncated == "drop":
        raise ConfigError(f"truncated='drop': {host.name} does not say which completions were cut; {elsewhere}")
    state, reads = probe(method)
    if state:
        raise ConfigError(
            f"method {method.name} remembers {', '.join(sorted(state))} from rollout to rollout, which {host.name} would not "
            f"keep in its checkpoints; switch that off in its settings, or {elsewhere}"
        )
    if reads and not host.logprobs:
        raise ConfigError(
            f"method {method.name} computes from log-probs of completions, which {host.name} does not give; {elsewhere}"
        )


def reads_prompts(method: Method) -> bool:
    """Whether the method's advantages depend on the log-probs of prompts, rather than that these are logged alone."""
    batch = _made_up(4)
    without = RolloutBatch(
        **{
            name: getattr(batch, name)
            for name in ("rewards", "correct", "truncated", "lengths", "mask", "old_logprobs", "entropies", "verdicts")
        },
        ref_logprobs=batch.ref_logprobs,
        problems=batch.problems,
    )
    first, second = method.advantages(batch), method.advantages(without)
    return not torch.equal(first.values, second.values)


def token_objective(
    method: Method,
    logprobs: Float[Tensor, "N S"],
    old_logprobs: Float[Tensor, "N S"],
    advantages: Float[Tensor, "N S"],
    mask: Bool[Tensor, "N S"],
) -> Float[Tensor, "N S"]:
    """The method's objective per token, to be maximised: its `token_loss`, or the clipped surrogate. Gradient flows into
    `logprobs`; masked positions may hold anything."""
    params = method.params
    surrogate = clipped_surrogate(
        logprobs,
        old_logprobs,
        advantages,
        clip_low=params.clip_low,
        clip_high=params.clip_high,
        dual_clip=params.dual_clip,
    )
    if not hasattr(method.module, "token_loss"):
        return surrogate
    count = len(mask)
    view = MicroView(
        logprobs=logprobs.float(),
        old_logprobs=old_logprobs.detach().float(),
        advantages=advantages.detach().float(),
        mask=mask,
        weights=logprobs.new_ones(count, dtype=torch.float32),
        sequences=torch.arange(count, device=mask.device),
        group=1,
        count=count,
        correct=torch.zeros(count, dtype=torch.bool, device=mask.device),
    )
    objective: Tensor = method.module.token_loss(view, surrogate, params)
    return objective


def acts_on_equal_rewards(method: Method) -> bool:
    """Whether a group that is all correct or all wrong may have advantages, which a host's filter of groups without variance
    takes away."""
    return any(_acts_on_all(method, correct) for correct in (True, False))


def _acts_on_all(method: Method, correct: bool) -> bool:
    batch, verdict = _made_up(4), Verdict(status="correct" if correct else "wrong", reward=float(correct))
    alike = torch.full_like(batch.correct, correct)
    batch = replace(batch, rewards=alike.float(), correct=alike, verdicts=((verdict,) * 4,) * 2)
    batch.old_logprobs[0] = -1.5
    return bool(method.advantages(batch).values.any())


class _Watched(torch.Tensor):
    """A tensor that knows whether anybody computed with it."""

    read = False

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in args:
            if isinstance(value, _Watched):
                value.read = True
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def probe(method: Method, group: int = 4) -> tuple[set[str], bool]:
    """Try the method's rollout hooks on a made-up rollout: what it remembers, and whether it reads log-probs."""
    batch = _made_up(group, watched=True)
    result = method.advantages(batch)
    tensors = (batch.old_logprobs, batch.entropies, batch.prompt_logprobs)
    return set(result.state or {}), any(isinstance(tensor, _Watched) and tensor.read for tensor in tensors)


def _made_up(group: int, *, watched: bool = False) -> RolloutBatch:
    width, count = 4, 2 * group
    mask = torch.ones(count, width, dtype=torch.bool)
    half = torch.arange(group).expand(2, group) % 2 == 0  # [2, G] every other completion is correct
    scores = [torch.full((count, width), -0.5), torch.full((count, width), 0.5), torch.full((2, width), -0.25)]
    if watched:
        scores = [tensor.as_subclass(_Watched) for tensor in scores]
    return RolloutBatch(
        rewards=half.float(),
        correct=half,
        truncated=torch.zeros_like(half),
        lengths=mask.sum(dim=1).view(2, group),
        mask=mask,
        old_logprobs=scores[0],
        entropies=scores[1],
        prompt_logprobs=scores[2],
        prompt_mask=torch.ones(2, width, dtype=torch.bool),
        ref_logprobs=torch.full((count, width), -0.5),
        verdicts=((Verdict(status="correct", reward=1.0),) * group,) * 2,
        problems=("one", "two"),
    )
