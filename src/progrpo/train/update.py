"""One optimiser step on one mini-batch of whole groups: what the method decides for all of it, then micro-batches."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from progrpo.algo.surrogate import log_ratio
from progrpo.errors import NonFiniteError
from progrpo.methods import Method, MicroView
from progrpo.methods.step import Decided, clip_bounds, decide, micro_loss, micro_view
from progrpo.train.columns import pad_columns
from progrpo.train.micro_batch import MicroBatch
from progrpo.train.minibatch import MiniBatch
from progrpo.train.passes import prompt_states, scatter_columns, token_states, top_columns
from progrpo.train.policy import Policy
from progrpo.train.sampler_gap import SamplerGap
from progrpo.train.token_counts import TokenCounts
from progrpo.train.trace import StepTrace
from progrpo.types import WeightedMean

Dump = Callable[[dict[str, Any]], str]


def update(
    policy: Policy,
    method: Method,
    batch: MiniBatch,
    *,
    longest: int,
    budget: int,
    skip_zero: bool,
    dump: Dump,
    trace: StepTrace | None = None,
    step: bool = True,
    only: int | None = None,
) -> dict[str, WeightedMean]:
    """Accumulate the gradient over micro-batches, clip it, step.

        J = sum_n w[n] sum_t min(r A, clip(r) A),    loss = -J        (or what the method makes of it)

    Args:
        longest: the run's completion limit in tokens. budget: tokens of a micro-batch.
        skip_zero: leave sequences whose advantage is 0 out of the passes where that changes no gradient.
        dump: writes a dictionary of tensors and returns where.
        trace: is told what each token went through. step: false leaves the weights, with the clipped gradient, as they are.
        only: the number of the one micro-batch, from 0 on, that the gradient is of; None for all.

    Raises:
        NonFiniteError: the loss or the gradient is inf or nan; nothing was stepped, the batch was dumped.
    """
    keep_groups_together = "whole_groups" in method.needs
    pool = (
        policy.pools(batch.rows, batch.index, budget, keep_groups_together=keep_groups_together)
        if method.pool == "micro"
        else None
    )
    decided = decide(method, batch.step, longest=longest, skip_zero=skip_zero, pool=pool)
    policy.processes.require_same("the step", decided.weights, decided.advantages, decided.mask)
    sums = _Sums(method.params.dual_clip)
    policy.zero_grad()
    columns = batch.step.batch.mask.shape[1]
    if trace is not None:
        trace.begin(decided)
    micros = policy.shared_micro_batches(
        batch.rows, batch.first + decided.chosen, columns, budget, keep_groups_together=keep_groups_together
    )
    for micro, counts, last in micros if only is None else islice(micros, only, only + 1):
        with policy.accumulating(last):
            if counts:
                _accumulate(policy, method, batch, decided, micro, sums, dump, trace)
            else:
                policy.keep_step(micro)
    sums = sum(policy.processes.gather(sums), _Sums(method.params.dual_clip))
    if sums.fault:
        raise _non_finite("loss", sums.fault)
    if trace is not None:
        trace.end(policy.processes)
    return (
        _step(policy, batch, decided, dump, step=step)
        | sums.metrics()
        | (sums.counts + batch.token_counts).metrics()
        | dict(decided.reweighted.stats)
    )


def _accumulate(
    policy: Policy,
    method: Method,
    batch: MiniBatch,
    decided: Decided,
    micro: MicroBatch,
    sums: "_Sums",
    dump: Dump,
    trace: StepTrace | None,
) -> None:
    """The forward and backward pass of one micro-batch."""
    view, place = _view(policy, method, batch, decided, micro)
    view.logprobs.retain_grad()
    loss, objective = micro_loss(method, view, decided, place)
    if not bool(torch.isfinite(loss)):
        shown = {"logprobs": view.logprobs, "old_logprobs": view.old_logprobs, "advantages": view.advantages}
        sums.fault = sums.fault or _dumped(dump, tokens=micro.tokens, **shown)
        loss = 0.0 * view.logprobs.sum()  # other processes may be waiting for this backward pass
    loss.backward()
    if trace is not None:
        trace.add(view, place, loss)
    # Later steps of a rollout meet a policy that has moved, and so do completions of earlier rollouts: what they differ by is
    # no fault of the sampler.
    if batch.first == 0 and batch.step.sampler_logprobs is not None:
        drawn, replayed = batch.step.sampler_logprobs[place], batch.step.replayed
        own = view.mask if replayed is None else view.mask & ~replayed[place].to(view.mask.device)[:, None]
        sums.gap.add(view.logprobs, drawn.to(view.logprobs.device), own)
    entropy_gradients = batch.step.entropy_gradients
    sums.counts += micro.token_counts
    sums.add(
        -float(objective.detach()),
        view,
        *clip_bounds(decided, place, micro.tokens.device),
        None if entropy_gradients is None else entropy_gradients[place].to(view.mask.device),
    )


def _view(
    policy: Policy, method: Method, batch: MiniBatch, decided: Decided, micro: MicroBatch
) -> tuple[MicroView, Tensor]:
    """One forward pass, as the method sees it; and which sequences of the step it holds, [M]."""
    place = micro.index - batch.first
    forwarded = policy.forward(
        micro,
        entropy_grad="entropy_grad" in method.needs,
        top=method.top_tokens,
        further=method.further.with_gradient,
    )
    tokens, prompts = "token_states" in method.needs, "prompt_states" in method.needs
    view = micro_view(
        batch.step,
        decided,
        place,
        logprobs=micro.as_columns(forwarded.logprobs),
        entropies=None if forwarded.entropies is None else micro.as_columns(forwarded.entropies),
        top_logprobs=None if forwarded.top_logprobs is None else top_columns(micro, forwarded.top_logprobs),
        further={name: micro.as_columns(values) for name, values in forwarded.further.items()},
        token_states=token_states(micro, forwarded.states) if tokens else None,
        as_columns=(lambda values: scatter_columns(micro, values)) if tokens else None,
        prompt_states=prompt_states(micro, forwarded.states, batch.rows.group) if prompts else None,
        net=policy.net,
    )
    return view, place


def _step(
    policy: Policy, batch: MiniBatch, decided: Decided, dump: Dump, *, step: bool = True
) -> dict[str, WeightedMean]:
    """Clip the gradient and step; what is to be said of the whole of it."""
    norm = policy.clip_gradient()
    count = len(decided.weights)
    if not norm < float("inf"):
        rows = batch.index
        where = _dumped(
            dump,
            prompts=pad_columns([batch.rows.prompts[n] for n in rows]),
            completions=pad_columns([batch.rows.completions[n] for n in rows]),
            old_logprobs=batch.step.batch.old_logprobs,
            advantages=decided.advantages,
            index=rows,
        )
        raise _non_finite("gradient", where)
    used_lr = policy.lr
    if step:
        policy.step()
    zero = (batch.step.batch.advantages.masked_fill(~batch.step.batch.mask, 0.0) == 0).all(dim=1)
    return {
        "policy/grad_norm": WeightedMean(norm, 1),
        "policy/lr": WeightedMean(used_lr, 1),
        "policy/trained_share": WeightedMean(len(decided.chosen), count),
        "policy/zero_advantage_share": WeightedMean(int(zero.sum()), count),
    }


class _Sums:
    """Sums over the tokens that were trained, in one process and then in all of them."""

    def __init__(self, dual_clip: float | None) -> None:
        self.gap = SamplerGap()
        self.counts = TokenCounts()
        self.fault = ""
        """Where the first batch was written whose loss was not finite."""
        self._dual_clip = dual_clip
        self._objective = 0.0
        self._tokens = 0
        self._entropy_change: float | None = None
        self._means = dict.fromkeys(("clip_low", "clip_high", "ratio", "kl_old", "logprob_gap"), 0.0)
        if dual_clip is not None:
            self._means["clip_dual"] = 0.0

    def __add__(self, other: "_Sums") -> "_Sums":
        both = _Sums(self._dual_clip)
        both.gap = self.gap + other.gap
        both.counts = self.counts + other.counts
        both.fault = self.fault or other.fault
        both._objective = self._objective + other._objective
        both._tokens = self._tokens + other._tokens
        known = [one._entropy_change for one in (self, other) if one._entropy_change is not None]
        both._entropy_change = sum(known) if known else None
        both._means = {name: total + other._means[name] for name, total in self._means.items()}
        return both

    def add(self, objective: float, view: MicroView, low: Any, high: Any, entropy_gradients: Tensor | None) -> None:
        """After the backward pass of a micro-batch: `view.logprobs.grad` is that of the loss."""
        difference = log_ratio(view.logprobs.detach(), view.old_logprobs)
        ratio = difference.exp()
        sign = view.advantages.sign()
        self._objective += objective
        self._tokens += int(view.mask.sum())
        if entropy_gradients is not None and view.logprobs.grad is not None:
            change = -(view.logprobs.grad * entropy_gradients).masked_fill(~view.mask, 0.0)
            self._entropy_change = (self._entropy_change or 0.0) + float(change.double().sum())
        for name, value in (
            ("clip_low", (ratio < 1 - low) & (sign < 0)),
            ("clip_high", (ratio > 1 + high) & (sign > 0)),
            ("clip_dual", (ratio > (self._dual_clip or torch.inf)) & (sign < 0)),
            ("ratio", ratio),
            ("kl_old", ratio - 1 - difference),
            ("logprob_gap", difference.abs()),
        ):
            if name in self._means:
                self._means[name] += float(value[view.mask].double().sum())

    def metrics(self) -> dict[str, WeightedMean]:
        means = {f"policy/{name}": WeightedMean(total, self._tokens) for name, total in self._means.items()}
        known = self._entropy_change is not None
        return (
            means
            | {
                "policy/objective": WeightedMean(self._objective, 1),
                "policy/predicted_entropy_change": WeightedMean(self._entropy_change or 0.0, int(known)),
                "tokens/trained": WeightedMean(self._tokens, 1),
            }
            | self.gap.metrics()
        )


def _dumped(dump: Dump, **tensors: Tensor) -> str:
    return dump({name: tensor.detach().cpu() for name, tensor in tensors.items()})


def _non_finite(what: str, where: str) -> NonFiniteError:
    return NonFiniteError(
        f"the {what} is inf or nan; no step was taken and the batch is in {where}. Look at its log-probs first; a smaller "
        "optim.lr or optim.grad_clip, or model.precision=fp32, are the usual remedies"
    )
