"""A sampler that is not quite the policy: how far apart they are, when that is too far, and importance weights for it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from progrpo.algo.off_policy import effective_share, importance_weights
from progrpo.errors import ConfigError, EngineError
from progrpo.methods import Method
from progrpo.settings import Settings
from progrpo.train.sampler_gap import SamplerGap
from progrpo.types import Group, RolloutBatch, WeightedMean


class OffPolicySettings(Settings):
    """What is made of the difference between the engine's log-probs and the trainer's."""

    level: Literal["none", "token", "sequence"] = "none"
    """Weigh each token's objective by p(trainer) / p(sampler) of the token, or of its whole completion: truncated importance
    sampling (`algo.off_policy`). It needs log-probs of both, and so old_logprobs=trainer (auto takes them where the engine
    holds weights of its own)."""
    mode: Literal["clip", "mask"] = "clip"
    """Weights outside [floor, limit] become the nearer bound, or 0."""
    limit: float = Field(2.0, gt=0)
    """Largest weight."""
    floor: float = Field(0.0, ge=0)
    """Smallest weight."""
    gap: float | None = Field(0.1, gt=0)
    """Mean abs(log p of the trainer - log p of the sampler) of a rollout, in nats, above which `stop` ends the run; None never
    does. Known only where the trainer scores, too. (What is said of a gap: `alarms.sampler_gap`.)"""
    stop: bool = False
    """End the run at such a gap, with a checkpoint, before anything is learnt from that rollout."""

    @model_validator(mode="after")
    def _ordered(self) -> "OffPolicySettings":
        if not self.floor < self.limit:
            raise ValueError(f"floor={self.floor:g} is not below limit={self.limit:g}")
        return self


def require_correctable(settings: OffPolicySettings, method: Method, *, engine_scores: bool) -> None:
    """Raises ConfigError if a correction was asked for that would change nothing: where the engine's log-probs are the old
    ones, or where the method's loss is not a sum over tokens."""
    if settings.level == "none":
        return
    if engine_scores:
        raise ConfigError(
            f"off_policy.level={settings.level}: the log-probs that the engine reports are the old log-probs, too "
            "(old_logprobs), so every weight would be 1; set old_logprobs=trainer, or leave it out: the clipped ratio is then "
            "that of the policy to the sampler"
        )
    if hasattr(method.module, "group_loss"):
        raise ConfigError(
            f"off_policy.level={settings.level}: method {method.name!r} has a loss of whole groups, which no weight of a token "
            "enters; leave it at none"
        )


def corrected(batch: RolloutBatch, settings: OffPolicySettings) -> RolloutBatch:
    """The rollout with its importance weights where they were asked for.

    Args:
        batch: with old log-probs of the trainer.
    """
    if settings.level == "none" or batch.sampler_logprobs is None:
        return batch
    return replace(batch, importance=_weights(batch, settings))


def _weights(batch: RolloutBatch, settings: OffPolicySettings) -> Tensor:
    assert batch.sampler_logprobs is not None
    return importance_weights(
        batch.old_logprobs,
        batch.sampler_logprobs,
        batch.mask,
        level="sequence" if settings.level == "sequence" else "token",
        mode=settings.mode,
        limit=settings.limit,
        floor=settings.floor,
    )


def off_policy_metrics(
    batch: RolloutBatch, groups: Sequence[Group], settings: OffPolicySettings, done: int
) -> dict[str, WeightedMean]:
    """What the weights are like, and how old the policy is that sampled: keys as in docs/metrics.md.

    Args:
        done: optimiser steps behind the policy that is trained on the rollout.
    """
    versions = [completion.policy_version for group in groups for completion in group.completions]
    staleness = WeightedMean(sum(done - version for version in versions), len(versions))
    if batch.importance is None:
        return {"sampler/staleness": staleness}
    weights, count = batch.importance[batch.mask].double(), int(batch.mask.sum())
    plain = _weights(batch, settings.model_copy(update={"floor": 0.0, "limit": float("inf")}))[batch.mask]
    cut = (plain < settings.floor) | (plain > settings.limit)
    return {
        "sampler/staleness": staleness,
        "off_policy/weight": WeightedMean(float(weights.sum()), count),
        "off_policy/cut": WeightedMean(float(cut.sum()), count),
        "off_policy/effective_share": WeightedMean(effective_share(batch.importance, batch.mask), 1),
    }


def require_close(batch: RolloutBatch, settings: OffPolicySettings, step: int) -> None:
    """Hold the sampler against the trainer, where `off_policy.stop` asks for it.

    Args:
        batch: with the trainer's old log-probs and the sampler's. step: that the rollout is for.

    Raises:
        EngineError: they are too far apart.
    """
    if not settings.stop or settings.gap is None or batch.sampler_logprobs is None:
        return
    gap = SamplerGap()
    gap.add(batch.old_logprobs, batch.sampler_logprobs, batch.mask)
    mean = gap.metrics().get("sampler/gap", WeightedMean(0.0, 1)).value or 0.0
    if mean <= settings.gap:  # nan is above
        return
    raise EngineError(
        f"step {step}: the sampler's log-probs are {mean:.3g} nats from the trainer's on average, above "
        f"off_policy.gap={settings.gap:g}. The run ends as off_policy.stop says; nothing was learnt from this rollout. Why "
        "that may be: docs/alarms.md, sampler_gap"
    )
