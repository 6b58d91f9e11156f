"""The statistics of `score` in words, the same on the terminal and on the page."""

from progrpo.evaluate.score import STATISTICS, MethodStatistics
from progrpo.report.wording import NOTHING
from progrpo.schema.quantity import MINUS, Quantity

_BY_SIZE = ("recorded_distance", "entropy_change")
"""Statistics whose order of magnitude is what matters."""


def in_words(statistics: list[MethodStatistics]) -> list[tuple[Quantity, list[str]]]:
    """Each statistic that some method has, with its value for each of them."""
    some = [one for one in STATISTICS if any(getattr(method, one.key) is not None for method in statistics)]
    return [(one, [value_of(method, one) for method in statistics]) for one in some]


def value_of(method: MethodStatistics, one: Quantity) -> str:
    """A statistic without its unit; two digits of those whose size is what matters."""
    value: float | None = getattr(method, one.key)
    if value is None:
        return NOTHING
    return f"{value:.2g}".replace("-", MINUS) if one.key in _BY_SIZE else one.value(value, signed=one.key == "mean")
