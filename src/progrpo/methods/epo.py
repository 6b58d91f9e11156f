"""EPO: an entropy bonus, and a penalty on tokens whose entropy leaves the band around its mean over the rollouts so far.

    L = L_PG − λ (mean H_t − α β_k mean h_t),   h_t = (H_t − κ_high H̄)⁺ + (κ_low H̄ − H_t)⁺
    H̄ the mean over the rollouts so far, this one included, of their mean entropy; kept in the checkpoint
    β_k of rollout k of K: 1 − 0.2 (1 − exp(−4k/K)) up to K/2, then 0.8 exp(−3 (k − K/2)/(K − K/2)), 1 where K is not given

The released penalty is a constant for every token outside the band: it has no gradient, and the bonus alone acts. Here it is
the distance from the band in nats, which pulls tokens back: own reading, so that α is not comparable; `preset: released` has
α = 0 (and the code's dual clip and KL penalty), which moves the policy as the released code does. The code keeps an H̄ for each
turn of an agent; a completion here is one turn. The means are the objective's.

Source: arXiv:2509.22576; WujiangXu/EPO@5b6fa98 dp_actor.py and examples/general_running_server.sh.
Evidence: code for bonus, band and schedule; the hinge is not in it.
Reproduce: `preset: released` for the code, the defaults for what it says; schedule=150; the paper has κ_high=2 and α between
0.05 and 0.1, second-hand.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How, weighted_sum
from progrpo.types import RolloutBatch, WeightedMean

NEEDS = frozenset({"entropies", "entropy_grad"})
PRESETS = {"released": {"alpha": 0.0, "dual_clip": 3.0, "kl_coef": 0.01}}


class Params(methods.Params):
    aggregate: How = "token"
    bonus: float = Field(0.001, ge=0)
    """λ, per nat of mean entropy."""
    alpha: float = Field(0.1, ge=0)
    """α, weight of the band beside the bonus; 0 leaves the bonus."""
    band_low: float = Field(0.5, ge=0)
    """κ_low, as a multiple of the mean so far."""
    band_high: float = Field(1.5, ge=0)
    """κ_high, likewise."""
    schedule: int | None = Field(None, gt=0)
    """K, rollouts over which the band's weight falls; None: it does not."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    mask = methods.tokens_in_loss(batch, params)
    if batch.entropies is None or not bool(mask.any()):
        return methods.Advantages(values=values)
    count, total = batch.state.get("seen", (0, 0.0))
    count, total = int(count) + 1, float(total) + float(batch.entropies[mask].double().mean())
    mean, weight = total / count, _weight(count - 1, params)
    shape = batch.mask.shape
    return methods.Advantages(
        values=values,
        carried={"mean": torch.full(shape, mean), "weight": torch.full(shape, weight)},
        state={"seen": [count, total]},
        stats={"epo/mean_entropy": WeightedMean(mean, 1)},
    )


def extra_loss(micro: methods.MicroView, params: Params) -> Tensor:
    assert micro.entropies is not None
    if "mean" not in micro.carried:
        return micro.logprobs.new_zeros(())
    entropies, mean = micro.entropies.float(), micro.carried["mean"]
    above = (entropies - params.band_high * mean).clamp(min=0)
    below = (params.band_low * mean - entropies).clamp(min=0)
    band = params.alpha * micro.carried["weight"] * (above + below)
    return -params.bonus * weighted_sum(entropies - band, micro.mask, micro.weights)


def _weight(done: int, params: Params) -> float:
    """β after so many rollouts."""
    if params.schedule is None:
        return 1.0
    half = params.schedule // 2
    if done <= half:
        return 1.0 - 0.2 * (1 - math.exp(-2.0 * done / half)) if half else 1.0
    return 0.8 * math.exp(-3.0 * (min(done, params.schedule) - half) / (params.schedule - half))
