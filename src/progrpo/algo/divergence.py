"""Estimates of a KL divergence from the sampled tokens alone."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from progrpo.algo.shapes import require_shape
from progrpo.algo.surrogate import log_ratio

Divergence = Literal["k1", "k2", "k3"]


def kl_estimate(
    logprobs: Float[Tensor, "N S"], ref_logprobs: Float[Tensor, "N S"], *, kind: Divergence = "k3"
) -> Float[Tensor, "N S"]:
    """An estimate of KL(π ‖ π_ref) per sampled token, in nats.

        d = log π_ref − log π
        "k1"  −d             unbiased, any sign; its gradient has expectation 0 under the policy
        "k2"  d² / 2         biased, >= 0; the expectation of its gradient is that of the divergence
        "k3"  exp(d) − d − 1 unbiased, >= 0, low variance; GRPO's choice (arXiv:2402.03300, Eq. 4). Its gradient is
                             (1 − exp(d)) ∇ log π, whose expectation under π is the gradient of the other divergence,
                             KL(π_ref ‖ π): the value is an estimate of one, the pull that of the other

    Source: J. Schulman, "Approximating KL Divergence" (2020). The tokens come from the policy that sampled, not from π:
    after the first step of a rollout all three are off-policy. TRL multiplies k3 by the importance ratio, with gradient
    (use_bias_correction_kl, its default; arXiv:2512.02556), which makes the expected gradient that of KL(π ‖ π_ref) at any
    step; verl clamps k3 at 10, beyond which it has no gradient, and with "k3+" has k2's gradient. Here is neither.

    Args:
        logprobs: with gradient. ref_logprobs: no gradient flows into them.

    Returns:
        float32; d is limited as `algo.surrogate.log_ratio` limits it, to ±20, where the gradient is 0.

    Raises:
        ShapeError: shapes disagree.
    """
    require_shape(logprobs=(logprobs, (None, None)), ref_logprobs=(ref_logprobs, tuple(logprobs.shape)))
    difference = -log_ratio(logprobs, ref_logprobs)
    match kind:
        case "k1":
            return -difference
        case "k2":
            return difference.square() / 2
        case "k3":
            return torch.expm1(difference) - difference
