"""Python values that cross the sandbox's wall as text: `text_of` going in, `value_of` coming out."""

import json
import math
from collections.abc import Callable
from typing import Any

_DEEPEST = 100
_MANY = 10_000


class UnreadableValueError(ValueError):
    """Not a value as the driver writes them."""


def text_of(value: Any) -> bytes:
    """A trusted value as a Python literal; the driver evaluates it, with `inf` and `nan` defined."""
    return repr(value).encode("utf-8", "backslashreplace")


def value_of(text: bytes, objects: Callable[[int, list[str]], Any] | None = None) -> Any:
    """A value from JSON in which what JSON lacks is an object of one key: {"tuple": [...]}, {"set": [...]},
    {"frozenset": [...]}, {"dict": [[key, value], ...]}, {"int": "0x..."}, {"float": "nan"}, {"bytes": hex},
    {"complex": [re, im]}, {"Decimal": text}, {"Fraction": text}, {"date": text}, {"datetime": text}, {"time": text}.

    Args:
        objects: makes what stands for {"object": [number, names]}; without it, an object is refused.

    Untrusted: nothing is executed, and a text that cannot be read costs no more than its length.

    Raises:
        UnreadableValueError: anything else.
    """
    try:
        return _value(json.loads(text), _DEEPEST, objects)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, ArithmeticError) as error:
        raise UnreadableValueError(f"{type(error).__name__}: {error}"[:200]) from None


def _value(read: Any, depth: int, objects: Callable[[int, list[str]], Any] | None) -> Any:
    if depth == 0:
        raise ValueError(f"nested deeper than {_DEEPEST}")
    if isinstance(read, list):
        return [_value(item, depth - 1, objects) for item in read]
    if not isinstance(read, dict):
        return read
    if len(read) != 1:
        raise ValueError("expected an object of one key")
    ((kind, content),) = read.items()
    if kind in _PLAIN:
        return _PLAIN[kind](content)
    if kind == "complex":
        return complex(*(float(_value(item, depth - 1, objects)) for item in content))
    if kind == "dict":
        pairs = [(_value(key, depth - 1, objects), _value(item, depth - 1, objects)) for key, item in content]
        _require_cheap([key for key, _ in pairs])
        return dict(pairs)
    if kind == "object" and objects is not None:
        number, names = content
        return objects(int(number), [str(name) for name in names])
    builder = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
    items = [_value(item, depth - 1, objects) for item in content]
    if builder is not tuple:
        _require_cheap(items)
    return builder(items)


def _decimal(text: str) -> Any:
    """No exponent that a later sum would write out."""
    from decimal import Decimal

    number = Decimal(text)
    if number.is_finite() and abs(number.adjusted()) > _MANY:
        raise ValueError(f"a decimal of more than {_MANY} places")
    return number


def _fraction(text: str) -> Any:
    from fractions import Fraction

    if not set(text) <= set("0123456789-/"):
        raise ValueError("not a fraction")
    return Fraction(text)


def _moment(kind: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        import datetime

        return getattr(datetime, kind).fromisoformat(text)

    return read


_PLAIN: dict[str, Callable[[str], Any]] = {
    "int": lambda text: int(text, 16),
    "float": {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}.__getitem__,
    "bytes": bytes.fromhex,
    "Decimal": _decimal,
    "Fraction": _fraction,
    **{kind: _moment(kind) for kind in ("date", "datetime", "time")},
}


def _require_cheap(members: list[Any]) -> None:
    """Numbers can be chosen whose hashes are all the same, and a set of many of them takes quadratic time to build."""
    if len(members) > _MANY and not all(
        isinstance(one, str | bytes) or (isinstance(one, int) and abs(one) < 2**60) for one in members
    ):
        raise ValueError(f"a set or dict of more than {_MANY} members that are no text or small whole numbers")
