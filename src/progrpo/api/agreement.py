"""Whether a number that was computed again is the one that was logged, and to how many digits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Status = Literal["equal", "close", "differs"]
WITHIN = {"fp32": 1e-5, "bf16": 2.0**-5}
"""Largest difference, relative to the largest number, that counts as rounding on another machine or thread count."""
NEAR_ZERO = 1e-6
"""A difference below this is rounding, too: of numbers about 1 in size whose sum is 0 but for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """One value, or all numbers of one tensor.

    Attributes:
        status: "equal" to the last bit; "close" within rounding; "differs".
        digits: decimal digits that agree, of the largest number; None where all do. where: the place that differs first (beyond
            rounding) or most; "" for a single number. logged, again: the two values there.
    """

    what: str
    status: Status
    digits: int | None = None
    where: str = ""
    logged: float | str | None = None
    again: float | str | None = None


def of_numbers(
    what: str, logged: float | None, again: float | None, *, within: float, near_zero: float = NEAR_ZERO
) -> Agreement:
    """Two single numbers; None is one that nobody could compute, which agrees with itself alone.

    Args:
        within: largest relative difference of rounding. near_zero: largest absolute one; 0 for numbers that are themselves
            so small.
    """
    if logged == again:
        return Agreement(what=what, status="equal", logged=logged, again=again)
    if logged is None or again is None:
        return Agreement(what=what, status="differs", digits=0, logged=logged, again=again)
    apart, size = abs(logged - again), max(abs(logged), abs(again))
    status: Status = "close" if apart <= max(within * size, near_zero) else "differs"
    return Agreement(what=what, status=status, digits=digits(apart, size), logged=logged, again=again)


def of_tensors(
    what: str,
    logged: Tensor,
    again: Tensor,
    *,
    within: float,
    place: Callable[[tuple[int, ...]], str],
    near_zero: float = NEAR_ZERO,
) -> Agreement:
    """Two tensors of the same meaning; `place` names an index of them, `within` and `near_zero` are as in `of_numbers`."""
    if logged.shape != again.shape:
        shapes: tuple[Any, Any] = (str(tuple(logged.shape)), str(tuple(again.shape)))
        return Agreement(what=what, status="differs", digits=0, where="shape", logged=shapes[0], again=shapes[1])
    one, two = logged.double(), again.double()
    same = (one == two) | (one.isnan() & two.isnan())
    if bool(same.all()):
        return Agreement(what=what, status="equal")
    apart = torch.where(same, 0.0, (one - two).abs()).nan_to_num(nan=math.inf)
    size = float(torch.maximum(one.abs(), two.abs()).nan_to_num(0.0, 0.0, 0.0).max())
    beyond = apart > max(within * size, near_zero)
    flat = int(beyond.flatten().nonzero()[0]) if bool(beyond.any()) else int(apart.argmax())
    index = tuple(int(one) for one in torch.unravel_index(torch.tensor(flat), logged.shape))
    return Agreement(
        what=what,
        status="differs" if bool(beyond.any()) else "close",
        digits=digits(float(apart.max()), size),
        where=place(index),
        logged=float(logged[index]),
        again=float(again[index]),
    )


def digits(apart: float, size: float) -> int:
    """Decimal digits in which two numbers of about this size agree that are so far apart."""
    if not apart or not math.isfinite(apart):
        return 0
    return max(0, math.floor(-math.log10(apart / size))) if size else 0
