"""How numbers and settings are put in words, the same on the page and on the terminal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from progrpo.statistics import Interval

NOTHING = "–"
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A held-out measure with a column in the tables."""

    key: str
    """Its name in the rows of an evaluation; `evaluate/KEY` in the metrics."""
    label: str
    unit: str
    percent: bool = False
    """A fraction in [0, 1], shown as a percentage; its differences are percentage points."""
    digits: int = 1

    def value(self, number: float, *, signed: bool = False) -> str:
        """The number without its unit, with a true minus sign; `signed` writes the plus as well."""
        scaled = number * 100 if self.percent else number
        text = f"{scaled:+.{self.digits}f}" if signed else f"{scaled:.{self.digits}f}"
        if float(text) == 0:  # a zero has no sign, whatever was rounded away
            text = text.lstrip("+-")
        return text.replace("-", _MINUS)

    def range(self, interval: Interval, *, signed: bool = False) -> str:
        return f"[{self.value(interval.low, signed=signed)}, {self.value(interval.high, signed=signed)}]"


def significant(value: object) -> str:
    """A logged value with four significant digits; whole numbers whole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING if value is None else str(value)
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"
    return text.replace("-", _MINUS)


def duration(seconds: float) -> str:
    """Seconds as a reader would say them."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{seconds / 60:.1f} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def method(config: Mapping[str, Any]) -> str:
    """The method of a run, with its preset and alpha where the settings name them."""
    chosen = config.get("method") or {}
    named = [f"{label} {chosen[key]}" for key, label in (("preset", "preset"), ("alpha", "α")) if key in chosen]
    name = str(chosen.get("name", "method unknown"))
    return f"{name} ({', '.join(named)})" if named else name


def progress(done: int, planned: int | None) -> str:
    if planned is None or done >= planned:
        return f"{done} steps"
    return f"{done} of {planned} steps, unfinished"


def made_with(environment: Mapping[str, Any]) -> str:
    """Versions, device and commit of a run, as far as it recorded them."""
    versions = {"python": environment.get("python"), **(environment.get("versions") or {})}
    facts = [f"{name} {number}" for name, number in versions.items() if number]
    if device := environment.get("device"):
        threads = environment.get("threads")
        facts.append(f"on {device}" + (f" with {threads} thread{'s' * (threads != 1)}" if threads else ""))
    if commit := environment.get("git_commit"):
        facts.append(f"at commit {commit[:12]}")
    return ", ".join(facts)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings as dotted keys, as one would write them on the command line."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = "null" if value is None else str(value)
    return found
