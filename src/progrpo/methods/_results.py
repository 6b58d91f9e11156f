"""What the hooks of a method give back, checked where it comes in: kind, shape and finite numbers.

What is wrong is said by hook and method, before it becomes a traceback of somebody else's code or a loss that is nan.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from progrpo import plugins
from progrpo.errors import PluginError
from progrpo.methods._data import Advantages, MicroView, Reweighted, StepBatch
from progrpo.methods._sampling import SampledGroups
from progrpo.types import RolloutBatch, WeightedMean


def as_advantages(value: object, batch: RolloutBatch, hook: str) -> Advantages:
    """What `advantages` or `add_to` gave.

    Args:
        hook: for messages, with the method's name.

    Raises:
        PluginError: no `Advantages`, a tensor of another shape, or an advantage that is not finite.
    """
    if not isinstance(value, Advantages):
        raise PluginError(f"{hook} gave {_shown(value)}; expected a progrpo.methods.Advantages")
    values = _tensor(value.values, batch.rewards.shape, f"{hook}: values", "[P, G], one for each completion")
    _require_finite(values, f"{hook}: values")
    if value.tokens is not None:
        tokens = _tensor(value.tokens, batch.mask.shape, f"{hook}: tokens", "[N, S], one for each token")
        _require_finite(tokens[batch.mask], f"{hook}: tokens")
    for name, column in value.columns.items():
        _tensor(column, batch.rewards.shape, f"{hook}: columns[{name!r}]", "[P, G], one for each completion")
    for name, one in value.carried.items():
        _tensor(one, batch.mask.shape, f"{hook}: carried[{name!r}]", "[N, S], one for each token")
    _require_stats(value.stats, hook)
    if value.state is not None and not isinstance(value.state, Mapping):
        raise PluginError(f"{hook}: state is {_shown(value.state)}; expected a mapping of what is remembered, or None")
    _require_kept(value.state, f"{hook}: state")
    return value


def as_sampled(value: object, problems: int, group: int, hook: str) -> SampledGroups:
    """What `sample` gave: `problems` groups of `group` completions. Raises PluginError."""
    if not isinstance(value, SampledGroups):
        raise PluginError(f"{hook} gave {_shown(value)}; expected a progrpo.methods.SampledGroups")
    if len(value.groups) != problems:
        raise PluginError(f"{hook} gave {len(value.groups)} groups; expected {problems}, as batch.prompts says")
    for index, one in enumerate(value.groups):
        sizes = {"completions": len(one.completions), "verdicts": len(one.verdicts)}
        if wrong := {name: size for name, size in sizes.items() if size != group}:
            name, size = next(iter(wrong.items()))
            raise PluginError(f"{hook}: group {index} has {size} {name}; expected {group}, as batch.group says")
    _require_stats(value.stats, hook)
    _require_kept(value.state, f"{hook}: state")
    return value


def _require_kept(value: object, place: str) -> None:
    """Raises PluginError for what a checkpoint would write and not read again."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            _require_kept(one, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            _require_kept(one, f"{place}[{index}]")
    elif not (value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor)):
        raise PluginError(
            f"{place} is a {type(value).__module__}.{type(value).__name__}; checkpoints keep numbers, texts, tensors, and "
            "lists and dictionaries of them: of a NumPy number take .item()"
        )


def as_rewards(value: object, batch: RolloutBatch, hook: str) -> Tensor:
    """What `shape_reward` gave: a finite number where there is a verdict. Raises PluginError, as `as_advantages` does."""
    rewards = _tensor(value, batch.rewards.shape, hook, "[P, G], one for each completion")
    _require_finite(rewards[batch.judged], f"{hook} (where there is a verdict)")
    return rewards


def as_kept(value: object, batch: RolloutBatch, hook: str) -> Tensor:
    """What `sequence_keep` gave: True or False for each completion. Raises PluginError."""
    return _tensor(value, batch.rewards.shape, hook, "[P, G], True where it is trained on", torch.bool)


def as_reweighted(value: object, step: StepBatch, hook: str) -> Reweighted:
    """What `reweight` gave. Raises PluginError."""
    if not isinstance(value, Reweighted):
        raise PluginError(f"{hook} gave {_shown(value)}; expected a progrpo.methods.Reweighted")
    for name, dtype in (("advantages", None), ("weights", None), ("keep", torch.bool), ("marks", torch.bool)):
        if (one := getattr(value, name)) is not None:
            tensor = _tensor(one, step.mask.shape, f"{hook}: {name}", "[K, S], one for each token", dtype)
            if dtype is None:
                _require_finite(tensor[step.mask], f"{hook}: {name}")
    for name, one in value.carried.items():
        _tensor(one, step.mask.shape, f"{hook}: carried[{name!r}]", "[K, S], one for each token")
    _require_stats(value.stats, hook)
    return value


def as_range(value: object, step: StepBatch, hook: str) -> tuple[float | Tensor, float | Tensor]:
    """What `clip_range` gave: below and above 1, numbers or [K, S]. Raises PluginError."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise PluginError(f"{hook} gave {_shown(value)}; expected two, how far below and how far above 1")
    low, high = (_bound(one, step, f"{hook}: {name}") for one, name in zip(value, ("low", "high"), strict=True))
    return low, high


def as_objective(value: object, micro: MicroView, hook: str) -> Tensor:
    """What `token_loss` gave: [M, S], to be maximised. Raises PluginError."""
    return _tensor(value, micro.mask.shape, hook, "[M, S], one for each token")


def as_scalar(value: object, hook: str) -> Tensor:
    """What `group_loss` or `extra_loss` gave: a scalar, to be minimised. Raises PluginError."""
    return _tensor(value, torch.Size(), hook, "a scalar")


def _bound(value: object, step: StepBatch, what: str) -> float | Tensor:
    if isinstance(value, Tensor) and value.ndim:
        return _tensor(value, step.mask.shape, what, "a number, or [K, S], one for each token")
    number = plugins.number(value)
    if number is None:
        raise PluginError(f"{what} is {_shown(value)}; expected a finite number or a tensor [K, S]")
    return number


def _tensor(value: object, shape: torch.Size, what: str, meaning: str, dtype: torch.dtype | None = None) -> Tensor:
    expected = f"expected a {'floating-point' if dtype is None else str(dtype).removeprefix('torch.')} tensor"
    if not isinstance(value, Tensor) or (value.dtype != dtype if dtype else not value.is_floating_point()):
        raise PluginError(f"{what} is {_shown(value)}; {expected} of shape {tuple(shape)} ({meaning})")
    if value.shape != shape:
        raise PluginError(f"{what} has shape {tuple(value.shape)}; expected {tuple(shape)} ({meaning})")
    return value


def _require_finite(values: Tensor, what: str) -> None:
    wrong = ~values.isfinite()
    if bool(wrong.any()):
        raise PluginError(
            f"{what}: {int(wrong.sum())} of {values.numel()} are nan or inf (the first: {float(values[wrong][0])}); "
            "is something divided by a spread of 0, or the reward of a completion without a verdict (nan) used?"
        )


def _require_stats(stats: Mapping[str, object], hook: str) -> None:
    for name, one in stats.items():
        if not isinstance(one, WeightedMean):
            raise PluginError(f"{hook}: stats[{name!r}] is {_shown(one)}; expected a progrpo.types.WeightedMean")


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return f"{value!r:.80}"
