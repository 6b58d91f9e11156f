"""ProGRPO's term: shift each advantage by the confidence of its completion, as it is or free of its scale."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.algo.shapes import require_shape

Baseline = Literal["prompt", "group_mean", "correct_mean", "one_minus_prompt", "one", "none"]
Skip = Literal["degenerate", "all_wrong", "never"]
ApplyTo = Literal["all", "correct", "incorrect"]
Spread = Literal["none", "group_std"]

SOFT_CAP = 2.0
"""Where `spread="group_std"` bends a standard score: x becomes 2 tanh(x / 2), in standard deviations."""


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
    spread: Spread = "none",
) -> Float[Tensor, "P G"]:
    """Shift each advantage by how unsure the policy was of the completion, against a baseline.

        Ã[p,g] = A[p,g] + alpha * (b[p] - c(o_pg | q_p)),   b[p] = c(q_p) by default

    Source: arXiv:2602.05281, Eq. 4 and Alg. 1 line 25; Eq. 10 and 14 for the group mean; Sec. 4.5 for the other forms.
    `confidence_shift` is the bracket; see there for the variants and their defaults.

    Args:
        advantages: group-relative, unitless, any sign.
        correct: the verdicts, not the sign of a reward.
        prompt_confidence: c(q), in [0, 1]; read only by the baselines that name the prompt.
        completion_confidence: c(o|q), in [0, 1]; or another score of the completion that rises with its probability.
        alpha: >= 0; 0 returns a copy of `advantages`, bit for bit.

    Returns:
        New float32 tensor; rows need not sum to 0. No gradient flows into the confidences or the advantages. A
        confidence that is not finite (a row without a token) gets no shift.

    Raises:
        ShapeError: shapes disagree.
        ValueError: alpha is negative or not finite, or see `confidence_shift`.
    """
    require_shape(advantages=(advantages, tuple(completion_confidence.shape)))
    shift = confidence_shift(
        correct,
        prompt_confidence,
        completion_confidence,
        baseline=baseline,
        skip=skip,
        apply_to=apply_to,
        spread=spread,
    )
    return add_shift(advantages, shift, alpha=alpha)


def add_shift(advantages: Float[Tensor, "P G"], shift: Float[Tensor, "P G"], *, alpha: float) -> Float[Tensor, "P G"]:
    """A + alpha * shift, for a shift that is known already (`confidence_shift`).

    Args:
        alpha: >= 0; 0 returns a copy of `advantages`, bit for bit.

    Returns:
        New float32 tensor without gradient.

    Raises:
        ShapeError: shapes disagree.
        ValueError: alpha is negative or not finite.
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha: expected a finite value >= 0, got {alpha}")
    require_shape(shift=(shift, (None, None)), advantages=(advantages, tuple(shift.shape)))
    values = advantages.detach().float()
    return values.clone() if alpha == 0 else values + alpha * shift.detach().float()


def confidence_shift(
    correct: Bool[Tensor, "P G"],
    prompt_confidence: Float[Tensor, " P"],
    completion_confidence: Float[Tensor, "P G"],
    *,
    baseline: Baseline = "prompt",
    skip: Skip = "degenerate",
    apply_to: ApplyTo = "all",
    spread: Spread = "none",
) -> Float[Tensor, "P G"]:
    """The bracket of Eq. 4: a baseline less the completion's confidence, 0 where the rule leaves a completion alone.

    Source: arXiv:2602.05281. Where the paper disagrees with itself:
      baseline  "prompt": c(q) (Eq. 4, Alg. 1: the default). "group_mean": the mean c(o) of the group (Eq. 10, 14; the
                proofs of App. A hold for this one only). "one_minus_prompt": 1 - c(q) (Sec. 4.5, "more exploratory").
                "one": 1, and "none": 0 (Fig. 5, "encouraging low-probability answers").
      skip      "degenerate": groups all correct or all incorrect (Alg. 1 line 14 and the reason given in Sec. 3.1: the
                default). "all_wrong": Eq. 4. "never": no group.
      apply_to  "all" completions (Eq. 4: the default), only the "correct" (Eq. 10) or the "incorrect" (Eq. 14).
    Not in the paper, which sets the shift's size in units of probability, so that one alpha acts differently on every
    model (docs/method.md):
      baseline  "correct_mean": the mean over the correct completions of the group.
      spread    "group_std": the deviation from the mean in sample standard deviations of the completions that the mean is
                over, softly capped, and centred on the completions it acts on:
                z = (mean - s) / std;  u = 2 tanh(z / 2);  shift = u - mean of u.
                "none": the deviation as it is (Eq. 4: the default).

    Args:
        correct: the verdicts.
        prompt_confidence, completion_confidence: in [0, 1], or the same other score of both (its logarithm, ...); a value
            that is not finite (no token, probability 0) leaves the completion alone and stays out of the means.

    Returns:
        float32 without gradient. With "none" of confidences in (-1, 1); with "group_mean", "all" and no nan each row
        then sums to 0. With "group_std" in (-4, 4), more closely 4 (n - 1)/n for n completions acted on; a row sums to 0,
        falls strictly with the score among the completions acted on, does not change when the scores of a group are
        multiplied by a positive number or moved by a constant, and is 0 where fewer than two completions are acted on
        or make the mean. Equal scores give exactly 0 with "group_std" and with "correct_mean": they are tested by
        equality, because the rounding errors of a mean divided by the standard deviation of rounding errors are of
        order 1.

    Raises:
        ShapeError: shapes disagree.
        ValueError: "group_std" with a baseline that is no mean of the group: centring would cancel it.
    """
    require_shape(
        correct=(correct, (None, None)),
        prompt_confidence=(prompt_confidence, (correct.shape[0],)),
        completion_confidence=(completion_confidence, tuple(correct.shape)),
    )
    if spread != "none" and baseline not in ("group_mean", "correct_mean"):
        raise ValueError(f"spread={spread!r} needs baseline 'group_mean' or 'correct_mean', got {baseline!r}")
    prompt = prompt_confidence.detach().float()
    completion = completion_confidence.detach().float()
    completion = completion.masked_fill(~completion.isfinite(), math.nan)
    known = ~completion.isnan()
    among = correct & known if baseline == "correct_mean" else known  # whose mean it is
    base = {
        "prompt": prompt,
        "group_mean": completion.nanmean(dim=1),
        "correct_mean": completion.masked_fill(~among, math.nan).nanmean(dim=1),
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
    acted_on = ~left_alone[:, None] & chosen & shift.isfinite()
    if spread == "group_std":
        return _standard_scores(completion, among, acted_on)
    if baseline == "correct_mean":  # the mean of equal numbers may round to another
        acted_on = acted_on & ~(among & _all_equal(completion, among)[:, None])
    return shift.masked_fill(~acted_on, 0.0)


def without_length_trend(
    scores: Float[Tensor, "P G"], lengths: Int[Tensor, "P G"], among: Bool[Tensor, "P G"]
) -> Float[Tensor, "P G"]:
    """Take the straight line in the length out of the scores of each group (least squares).

        s'[p,g] = s[p,g] - k[p] (n[p,g] - mean n[p]),   k = cov(s, n) / var(n) over the completions `among`

    A summed log-probability falls with every token, so that a shift against it rewards length; what is left here has no
    correlation with the length over `among`. Own construction, for docs/method.md.

    Args:
        scores: any scale; what is not finite stays as it is and out of the line.
        lengths: in tokens. among: the completions that the line is fitted to; it is taken out of all.

    Returns:
        float32 without gradient. Residuals that are rounding errors of the fit (below 1e-6 of the spread of the scores:
        two completions, or a perfect line) become exactly equal, so that nothing can be made of them.

    Raises:
        ShapeError: shapes disagree.
    """
    shape = tuple(scores.shape)
    require_shape(scores=(scores, (None, None)), lengths=(lengths, shape), among=(among, shape))
    values, sizes = scores.detach().double(), lengths.double()
    fitted = among & values.isfinite()
    centred = _deviation(values, fitted)
    across = _deviation(sizes, fitted)
    variance = across.square().masked_fill(~fitted, 0.0).sum(dim=1)
    slope = (centred * across).masked_fill(~fitted, 0.0).sum(dim=1) / variance.clamp(min=1e-12)  # [P]
    residual = centred - slope[:, None] * across
    scale = centred.abs().masked_fill(~fitted, 0.0).amax(dim=1, keepdim=True)
    rounding = residual.abs() <= 1e-6 * scale
    return (values - centred + residual.masked_fill(rounding, 0.0)).float()


def shift_share(
    advantages: Float[Tensor, "P G"], shift: Float[Tensor, "P G"], among: Bool[Tensor, "P G"]
) -> tuple[float, float]:
    """How much of the advantage a shift is: sum |shift - mean of its group| and sum |A|, to be divided.

    What a whole group shares is left out: on-policy its expected gradient is 0. A share below 0.01 is GRPO.

    Args:
        advantages: before the shift. shift: what is added to them, alpha included. among: the judged completions.

    Raises:
        ShapeError: shapes disagree.
    """
    shape = tuple(shift.shape)
    require_shape(shift=(shift, (None, None)), advantages=(advantages, shape), among=(among, shape))
    within = _deviation(shift.detach().double(), among)
    share, total = (
        float(values.abs().masked_fill(~among, 0.0).sum()) for values in (within, advantages.detach().double())
    )
    return share, total


def correlation_within_groups(
    values: Float[Tensor, "P G"], others: Float[Tensor, "P G"] | Int[Tensor, "P G"], among: Bool[Tensor, "P G"]
) -> tuple[float, int]:
    """Pearson's correlation of the deviations from the group's means over the completions `among`, and their number.

    Returns:
        (correlation in [-1, 1], number of completions); (0, 0) where either does not vary within any group.

    Raises:
        ShapeError: shapes disagree.
    """
    shape = tuple(values.shape)
    require_shape(values=(values, (None, None)), others=(others, shape), among=(among, shape))
    one, other = (_deviation(part.detach().double(), among).masked_fill(~among, 0.0) for part in (values, others))
    norm = math.sqrt(float(one.square().sum()) * float(other.square().sum()))
    return (float((one * other).sum()) / norm, int(among.sum())) if norm > 0 else (0.0, 0)


def _standard_scores(
    scores: Float[Tensor, "P G"], among: Bool[Tensor, "P G"], acted_on: Bool[Tensor, "P G"]
) -> Float[Tensor, "P G"]:
    """How many standard deviations each score lies below the mean over `among`, softly capped and centred over `acted_on`;
    0 in groups where `among` has fewer than two or no spread (and, being centred, for one that is acted on alone)."""
    below = -_deviation(scores.double(), among)
    count = among.sum(dim=1, keepdim=True)
    variance = below.square().masked_fill(~among, 0.0).sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)
    capped = SOFT_CAP * (below / variance.sqrt() / SOFT_CAP).tanh()
    acting = acted_on & (count >= 2) & ~_all_equal(scores, among)[:, None]
    return _deviation(capped, acting).masked_fill(~acting, 0.0).float()


def _deviation(values: Float[Tensor, "P G"], among: Bool[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """Each value less the mean over `among` of its row; a row without any is left as it is."""
    count = among.sum(dim=1, keepdim=True).clamp(min=1)
    return values - values.masked_fill(~among, 0.0).sum(dim=1, keepdim=True) / count


def _all_equal(values: Float[Tensor, "P G"], among: Bool[Tensor, "P G"]) -> Bool[Tensor, " P"]:
    """Whether the values `among` a row are one and the same; True where there is none."""
    lowest = values.masked_fill(~among, math.inf).amin(dim=1)
    return lowest >= values.masked_fill(~among, -math.inf).amax(dim=1)
