"""The metrics of a run so far, as alarms look at them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from progrpo.files import is_number


class Point(NamedTuple):
    """A metric's number after a step."""

    step: int
    value: float


class History:
    """The rows of metrics.jsonl up to now, by metric; what is no number is left out.

    Args:
        per_rollout: optimiser steps of a rollout. Each of them logs what its rollout was like, which counts once.
    """

    def __init__(self, per_rollout: int = 1, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._per_rollout = per_rollout
        self._points: dict[str, list[Point]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in the row of one step; rows come in order."""
        step = int(row["step"])
        for key, value in row.items():
            if is_number(value):
                self._points.setdefault(key, []).append(Point(step, float(value)))

    @property
    def logged(self) -> Sequence[str]:
        """The metrics that were ever logged, in the order they came."""
        return list(self._points)

    def steps(self, key: str, last: int | None = None) -> list[Point]:
        """A metric after each step that logged it, or after the last so many of them."""
        points = self._points.get(key, [])
        return points[-last:] if last else list(points)

    def rollout_points(self, key: str, last: int | None = None) -> list[Point]:
        """A metric of each rollout: as its first step logged it; or of the last so many of them."""
        points = self._points.get(key, [])
        if last:
            points = points[-last * self._per_rollout :]
        points = [point for point in points if point.step > 0 and (point.step - 1) % self._per_rollout == 0]
        return points[-last:] if last else points

    def rollouts(self, key: str, last: int | None = None) -> list[float]:
        """The values of `rollout_points`."""
        return [point.value for point in self.rollout_points(key, last)]

    def recent(self, key: str, last: int, least: int) -> float | None:
        """The mean of a metric over the last rollouts; None before there are `least`."""
        values = self.rollouts(key, last)
        return fmean(values) if len(values) >= least else None


def trend(values: Sequence[float]) -> tuple[float, float]:
    """Least squares: the slope of a line through equally spaced values, per value, and the line's own last value.

        v_i = a + b i,    b = sum_i (i - mean i) (v_i - mean v) / sum_i (i - mean i)^2

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"a line takes two values at least, got {len(values)}")
    middle, mean = (len(values) - 1) / 2, fmean(values)
    spread = sum((i - middle) ** 2 for i in range(len(values)))
    slope = sum((i - middle) * (value - mean) for i, value in enumerate(values)) / spread
    return slope, mean + slope * middle


def logarithm(value: float, least: float = 1e-6) -> float:
    """The natural logarithm; of a number below `least`, that of `least`."""
    return math.log(max(value, least))
