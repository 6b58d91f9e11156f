"""ProGRPO (arXiv:2602.05281): advantages shifted by the model's own confidence, so that rare correct paths survive.

    Ã = A + alpha * (c(q) - c(o))    in groups that are neither all correct nor all incorrect   (Eq. 4, Alg. 1)
    c(x) = exp(mean log p over the 20 % least likely tokens of x)                         (Eq. 5, 6)
    PPO clip in [0.8, 1.28], token mean over each group                                   (Eq. 7, Table 1)

c is a constant of the update: it comes from the log-probs of the policy that sampled and carries no gradient. The
paper leaves a score of points open; each is a setting below with the paper's other variant as its other value, and
the presets gather the variants that belong together.

The shift is in units of probability: how much of the advantage it is depends on the model. `score`, `spread` and
baseline=correct_mean make it free of that scale (docs/method.md; the preset `balanced`), and are not in the paper.

Source: arXiv:2602.05281, Eq. 4 to 7, Alg. 1, Table 1.
Evidence: paper; no released code was found.
Reproduce: preset=paper, 512 prompts in mini-batches of 32, a group of 8, 8192 tokens, optim.lr=1e-6.
"""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from progrpo import methods
from progrpo.algo.advantages import smallest_advantage
from progrpo.algo.aggregate import How
from progrpo.algo.confidence import Rounding, sequence_confidence, sequence_log_confidence, sequence_logprob
from progrpo.algo.reweight import (
    ApplyTo,
    Baseline,
    Skip,
    Spread,
    add_shift,
    confidence_shift,
    correlation_within_groups,
    shift_share,
    without_length_trend,
)
from progrpo.types import RolloutBatch, WeightedMean

Confidence = Callable[..., Tensor]

PRESETS = {
    "paper": {"baseline": "prompt", "skip": "degenerate", "ddof": 0, "aggregate": "group_token"},
    "verl": {
        "baseline": "prompt",
        "skip": "degenerate",
        "ddof": 1,
        "eps": 1e-6,
        "aggregate": "token",
        "dual_clip": 3.0,
    },
    "theory": {"baseline": "group_mean", "skip": "degenerate", "ddof": 0, "aggregate": "group_token"},
    "equilibrium": {"baseline": "group_mean", "skip": "all_wrong", "alpha": 1.0},
    "balanced": {
        "score": "log_c",
        "spread": "group_std",
        "baseline": "correct_mean",
        "apply_to": "correct",
        "skip": "all_wrong",
        "alpha": 0.6,
    },
    "agent": {
        "baseline": "correct_mean",
        "apply_to": "correct",
        "skip": "all_wrong",
        "scale": "none",
        "clip_high": 0.2,
        "aggregate": "token",
        "dual_clip": 3.0,
    },
}
"""`paper`: the literal text. `verl`: what a verl run most likely computed. `theory`: App. A, the variant its proofs need.
`equilibrium`: App. A's baseline under Eq. 4's skip rule, so that the term sums to 0 in each group and also acts in
all-correct groups; it bears a larger alpha (measured in docs/results.md). `balanced`: the correct completions of a group are
compared with each other alone, in standard deviations, so that alpha means the same on every model. `agent`: a third party's
adaptation (go99further/shopping-agent-posttraining@73d6856, progrpo.py and grpo.yaml), the mean c(o) of the correct ones as
baseline, these alone shifted, no standard deviation; it samples until groups are mixed, which is DAPO's hook here."""

ALARMS = {
    "progrpo/shift_share": methods.Alarm(
        low=0.01,
        high=1.0,
        low_text="the shift is so small a part of the advantages that this run is GRPO. alpha acts on the spread of the "
        "confidence within a group, which depends on the model: `progrpo shift MODEL --task TASK` says which alpha acts on "
        "yours, and preset=balanced does not depend on it",
        high_text="the shift outweighs the verdicts; a smaller method.alpha gives them back their weight",
    )
}


class Params(methods.Params):
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "group_token"
    alpha: float = Field(0.3, ge=0)
    """Strength of the shift, in units of the advantage. 0 gives GRPO with this clip and aggregation, bit for bit."""
    baseline: Baseline = "prompt"
    """What a completion's confidence is compared with: Eq. 4 `prompt`; App. A `group_mean`; the mean over the correct of
    the group `correct_mean` (not in the paper); Sec. 4.5 the others."""
    score: Literal["c", "log_c", "log_prob"] = "c"
    """What is compared: Eq. 6 `c`; its logarithm `log_c` (with fraction=1 the mean log-probability per token); the summed
    log-probability of all tokens `log_prob`, which falls with length, so that a shift against it rewards length."""
    spread: Spread = "none"
    """Unit of the shift: that of the score (Eq. 4 `none`), or standard deviations within the group, softly capped at 2
    (`group_std`; see `progrpo.algo.reweight.confidence_shift`)."""
    length_trend: Literal["keep", "remove"] = "keep"
    """`remove` takes the straight line in the length out of the scores of each group, so that the shift does not reward
    length; it acts where three or more completions are compared."""
    skip: Skip = "degenerate"
    """Groups left alone: Alg. 1 `degenerate` (all correct or all incorrect); Eq. 4 `all_wrong`; `never`."""
    apply_to: ApplyTo = "all"
    """Completions that are shifted: Eq. 4 `all`; Eq. 10 `correct`; Eq. 14 `incorrect`."""
    fraction: float = Field(0.2, gt=0, le=1)
    """Share of tokens that count as least certain; 1 is plain length normalisation."""
    low_by: Literal["prob", "entropy"] = "prob"
    """Least certain by lowest probability (Alg. 1, Eq. 12), or by highest entropy (Sec. 3.2; completions only: the
    prompt's tokens are not sampled, and go by probability in both)."""
    rounding: Rounding = "ceil"
    """Of fraction * length to a number of tokens, never below 1."""
    mean: Literal["geometric", "arithmetic"] = "geometric"
    """Eq. 5/6 geometric; App. A.5 and Fig. 8 arithmetic."""
    logprobs_from: Literal["old", "current"] = "old"
    """Policy that c reads: the one that sampled (Alg. 1 computes c before the update), or the one before each
    optimiser step, at the price of one more forward pass per step."""

    @model_validator(mode="after")
    def _comparable(self) -> "Params":
        means = ("group_mean", "correct_mean")
        for name, value, plain in (("spread", self.spread, "none"), ("length_trend", self.length_trend, "keep")):
            if value != plain and self.baseline not in means:
                raise ValueError(
                    f"{name}={value} compares the completions of a group with each other: it needs baseline=group_mean or "
                    f"correct_mean, got {self.baseline}"
                )
        admitted = {"c": None, "log_c": ("prompt", "none", *means), "log_prob": ("none", *means)}[self.score]
        if admitted is not None and self.baseline not in admitted:
            raise ValueError(
                f"score={self.score} cannot be compared with baseline={self.baseline}: expected one of {', '.join(admitted)}"
            )
        return self


def needs(params: Params) -> frozenset[str]:
    """c(q) is logged under every baseline: the prompt's log-probs come with the prefill."""
    names = {"prompt_logprobs"}
    if params.low_by == "entropy":
        names.add("entropies")
    if params.logprobs_from == "current":
        names.add("refresh_advantages")
    return frozenset(names)


def check(params: Params, group: int) -> list[str]:
    """Thm A.4 asks alpha * sup|shift| < |A|; at this group size the smallest |A| may be below it."""
    if params.spread == "group_std":
        # Turning the sign of confident correct completions is how this form comes to rest; outweighing verdicts is not.
        return (
            [
                f"alpha={params.alpha:g} with spread=group_std: the shift is larger than the advantages it is added to (a "
                "standard deviation of about alpha against 1), so that it outweighs the verdicts; alpha <= 1 keeps the order"
            ]
            if params.alpha > 1
            else []
        )
    smallest = smallest_advantage(group, scale=params.scale, ddof=params.ddof)
    if params.score != "c":
        return (
            [
                f"alpha={params.alpha:g} with score={params.score} and spread=none: the shift has no bound and can flip the "
                "sign of any advantage; spread=group_std bounds it, and progrpo/sign_flips logs the share of flips"
            ]
            if params.alpha
            else []
        )
    reach = params.alpha * ((group - 1) / group if params.baseline in ("group_mean", "correct_mean") else 1.0)
    if reach <= smallest:
        return []
    return [
        f"alpha={params.alpha:g} can flip the sign of an advantage at group size {group}: alpha * sup|shift| = {reach:.3g} "
        f"exceeds the smallest advantage of a mixed group, {smallest:.3g}; the share of flips is logged as "
        f"progrpo/sign_flips (alpha <= {params.alpha * smallest / reach:.2g} excludes them)"
    ]


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    return add_to(methods.base_advantages(batch, params), batch, params)


def add_to(plain: Tensor, batch: RolloutBatch, params: Params) -> methods.Advantages:
    """Advantages [P, G] of any method with the shift added (`method.add=progrpo`)."""
    completion = _completion_confidence(batch, params)  # [P, G]
    prompt = _prompt_confidence(batch, params, completion)  # [P]
    of_completion, of_prompt = _scores(batch, params, completion, prompt)
    shift = confidence_shift(
        batch.correct,
        of_prompt,
        of_completion,
        baseline=params.baseline,
        skip=params.skip,
        apply_to=params.apply_to,
        spread=params.spread,
    )
    values = add_shift(plain, shift, alpha=params.alpha)
    # With alpha 0 nobody expects a shift, and nobody wants to be told that there is none.
    share = (
        WeightedMean(*shift_share(plain, params.alpha * shift, batch.judged)) if params.alpha else WeightedMean(0.0, 0)
    )
    correlation, shifted = correlation_within_groups(shift, batch.lengths, shift != 0)
    flipped = (plain * values) < 0
    right = batch.correct & batch.judged
    return methods.Advantages(
        values=values,
        stats={
            "progrpo/prompt_confidence": _mean(prompt),
            "progrpo/completion_confidence": _mean(completion),
            "progrpo/shift": _mean(shift),
            "progrpo/shift_abs": _mean(shift.abs()),
            "progrpo/shift_share": share,
            "progrpo/shift_length_correlation": WeightedMean(correlation * shifted, shifted),
            "progrpo/sign_flips": WeightedMean(float(flipped.sum()), float((plain != 0).sum())),
            "progrpo/negative_correct": WeightedMean(float((right & (values < 0)).sum()), float(right.sum())),
        },
        columns={"confidence": completion, "shift": shift, "prompt_confidence": prompt[:, None].expand_as(shift)},
    )


def _completion_confidence(batch: RolloutBatch, params: Params, of: Confidence = sequence_confidence) -> Tensor:
    values = of(
        batch.old_logprobs,
        batch.mask,
        fraction=params.fraction,
        entropy=batch.entropies if params.low_by == "entropy" else None,
        rounding=params.rounding,
        mean=params.mean,
    )
    # Without a verdict there is no shift, and no part in the group's mean: nan means both.
    return values.view(batch.rewards.shape).masked_fill(~batch.judged, float("nan"))


def _prompt_confidence(
    batch: RolloutBatch, params: Params, like: Tensor, of: Confidence = sequence_confidence
) -> Tensor:
    """c(q), or nan where the batch carries no prompt log-probs."""
    if batch.prompt_logprobs is None or batch.prompt_mask is None:
        return like.new_full((like.shape[0],), float("nan"))
    return of(
        batch.prompt_logprobs,
        batch.prompt_mask,
        fraction=params.fraction,
        rounding=params.rounding,
        mean=params.mean,
    )


def _scores(batch: RolloutBatch, params: Params, completion: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
    """What is compared, of completions [P, G] and of prompts [P]; nan where there is no verdict or no token."""
    if params.score == "log_prob":
        sequence_logprobs = sequence_logprob(batch.old_logprobs, batch.mask).view(batch.rewards.shape)
        completion = sequence_logprobs.masked_fill(~batch.judged, torch.nan)
        prompt = torch.full_like(prompt, torch.nan)  # no baseline that this score admits reads it
    elif params.score == "log_c":
        completion = _completion_confidence(batch, params, of=sequence_log_confidence)
        prompt = _prompt_confidence(batch, params, completion, of=sequence_log_confidence)
    if params.length_trend == "remove":
        among = batch.judged & batch.correct if params.baseline == "correct_mean" else batch.judged
        completion = without_length_trend(completion, batch.lengths, among)
    return completion, prompt


def _mean(values: Tensor) -> WeightedMean:
    known = values[~values.isnan()]
    return WeightedMean(float(known.sum()), float(known.numel()))
