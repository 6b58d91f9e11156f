"""Alarms on what is learnt, and on the engine: each with its thresholds, and what makes of the metrics whether it is raised.

`reading` is pure: the same history gives the same answer, which is how a resumed run knows what was said before it stopped.
"""

from statistics import fmean, median

from pydantic import Field

from progrpo import schema
from progrpo.train.alarms.contract import AlarmCheck, Reading
from progrpo.train.alarms.history import History


class PassAtKFalls(AlarmCheck):
    metric = "evaluate/pass@K"
    means = (
        "the policy sharpens on what it solves already and loses the rest: stop at the best checkpoint "
        "(checkpoint.best=pass@K), or explore more (method.add=progrpo with preset=balanced, a higher method.clip_high)"
    )

    fall: float = Field(0.1, gt=0, le=1)
    """Raised where the held-out Pass@k of the largest k lies so far below its best so far while the reward is higher than
    it was then."""
    window: int = Field(10, ge=1)
    """Rollouts of the mean reward, now and at the best evaluation."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        name = schema.HELD_OUT + "pass@"
        ks = [int(key.removeprefix(name)) for key in history.logged if key.startswith(name)]
        if not ks or max(ks) < 2:
            return None
        points = history.steps(f"{name}{max(ks)}")
        best = max(points, key=lambda point: (point.value, -point.step))
        fall = best.value - points[-1].value
        if fall < self.fall * (0.8 if raised else 1.0):
            return None
        rewards = history.rollout_points("rollout/reward")
        then = [value for step, value in rewards if step > best.step][: self.window]
        now = [value for step, value in rewards if step <= points[-1].step][-self.window :]
        if not then or not now or (not raised and fmean(now) <= fmean(then)):
            return None
        return Reading(
            points[-1].value,
            f"held-out Pass@{max(ks)} is {points[-1].value:.3f}, {100 * fall:.1f} points below that of step {best.step}, while "
            f"the reward went from {fmean(then):.3f} to {fmean(now):.3f}",
        )


class NothingToLearn(AlarmCheck):
    metric = "policy/trained_share"
    means = "chance, where batches are small; where it lasts, see zero_std_groups and nothing_correct"

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        last = history.steps(self.metric, 10 if raised else 1)  # it is over after ten steps with something to learn
        if all(point.value > 0 for point in last):
            return None
        return Reading(0.0, "every group is all correct or all incorrect; there was nothing to learn")


class GradientSpikes(AlarmCheck):
    metric = "policy/grad_norm"
    means = (
        "steps are torn by a few sequences; optim.grad_clip bounds each, so that a single one does little: look at the "
        "rollout's longest completions and largest advantages, then a smaller optim.lr or method.clip_high"
    )

    factor: float = Field(10.0, gt=1)
    """A spike is a norm above so many times the median of the window."""
    spikes: int = Field(3, ge=1)
    """Raised by so many spikes within the window."""
    window: int = Field(50, ge=10)
    """Optimiser steps that are looked back on; 20 at least."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        norms = [point.value for point in history.steps(self.metric, self.window)]
        if len(norms) < min(20, self.window):
            return None
        usual = median(norms)
        spikes = [norm for norm in norms if norm > self.factor * usual > 0]
        if len(spikes) < (1 if raised else self.spikes):
            return None
        return Reading(
            max(spikes),
            f"{len(spikes)} of the last {len(norms)} gradient norms exceed {self.factor:g} times their median of {usual:.3g}; "
            f"the largest is {max(spikes):.3g}",
        )


class SamplerApart(AlarmCheck):
    metric = "sampler/gap_p95"
    means = ""

    nats: float = Field(0.3, gt=0)
    """Raised where the 95th percentile over tokens of abs(log p of the trainer - log p of the sampler) exceeds this."""
    window: int = Field(3, ge=1)
    """Rollouts whose median counts; at a run's start as many as there are."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        values = history.rollouts(self.metric, self.window)
        if not values:
            return None
        value = median(values)
        if value <= self.nats * (0.8 if raised else 1.0):
            return None
        stale = history.rollouts("sampler/staleness", 1)
        why = (
            "an older policy sampled (rollout.ahead=1), and the policy moves fast: lower optim.lr, or set rollout.ahead=0"
            if stale and stale[0] > 0
            else "another number format (model.precision against the engine's dtype), weights that did not arrive, a "
            "temperature or a truncation (top_p, top_k) that one of the two leaves out, or another way of computing "
            "(attention, chunk sizes)"
        )
        return Reading(
            value,
            f"the sampler's log-probs are {value:.3g} nats from the trainer's at the 95th percentile of tokens, above "
            f"{self.nats:g}: {why}. off_policy.level=token weighs the difference; off_policy.stop=true ends the run",
        )


class FrozenEngine(AlarmCheck):
    metric = "sampler/unchanged"
    means = (
        "what is sampled is an old policy's: look at the engine's update_weights, and at whether steps as small as optim.lr "
        "survive its number format"
    )

    syncs: int = Field(3, ge=1)
    """Raised after so many syncs in a row that left the engine's log-probs of a probe as they were to the last bit, though
    the steps before each had a gradient."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        last = history.steps(self.metric, 1 if raised else self.syncs)
        if len(last) < (1 if raised else self.syncs) or any(point.value < 1 for point in last):
            return None
        return Reading(1.0, f"{self.syncs} syncs in a row changed nothing at the engine, though the policy was trained")
