"""Group-relative advantages."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from progrpo.algo.shapes import require_shape


def group_advantages(
    rewards: Float[Tensor, "P G"],
    *,
    scale: Literal["std", "none"] = "std",
    ddof: Literal[0, 1] = 1,
    eps: float = 1e-6,
) -> Float[Tensor, "P G"]:
    """Centre each reward on its group, and scale by the group's standard deviation.

        A[p,g] = (r[p,g] - mean_g r[p]) / (std_g r[p] + eps)

    Source: arXiv:2402.03300 (GRPO); arXiv:2602.05281, Eq. 3 and Alg. 1 line 12. The paper's Eq. 8 has the population
    standard deviation (ddof=0); TRL, verl and oat compute the sample one (ddof=1: the default, for parity with them).
    The paper gives no eps; 1e-6 is verl's. scale="none" is Dr. GRPO (arXiv:2503.20783).

    Args:
        rewards: any scale; nan where there is no verdict.
        ddof: 1 divides the squared deviations by G - 1, 0 by G.
        eps: >= 0, in units of the reward.

    Returns:
        float32, unitless for "std", in units of the reward for "none"; no gradient. A group whose rewards are all
        equal (in float32) gives exactly 0: it is tested by equality, because the rounding error of a mean divided by a
        standard deviation of rounding errors is of order 1. That includes a group of one. A nan reward is left out of
        its group's mean and standard deviation and gets 0.

    Raises:
        ShapeError: rewards is not [P, G].
    """
    require_shape(rewards=(rewards, (None, None)))
    values = rewards.detach().float()
    known = ~values.isnan()
    count = known.sum(dim=1, keepdim=True)  # [P, 1]
    lowest = values.masked_fill(~known, math.inf).amin(dim=1)  # [P]
    highest = values.masked_fill(~known, -math.inf).amax(dim=1)
    mean = values.masked_fill(~known, 0.0).sum(dim=1, keepdim=True) / count.clamp(min=1)
    centred = (values - mean).masked_fill(~known, 0.0)
    if scale == "std":
        variance = centred.square().sum(dim=1, keepdim=True) / (count - ddof).clamp(min=1)
        centred = centred / (variance.sqrt() + eps)
    return centred.masked_fill((lowest >= highest)[:, None], 0.0)


def smallest_advantage(group: int, *, scale: Literal["std", "none"] = "std", ddof: Literal[0, 1] = 1) -> float:
    """The smallest |A| that a group of 0/1 rewards can hold without all its rewards being equal (eps = 0).

    It is reached where one completion differs from all others: 1/sqrt(G-1) with the population standard deviation,
    1/sqrt(G) with the sample one, 1/G without scaling. Thm A.4 of arXiv:2602.05281 asks |alpha * shift| to stay below.

    Args:
        group: G, at least 2.
    """
    if group < 2:
        raise ValueError(f"group: expected at least 2 completions, got {group}")
    if scale == "none":
        return 1 / group
    return 1 / math.sqrt(group if ddof == 1 else group - 1)
