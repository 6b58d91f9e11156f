"""ProGRPO's term: shift each advantage by the confidence of its completion."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo.algo.shapes import require_shape

Baseline = Literal["prompt", "group_mean", "one_minus_prompt", "one", "none"]
Skip = Literal["degenerate", "all_wrong", "never"]
ApplyTo = Literal["all", "correct", "incorrect"]


def reweight_advantages(
    advantages: Float[Tensor, "P G"],
    correct: Bool[Tensor, "P G"],
    prompt_confidence: Float[Tensor, " P"],
    completion_confidence: Float[Tensor, "P G"],
    *,
    alpha: float,
    baseline: Baseline = "prompt",
    skip: Skip = "degenerate",
    apply_to: ApplyTo = "all",
) -> Float[Tensor, "P G"]:
    """Shift each advantage by how unsure the policy was of the completion, against a baseline.

        Ã[p,g] = A[p,g] + alpha * (b[p] - c(o_pg | q_p)),   b[p] = c(q_p) by default

    Source: arXiv:2602.05281, Eq. 4 and Alg. 1 line 25; Eq. 10 and 14 for the group mean; Sec. 4.5 for the other forms.
    `confidence_shift` is the bracket; see there for the readings and their defaults.

    Args:
        advantages: group-relative, unitless, any sign.
        correct: the verdicts, not the sign of a reward.
        prompt_confidence: c(q), in [0, 1]; read only by the baselines that name the prompt.
        completion_confidence: c(o|q), in [0, 1].
        alpha: >= 0; 0 returns a copy of `advantages`, bit for bit.

    Returns:
        New float32 tensor; rows need not sum to 0. No gradient flows into the confidences or the advantages. A nan
        confidence (a row without a token) gets no shift.

    Raises:
        ShapeError: shapes disagree.
        ValueError: alpha is negative or not finite.
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha: expected a finite value >= 0, got {alpha}")
    require_shape(advantages=(advantages, tuple(completion_confidence.shape)))
    shift = confidence_shift(
        correct, prompt_confidence, completion_confidence, baseline=baseline, skip=skip, apply_to=apply_to
    )
    values = advantages.detach().float()
    return values.clone() if alpha == 0 else values + alpha * shift


def confidence_shift(
    correct: Bool[Tensor, "P G"],
    prompt_confidence: Float[Tensor, " P"],
    completion_confidence: Float[Tensor, "P G"],
    *,
    baseline: Baseline = "prompt",
    skip: Skip = "degenerate",
    apply_to: ApplyTo = "all",
) -> Float[Tensor, "P G"]:
    """The bracket of Eq. 4: a baseline less the completion's confidence, 0 where the rule leaves a completion alone.

    Source: arXiv:2602.05281. Where the paper disagrees with itself:
      baseline  "prompt": c(q) (Eq. 4, Alg. 1: the default). "group_mean": the mean c(o) of the group (Eq. 10, 14; the
                proofs of App. A hold for this one only). "one_minus_prompt": 1 - c(q) (Sec. 4.5, "more exploratory").
                "one": 1, and "none": 0 (Fig. 5, "encouraging low-probability answers").
      skip      "degenerate": groups all right or all wrong (Alg. 1 line 14 and the reason given in Sec. 3.1: the
                default). "all_wrong": Eq. 4. "never": no group.
      apply_to  "all" completions (Eq. 4: the default), only the "correct" (Eq. 10) or the "incorrect" (Eq. 14). The
                group mean is over all of the group in any case.

    Args:
        correct: the verdicts.
        prompt_confidence, completion_confidence: in [0, 1]; nan (no token) leaves the completion alone and stays out
            of the group mean.

    Returns:
        float32 in (-1, 1), without gradient. With "group_mean", "all" and no nan each row sums to 0.

    Raises:
        ShapeError: shapes disagree.
    """
    require_shape(
        correct=(correct, (None, None)),
        prompt_confidence=(prompt_confidence, (correct.shape[0],)),
        completion_confidence=(completion_confidence, tuple(correct.shape)),
    )
    prompt = prompt_confidence.detach().float()
    completion = completion_confidence.detach().float()
    base = {
        "prompt": prompt,
        "group_mean": completion.nanmean(dim=1),
        "one_minus_prompt": 1 - prompt,
        "one": torch.ones_like(prompt),
        "none": torch.zeros_like(prompt),
    }[baseline]  # [P]
    shift = base[:, None] - completion
    left_alone = {
        "degenerate": correct.all(dim=1) | ~correct.any(dim=1),
        "all_wrong": ~correct.any(dim=1),
        "never": torch.zeros_like(correct[:, 0]),
    }[skip]  # [P]
    chosen = {"all": torch.ones_like(correct), "correct": correct, "incorrect": ~correct}[apply_to]
    return shift.masked_fill(left_alone[:, None] | ~chosen | shift.isnan(), 0.0)
