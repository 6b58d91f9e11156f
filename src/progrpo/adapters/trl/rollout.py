"""A rollout of TRL as the methods see it, and the loss of a micro-batch of it.

N = P * G sequences of all processes in the order of the prompts, of which this process holds B; S padded completion length over
all processes, T on this one; Q, likewise, of prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from progrpo.methods import Advantages, Method, MicroView
from progrpo.methods.step import Decided, Step, decide, make_step, micro_loss, micro_view
from progrpo.types import RolloutBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """What one pass over the sequences of this process said, at the sampling temperature and without gradient.

    Attributes:
        logprobs: [B, T] of the completions' tokens. entropies: [B, T] in nats; None where nobody asked.
        prompt_logprobs: [B, Q] of the prompts' tokens, padded on the left; the first column has no condition and holds 0.
            None where nobody asked.
    """

    logprobs: Float[Tensor, "B T"]
    entropies: Float[Tensor, "B T"] | None = None
    prompt_logprobs: Float[Tensor, "B Q"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GenerationBatch:
    """A generation batch and what was decided for it.

    Attributes:
        on_policy: TRL takes the log-probs of the training pass itself as old ones, so that each ratio is 1.
    """

    step: Step
    decided: Decided
    on_policy: bool


def cut_scored(logprobs: Tensor, entropies: Tensor | None, completion: int) -> Scored:
    """Take a pass over all tokens but the first [B, Q + T - 1] (or over the `completion` = T tokens alone) apart."""
    wide = logprobs.shape[1] > completion
    return Scored(
        logprobs=logprobs[:, -completion:],
        entropies=None if entropies is None else entropies[:, -completion:],
        prompt_logprobs=pad(logprobs[:, :-completion], (1, 0)) if wide else None,
    )


def known_prompt_tokens(prompt_mask: Int[Tensor, "N Q"]) -> Bool[Tensor, "N Q"]:
    """The prompt tokens that have a log-prob: not the padding on the left, and not the first token, whose condition would be
    that padding."""
    real = prompt_mask.bool()
    return real & pad(real, (1, 0))[:, :-1]


def total_rewards(per_function: Float[Tensor, "N F"], weights: Float[Tensor, " F"]) -> Float[Tensor, " N"]:
    """TRL's reward: the weighted sum of its functions, a None (nan) counting as 0; nan where all of them said None."""
    total = (per_function * weights).nansum(dim=1)
    return total.masked_fill(per_function.isnan().all(dim=1), torch.nan)


def truncated_of(ids: Int[Tensor, "B T"], mask: Int[Tensor, "B T"], ends: Sequence[int]) -> Bool[Tensor, " B"]:
    """Completions without an end token at their end; those too of which TRL has masked every token for that: their first token
    is read, which is no end token, or they would have ended."""
    last = ids.gather(1, (mask.sum(dim=1) - 1).clamp(min=0)[:, None])[:, 0]
    return ~torch.isin(last, torch.tensor(ends, device=ids.device))


def make_rollout(
    method: Method,
    batch: RolloutBatch,
    advantages: Advantages,
    *,
    longest: int,
    seed: int,
    on_policy: bool,
    corrections: Float[Tensor, "N S"] | None,
) -> GenerationBatch:
    """Decide what holds for all micro-batches of a generation batch.

    Args:
        longest: TRL's max_completion_length. seed: of this rollout's random numbers, the same in all processes.
        corrections: vLLM's importance-sampling ratios of TRL, factors of each token's objective; None without.
    """
    step = make_step(batch, advantages, slice(0, len(batch.rewards)), seed=seed)
    decided = decide(method, step, longest=longest, skip_zero=False)
    if corrections is not None:
        method_weights = decided.reweighted.weights
        weights = corrections if method_weights is None else method_weights * corrections
        decided = replace(decided, reweighted=replace(decided.reweighted, weights=weights))
    return GenerationBatch(step=step, decided=decided, on_policy=on_policy)


def loss_of(
    method: Method,
    rollout: GenerationBatch,
    rows: Int[Tensor, " M"],
    logprobs: Float[Tensor, "M T"],
    entropies: Float[Tensor, "M T"],
) -> tuple[Tensor, MicroView]:
    """The loss of a micro-batch, and what the method saw of it.

    Args:
        rows: which of the N sequences they are. logprobs, entropies: with gradient.

    Returns:
        The losses of all micro-batches of all processes add up to the loss of the generation batch.
    """
    more = (0, rollout.step.batch.mask.shape[1] - logprobs.shape[1])
    view = micro_view(
        rollout.step,
        rollout.decided,
        rows,
        logprobs=pad(logprobs.float(), more),
        entropies=pad(entropies.float(), more) if "entropy_grad" in method.needs else None,
    )
    if rollout.on_policy:
        view = replace(view, old_logprobs=view.logprobs.detach())
    loss, _ = micro_loss(method, view, rollout.decided, rows)
    return loss, view
