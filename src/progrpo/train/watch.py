"""What the evaluations of a run have come to so far: its best step, and whether it is time to stop.

All of it follows from the rows of metrics.jsonl, so that a resumed run knows what it knew.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from progrpo import schema
from progrpo.errors import ConfigError
from progrpo.files import is_number
from progrpo.measures.pass_at_k import doublings
from progrpo.plural import counted
from progrpo.train.settings import RunSettings

Mode = Literal["auto", "max", "min"]


class Best(NamedTuple):
    """The best evaluation of a run that has a step to be kept.

    Attributes:
        step: optimiser steps made. metric: its key in metrics.jsonl. value: of the metric. start: its value before training;
            None where it was not measured.
    """

    step: int
    metric: str
    value: float
    start: float | None


class Watch:
    """Follows what `checkpoint.best` and `early_stopping.measure` name.

    Args:
        rows: of metrics.jsonl, of a run that goes on.

    Raises:
        ConfigError: nobody says which direction of a measure is better, or Pass@k of more completions than are sampled.
    """

    def __init__(self, settings: RunSettings, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        kept, stopping = settings.checkpoint, settings.early_stopping
        self._best = metric_of(kept.best)
        self._stopping = metric_of(stopping.measure)
        for name, key in (("checkpoint.best", self._best), ("early_stopping.measure", self._stopping)):
            _require_measured(key, name, settings.evaluate.n)
        self._best_sign = _sign(self._best, kept.mode, "checkpoint.mode")
        self._stopping_sign = _sign(self._stopping, stopping.mode, "early_stopping.mode")
        self._patience, self._min_delta = stopping.patience, stopping.min_delta
        self._values: dict[str, dict[int, float]] = {key: {} for key in (self._best, self._stopping) if key}
        for row in rows:
            self._note(int(row["step"]), row)

    def saw(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take note of the evaluation after `step` optimiser steps.

        Raises:
            ConfigError: it measured nothing of the name that is followed.
        """
        for key in self._values:
            if key not in metrics:
                name = "checkpoint.best" if key == self._best else "early_stopping.measure"
                raise ConfigError(f"{name}: evaluations log no {key!r}; they log {', '.join(sorted(metrics))}")
        self._note(step, metrics)

    @property
    def best(self) -> Best | None:
        """The first step with the best value of `checkpoint.best`; None before there is one."""
        values = self._values.get(self._best or "", {})
        trained = {step: value for step, value in values.items() if step}
        if self._best is None or not trained:
            return None
        step = max(trained, key=lambda one: (self._best_sign * trained[one], -one))
        return Best(step, self._best, trained[step], values.get(0))

    @property
    def ended(self) -> str:
        """Why the run is over before its last step, in words; "" where it is not."""
        if self._stopping is None:
            return ""
        since, best = 0, None
        for step, value in sorted(self._values[self._stopping].items()):
            if best is None or self._stopping_sign * (value - best[1]) > self._min_delta:
                since, best = 0, (step, value)
            else:
                since += 1
        if best is None or since < self._patience:
            return ""
        return (
            f"{self._stopping} has not been better than {best[1]:.4g}, of step {best[0]}, in {counted(since, 'evaluation')} "
            f"(early_stopping.patience={self._patience})"
        )

    def _note(self, step: int, metrics: Mapping[str, Any]) -> None:
        for key, values in self._values.items():
            if is_number(metrics.get(key)):
                values[step] = float(metrics[key])


def metric_of(name: str | None) -> str | None:
    """The key in metrics.jsonl of a measure that the settings name: "pass@1" is that of the held-out problems."""
    if name is None or name.startswith((schema.HELD_OUT, schema.BENCHMARK)):
        return name
    return schema.HELD_OUT + name


def _sign(key: str | None, mode: Mode, name: str) -> int:
    """1 where more is better, -1 where less is; 0 of None."""
    if key is None:
        return 0
    if mode != "auto":
        return 1 if mode == "max" else -1
    quantity = schema.known(key)
    if quantity is None or quantity.better is None:
        raise ConfigError(f"{name}: nothing says whether more of {key!r} is better or less; set it to max or min")
    return 1 if quantity.better == "higher" else -1


def _require_measured(key: str | None, name: str, n: int) -> None:
    """Raises ConfigError for a Pass@k that evaluations of `n` completions do not log: to be found before the first of them."""
    match = re.fullmatch(r"evaluate/pass@(\d+)", key or "")
    if match and int(match[1]) not in doublings(n):
        known = ", ".join(f"pass@{k}" for k in doublings(n))
        raise ConfigError(f"{name}: evaluations of evaluate.n={n} completions log no pass@{match[1]}; they log {known}")
