"""Alarms on a method's own metrics: said once when a mean over the last rollouts leaves its range."""

from collections import deque
from collections.abc import Mapping

from progrpo.methods import Alarm
from progrpo.types import WeightedMean

ROLLOUTS = 10
"""Rollouts that a mean is over; at a run's start as many as there are, 3 at least."""


class Alarms:
    """Hears the metrics of each rollout. What it remembers is not kept in checkpoints: a resumed run says it again."""

    def __init__(self, alarms: Mapping[str, Alarm]) -> None:
        self._alarms = alarms
        self._last: dict[str, deque[WeightedMean]] = {key: deque(maxlen=ROLLOUTS) for key in alarms}
        self._said: dict[str, str] = {}
        self._idle = False

    def hear(self, metrics: Mapping[str, WeightedMean | float]) -> list[str]:
        """Take in one rollout; what is to be said now."""
        texts = []
        for key, alarm in self._alarms.items():
            value = metrics.get(key)
            if isinstance(value, WeightedMean) and value.count:
                self._last[key].append(value)
            last = self._last[key]
            mean = sum(last, WeightedMean(0.0, 0)).value
            if len(last) < 3 or mean is None:
                continue
            text = alarm.low_text if mean < alarm.low else alarm.high_text if mean > alarm.high else ""
            if text and self._said.get(key) != text:
                texts.append(f"{key} is {mean:.3g} over the last {len(last)} rollouts: {text}")
            self._said[key] = text
        return texts

    def nothing_to_learn(self, nothing: bool) -> str:
        """What is to be said of a step without any advantage; "" of one that follows another, or that has some."""
        first, self._idle = nothing and not self._idle, nothing
        return "every group is all correct or all incorrect; there was nothing to learn" if first else ""
