"""One optimiser step, from advantages to the loss of a micro-batch: pure functions for training, `score`, tests and adapters.

    make_step    the problems of the step, as the method sees them
    decide       what holds for all of it: advantages and weights of tokens, clip ranges, which sequences are forwarded
    micro_view   what the method sees of a micro-batch, once its log-probs are known
    micro_loss   its loss

p problems of the step, K = p * G sequences of it, M sequences of a micro-batch, S padded completion length.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.methods import Method
from progrpo.methods._data import Advantages, MicroView, Reweighted, StepBatch
from progrpo.types import RolloutBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Step:
    """The K sequences of one optimiser step, on the CPU.

    Attributes:
        batch: as the method sees them.
        kept: [p, G] sequences that are not dropped.
        ref_logprobs, entropy_gradients, sampler_logprobs, importance: [K, S] (see `RolloutBatch`), or None.
        replayed: [K] of earlier rollouts; None without any.
    """

    batch: StepBatch
    kept: Bool[Tensor, "p G"]
    ref_logprobs: Float[Tensor, "K S"] | None = None
    entropy_gradients: Float[Tensor, "K S"] | None = None
    sampler_logprobs: Float[Tensor, "K S"] | None = None
    importance: Float[Tensor, "K S"] | None = None
    replayed: Bool[Tensor, " K"] | None = None

    @property
    def group(self) -> int:
        """G, completions of each problem."""
        return self.kept.shape[1]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decided:
    """What holds for the whole step.

    Attributes:
        advantages: [K, S]. mask: [K, S] tokens that are trained on. weights: [K] of each sequence in the sum over the step.
        low, high: how far below and above 1 the importance ratio counts; floats or [K, S].
        chosen: [k] the sequences that are forwarded. reweighted: what the method's `reweight` returned.
        all_mask, all_weights: see `MicroView`.
    """

    advantages: Float[Tensor, "K S"]
    mask: Bool[Tensor, "K S"]
    weights: Float[Tensor, " K"]
    low: float | Tensor
    high: float | Tensor
    chosen: Int[Tensor, " k"]
    reweighted: Reweighted
    all_mask: Bool[Tensor, "K S"] | None = None
    all_weights: Float[Tensor, " K"] | None = None


def make_step(
    batch: RolloutBatch, advantages: Advantages, problems: slice, *, seed: int, now: RolloutBatch | None = None
) -> Step:
    """Put together what one optimiser step learns from.

    Args:
        batch: of the whole rollout. advantages: of these problems alone (see `part_of`).
        now: these problems under the policy as it is before the step; None where that is the policy that sampled, or
            nobody asked.
        seed: of the step's random numbers.
    """
    sampled = part_of_batch(batch, problems)
    current = now or sampled
    kept = torch.ones_like(advantages.values, dtype=torch.bool) if advantages.keep is None else advantages.keep
    trained = kept if advantages.left_out is None else kept & ~advantages.left_out
    mask = sampled.mask & trained.flatten()[:, None]
    tokens = advantages.tokens
    return Step(
        batch=StepBatch(
            advantages=advantages.values.flatten()[:, None].expand(mask.shape) if tokens is None else tokens,
            mask=mask,
            logprobs=current.old_logprobs,
            old_logprobs=sampled.old_logprobs,
            entropies=current.entropies,
            nucleus_entropies=current.nucleus_entropies,
            carried=advantages.carried,
            correct=sampled.correct,
            judged=sampled.judged,
            truncated=sampled.truncated,
            pool=torch.zeros(len(mask), dtype=torch.long),
            generator=torch.Generator().manual_seed(seed),
        ),
        kept=kept,
        ref_logprobs=sampled.ref_logprobs,
        entropy_gradients=sampled.entropy_gradients,
        sampler_logprobs=sampled.sampler_logprobs,
        importance=sampled.importance,
        replayed=None if sampled.replayed is None else sampled.replayed.flatten(),
    )


def part_of(advantages: Advantages, problems: slice, group: int) -> Advantages:
    """The advantages of some of the problems; statistics and columns belong to the whole rollout and are left out."""
    index = slice(problems.start * group, problems.stop * group)
    return Advantages(
        values=advantages.values[problems],
        tokens=None if advantages.tokens is None else advantages.tokens[index],
        keep=None if advantages.keep is None else advantages.keep[problems],
        left_out=None if advantages.left_out is None else advantages.left_out[problems],
        plain=None if advantages.plain is None else advantages.plain[problems],
        carried={name: values[index] for name, values in advantages.carried.items()},
    )


def part_of_batch(batch: RolloutBatch, problems: slice) -> RolloutBatch:
    """Some of the problems of a rollout."""
    group = batch.rewards.shape[1]
    index = slice(problems.start * group, problems.stop * group)
    by_problem = (
        "rewards",
        "correct",
        "truncated",
        "lengths",
        "replayed",
        "problems",
        "verdicts",
        "prompt_logprobs",
        "prompt_mask",
    )
    by_sequence = (
        "mask",
        "old_logprobs",
        "sampler_logprobs",
        "importance",
        "entropies",
        "entropy_gradients",
        "ref_logprobs",
        "values",
        "certainties",
        "raw_logits",
        "proxy_logprobs",
        "nucleus_entropies",
        "token_texts",
        "answer_logprobs",
        "answer_mask",
    )
    places = dict.fromkeys(by_problem, problems) | dict.fromkeys(by_sequence, index)
    values = {name: getattr(batch, name) for name in places}
    parts: dict[str, Any] = {name: None if value is None else value[places[name]] for name, value in values.items()}
    return replace(batch, **parts)


def decide(
    method: Method, step: Step, *, longest: int, skip_zero: bool, pool: Int[Tensor, " K"] | None = None
) -> Decided:
    """What the method makes of a whole step before any pass.

    Args:
        longest: the run's completion limit in tokens.
        skip_zero: leave sequences whose advantage is 0 out of the passes where that changes no gradient.
        pool: the micro-batch of each sequence, for a method that takes its statistics within these (`Method.pool`); None
            takes them over the whole step.
    """
    batch = step.batch if pool is None else replace(step.batch, pool=pool)
    reweighted = method.reweight(batch)
    if step.importance is not None:
        token_weights = reweighted.weights
        reweighted = replace(
            reweighted, weights=step.importance if token_weights is None else token_weights * step.importance
        )
    advantages = batch.advantages if reweighted.advantages is None else reweighted.advantages
    mask = batch.mask if reweighted.keep is None else batch.mask & reweighted.keep

    def weights(counted: Bool[Tensor, "K S"]) -> Float[Tensor, " K"]:
        return method.weights(counted.sum(dim=1).view(step.kept.shape), longest, step.kept).flatten()

    low, high = method.clip_range(replace(batch, advantages=advantages, mask=mask))
    useful = (batch.mask if method.regularised else mask).any(dim=1)
    # Micro-batches that are pools must stay what they were when the statistics were taken.
    if skip_zero and method.may_skip_zero and pool is None:
        acting = advantages if reweighted.weights is None else advantages * reweighted.weights
        useful = (acting.masked_fill(~mask, 0.0) != 0).any(dim=1)
    return Decided(
        advantages=advantages,
        mask=mask,
        weights=weights(mask),
        low=low,
        high=high,
        chosen=useful.nonzero()[:, 0] if skip_zero else torch.arange(len(useful)),
        reweighted=reweighted,
        all_mask=None if reweighted.keep is None else batch.mask,
        all_weights=None if reweighted.keep is None else weights(batch.mask),
    )


def micro_view(
    step: Step,
    decided: Decided,
    place: Int[Tensor, " M"],
    *,
    logprobs: Float[Tensor, "M S"],
    entropies: Float[Tensor, "M S"] | None = None,
    top_logprobs: Float[Tensor, "M S K"] | None = None,
    further: Mapping[str, Float[Tensor, "M S"]] = MappingProxyType({}),
    token_states: Float[Tensor, "n D"] | None = None,
    as_columns: Callable[[Tensor], Tensor] | None = None,
    prompt_states: Float[Tensor, "M D"] | None = None,
    net: Any = None,
) -> MicroView:
    """What the method sees of the sequences `place` of a step, on the device of their log-probs.

    Args:
        logprobs: now, with gradient. further: fields of `MicroView` by name. The others: see `MicroView`; None where the
            method's needs do not name them.
    """

    def of_micro(values: Tensor | None) -> Any:
        return None if values is None else values[place].to(logprobs.device)

    trained = decided.weights > 0
    carried = {**step.batch.carried, **decided.reweighted.carried}
    return MicroView(
        logprobs=logprobs,
        old_logprobs=of_micro(step.batch.old_logprobs),
        advantages=of_micro(decided.advantages),
        mask=of_micro(decided.mask),
        weights=of_micro(decided.weights),
        sequences=place.to(logprobs.device),
        group=step.group,
        count=int(trained.sum()),
        problems=int(trained.view(step.kept.shape).any(dim=1).sum()),
        correct=of_micro(step.batch.correct.flatten()),
        all_mask=of_micro(decided.all_mask),
        all_weights=of_micro(decided.all_weights),
        marks=of_micro(decided.reweighted.marks),
        carried={name: of_micro(values) for name, values in carried.items()},
        entropies=entropies,
        top_logprobs=top_logprobs,
        ref_logprobs=of_micro(step.ref_logprobs),
        token_states=token_states,
        as_columns=as_columns,
        prompt_states=prompt_states,
        net=net,
        **further,
    )


def clip_bounds(decided: Decided, place: Int[Tensor, " M"], device: torch.device) -> tuple[Any, Any]:
    """(low, high) of the sequences `place`: floats, or [M, S]."""
    low, high = (
        value[place].to(device) if isinstance(value, Tensor) else value for value in (decided.low, decided.high)
    )
    return low, high


def micro_loss(method: Method, view: MicroView, decided: Decided, place: Int[Tensor, " M"]) -> tuple[Tensor, Tensor]:
    """The loss of a micro-batch, to be minimised, and its part that is the (negative) objective; scalars.

    Losses of the micro-batches of a step add up to the loss of the step, however it is cut.
    """
    device = view.logprobs.device
    factors = decided.reweighted.weights
    return method.loss(
        view, *clip_bounds(decided, place, device), None if factors is None else factors[place].to(device)
    )
