"""What the hooks of a method see and give back.

p problems of an optimiser step, K = p * G sequences of it, M sequences of a micro-batch, S padded completion length,
D the model's width. Columns are aligned to their own token everywhere (see `progrpo.types`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.types import WeightedMean


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Advantages:
    """What the advantage hook returns.

    Attributes:
        values: [P, G] float32, no gradient.
        tokens: [N, S] where each token has its own advantage; they replace `values` in the update. None: `values` is used
            for all tokens of a sequence.
        keep: [P, G] sequences to train on; set by the loader from the hook `sequence_keep`.
        left_out: [P, G] sequences whose tokens are not trained on, while means over sequences count them; set by the loader
            (`truncated=drop`); None where all are.
        plain: [P, G] the values before something was added to them; set by the loader; None where nothing was.
        carried: [N, S] values per token that `MicroView.carried` gives back in the update (returns of a value net).
        state: what the method remembers from now on beside `RolloutBatch.state`, key by key; None: nothing new.
        stats: metrics for this step, keys as in docs/metrics.md.
        columns: [P, G] values written beside each completion in the rollouts file.
    """

    values: Float[Tensor, "P G"]
    tokens: Float[Tensor, "N S"] | None = None
    keep: Bool[Tensor, "P G"] | None = None
    left_out: Bool[Tensor, "P G"] | None = None
    plain: Float[Tensor, "P G"] | None = None
    carried: Mapping[str, Float[Tensor, "N S"]] = field(default_factory=dict)
    state: Mapping[str, Any] | None = None
    stats: Mapping[str, WeightedMean] = field(default_factory=dict)
    columns: Mapping[str, Float[Tensor, "P G"]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """The range in which the mean of a metric should stay, and what a run says when it is left (docs/metrics.md).

    Attributes:
        low, high: in units of the metric. low_text, high_text: what it means, and the remedy.
    """

    low: float
    high: float
    low_text: str
    high_text: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepBatch:
    """One optimiser step, before it is made: what is decided once for all its micro-batches, without gradient.

    Attributes:
        advantages: [K, S] of each token. mask: [K, S] completion tokens of the sequences that are trained on.
        logprobs: [K, S] under the policy as it is before this step where the needs name "refresh" (or
            "refresh_advantages"), else those of the policy that sampled; the same numbers in a rollout's first step.
        old_logprobs: [K, S] under the policy that sampled.
        entropies, nucleus_entropies: [K, S] in nats, of the policy of `logprobs`; None unless the needs name them.
        carried: [K, S] from `Advantages.carried`.
        correct, judged, truncated: [p, G].
        pool: [K] which sequences share statistics: 0 for all, or the number of the micro-batch (see `Pool`).
        generator: random numbers of this step alone; the same in a resumed run.
    """

    advantages: Float[Tensor, "K S"]
    mask: Bool[Tensor, "K S"]
    logprobs: Float[Tensor, "K S"]
    old_logprobs: Float[Tensor, "K S"]
    correct: Bool[Tensor, "p G"]
    judged: Bool[Tensor, "p G"]
    truncated: Bool[Tensor, "p G"]
    pool: Int[Tensor, " K"]
    generator: torch.Generator
    entropies: Float[Tensor, "K S"] | None = None
    nucleus_entropies: Float[Tensor, "K S"] | None = None
    carried: Mapping[str, Float[Tensor, "K S"]] = field(default_factory=dict)

    def per_pool(self, function: Callable[[Bool[Tensor, "K S"]], Tensor]) -> Tensor:
        """Evaluate `function` on the mask of each pool and put the results [K, S] together."""
        result: Tensor | None = None
        for number in sorted(set(self.pool.tolist())):
            rows = self.pool == number
            part = function(self.mask & rows[:, None])
            result = part if result is None else torch.where(rows[:, None], part, result)
        return self.advantages if result is None else result


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reweighted:
    """What the hook `reweight` returns; None leaves a thing as it is.

    Attributes:
        advantages: [K, S] in place of the step's.
        weights: [K, S] >= 0, factors of each token's objective; they do not enter the denominators.
        keep: [K, S] tokens that are trained on; the others leave the denominators too. The KL penalty and the entropy
            bonus go on counting all.
        marks: [K, S] tokens that `token_loss` or `extra_loss` treat otherwise.
        carried: [K, S] values per token that `MicroView.carried` gives back, beside those of `Advantages.carried`.
        stats: metrics, as in `Advantages`.
    """

    advantages: Float[Tensor, "K S"] | None = None
    weights: Float[Tensor, "K S"] | None = None
    keep: Bool[Tensor, "K S"] | None = None
    marks: Bool[Tensor, "K S"] | None = None
    carried: Mapping[str, Float[Tensor, "K S"]] = field(default_factory=dict)
    stats: Mapping[str, WeightedMean] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MicroView:
    """Some sequences in the forward pass with gradient.

    Attributes:
        logprobs: [M, S] with gradient. old_logprobs: [M, S].
        advantages: [M, S] of each token. mask: [M, S] tokens that are trained on.
        weights: [M] of each sequence in the sum over the step (see `algo.aggregate`); `algo.aggregate.weighted_sum`
            of [M, S] values with them is what this micro-batch adds to the step's mean.
        all_mask, all_weights: the same with the tokens that `Reweighted.keep` takes away, for what acts on every token (KL
            penalty, entropy bonus); None where it takes none.
        sequences: [M] which sequence of the step each is; sequence n belongs to problem n // group.
        group: G. count: sequences of the whole step that are trained on, for means over sequences; problems: those of them
            with such a sequence, for means over problems.
        correct: [M]. marks: [M, S] from `reweight`. carried: [M, S] from `Advantages.carried` and `Reweighted.carried`.
        entropies: [M, S] with gradient, where the needs name "entropy_grad". nucleus_entropies: [M, S] with gradient, and
            ref_logprobs: [M, S], where they name them.
        top_logprobs: [M, S, K] of the K likeliest tokens in the place of each, likeliest first, with gradient, where the needs
            name it.
        token_states: [n, D] the last hidden state before each of the n tokens of `mask`'s sequences, in row order, with
            gradient; as_columns: puts values [n] of them into columns [M, S]. Where the needs name "token_states".
        prompt_states: [M, D] mean last hidden state of each prompt but its last token, with gradient; where named.
        net: the method's own module; None without one.
    """

    logprobs: Float[Tensor, "M S"]
    old_logprobs: Float[Tensor, "M S"]
    advantages: Float[Tensor, "M S"]
    mask: Bool[Tensor, "M S"]
    weights: Float[Tensor, " M"]
    sequences: Int[Tensor, " M"]
    group: int
    count: int
    correct: Bool[Tensor, " M"]
    problems: int = 0
    all_mask: Bool[Tensor, "M S"] | None = None
    all_weights: Float[Tensor, " M"] | None = None
    marks: Bool[Tensor, "M S"] | None = None
    carried: Mapping[str, Float[Tensor, "M S"]] = field(default_factory=dict)
    entropies: Float[Tensor, "M S"] | None = None
    nucleus_entropies: Float[Tensor, "M S"] | None = None
    ref_logprobs: Float[Tensor, "M S"] | None = None
    top_logprobs: Float[Tensor, "M S K"] | None = None
    token_states: Float[Tensor, "n D"] | None = None
    as_columns: Callable[[Tensor], Tensor] | None = None
    prompt_states: Float[Tensor, "M D"] | None = None
    net: Any = None


def dropped(advantages: Advantages, keep: Bool[Tensor, "P G"] | None) -> Advantages:
    """Without the sequences that are not kept; None keeps all."""
    return (
        advantages if keep is None else replace(advantages, values=advantages.values.masked_fill(~keep, 0.0), keep=keep)
    )


def without_truncated(advantages: Advantages, truncated: Bool[Tensor, "P G"]) -> Advantages:
    """With the completions cut at the limit left out of the loss, and their share."""
    share = WeightedMean(float(truncated.sum()), truncated.numel())
    return replace(advantages, left_out=truncated, stats={**advantages.stats, "rollout/left_out": share})
