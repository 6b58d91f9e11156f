"""ProGRPO (arXiv:2602.05281): advantages shifted by the model's own confidence, so that rare correct paths survive.

    Ã = A + alpha * (c(q) - c(o))    in groups that are neither all right nor all wrong   (Eq. 4, Alg. 1)
    c(x) = exp(mean log p over the 20 % least likely tokens of x)                         (Eq. 5, 6)
    PPO clip in [0.8, 1.28], token mean over each group                                   (Eq. 7, Table 1)

c is a constant of the update: it comes from the log-probs of the policy that sampled and carries no gradient. The
paper leaves a score of points open; each is a setting below with the paper's other reading as its other value, and
the presets gather the readings that belong together.

Source: arXiv:2602.05281, Eq. 4 to 7, Alg. 1, Table 1.
Evidence: paper; no released code was found.
Reproduce: preset=paper, 512 prompts in mini-batches of 32, a group of 8, 8192 tokens, optim.lr=1e-6.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.advantages import smallest_advantage
from progrpo.algo.aggregate import How
from progrpo.algo.confidence import Rounding, sequence_confidence
from progrpo.algo.reweight import ApplyTo, Baseline, Skip, confidence_shift, reweight_advantages
from progrpo.types import Ratio, RolloutBatch

PRESETS = {
    "paper": {"baseline": "prompt", "skip": "degenerate", "ddof": 0, "aggregate": "group_token"},
    "verl": {"baseline": "prompt", "skip": "degenerate", "ddof": 1, "eps": 1e-6, "aggregate": "token"},
    "theory": {"baseline": "group_mean", "skip": "degenerate", "ddof": 0, "aggregate": "group_token"},
    "equilibrium": {"baseline": "group_mean", "skip": "all_wrong", "alpha": 1.0},
}
"""`paper`: the literal text. `verl`: what a verl run most likely computed. `theory`: App. A, the reading its proofs need.
`equilibrium`: App. A's baseline under Eq. 4's skip rule, so that the term sums to 0 in each group and also acts in
all-correct groups; it bears a larger alpha (measured in docs/results.md)."""


class Params(methods.Params):
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "group_token"
    alpha: float = Field(0.3, ge=0)
    """Strength of the shift, in units of the advantage. 0 gives GRPO with this clip and aggregation, bit for bit."""
    baseline: Baseline = "prompt"
    """What a completion's confidence is compared with: Eq. 4 `prompt`; App. A `group_mean`; Sec. 4.5 the others."""
    skip: Skip = "degenerate"
    """Groups left alone: Alg. 1 `degenerate` (all right or all wrong); Eq. 4 `all_wrong`; `never`."""
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
    smallest = smallest_advantage(group, scale=params.scale, ddof=params.ddof)
    reach = params.alpha * ((group - 1) / group if params.baseline == "group_mean" else 1.0)
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
    baseline, skip, apply_to = params.baseline, params.skip, params.apply_to
    values = reweight_advantages(
        plain,
        batch.correct,
        prompt,
        completion,
        alpha=params.alpha,
        baseline=baseline,
        skip=skip,
        apply_to=apply_to,
    )
    shift = confidence_shift(batch.correct, prompt, completion, baseline=baseline, skip=skip, apply_to=apply_to)
    flipped = (plain * values) < 0
    return methods.Advantages(
        values=values,
        stats={
            "progrpo/prompt_confidence": _mean(prompt),
            "progrpo/completion_confidence": _mean(completion),
            "progrpo/shift": _mean(shift),
            "progrpo/shift_abs": _mean(shift.abs()),
            "progrpo/sign_flips": Ratio(float(flipped.sum()), float((plain != 0).sum())),
        },
        columns={"confidence": completion, "shift": shift, "prompt_confidence": prompt[:, None].expand_as(shift)},
    )


def _completion_confidence(batch: RolloutBatch, params: Params) -> Tensor:
    values = sequence_confidence(
        batch.logprobs,
        batch.mask,
        fraction=params.fraction,
        entropy=batch.entropies if params.low_by == "entropy" else None,
        rounding=params.rounding,
        mean=params.mean,
    )
    # Without a verdict there is no shift, and no part in the group's mean: nan means both.
    return values.view(batch.rewards.shape).masked_fill(~batch.judged, float("nan"))


def _prompt_confidence(batch: RolloutBatch, params: Params, like: Tensor) -> Tensor:
    """c(q), or nan where the batch carries no prompt log-probs."""
    if batch.prompt_logprobs is None or batch.prompt_mask is None:
        return like.new_full((like.shape[0],), float("nan"))
    return sequence_confidence(
        batch.prompt_logprobs,
        batch.prompt_mask,
        fraction=params.fraction,
        rounding=params.rounding,
        mean=params.mean,
    )


def _mean(values: Tensor) -> Ratio:
    known = values[~values.isnan()]
    return Ratio(float(known.sum()), float(known.numel()))
