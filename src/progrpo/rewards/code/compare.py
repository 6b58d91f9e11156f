"""Whether a program's output, or the value it returned, is the expected one. Runs outside the sandbox."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

_INTEGER = re.compile(rb"[+-]?[0-9]+")
_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_LONGEST_DECIMAL = 400


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers are near if they differ by at most `absolute`, or by at most `relative` times the expected one."""

    absolute: float
    relative: float

    def near(self, expected: float, got: float) -> bool:
        if not (math.isfinite(expected) and math.isfinite(got)):
            return expected == got or (math.isnan(expected) and math.isnan(got))
        return abs(expected - got) <= max(self.absolute, self.relative * abs(expected))


def same_tokens(expected: str, got: bytes, tolerance: Tolerance) -> bool:
    """The same words in the same order, whatever the space between them; upper and lower case differ.

    Two words are the same if their characters are, or if both are decimal numbers, near each other, and the expected
    one is not an integer: 100001 is not 100000, 0.3333333 is 0.33333333, 2 is 2.0 but 2.0 is not 2.
    """
    wanted, words = expected.encode("utf-8", "surrogatepass").split(), got.split()
    if wanted == words:
        return True
    return len(wanted) == len(words) and all(_same_word(*pair, tolerance) for pair in zip(wanted, words, strict=True))


def _same_word(expected: bytes, got: bytes, tolerance: Tolerance) -> bool:
    if expected == got:
        return True
    if max(len(expected), len(got)) > _LONGEST_DECIMAL or _INTEGER.fullmatch(expected):
        return False
    if not (_DECIMAL.fullmatch(expected) and _DECIMAL.fullmatch(got)):
        return False
    one, other = float(expected), float(got)
    if math.isinf(one) or math.isinf(other):  # too large for a float, which would make 1e400 and 2e400 one
        return Decimal(expected.decode()) == Decimal(got.decode())
    return tolerance.near(one, other)


def same_lines_lcb(expected: str, got: bytes, tolerance: Tolerance) -> bool:
    """LiveCodeBench's rule (lcb_runner/evaluation/testing_util.py): the same lines after stripping, or lines that are
    equal as lists of decimals. No tolerance; a blank line more inside the output is an error.
    """
    wanted, lines = ([line.strip() for line in text.strip().split("\n")] for text in (expected, _text(got)))
    if len(wanted) != len(lines):
        return False
    return all(one == other or _same_decimals(one, other) for one, other in zip(wanted, lines, strict=True))


def _same_decimals(one: str, other: str) -> bool:
    try:
        return [Decimal(word) for word in one.split()] == [Decimal(word) for word in other.split()]
    except InvalidOperation:
        return False


def same_compat(expected: str, got: bytes, tolerance: Tolerance) -> bool:
    """WARNING: accepts wrong output; only for comparison with models trained on it.

    The comparator DeepCoder trained with for TACO, APPS and PrimeIntellect rows (rllm, rewards/code_utils/taco.py,
    `compare_std_results`), result for result. As published it passes YES for NO and any other words that are not
    numbers if their count by line is right, 100001 for 100000, and lines in another order where they are single
    characters. The exit code is judged by us all the same.
    """
    text = _text(got).rstrip("\n")
    if _compat_stripped(text, expected):
        return True
    lines = [line.strip() for line in expected.split("\n") if line]
    # From here on the published code takes the output's characters one by one where it meant its lines.
    if _quietly(lambda: _close_lists([float(one) for one in text], [float(one) for one in lines])):
        return True
    words, sets = set(text.split()), [set(line.split()) for line in lines]
    if {frozenset(word) for word in words} == {frozenset(one) for one in sets}:
        return True
    return _quietly(lambda: {_rounded(word) for word in words} == {_rounded(one) for one in sets})


def _compat_stripped(got: str, expected: str) -> bool:
    got, expected = got.strip(), expected.strip()
    if got == expected:
        return True
    try:
        return _close(float(got), float(expected))
    except ValueError:
        pass
    rows, wanted = ([line.split() for line in text.split("\n") if line.strip()] for text in (got, expected))
    if [len(row) for row in rows] != [len(row) for row in wanted]:
        return False
    for row, other in zip(rows, wanted, strict=True):
        for word, right in zip(row, other, strict=True):
            try:
                if word != right and not _close(float(word), float(right)):
                    return False
            except ValueError:
                continue  # the published fault: a word that is no number cannot be wrong
    return True


def _close(one: float, other: float) -> bool:
    """numpy.isclose with its defaults."""
    return one == other or (math.isfinite(other) and abs(one - other) <= 1e-8 + 1e-5 * abs(other))


def _close_lists(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(_close(*pair) for pair in zip(one, other, strict=True))


def _rounded(words: Any) -> frozenset[float]:
    return frozenset(round(float(word), 3) for word in words)


def _quietly(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except (ValueError, OverflowError):
        return False


def _text(got: bytes) -> str:
    return got.decode("utf-8", "surrogateescape")


TEXT_RULES: Mapping[str, Callable[[str, bytes, Tolerance], bool]] = {
    "tokens": same_tokens,
    "lcb": same_lines_lcb,
    "compat": same_compat,
}


def same_value(expected: Any, got: Any, tolerance: Tolerance, *, strict: bool) -> bool:
    """Whether a returned value is the expected one, as Python's `==` sees it, but floats within the tolerance.

    Args:
        strict: a list is no tuple and 1 no key "1"; False where the expected value came from JSON, which has neither.
    """
    if isinstance(expected, bool | int | float) and isinstance(got, bool | int | float):
        return _same_number(expected, got, tolerance)
    if isinstance(expected, list | tuple) and isinstance(got, list | tuple):
        if len(expected) != len(got) or (strict and type(expected) is not type(got)):
            return False
        return all(same_value(*pair, tolerance, strict=strict) for pair in zip(expected, got, strict=True))
    if isinstance(expected, dict) and isinstance(got, dict):
        one, other = (expected, got) if strict else (_with_text_keys(expected), _with_text_keys(got))
        return one.keys() == other.keys() and all(
            same_value(one[key], other[key], tolerance, strict=strict) for key in one
        )
    return type(expected) is type(got) and bool(expected == got)


def _same_number(expected: float, got: float, tolerance: Tolerance) -> bool:
    if not isinstance(expected, float):
        return expected == got
    try:
        return tolerance.near(expected, float(got))
    except OverflowError:
        return False


def _with_text_keys(value: dict[Any, Any]) -> dict[str, Any]:
    """Keys as JSON writes them."""
    words = {True: "true", False: "false", None: "null"}
    return {words[key] if key is None or isinstance(key, bool) else str(key): item for key, item in value.items()}
