"""One published method = one file of hooks; GRPO is the method that defines none.

A method file may define, and nothing else in public:
    Params       its settings, a subclass of `progrpo.methods.Params`
    PRESETS      named sets of settings: {"preset name": {key: value}}
    NEEDS        tensors it reads beyond rewards, verdicts and log-probs (a frozenset of names from `NEEDABLE`), or
    needs        needs(params) -> frozenset, where that depends on its settings
    check        check(params, group) -> list of warnings about settings that are legal and probably unwise
    ON_POLICY    what a run says when it takes several optimiser steps per rollout and the method is not made for them
    OFF_POLICY   what a run says when it takes one optimiser step per rollout, of completions that the trained policy has just
                 sampled, and the method then does nothing of its own
    SURROGATE    False: its token_loss leaves the clipped surrogate aside, so that `dual_clip` would bound nothing
    TOKEN_LEVEL  True: its advantages are per token, so nothing can be added to them (see `add_to`)
    ALARMS       what a run says when one of its metrics leaves a range: {"metric": Alarm(...)}
    samples      samples(params) -> in words, how it samples a batch otherwise than GRPO, and what would switch that off; None
                 where it samples as GRPO does
    sample       sample(problems, generate, params) -> SampledGroups: the batch where `samples` says something (see `Draw`)
    rounds       rounds(params) -> how often `sample` may take problems for one batch; 1 without
    FROM_VERDICTS  True: its loss reads the verdicts and no advantages, so nothing can be added to them
    top_tokens   top_tokens(params) -> how many of the likeliest tokens "top_logprobs" holds
    min_p        min_p(params) -> share of the likeliest token's probability below which "proxy_logprobs" has no tokens
    nucleus      nucleus(params) -> the likeliest tokens of which "nucleus_entropies" are the entropies, a `Nucleus`
    answer_after answer_after(params) -> the text after which a completion gives its answer, and "answer_logprobs" the
                 problem's; None: after all of the completion
    pool         pool(params) -> "step" or "micro": where it takes statistics over tokens (see `Pool`)
    net          net(width, params) -> torch module of its own, trained by the same optimiser, kept in the checkpoint,
                 never seen by engines; `width` is the model's
    net_lr_factor  net_lr_factor(params) -> learning rate of the net, as a multiple of the model's
    add_to       add_to(advantages [P, G], batch, params) -> Advantages: what it adds to another method's advantages, for
                 `method.add`; the batch has the verifier's rewards, whatever the other method made of them
    and the hooks of `HOOKS` (methods/_contract.py), of which each has GRPO as its default.

A method that must remember something from rollout to rollout returns it in `Advantages.state` and finds it in `batch.state`;
it is kept in the checkpoint: numbers, strings, lists, dictionaries and tensors.
"""

from difflib import get_close_matches
from types import ModuleType
from typing import Any

from progrpo import plugins
from progrpo.errors import ConfigError, PluginError
from progrpo.methods._contract import HOOKS, NEEDABLE, OTHERS
from progrpo.methods._data import Advantages, Alarm, MicroView, Reweighted, StepBatch
from progrpo.methods._method import PER_TOKEN, Method
from progrpo.methods._params import Params, Pool, base_advantages, tokens_in_loss
from progrpo.methods._sampling import Draw, Generate, Problems, SampledGroups, Taken
from progrpo.settings import Choice, parse

__all__ = [
    "HOOKS",
    "NEEDABLE",
    "Advantages",
    "Alarm",
    "Draw",
    "Generate",
    "Method",
    "MicroView",
    "Params",
    "Pool",
    "Problems",
    "Reweighted",
    "SampledGroups",
    "StepBatch",
    "Taken",
    "base_advantages",
    "tokens_in_loss",
]

_WITH_HOOK = {
    "top_logprobs": "top_tokens",
    "proxy_logprobs": "min_p",
    "nucleus_entropies": "nucleus",
    "answer_logprobs": "answer_after",
}
"""Needs that want more said, and where it is said."""

CONTRACT = plugins.Contract(kind="method", names=OTHERS | HOOKS, settings=Params)


def load(choice: Choice) -> Method:
    """Import the chosen method, check that it keeps the contract, and validate its settings.

    Raises:
        PluginError: unknown method, a hook that is unknown or not run by this version, or an unknown need.
        ConfigError: unknown preset, unknown or invalid setting.
    """
    module = plugins.load("methods", choice.name)
    plugins.check_contract(CONTRACT, choice.name, module)
    settings = _with_preset(choice, module)
    added = _added(settings.pop("add", None), choice.name)
    if added is not None and getattr(module, "TOKEN_LEVEL", False):
        raise ConfigError(PER_TOKEN.format(name=choice.name))
    if added is not None and getattr(module, "FROM_VERDICTS", False):
        raise ConfigError(f"method {choice.name}: add: its loss reads the verdicts and no advantages to add to")
    hint = plugins.of_another("methods", choice.name, kind="method")
    params = parse(getattr(module, "Params", Params), settings, where=f"method {choice.name}", hint=hint)
    if params.dual_clip is not None and (hasattr(module, "group_loss") or not getattr(module, "SURROGATE", True)):
        raise ConfigError(
            f"method {choice.name}: dual_clip={params.dual_clip:g} bounds the clipped surrogate, which this method does not "
            "use; leave it at null"
        )
    needs = set(module.needs(params) if hasattr(module, "needs") else getattr(module, "NEEDS", frozenset()))
    if unknown := sorted(needs - NEEDABLE.keys()):
        raise PluginError(
            f"method {choice.name!r}: unknown need {unknown[0]!r}; expected {', '.join(sorted(NEEDABLE))}"
        )
    for need, hook in _WITH_HOOK.items():
        if need in needs and not hasattr(module, hook):
            raise PluginError(f"method {choice.name!r}: the need {need!r} wants {OTHERS[hook]}")
    needs |= {"ref_logprobs"} if params.kl_coef else set()
    needs |= {"entropy_grad"} if params.entropy_coef else set()
    return Method(name=choice.name, module=module, params=params, own_needs=frozenset(needs), added=added)


def _added(settings: Any, name: str) -> Method | None:
    """The method of `method.add`: its name, or {name: ..., key: value}. Of a preset counts what `add_to` reads."""
    if settings is None:
        return None
    chosen = Choice(name=settings) if isinstance(settings, str) else Choice(**settings)
    added = load(chosen)
    if not hasattr(added.module, "add_to"):
        raise ConfigError(
            f"method {name}: add={added.name}: that method defines no add_to; progrpo, f_grpo and uniqueness do"
        )
    if added.name == name:
        raise ConfigError(f"method {name}: add={name}: it would be added to itself; change its own settings instead")
    if idle := sorted(chosen.params.keys() & Params.model_fields.keys()):
        raise ConfigError(
            f"method {name}: add.{idle[0]}: what is added changes advantages alone; its {idle[0]} would be read by nobody: "
            f"set method.{idle[0]}"
        )
    return added


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
        if said := plugins.preset_of_another("methods", choice.name, str(preset), kind="method"):
            hint = f"; {said}."
        known = ", ".join(presets) or "none"
        raise ConfigError(f"method {choice.name}: unknown preset {preset!r}{hint} Presets: {known}")
    return {**presets[preset], **params}
