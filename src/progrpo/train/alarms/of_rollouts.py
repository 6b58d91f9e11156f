"""Alarms on what is sampled: each with its thresholds, and what makes of the metrics so far whether it is raised.

`reading` is pure: the same history gives the same answer, which is how a resumed run knows what was said before it stopped.
"""

import math
from statistics import fmean, median

from pydantic import Field

from progrpo.train.alarms.contract import AlarmCheck, Reading
from progrpo.train.alarms.history import History, logarithm, trend


class EntropyCollapse(AlarmCheck):
    metric = "rollout/entropy"
    means = (
        "the policy stops exploring: look at Pass@k, then try a smaller optim.lr, more exploration (method.add=progrpo with "
        "preset=balanced, or a higher method.clip_high), or harder problems"
    )

    level: float = Field(0.25, gt=0, lt=1)
    """Raised where the entropy, by the fitted line and by the median of 5 rollouts, is at most this share of its mean over the
    first 10 rollouts, and still falls."""
    fall: float = Field(0.1, gt=0, lt=1)
    """It falls where the fitted line loses this share of the entropy over the window."""
    window: int = Field(50, ge=10)
    """Rollouts that a line is fitted to, of the logarithm of the entropy; at a run's start 20 at least."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        values = history.rollouts(self.metric)
        if len(values) < min(20, self.window):
            return None
        start = fmean(values[:10])
        last = [logarithm(value) for value in values[-self.window :]]
        slope, end = trend(last)
        # Single rollouts scatter, and a line overshoots a sudden fall: both have to be low, and to be back.
        now = (min if raised else max)(math.exp(end), median(values[-5:]))
        share, falls = now / max(start, 1e-6), slope * (len(last) - 1) <= math.log(1 - self.fall)
        # Raised, it stays so where what is left stops falling: a policy without entropy has not recovered.
        if share > self.level * (1.5 if raised else 1.0) or not (falls or raised):
            return None
        per_100 = math.expm1(100 * slope)
        return Reading(
            share,
            f"{now:.3g} nats per token, {share:.0%} of its start, and {per_100:+.0%} per 100 rollouts "
            f"(fitted over {len(last)})",
        )


class RepeatedText(AlarmCheck):
    metric = "rollout/repeated"
    means = (
        "completions run into a loop until they are cut: is there an end token in what the model was trained on "
        "(model.pad_token, sampling.stop)? Try a smaller optim.lr, a KL term (method.kl_coef), or method.truncated=drop"
    )

    share: float = Field(0.1, gt=0, le=1)
    """Raised where the mean share of completions that end in a repetition reaches this."""
    window: int = Field(5, ge=1)
    """Rollouts of the mean; at a run's start 3 at least."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        value = _mean_reaching(self.share * (0.5 if raised else 1.0), history, self.metric, self.window, least=3)
        if value is None:
            return None
        return Reading(value, f"{value:.1%} of the completions end in a repetition (mean of {self.window} rollouts)")


class LengthBlowUp(AlarmCheck):
    metric = "rollout/length"
    means = (
        "length grows and correctness does not: the reward or the loss pays for length. Look at the shift's correlation with "
        "length (progrpo/shift_length_correlation), at the reward, and at method.aggregate; reward=length bounds it"
    )

    factor: float = Field(1.5, gt=1)
    """Raised where the mean length over 5 rollouts is so many times the smallest such mean of the window."""
    gain: float = Field(0.05, ge=0)
    """No alarm where the share of correct completions has risen by this since: then the length is put to use."""
    window: int = Field(50, ge=10)
    """Rollouts that are looked back on."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        lengths = history.rollouts(self.metric, self.window)
        if len(lengths) < 10:
            return None
        means = [fmean(lengths[i : i + 5]) for i in range(len(lengths) - 4)]
        place = min(range(len(means)), key=lambda i: means[i])
        ratio = means[-1] / max(means[place], 1.0)
        correct = history.rollouts("rollout/correct", len(lengths))
        gain = fmean(correct[-5:]) - fmean(correct[place : place + 5]) if len(correct) == len(lengths) else 0.0
        factor = (1 + self.factor) / 2 if raised else self.factor
        if ratio < factor or gain >= self.gain:
            return None
        back = len(means) - 1 - place
        return Reading(
            means[-1],
            f"{means[-1]:.4g} tokens, {ratio:.2g} times that of {back} rollouts before, with {100 * gain:+.1f} points of "
            "correct completions",
        )


class Truncation(AlarmCheck):
    metric = "rollout/truncated"
    means = (
        "many completions are cut before they answer: raise sampling.max_new_tokens, or keep what is cut from counting as "
        "wrong (method.truncated=drop); where it has come with training, see length_blow_up and repeated_text"
    )

    share: float = Field(0.25, gt=0, le=1)
    """Raised where the mean share of cut completions reaches this."""
    window: int = Field(10, ge=1)
    """Rollouts of the mean; at a run's start 5 at least."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        value = _mean_reaching(self.share * (0.8 if raised else 1.0), history, self.metric, self.window, least=5)
        if value is None:
            return None
        return Reading(value, f"{value:.1%} of the completions are cut (mean of {self.window} rollouts)")


class Duplicates(AlarmCheck):
    metric = "rollout/duplicates"
    means = (
        "a group says the same thing again and again, and its advantages compare nothing: a higher sampling.temperature, more "
        "exploration (method.add=progrpo with preset=balanced), or harder problems"
    )

    share: float = Field(0.9, gt=0, le=1)
    """Raised where the mean share of completions that repeat another of their group, token for token, reaches this."""
    window: int = Field(10, ge=1)
    """Rollouts of the mean; at a run's start 5 at least."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        value = _mean_reaching(self.share * (0.95 if raised else 1.0), history, self.metric, self.window, least=5)
        if value is None:
            return None
        return Reading(
            value, f"{value:.0%} of the completions repeat another of their group (mean of {self.window} rollouts)"
        )


class ZeroStdGroups(AlarmCheck):
    metric = "rollout/zero_std_groups"
    means = (
        "most of what is sampled teaches nothing: choose problems by their pass rate (data.pass_rate=[0.1, 0.9]), sample until "
        "groups are mixed (method.name=dapo), or take larger groups (batch.group)"
    )

    share: float = Field(0.8, gt=0, le=1)
    """Raised where the mean share of groups that are all correct or all incorrect reaches this."""
    window: int = Field(10, ge=1)
    """Rollouts of the mean; at a run's start 5 at least."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        value = _mean_reaching(self.share * (0.9 if raised else 1.0), history, self.metric, self.window, least=5)
        if value is None:
            return None
        correct = history.recent("rollout/all_correct_groups", self.window, 1) or 0.0
        return Reading(
            value,
            f"{value:.0%} of the groups have no spread, {correct:.0%} all correct (mean of {self.window} rollouts)",
        )


class NothingCorrect(AlarmCheck):
    metric = "rollout/correct"
    means = (
        "the gold answers are another column than meant, the answer is looked for in another form than the prompt asks for, or "
        "the problems are too hard: read a rollout (status, extracted, answer), and try `progrpo verify` on it"
    )

    share: float = Field(0.001, ge=0, lt=1)
    """Raised where the mean share of correct completions is at most this."""
    window: int = Field(10, ge=1)
    """Rollouts of the mean; no fewer."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        value = history.recent(self.metric, self.window, self.window)
        if value is None or value > (max(self.share, 0.01) if raised else self.share):
            return None
        return Reading(value, f"{value:.2%} of the completions are correct (mean of {self.window} rollouts)")


class VerdictFailures(AlarmCheck):
    metric = "verdict/crashed"
    means = (
        "the verifier or the gold answers fail, not the model: read `detail` of these completions in a rollout; a longer "
        "verify.limit_s, verify.check_gold=true, or another reward"
    )

    share: float = Field(0.05, gt=0, le=1)
    """Raised where the mean share of the verdicts `timeout`, `crashed` and `bad_gold` reaches this. (Above
    verify.max_failed_share the first two end the run.)"""
    window: int = Field(5, ge=1)
    """Rollouts of the mean; at a run's start 3 at least."""

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        kinds = ("timeout", "crashed", "bad_gold")
        shares = {kind: history.recent(f"verdict/{kind}", self.window, min(3, self.window)) or 0.0 for kind in kinds}
        value = sum(shares.values())
        if value < self.share * (0.5 if raised else 1.0):
            return None
        parts = ", ".join(f"{share:.1%} {kind}" for kind, share in shares.items() if share)
        return Reading(value, f"{value:.1%} of the verdicts failed: {parts} (mean of {self.window} rollouts)")


def _mean_reaching(share: float, history: History, key: str, window: int, *, least: int) -> float | None:
    """The mean of a metric over the last `window` rollouts where it is `share` at least; None where it is less, and before
    there are `least` rollouts, or a window of fewer."""
    value = history.recent(key, window, min(least, window))
    return value if value is not None and value >= share else None
