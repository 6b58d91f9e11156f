"""One optimiser step: the clipped surrogate over one mini-batch of whole groups, in micro-batches."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from progrpo.algo.aggregate import weighted_sum
from progrpo.algo.surrogate import clipped_surrogate, log_ratio
from progrpo.errors import NonFiniteError
from progrpo.methods import Method
from progrpo.train.batch import MicroBatch, Rows, pad_columns
from progrpo.train.policy import Policy
from progrpo.train.work import Work
from progrpo.types import Ratio

Dump = Callable[[dict[str, Any]], str]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MiniBatch:
    """The p problems of one optimiser step: K = p * G sequences that stand together in the rollout.

    Attributes:
        rows: all N sequences of the rollout. first: the first of this mini-batch among them.
        old_logprobs: [N, S] of the whole rollout, fixed for all its steps.
        advantages: [p, G] and lengths: [p, G], of this mini-batch.
        work: of the scoring passes that were made for this step, to be counted with its own.
    """

    rows: Rows
    first: int
    old_logprobs: Float[Tensor, "N S"]
    advantages: Float[Tensor, "p G"]
    lengths: Int[Tensor, "p G"]
    work: Work = field(default_factory=Work)


def update(
    policy: Policy, method: Method, batch: MiniBatch, *, longest: int, budget: int, skip_zero: bool, dump: Dump
) -> dict[str, Ratio]:
    """Accumulate the gradient over micro-batches, clip it, step.

        J = sum_n w[n] sum_t min(r A, clip(r) A),    loss = -J

    Args:
        longest: the run's completion limit in tokens. budget: tokens of a micro-batch.
        skip_zero: leave sequences with advantage 0 out of the passes; the weights stay, so the gradient does.
        dump: writes a dictionary of tensors and returns where.

    Raises:
        NonFiniteError: the loss or the gradient is inf or nan; nothing was stepped, the batch was dumped.
    """
    weights = method.weights(batch.lengths, longest).flatten()  # [K]
    advantages = batch.advantages.flatten()
    chosen = torch.arange(len(advantages)) if not skip_zero else advantages.nonzero()[:, 0]
    low, high = method.clip_range()
    stats, work = _Stats(), batch.work
    policy.zero_grad()
    for micro in policy.micro_batches(batch.rows, batch.first + chosen, batch.old_logprobs.shape[1], budget):
        place = micro.index - batch.first
        device = micro.tokens.device
        old, own = batch.old_logprobs[micro.index].to(device), advantages[place].to(device)
        logprobs, work = policy.logprobs(micro), work + micro.work
        surrogate = clipped_surrogate(logprobs, old, own, clip_low=low, clip_high=high)
        objective = weighted_sum(surrogate, micro.mask, weights[place].to(device))
        if not bool(torch.isfinite(objective)):
            raise _non_finite("loss", dump, tokens=micro.tokens, logprobs=logprobs, old_logprobs=old, advantages=own)
        (-objective).backward()
        stats.add(float(objective.detach()), log_ratio(logprobs.detach(), old), own, micro, low, high)
    norm = policy.clip_gradient()
    if not norm < float("inf"):
        rows = torch.arange(batch.first, batch.first + len(advantages))
        raise _non_finite(
            "gradient",
            dump,
            prompts=pad_columns([batch.rows.prompts[n] for n in rows]),
            completions=pad_columns([batch.rows.completions[n] for n in rows]),
            old_logprobs=batch.old_logprobs[rows],
            advantages=advantages,
            index=rows,
        )
    used_lr = policy.lr
    policy.step()
    return {
        **stats.metrics(),
        **work.metrics(),
        "policy/grad_norm": Ratio(norm, 1),
        "policy/lr": Ratio(used_lr, 1),
        "policy/trained_share": Ratio(len(chosen), len(advantages)),
        "policy/zero_advantage_share": Ratio(int((advantages == 0).sum()), len(advantages)),
    }


class _Stats:
    """Sums over the tokens that were trained."""

    def __init__(self) -> None:
        self._objective = 0.0
        self._tokens = 0
        self._sums = dict.fromkeys(("clip_low", "clip_high", "ratio", "kl_old", "logprob_gap"), 0.0)

    def add(
        self, objective: float, difference: Tensor, advantages: Tensor, micro: MicroBatch, low: Any, high: Any
    ) -> None:
        """`difference` [M, S] is the log of the ratio, `advantages` [M]."""
        ratio = difference.exp()
        sign = advantages.sign()[:, None]
        self._objective += objective
        self._tokens += int(micro.mask.sum())
        for name, value in (
            ("clip_low", (ratio < 1 - low) & (sign < 0)),
            ("clip_high", (ratio > 1 + high) & (sign > 0)),
            ("ratio", ratio),
            ("kl_old", ratio - 1 - difference),
            ("logprob_gap", difference.abs()),
        ):
            self._sums[name] += float(value[micro.mask].double().sum())

    def metrics(self) -> dict[str, Ratio]:
        means = {f"policy/{name}": Ratio(total, self._tokens) for name, total in self._sums.items()}
        return means | {
            "policy/objective": Ratio(self._objective, 1),
            "tokens/trained": Ratio(self._tokens, 1),
        }


def _non_finite(what: str, dump: Dump, **tensors: Tensor) -> NonFiniteError:
    where = dump({name: tensor.detach().cpu() for name, tensor in tensors.items()})
    return NonFiniteError(
        f"the {what} is inf or nan; no step was taken and the batch is in {where}. Look at its log-probs first; a smaller "
        "optim.lr or optim.grad_clip, or model.precision=fp32, are the usual remedies"
    )
