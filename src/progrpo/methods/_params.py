"""The settings that all methods share, and what GRPO makes of them."""

from typing import Literal

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from progrpo.algo.advantages import group_advantages
from progrpo.algo.aggregate import How
from progrpo.algo.divergence import Divergence
from progrpo.settings import Settings
from progrpo.types import RolloutBatch

Pool = Literal["step", "micro"]
"""Where a method takes statistics over tokens: of the whole optimiser step, or of each micro-batch, as much released code
does; with "micro" the result depends on batch.micro_tokens."""


class Params(Settings):
    """Settings all methods share. The defaults are GRPO's (arXiv:2402.03300; arXiv:2602.05281, Eq. 3)."""

    scale: Literal["std", "none"] = "std"
    """Divide centred rewards by the group's standard deviation, or not."""
    ddof: Literal[0, 1] = 1
    """1: sample standard deviation (TRL, verl). 0: population (arXiv:2602.05281, Eq. 8)."""
    eps: float = Field(1e-6, ge=0)
    """Added to the standard deviation, in units of the reward."""
    clip_low: float = Field(0.2, ge=0, le=1)
    """The importance ratio is clipped below 1 - clip_low."""
    clip_high: float = Field(0.2, ge=0)
    """The importance ratio is clipped above 1 + clip_high."""
    dual_clip: float | None = Field(None, gt=1)
    """c: a token with a negative advantage counts at most c times, J >= c A (arXiv:1912.09729); verl always has it, with 3.
    None: no bound. Refused by methods without the clipped surrogate."""
    aggregate: How = "sequence"
    """From tokens to one number: see `progrpo.algo.aggregate.sequence_weights`."""
    fixed_length: int | None = Field(None, gt=0)
    """Denominator of aggregate=fixed, in tokens; None takes the longest completion the run allows."""
    kl_coef: float = Field(0.0, ge=0)
    """Weight of a penalty on the KL divergence from the model before training, mean over tokens as the objective; 0 needs
    no reference model. A method that trains on some of the tokens alone has it on all."""
    kl: Divergence = "k3"
    """How it is estimated from the sampled token: see `progrpo.algo.divergence.kl_estimate`."""
    entropy_coef: float = Field(0.0, ge=0)
    """Weight of a bonus on the entropy of the current policy, likewise; 0 computes none."""
    truncated: Literal["keep", "drop"] = "keep"
    """Completions cut at the length limit: `drop` leaves their tokens out of the loss (DAPO's overlong filtering, TRL's
    mask_truncated_completions). The baselines and standard deviations of their groups are still computed with them, and the
    means over sequences and over problems (aggregate=sequence, fixed, group_token) still count them, while their tokens
    leave the means over tokens (token, group_token): as in TRL."""

    @property
    def resolution(self) -> float:
        """The smallest change of a log-prob, in nats, that the loss tells from none: where the number format rounds by more,
        it learns from rounding. A method with another criterion than its clip range overrides this."""
        return min(self.clip_low, self.clip_high)


def tokens_in_loss(batch: RolloutBatch, params: Params) -> Bool[Tensor, "N S"]:
    """The tokens that training will read: those of cut completions leave with `truncated=drop`."""
    if params.truncated == "keep":
        return batch.mask
    return batch.mask & ~batch.truncated.flatten()[:, None]


def base_advantages(batch: RolloutBatch, params: Params) -> Float[Tensor, "P G"]:
    """GRPO's group-relative advantages under the shared settings."""
    return group_advantages(batch.rewards, scale=params.scale, ddof=params.ddof, eps=params.eps)
