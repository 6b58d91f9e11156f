"""Python values that cross the sandbox's wall as text: `text_of` going in, `value_of` coming out."""

import json
import math
from typing import Any


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
        return _value(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise UnreadableValueError(f"{type(error).__name__}: {error}"[:200]) from None


def _value(read: Any) -> Any:
    if isinstance(read, list):
        return [_value(item) for item in read]
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
        return complex(*map(float, map(_value, content)))
    if kind == "dict":
        return {_value(key): _value(item) for key, item in content}
    builder = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
    return builder(_value(item) for item in content)
