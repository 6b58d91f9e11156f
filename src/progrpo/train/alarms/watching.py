"""The alarms of a run, step after step: which are raised, since when, and what is to be said of it once."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from progrpo.errors import ConfigError
from progrpo.methods import Alarm
from progrpo.train.alarms.contract import AlarmCheck, MethodRange
from progrpo.train.alarms.history import History
from progrpo.train.alarms.settings import AlarmSettings


class AlarmEvent(NamedTuple):
    """An alarm that begins or ends: a row of alarms.jsonl.

    Attributes:
        step: optimiser steps made. alarm: its name. metric: the key in metrics.jsonl that it is about.
        value: what left its range; null where it is over. text: what is said of it. since: the step it began at.
    """

    step: int
    alarm: str
    event: Literal["begins", "ends"]
    metric: str
    value: float | None
    text: str
    since: int

    @property
    def begins(self) -> bool:
        return self.event == "begins"


class Alarms:
    """Hears the row of each step. All that it knows follows from these rows, so that a resumed run knows what it knew.

    Args:
        ranges: the alarms that the method declares of its own metrics. per_rollout: optimiser steps of a rollout.
        rows: of metrics.jsonl, of a run that goes on.

    Raises:
        ConfigError: `alarms.stop` or `alarms.ignore` names an alarm that there is not.
    """

    def __init__(
        self,
        settings: AlarmSettings,
        ranges: Mapping[str, Alarm],
        *,
        per_rollout: int = 1,
        rows: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        checks: dict[str, AlarmCheck] = dict(settings.checks)
        checks |= {key: MethodRange(key=key, **asdict(one)) for key, one in ranges.items()}
        for setting in ("stop", "ignore"):
            _require_known(f"alarms.{setting}", getattr(settings, setting), checks)
        self._checks = {name: check for name, check in checks.items() if settings.watch and name not in settings.ignore}
        self._stop = settings.stop
        self._history = History(per_rollout)
        self._raised: dict[str, AlarmEvent] = {}
        for row in rows:
            self.hear(row)

    def hear(self, row: Mapping[str, Any]) -> list[AlarmEvent]:
        """Take in the row of a step as it is written; what begins or ends with it."""
        self._history.add(row)
        step, events = int(row["step"]), []
        for name, check in self._checks.items():
            before = self._raised.get(name)
            reading = check.reading(self._history, raised=before is not None)
            metric = check.metric or name
            if reading is not None and before is None:
                text = f"{reading.text}. Usually: {check.means}" if check.means else reading.text
                self._raised[name] = AlarmEvent(step, name, "begins", metric, reading.value, text, step)
                events.append(self._raised[name])
            elif reading is None and before is not None:
                del self._raised[name]
                text = f"it is over; it began at step {before.step}"
                events.append(AlarmEvent(step, name, "ends", metric, None, text, before.step))
        return events

    @property
    def ended(self) -> str:
        """Why the run is over before its last step, in words; "" where it is not."""
        for name in self._stop:
            if (event := self._raised.get(name)) is not None:
                return f"alarm {name} at step {event.step} (alarms.stop): {event.text}"
        return ""


def _require_known(setting: str, names: Iterable[str], known: Mapping[str, AlarmCheck]) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"{setting}: there is no alarm {name!r}; {remedy}There are {', '.join(sorted(known))}")
