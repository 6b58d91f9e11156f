"""Python values that cross the sandbox's wall as text: `text_of` going in, `value_of` coming out."""

import json
import math
from typing import Any

_DEEPEST = 100
_MANY = 10_000


class UnreadableValueError(ValueError):
    """Not a value as the driver writes them."""


def text_of(value: Any) -> bytes:
    """A trusted value as a Python literal; the driver evaluates it, with `inf` and `nan` defined."""
    return repr(value).encode("utf-8", "backslashreplace")


def value_of(text: bytes) -> Any:
    """A value from JSON in which what JSON lacks is an object of one key: {"tuple": [...]}, {"set": [...]},
    {"frozenset": [...]}, {"dict": [[key, value], ...]}, {"int": "0x..."}, {"float": "nan"}, {"bytes": hex},
    {"complex": [re, im]}.

    Untrusted: nothing is executed, and a text that cannot be read costs no more than its length.

    Raises:
        UnreadableValueError: anything else.
    """
    try:
        return _value(json.loads(text), _DEEPEST)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise UnreadableValueError(f"{type(error).__name__}: {error}"[:200]) from None


def _value(read: Any, depth: int) -> Any:
    if depth == 0:
        raise ValueError(f"nested deeper than {_DEEPEST}")
    if isinstance(read, list):
        return [_value(item, depth - 1) for item in read]
    if not isinstance(read, dict):
        return read
    if len(read) != 1:
        raise ValueError("expected an object of one key")
    ((kind, content),) = read.items()
    if kind == "int":
        return int(content, 16)
    if kind == "float":
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "complex":
        return complex(*(float(_value(item, depth - 1)) for item in content))
    if kind == "dict":
        pairs = [(_value(key, depth - 1), _value(item, depth - 1)) for key, item in content]
        _require_cheap([key for key, _ in pairs])
        return dict(pairs)
    builder = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
    items = [_value(item, depth - 1) for item in content]
    if builder is not tuple:
        _require_cheap(items)
    return builder(items)


def _require_cheap(members: list[Any]) -> None:
    """Numbers can be chosen whose hashes are all the same, and a set of many of them takes quadratic time to build."""
    if len(members) > _MANY and not all(
        isinstance(one, str | bytes) or (isinstance(one, int) and abs(one) < 2**60) for one in members
    ):
        raise ValueError(f"a set or dict of more than {_MANY} members that are no text or small whole numbers")
