"""The clipped policy objective."""

import torch
from jaxtyping import Float
from torch import Tensor

from progrpo.algo.shapes import require_shape

MAX_LOG_RATIO = 20.0


def clipped_surrogate(
    logprobs: Float[Tensor, "N S"],
    old_logprobs: Float[Tensor, "N S"],
    advantages: Float[Tensor, " N"] | Float[Tensor, "N S"],
    *,
    clip_low: float | Float[Tensor, "N S"] = 0.2,
    clip_high: float | Float[Tensor, "N S"] = 0.28,
    dual_clip: float | None = None,
) -> Float[Tensor, "N S"]:
    """PPO's clipped objective per token, to be *maximised*.

        r[n,t] = exp(logprobs - old_logprobs)
        J[n,t] = min( r A,  clip(r, 1 - clip_low, 1 + clip_high) A )
        and with dual_clip = c, where A < 0:   J[n,t] = max( min( r A, clip(r, ...) A ),  c A )

    Source: arXiv:1707.06347; arXiv:2602.05281, Eq. 2, 3 and 7. The asymmetric default is DAPO's clip-higher
    (arXiv:2503.14476), as in Table 1 of the ProGRPO paper; GRPO's own is 0.2 on both sides. The dual clip is Eq. 5 of
    arXiv:1912.09729: it bounds the one part that the minimum leaves unbounded, a negative advantage at a large ratio. verl has
    it always (clip_ratio_c, 3 by default), TRL on request (delta, the same for c >= 1 + clip_high).

    Args:
        logprobs: now, with gradient. old_logprobs: under the policy that sampled.
        advantages: one per sequence, used for all its tokens, or one per token.
        clip_low, clip_high: >= 0; floats, or one per token.
        dual_clip: c > 1; None bounds nothing.

    Returns:
        float32. The gradient flows into `logprobs` alone: A r where the objective is r A, else 0. It is r A up to the
        clip's edge and on it, where J has a kink and any slope between 0 and A r would do: A r is what torch.clamp, and
        with it verl and TRL, gives, and what makes a clip of 0 the policy gradient at a ratio of 1. The log-ratio is
        limited to +-20 and taken as 0 where both log-probabilities are -inf, so that no such token gives inf or nan.
        A nan log-probability gives nan: a broken model must not pass for a ratio of 1.

    Raises:
        ShapeError: shapes disagree.
        ValueError: dual_clip is not above 1.
    """
    shape = tuple(logprobs.shape)
    require_shape(logprobs=(logprobs, (None, None)), old_logprobs=(old_logprobs, shape))
    require_shape(advantages=(advantages, shape[:1] if advantages.dim() == 1 else shape))
    if dual_clip is not None and not dual_clip > 1:
        raise ValueError(f"dual_clip: expected a number above 1, or None, got {dual_clip}")
    weight = advantages.detach().float()
    weight = (weight[:, None] if weight.dim() == 1 else weight).expand(shape)  # [N, S]
    ratio = log_ratio(logprobs, old_logprobs).exp()
    lowest, highest = _bound(1 - clip_low, ratio), _bound(1 + clip_high, ratio)
    # Not by torch.minimum: where its arguments are equal, as in the whole of the range, it halves the gradient between them.
    above, below = (weight > 0) & (ratio > highest), (weight < 0) & (ratio < lowest)
    objective = torch.where(above, highest * weight, torch.where(below, lowest * weight, ratio * weight))
    if dual_clip is None:
        return objective
    return torch.where((weight < 0) & (ratio > dual_clip), dual_clip * weight, objective)


def log_ratio(logprobs: Float[Tensor, "N S"], old_logprobs: Float[Tensor, "N S"]) -> Float[Tensor, "N S"]:
    """log r, limited to +-20 and 0 where both are -inf; gradient 1 into `logprobs` where not limited. nan stays nan."""
    now, old = logprobs.float(), old_logprobs.detach().float()
    never = (now == -torch.inf) & (old == -torch.inf)
    return torch.where(never, 0.0, now - old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def _bound(value: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)
