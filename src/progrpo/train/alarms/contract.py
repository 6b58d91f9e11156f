"""What an alarm is: thresholds, and a pure function of the metrics so far."""

from statistics import median
from typing import ClassVar, NamedTuple

from progrpo.settings import Settings
from progrpo.train.alarms.history import History


class Reading(NamedTuple):
    """What an alarm sees while it is raised.

    Attributes:
        value: the number that left its range. text: the same in words, with the range.
    """

    value: float
    text: str


class AlarmCheck(Settings):
    """One alarm; the fields of a subclass are its thresholds.

    Attributes:
        metric: the key in metrics.jsonl that it is about.
        means: what it usually means, and what to try; "" where the reading says it.
    """

    metric: ClassVar[str]
    means: ClassVar[str]

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        """None where all is well.

        Args:
            raised: whether it was raised at the step before. An alarm may go on longer than it takes to begin.
        """
        raise NotImplementedError


class MethodRange(AlarmCheck):
    """The alarm that a method declares of one of its own metrics (`ALARMS` in its file); its name is the metric's key."""

    metric = ""
    means = ""

    key: str
    low: float
    high: float
    low_text: str
    high_text: str

    def reading(self, history: History, *, raised: bool) -> Reading | None:
        values = history.rollouts(self.key, 10)
        if len(values) < 3:
            return None
        value = median(values)
        text = self.low_text if value < self.low else self.high_text if value > self.high else ""
        return Reading(value, f"{value:.3g} (median of {len(values)} rollouts): {text}") if text else None
