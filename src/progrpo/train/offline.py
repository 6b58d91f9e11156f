"""What a method's first optimiser steps would do to each token of recorded rollouts: no model, no pass."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from progrpo.errors import DataError
from progrpo.methods import Advantages, Method, MicroView
from progrpo.train.batch import Rows
from progrpo.train.minibatch import MiniBatch, make_minibatch, part_of
from progrpo.train.update import Decided, decide
from progrpo.types import RolloutBatch

_NEED_A_MODEL = ("ref_logprobs", "values", "entropy_grad", "token_states", "prompt_states")


def require_no_model(method: Method) -> None:
    """Raises DataError if the method reads what only a model gives: a reference, a net of its own, entropies' gradients."""
    wanted = [name for name in _NEED_A_MODEL if name in method.needs]
    if wanted:
        raise DataError(
            f"method {method.name!r} reads {', '.join(wanted)}, which a rollouts file does not hold: it can be trained, not "
            "scored"
        )


def token_gradients(
    method: Method, batch: RolloutBatch, advantages: Advantages, *, step_groups: int, longest: int
) -> Float[Tensor, "N S"]:
    """dJ/dlog π of each token in an optimiser step made with the policy that sampled.

    Args:
        step_groups: groups of one optimiser step, in the order of the batch. longest: the run's completion limit, tokens.

    Returns:
        [N, S] float32; 0 for tokens that do not train. For a method that draws at random, one draw.
    """
    problems, group = batch.rewards.shape
    rows = Rows(prompts=(), completions=(), group=group)
    parts = []
    for start in range(0, problems, step_groups):
        chosen = slice(start, min(problems, start + step_groups))
        minibatch = make_minibatch(rows, batch, part_of(advantages, chosen, group), chosen, seed=0)
        decided = decide(method, minibatch, minibatch.step, longest, skip_zero=False)
        parts.append(_gradient(method, minibatch, decided))
    return torch.cat(parts)


def _gradient(method: Method, batch: MiniBatch, decided: Decided) -> Tensor:
    logprobs = batch.step.old_logprobs.clone().requires_grad_()
    view = MicroView(
        logprobs=logprobs,
        old_logprobs=batch.step.old_logprobs,
        advantages=decided.advantages,
        mask=decided.mask,
        weights=decided.weights,
        sequences=torch.arange(len(logprobs)),
        group=batch.rows.group,
        count=int((decided.weights > 0).sum()),
        correct=batch.step.correct.flatten(),
        marks=decided.made.marks,
        carried=batch.carried,
    )
    loss, _ = method.loss(view, decided.low, decided.high, decided.made.weights)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return -gradient


def entropy_changes(gradients: Float[Tensor, "N S"], slopes: Float[Tensor, "N S"]) -> Sequence[float]:
    """The part of each sequence in `policy/predicted_dH` (docs/metrics.md), [N]."""
    changes: list[float] = (gradients.double() * slopes.double()).sum(dim=1).tolist()
    return changes
