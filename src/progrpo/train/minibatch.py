"""The part of a rollout that one optimiser step learns from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo.methods import Advantages, StepBatch
from progrpo.train.batch import Rows
from progrpo.train.work import Work
from progrpo.types import RolloutBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MiniBatch:
    """The p problems of one optimiser step: K = p * G sequences that stand together in the rollout.

    Attributes:
        rows: all N sequences of the rollout. first: the first of this mini-batch among them.
        step: the K sequences as the method sees them.
        kept: [p, G] sequences that are not dropped.
        ref_logprobs, slopes: [K, S] (see `RolloutBatch`), or None. carried: [K, S] from the method's advantages.
        work: of the scoring passes that were made for this step, to be counted with its own.
    """

    rows: Rows
    first: int
    step: StepBatch
    kept: Bool[Tensor, "p G"]
    ref_logprobs: Float[Tensor, "K S"] | None = None
    slopes: Float[Tensor, "K S"] | None = None
    carried: Mapping[str, Float[Tensor, "K S"]] = field(default_factory=dict)
    work: Work = field(default_factory=Work)


def part_of(advantages: Advantages, problems: slice, group: int) -> Advantages:
    """The advantages of some of the problems; statistics and columns belong to the whole rollout and are left out."""
    index = slice(problems.start * group, problems.stop * group)
    return Advantages(
        values=advantages.values[problems],
        tokens=None if advantages.tokens is None else advantages.tokens[index],
        keep=None if advantages.keep is None else advantages.keep[problems],
        plain=None if advantages.plain is None else advantages.plain[problems],
        carried={name: values[index] for name, values in advantages.carried.items()},
    )


def part_of_batch(batch: RolloutBatch, problems: slice, group: int) -> RolloutBatch:
    """Some of the problems of a rollout."""
    index = slice(problems.start * group, problems.stop * group)
    by_problem = ("rewards", "correct", "truncated", "lengths", "problems", "prompt_logprobs", "prompt_mask")
    by_sequence = ("mask", "logprobs", "entropies", "entropy_slopes", "ref_logprobs", "values")
    places = dict.fromkeys(by_problem, problems) | dict.fromkeys(by_sequence, index)
    whole = {name: getattr(batch, name) for name in places}
    return replace(batch, **{name: None if value is None else value[places[name]] for name, value in whole.items()})


def make_minibatch(
    rows: Rows,
    batch: RolloutBatch,
    advantages: Advantages,
    problems: slice,
    *,
    seed: int,
    now: RolloutBatch | None = None,
    work: Work | None = None,
) -> MiniBatch:
    """Put together what one optimiser step needs.

    Args:
        rows, batch: of the whole rollout. advantages: of these problems alone (see `part_of`).
        now: these problems under the policy as it is before the step; None where that is the policy that sampled, or
            nobody asked.
        seed: of the step's random numbers.
    """
    group = rows.group
    own = part_of_batch(batch, problems, group)
    current = now or own
    kept = torch.ones_like(advantages.values, dtype=torch.bool) if advantages.keep is None else advantages.keep
    mask = own.mask & kept.flatten()[:, None]
    tokens = advantages.tokens
    step = StepBatch(
        advantages=advantages.values.flatten()[:, None].expand(mask.shape) if tokens is None else tokens,
        mask=mask,
        logprobs=current.logprobs,
        old_logprobs=own.logprobs,
        entropies=current.entropies,
        correct=own.correct,
        judged=own.judged,
        truncated=own.truncated,
        pool=torch.zeros(len(mask), dtype=torch.long),
        generator=torch.Generator().manual_seed(seed),
    )
    return MiniBatch(
        rows=rows,
        first=problems.start * group,
        step=step,
        kept=kept,
        ref_logprobs=own.ref_logprobs,
        slopes=own.entropy_slopes,
        carried=advantages.carried,
        work=work or Work(),
    )
