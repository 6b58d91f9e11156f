"""Truncated importance weights for tokens that another policy drew than the one whose log-probs are the old ones."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from progrpo.algo.shapes import require_shape
from progrpo.algo.surrogate import MAX_LOG_RATIO, log_ratio

Level = Literal["token", "sequence"]
Mode = Literal["clip", "mask"]


def importance_weights(
    old_logprobs: Float[Tensor, "N S"],
    sampler_logprobs: Float[Tensor, "N S"],
    mask: Bool[Tensor, "N S"],
    *,
    level: Level = "token",
    mode: Mode = "clip",
    limit: float = 2.0,
    floor: float = 0.0,
) -> Float[Tensor, "N S"]:
    """Weigh each token by how much likelier the trainer's policy was to draw it than the one that did, within limits.

        "token"     ρ[n,t] = exp(old_logprobs[n,t] − sampler_logprobs[n,t])
        "sequence"  ρ[n,t] = exp(Σ_t' old_logprobs[n,t'] − sampler_logprobs[n,t'])      for all tokens of sequence n
        "clip"      w = min(max(ρ, floor), limit)
        "mask"      w = ρ where floor <= ρ <= limit, else 0

    Source: truncated importance sampling, E. Ionides (2008); for a sampler apart from the trainer F. Yao et al., "Your
    Efficient RL Framework Secretly Brings You Off-Policy RL Training" (2025). Unlimited, the sequence weight makes the
    gradient's expectation that of the old policy; a limit trades that for variance: the weight lost, E[(ρ − limit)⁺] under
    the sampler, is the probability the old policy gives to what it draws too seldom. The token weight ignores that the
    prefix was drawn by the sampler, too: biased over more than one token, with a variance that does not grow with length.

    TRL's vllm_importance_sampling_mode *_truncate and *_mask with clip_max = limit and clip_min = floor are the same, but
    for the ±20 below, which it does not have, and nan, which there means a weight of 1. verl's rollout_is clips from above
    alone and the same way (rollout_is_threshold = limit), limits the log-ratio to ±20 as here, and can divide the weights by
    their mean (rollout_is_batch_normalize), which this does not; its rejection takes tokens out of the mean's denominator.

    Args:
        old_logprobs: the trainer's at the time of the rollout. sampler_logprobs: of the policy that drew the tokens.
        mask: completion tokens; what stands elsewhere may be anything.
        limit: > 0, largest weight. floor: in [0, limit).

    Returns:
        float32 >= 0, 0 where masked; no gradient. The log-ratio (its sum, for sequences) is limited to ±20, and 0 where both
        log-probs are -inf. nan stays nan.

    Raises:
        ShapeError: shapes disagree.
        ValueError: limit or floor is out of range.
    """
    shape = tuple(old_logprobs.shape)
    require_shape(
        old_logprobs=(old_logprobs, (None, None)), sampler_logprobs=(sampler_logprobs, shape), mask=(mask, shape)
    )
    if not 0 <= floor < limit:
        raise ValueError(f"limit, floor: expected 0 <= floor < limit, got floor={floor}, limit={limit}")
    difference = log_ratio(old_logprobs.detach(), sampler_logprobs).masked_fill(~mask, 0.0)
    if level == "sequence":
        total = difference.sum(dim=1, keepdim=True).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        difference = total.expand(shape)
    ratio = difference.exp()
    outside = (ratio < floor) | (ratio > limit)
    weights = ratio.clamp(floor, limit) if mode == "clip" else ratio.masked_fill(outside, 0.0)
    return weights.masked_fill(~mask, 0.0)


def effective_share(weights: Float[Tensor, "N S"], mask: Bool[Tensor, "N S"]) -> float:
    """The share of the tokens that weighted ones are worth, in [0, 1]: (Σ w)² / (n Σ w²) (Kish); 1 where all weigh the same,
    0 where none weighs anything.

    Raises:
        ShapeError: shapes disagree.
    """
    require_shape(weights=(weights, (None, None)), mask=(mask, tuple(weights.shape)))
    kept = weights[mask].double()
    square = float(kept.square().sum())
    return float(kept.sum()) ** 2 / (kept.numel() * square) if square else 0.0
