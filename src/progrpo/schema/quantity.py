"""One quantity that a run logs or an evaluation measures: what it is called, in which unit, and how it is written."""

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from progrpo.statistics import Interval

MINUS = "\N{MINUS SIGN}"
_PLACEHOLDER = re.compile(r"(?<![A-Za-z])(?:NAME|K)(?![A-Za-z])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """A logged metric, or a measure of an evaluation.

    Attributes:
        key: its name in `metrics.jsonl`, or in the `measures` of an evaluation's rows (`evaluate/KEY` in the metrics). A
            family has a placeholder in it: `pass@K` stands for pass@1, pass@2, ...; `reward/NAME` for any name.
        label: its name in tables; K in it is replaced as in the key.
        short: the same where a table has to stay narrow; "" where that is the label.
        unit: the one it is shown in.
        percent: a fraction in [0, 1] that is shown as a percentage; its differences are percentage points.
        digits: decimals shown.
        better: which direction is better; None where neither is.
        meaning: what it is, for docs/metrics.md.
        rollout: belongs to the rollout that a step learns from; the steps of one rollout repeat it.
        method: the only method that logs it; None for those of several methods, or of any.
        drawn: where it stands: figures by their name, tables of the page ("held-out", the terminal's too, or "page" alone;
            "benchmarks", "cost") and of the terminal ("overview" of `evaluate`, "compare", "progress" of `train`).
        variants: of the same quantity, as what their keys have more: "raw/" before the key, "/pooled" after it.
        formerly: names under which older versions wrote it; they are read as this one.
    """

    key: str
    label: str
    unit: str
    short: str = ""
    percent: bool = False
    digits: int = 1
    better: Literal["higher", "lower"] | None = None
    meaning: str = ""
    rollout: bool = False
    method: str | None = None
    drawn: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    formerly: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key, and those of its other variants."""
        others = (self.key + variant if variant[0] == "/" else variant + self.key for variant in self.variants)
        return (self.key, *others)

    @property
    def family(self) -> bool:
        return _PLACEHOLDER.search(self.key) is not None

    @property
    def heading(self) -> str:
        return self.short or self.label

    @property
    def logged_unit(self) -> str:
        """The unit of the number in the files."""
        return "fraction" if self.percent else self.unit

    @property
    def arrow(self) -> str:
        """Which direction is better, as a sign; "" where neither is."""
        return {"higher": "↑", "lower": "↓", None: ""}[self.better]

    def at(self, member: int | str) -> "Quantity":
        """One member of a family: `pass@K` at 8 is `pass@8`."""
        key, label = (_PLACEHOLDER.sub(str(member), text) for text in (self.key, self.label))
        return replace(self, key=key, label=label)

    def member(self, key: str) -> str | None:
        """What stands for the placeholder in a key of this family; "" where the key is its own; None of any other key."""
        return matched(self.key, key)

    def value(self, number: float, *, signed: bool = False) -> str:
        """The number without its unit, with a true minus sign; `signed` writes the plus as well."""
        return fixed(number * 100 if self.percent else number, self.digits, signed=signed)

    def range(self, interval: Interval, *, signed: bool = False) -> str:
        return f"[{self.value(interval.low, signed=signed)}, {self.value(interval.high, signed=signed)}]"


def fixed(number: float, digits: int, *, signed: bool = False) -> str:
    """A number with so many decimals and a true minus sign; a zero has no sign, whatever was rounded away."""
    text = f"{number:+.{digits}f}" if signed else f"{number:.{digits}f}"
    return (text.lstrip("+-") if float(text) == 0 else text).replace("-", MINUS)


def matched(family: str, key: str) -> str | None:
    """What stands for the placeholder of `family` in `key`; "" where they are equal; None where it is no member."""
    if family == key:
        return ""
    match = _pattern(family).fullmatch(key)
    return match[1] if match and match.re.groups else None


@cache
def _pattern(key: str) -> re.Pattern[str]:
    place = _PLACEHOLDER.search(key)
    if place is None:
        return re.compile(re.escape(key))
    inside = r"(\d+)" if place[0] == "K" else "(.+)"
    return re.compile(re.escape(key[: place.start()]) + inside + re.escape(key[place.end() :]))
