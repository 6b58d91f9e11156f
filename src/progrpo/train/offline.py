"""What a method's first optimiser steps would do to each token of recorded rollouts: no model, no pass."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from progrpo.errors import DataError
from progrpo.methods import Advantages, Method
from progrpo.methods.step import Decided, Step, decide, make_step, micro_loss, micro_view, part_of
from progrpo.train.rows import TokenRows, pools
from progrpo.types import RolloutBatch

_NEED_A_MODEL = (
    *("ref_logprobs", "values", "entropy_grad", "top_logprobs", "token_states", "prompt_states"),
    *("certainties", "raw_logits", "proxy_logprobs", "nucleus_entropies", "answer_logprobs"),
)


def require_no_model(method: Method) -> None:
    """Raises DataError if the method reads what only a model gives: a reference, a net of its own, entropies' gradients."""
    wanted = [name for name in _NEED_A_MODEL if name in method.needs]
    if wanted:
        raise DataError(
            f"method {method.name!r} reads {', '.join(wanted)}, which a rollouts file does not hold: it can be trained, not "
            "scored"
        )


def token_gradients(
    method: Method,
    batch: RolloutBatch,
    advantages: Advantages,
    rows: TokenRows,
    *,
    step_groups: int,
    longest: int,
    micro_tokens: int,
    share: bool,
) -> Float[Tensor, "N S"]:
    """dJ/dlog π of each token in an optimiser step made with the policy that sampled.

    Args:
        rows: the sequences of the batch. step_groups: groups of one optimiser step, in the order of the batch.
        longest: the run's completion limit, in tokens.
        micro_tokens, share: how training cuts a step into micro-batches (`batch.micro_tokens`; prompts shared or not), for a
            method that takes its statistics within these.

    Returns:
        [N, S] float32; 0 for tokens that do not train. For a method that draws at random, one draw.
    """
    problems, group = batch.rewards.shape
    parts = []
    for start in range(0, problems, step_groups):
        chosen = slice(start, min(problems, start + step_groups))
        step = make_step(batch, part_of(advantages, chosen, group), chosen, seed=0)
        pool = None
        if method.pool == "micro":
            index = torch.arange(chosen.start * group, chosen.stop * group)
            pool = pools(
                rows, index, budget=micro_tokens, share=share, keep_groups_together="whole_groups" in method.needs
            )
        decided = decide(method, step, longest=longest, skip_zero=False, pool=pool)
        parts.append(_gradient(method, step, decided))
    return torch.cat(parts)


def _gradient(method: Method, step: Step, decided: Decided) -> Tensor:
    logprobs = step.batch.old_logprobs.clone().requires_grad_()
    everything = torch.arange(len(logprobs))
    view = micro_view(step, decided, everything, logprobs=logprobs)
    loss, _ = micro_loss(method, view, decided, everything)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return -gradient


def entropy_changes(gradients: Float[Tensor, "N S"], of_entropy: Float[Tensor, "N S"]) -> Sequence[float]:
    """The part of each sequence in `policy/predicted_entropy_change` (docs/metrics.md), [N]."""
    changes: list[float] = (gradients.double() * of_entropy.double()).sum(dim=1).tolist()
    return changes
