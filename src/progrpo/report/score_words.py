"""The statistics of `score` in words, the same on the terminal and on the page."""

from progrpo.evaluate.score import MethodStatistics
from progrpo.report.wording import NOTHING
from progrpo.schema.quantity import MINUS, fixed

STATISTICS = (
    ("mean", "mean", "of all advantages"),
    ("spread", "spread", "standard deviation of all advantages"),
    ("zero_fraction", "exactly 0, %", "completions that the method does not train on"),
    ("recorded_distance", "distance to recorded", "largest distance from the advantage that the run recorded"),
    (
        "entropy_change",
        "predicted dH",
        "first-order change of the entropy by an optimiser step, nats per unit of learning rate on the logits",
    ),
    (
        "flipped_fraction",
        "signs flipped, %",
        "completions with the other sign, of those to which the first method gives no 0",
    ),
    (
        "reversed_fraction",
        "orders reversed, %",
        "pairs of a group ordered the other way, of those that the first method orders",
    ),
    (
        "untied_fraction",
        "ties broken, %",
        "pairs of a group that the method orders, of those that the first method ties",
    ),
    ("correlation", "correlation", "Pearson's, with the first method's advantages"),
)
"""(attribute of `MethodStatistics`, label, meaning); a label in percent reads a fraction."""


def value_of(one: MethodStatistics, key: str) -> str:
    """A statistic without its unit; two digits of those whose size is what matters."""
    value: float | None = getattr(one, key)
    if value is None:
        return NOTHING
    if key in ("recorded_distance", "entropy_change"):
        return f"{value:.2g}".replace("-", MINUS)
    if key.endswith("_fraction"):
        return fixed(100 * value, 1)
    return fixed(value, 3, signed=key == "mean")


def signed(value: float) -> str:
    """A number with its sign and three decimals; a zero has no sign."""
    return fixed(value, 3, signed=True)
