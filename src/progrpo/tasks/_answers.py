"""Gold answers as a data file gives them: text or a finite number, or a list of several of which any counts."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from progrpo.errors import DataError

_WRITTEN_OUT = 30
"""Decimal places on either side of the point up to which a number is written without an exponent."""


def read_answers(value: Any, place: str, key: str) -> tuple[str, ...]:
    """The accepted answers of a row, in order and each once; one at least. A list of one stands for what is in it.

    Raises:
        DataError: it is empty, or holds anything but text and finite numbers (true, NaN, a mapping, null, ...).
    """
    answers = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else (value,)
    if value is None or not answers:
        raise DataError(f"{place}: {key!r} is empty; every row needs a gold answer")
    return tuple(dict.fromkeys(_text(one, place, key) for one in answers))


def number_text(number: int | float | Decimal) -> str:
    """A finite number as one would write it: 27.0 is "27", 0.30000000000000004 is "0.3", 1e-07 is "0.0000001".

    A float is rounded to 15 significant digits, the most that survive any sum of decimals; whole ones are written exactly.
    """
    if isinstance(number, int):
        return str(number)
    if isinstance(number, float):  # adding 0.0 takes the sign off a zero
        number = Decimal(repr(number + 0.0) if number.is_integer() else f"{number:.15g}")
        number = number.to_integral_value() if number == number.to_integral_value() else number
    return format(number, "f") if abs(number.adjusted()) <= _WRITTEN_OUT else str(number)


def _text(value: Any, place: str, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise DataError(
            f"{place}: {key!r} must be text, a finite number, or a list of several accepted answers, got {value!r:.80} "
            f"({type(value).__name__})"
        )
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{place}: {key!r} is empty; every row needs a gold answer")
        return value
    if not math.isfinite(value):
        raise DataError(f"{place}: {key!r} is {value!r}, which no answer equals; expected text or a finite number")
    return number_text(value)
