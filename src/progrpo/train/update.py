"""One optimiser step on one mini-batch of whole groups: what the method decides for all of it, then micro-batches."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.algo.surrogate import log_ratio
from progrpo.errors import NonFiniteError
from progrpo.methods import Method, MicroView, Reweighted, StepBatch
from progrpo.train.batch import MicroBatch, pad_columns
from progrpo.train.minibatch import MiniBatch
from progrpo.train.passes import prompt_states, scatter_columns, token_states
from progrpo.train.policy import Policy
from progrpo.types import Ratio

Dump = Callable[[dict[str, Any]], str]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decided:
    """What holds for the whole step.

    Attributes:
        advantages: [K, S]. mask: [K, S] tokens that are trained on. weights: [K]. low, high: floats or [K, S].
        chosen: [k] the sequences that are forwarded.
    """

    advantages: Float[Tensor, "K S"]
    mask: Bool[Tensor, "K S"]
    weights: Float[Tensor, " K"]
    low: float | Tensor
    high: float | Tensor
    chosen: Int[Tensor, " k"]
    made: Reweighted


def update(
    policy: Policy, method: Method, batch: MiniBatch, *, longest: int, budget: int, skip_zero: bool, dump: Dump
) -> dict[str, Ratio]:
    """Accumulate the gradient over micro-batches, clip it, step.

        J = sum_n w[n] sum_t min(r A, clip(r) A),    loss = -J        (or what the method makes of it)

    Args:
        longest: the run's completion limit in tokens. budget: tokens of a micro-batch.
        skip_zero: leave sequences whose advantage is 0 out of the passes where that changes no gradient.
        dump: writes a dictionary of tensors and returns where.

    Raises:
        NonFiniteError: the loss or the gradient is inf or nan; nothing was stepped, the batch was dumped.
    """
    whole = "whole_groups" in method.needs
    step = _pooled(policy, method, batch, budget, whole)
    decided = decide(method, batch, step, longest, skip_zero)
    stats, work = _Stats(), batch.work
    policy.zero_grad()
    columns = batch.step.mask.shape[1]
    for micro in policy.micro_batches(batch.rows, batch.first + decided.chosen, columns, budget, whole=whole):
        view, place = _view(policy, method, batch, decided, micro)
        work = work + micro.work
        view.logprobs.retain_grad()
        low, high = (_part(value, place, micro) for value in (decided.low, decided.high))
        factors = decided.made.weights
        loss, own = method.loss(view, low, high, None if factors is None else factors[place].to(view.mask.device))
        if not bool(torch.isfinite(loss)):
            shown = {"logprobs": view.logprobs, "old_logprobs": view.old_logprobs, "advantages": view.advantages}
            raise _non_finite("loss", dump, tokens=micro.tokens, **shown)
        loss.backward()
        slopes = None if batch.slopes is None else batch.slopes[place].to(view.mask.device)
        stats.add(-float(own.detach()), view, low, high, slopes)
    return _step(policy, batch, decided, dump) | stats.metrics() | work.metrics() | dict(decided.made.stats)


def _pooled(policy: Policy, method: Method, batch: MiniBatch, budget: int, whole: bool) -> StepBatch:
    """The step with the micro-batches as pools where the method asks for that."""
    if getattr(method.params, "pool", "step") == "step":
        return batch.step
    count, columns = batch.step.mask.shape
    pool = torch.zeros(count, dtype=torch.long)
    everything = batch.first + torch.arange(count)
    for number, micro in enumerate(policy.micro_batches(batch.rows, everything, columns, budget, whole=whole)):
        pool[micro.index - batch.first] = number
    return replace(batch.step, pool=pool)


def decide(method: Method, batch: MiniBatch, step: StepBatch, longest: int, skip_zero: bool) -> Decided:
    """What the method makes of a whole step before any pass: see `Decided`."""
    made = method.reweight(step)
    advantages = step.advantages if made.advantages is None else made.advantages
    mask = step.mask if made.keep is None else step.mask & made.keep
    weights = method.weights(mask.sum(dim=1).view(batch.kept.shape), longest, batch.kept).flatten()  # [K]
    low, high = method.clip_range(replace(step, advantages=advantages, mask=mask))
    useful = mask.any(dim=1)
    # Micro-batches that are pools must stay what they were when the statistics were taken.
    if skip_zero and method.may_skip_zero and getattr(method.params, "pool", "step") == "step":
        acting = advantages if made.weights is None else advantages * made.weights
        useful = (acting.masked_fill(~mask, 0.0) != 0).any(dim=1)
    chosen = useful.nonzero()[:, 0] if skip_zero else torch.arange(len(useful))
    return Decided(advantages=advantages, mask=mask, weights=weights, low=low, high=high, chosen=chosen, made=made)


def _view(
    policy: Policy, method: Method, batch: MiniBatch, decided: Decided, micro: MicroBatch
) -> tuple[MicroView, Tensor]:
    """One forward pass, as the method sees it; and which sequences of the step it holds, [M]."""
    place = micro.index - batch.first
    device = micro.tokens.device
    group = batch.rows.group
    made = policy.forward(micro, entropy_grad="entropy_grad" in method.needs)

    def own(values: Tensor | None) -> Any:
        return None if values is None else values[place].to(device)

    tokens, prompts = "token_states" in method.needs, "prompt_states" in method.needs
    view = MicroView(
        logprobs=micro.as_columns(made.logprobs),
        old_logprobs=own(batch.step.old_logprobs),
        advantages=own(decided.advantages),
        mask=own(decided.mask),
        weights=own(decided.weights),
        sequences=place.to(device),
        group=group,
        count=int((decided.weights > 0).sum()),
        correct=own(batch.step.correct.flatten()),
        marks=own(decided.made.marks),
        carried={name: own(values) for name, values in batch.carried.items()},
        entropies=None if made.entropies is None else micro.as_columns(made.entropies),
        ref_logprobs=own(batch.ref_logprobs),
        token_states=token_states(micro, made.states) if tokens else None,
        as_columns=(lambda values: scatter_columns(micro, values)) if tokens else None,
        prompt_states=prompt_states(micro, made.states, group) if prompts else None,
        net=policy.net,
    )
    return view, place


def _step(policy: Policy, batch: MiniBatch, decided: Decided, dump: Dump) -> dict[str, Ratio]:
    """Clip the gradient and step; what is to be said of the whole of it."""
    norm = policy.clip_gradient()
    count = len(decided.weights)
    if not norm < float("inf"):
        rows = torch.arange(batch.first, batch.first + count)
        raise _non_finite(
            "gradient",
            dump,
            prompts=pad_columns([batch.rows.prompts[n] for n in rows]),
            completions=pad_columns([batch.rows.completions[n] for n in rows]),
            old_logprobs=batch.step.old_logprobs,
            advantages=decided.advantages,
            index=rows,
        )
    used_lr = policy.lr
    policy.step()
    zero = (batch.step.advantages.masked_fill(~batch.step.mask, 0.0) == 0).all(dim=1)
    return {
        "policy/grad_norm": Ratio(norm, 1),
        "policy/lr": Ratio(used_lr, 1),
        "policy/trained_share": Ratio(len(decided.chosen), count),
        "policy/zero_advantage_share": Ratio(int(zero.sum()), count),
    }


class _Stats:
    """Sums over the tokens that were trained."""

    def __init__(self) -> None:
        self._objective = 0.0
        self._tokens = 0
        self._entropy_change: float | None = None
        self._sums = dict.fromkeys(("clip_low", "clip_high", "ratio", "kl_old", "logprob_gap"), 0.0)

    def add(self, objective: float, view: MicroView, low: Any, high: Any, slopes: Tensor | None) -> None:
        """After the backward pass of a micro-batch: `view.logprobs.grad` is that of the loss."""
        difference = log_ratio(view.logprobs.detach(), view.old_logprobs)
        ratio = difference.exp()
        sign = view.advantages.sign()
        self._objective += objective
        self._tokens += int(view.mask.sum())
        if slopes is not None and view.logprobs.grad is not None:
            change = -(view.logprobs.grad * slopes).masked_fill(~view.mask, 0.0)
            self._entropy_change = (self._entropy_change or 0.0) + float(change.double().sum())
        for name, value in (
            ("clip_low", (ratio < 1 - low) & (sign < 0)),
            ("clip_high", (ratio > 1 + high) & (sign > 0)),
            ("ratio", ratio),
            ("kl_old", ratio - 1 - difference),
            ("logprob_gap", difference.abs()),
        ):
            self._sums[name] += float(value[view.mask].double().sum())

    def metrics(self) -> dict[str, Ratio]:
        means = {f"policy/{name}": Ratio(total, self._tokens) for name, total in self._sums.items()}
        known = self._entropy_change is not None
        return means | {
            "policy/objective": Ratio(self._objective, 1),
            "policy/predicted_dH": Ratio(self._entropy_change or 0.0, int(known)),
            "tokens/trained": Ratio(self._tokens, 1),
        }


def _part(value: float | Tensor, place: Tensor, micro: MicroBatch) -> float | Tensor:
    return value[place].to(micro.tokens.device) if isinstance(value, Tensor) else value


def _non_finite(what: str, dump: Dump, **tensors: Tensor) -> NonFiniteError:
    where = dump({name: tensor.detach().cpu() for name, tensor in tensors.items()})
    return NonFiniteError(
        f"the {what} is inf or nan; no step was taken and the batch is in {where}. Look at its log-probs first; a smaller "
        "optim.lr or optim.grad_clip, or model.precision=fp32, are the usual remedies"
    )
