r"""Equality of formulas without algebra: exact at a random point, or certainly different in numbers; else undecided.

Sums, products, quotients and whole powers of numbers, letters, \pi, e and square roots of numbers are compared exactly: the
letters get random whole numbers of 60 bits, and values are sums of q·√r with rational q and squarefree r. Two formulas
that differ agree at such a point with a chance below (their degree) · 2^-59. Everything else (\sin, \ln, 2^n, |x|, roots
of letters) is compared in floating point, and only a clear difference counts.
"""

import cmath
import math
import random
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from math import gcd, isqrt

from progrpo.rewards.math.forms import Form, Scalar
from progrpo.rewards.math.formulas import Tree, names_in, read_formula
from progrpo.rewards.math.numbers import Number
from progrpo.rewards.math.text import has_prose

Radical = tuple[bool, int]
"""√r or, with True, √-r: r positive and squarefree."""
Value = dict[Radical, Fraction]

MAX_BITS = 20_000
MAX_TERMS = 32
_MAX_POWER = 400
_ONE: Radical = (False, 1)
_SMALL_PRIMES = tuple(n for n in range(2, 1000) if all(n % d for d in range(2, isqrt(n) + 1)))
_CLEAR = 1e-6
"""Relative difference that floating point cannot have made up."""


class UndecidedError(ValueError):
    """The value is not of the kind that is computed here, or too large."""


@lru_cache(maxsize=10_000)
def equal(gold: Form, answer: Form, rounded_places: int | None) -> bool | None:
    """Whether two formulas are equal; None where this cannot tell. Linear in their length, and bounded."""
    one, other = tree_of(gold), tree_of(answer)
    if one is None or other is None:
        return None
    names = names_in(one) | names_in(other)
    rounded = any(_stands_for_others(form, rounded_places) for form in (gold, answer))
    same = None if rounded else _same_exactly(one, other, names)
    if same is not None:
        return same
    steps = [float(form.step) for form in (gold, answer) if isinstance(form, Number) and form.step is not None]
    return False if "i" not in names and _clearly_differ(one, other, names, 2 * max(steps, default=0.0)) else None


def tree_of(form: Form) -> Tree | None:
    """A form as a formula; None where it is none, or could be meant in two ways."""
    if isinstance(form, Number):
        return ("num", form.value)
    return read_formula(form.text) if isinstance(form, Scalar) and not has_prose(form.text) else None


def _stands_for_others(form: Form, rounded_places: int | None) -> bool:
    """Whether a form is a decimal that stands for all values that round to it."""
    return (
        isinstance(form, Number)
        and form.step is not None
        and rounded_places is not None
        and form.places >= rounded_places
    )


# --- Exactly ---


def _same_exactly(one: Tree, other: Tree, names: frozenset[str]) -> bool | None:
    rng = random.Random(f"{one}{other}")
    point: dict[str, Value] = {name: {_ONE: Fraction(rng.getrandbits(60) | 1)} for name in sorted(names)}
    try:
        if _subtract(_value(one, point), _value(other, point)) == {}:
            return True
        if "i" not in names:
            return False
        point["i"] = {(True, 1): Fraction(1)}
        return _subtract(_value(one, point), _value(other, point)) == {}
    except (UndecidedError, ZeroDivisionError):
        return None


def _value(tree: Tree, point: Mapping[str, Value]) -> Value:
    kind, *parts = tree
    if kind == "num":
        return _checked({_ONE: parts[0]}) if parts[0] else {}  # type: ignore[dict-item]
    if kind == "var":
        return point[str(parts[0])]
    values = [_value(part, point) for part in parts if isinstance(part, tuple)] if kind != "fn" else []
    if kind == "add":
        return _subtract(values[0], _negated(values[1]))
    if kind == "neg":
        return _negated(values[0])
    if kind == "mul":
        return _product(*values)
    if kind == "div":
        return _product(values[0], _inverse(values[1]))
    if kind == "pow":
        return _power(values[0], values[1])
    if kind == "root":
        return _root(values[0], parts[0])
    raise UndecidedError


def _checked(value: Value) -> Value:
    if len(value) > MAX_TERMS:
        raise UndecidedError
    if any(max(q.numerator.bit_length(), q.denominator.bit_length()) > MAX_BITS for q in value.values()):
        raise UndecidedError
    return value


def _negated(value: Value) -> Value:
    return {radical: -factor for radical, factor in value.items()}


def _subtract(one: Value, other: Value) -> Value:
    difference = dict(one)
    for radical, factor in other.items():
        difference[radical] = difference.get(radical, Fraction(0)) - factor
    return _checked({radical: factor for radical, factor in difference.items() if factor})


def _product(one: Value, other: Value) -> Value:
    product: Value = {}
    for (negative, r), p in one.items():
        for (also, s), q in other.items():
            common = gcd(r, s)
            radical = (negative != also, r * s // common**2)
            factor = p * q * common * (-1 if negative and also else 1)
            product[radical] = product.get(radical, Fraction(0)) + factor
    return _checked({radical: factor for radical, factor in product.items() if factor})


def _inverse(value: Value) -> Value:
    """1/value: the denominator is made rational by one conjugate after the other."""
    if not value:
        raise ZeroDivisionError
    if len(value) == 1:
        ((negative, r), q) = next(iter(value.items()))
        return _checked({(negative, r): (-1 if negative else 1) / (q * r)})
    conjugate = _conjugate(value)
    return _product(conjugate, _inverse(_product(value, conjugate)))


def _conjugate(value: Value) -> Value:
    """The value with the sign of one square root turned: of √-1, or of a prime that divides some r."""
    if any(negative for negative, _ in value):
        return {radical: -q if radical[0] else q for radical, q in value.items()}
    first = next(r for _, r in value if r > 1)
    others = [r for _, r in value if r > 1]
    prime = next((p for p in _SMALL_PRIMES if first % p == 0), first)
    for r in others:  # a large factor that several share
        prime = gcd(prime, r) if gcd(prime, r) > 1 else prime
    if any(1 < gcd(prime, r) < prime for r in others):
        raise UndecidedError
    return {(negative, r): -q if r % prime == 0 else q for (negative, r), q in value.items()}


def _power(base: Value, exponent: Value) -> Value:
    if not set(exponent) <= {_ONE}:
        raise UndecidedError
    power = exponent.get(_ONE, Fraction(0))
    if abs(power) > _MAX_POWER:
        raise UndecidedError
    if power.denominator == 2:
        base, power = _root(base, 2), power * 2
    if power.denominator != 1:
        raise UndecidedError
    if not base and power <= 0:
        raise ZeroDivisionError
    base, count, product = (base if power >= 0 else _inverse(base)), abs(power.numerator), {_ONE: Fraction(1)}
    while count:
        product = _product(product, base) if count & 1 else product
        count >>= 1
        base = _product(base, base) if count else base
    return product


def _root(value: Value, degree: object) -> Value:
    """The square root of a rational number."""
    if degree != 2 or not set(value) <= {_ONE}:
        raise UndecidedError
    q = value.get(_ONE, Fraction(0))
    if not q:
        return {}
    outside, inside = _square_part(abs(q.numerator) * q.denominator)
    return {(q < 0, inside): Fraction(outside, q.denominator)}


@lru_cache(maxsize=4096)
def _square_part(n: int) -> tuple[int, int]:
    """n = outside² · inside with `inside` squarefree."""
    outside, inside = 1, 1
    for prime in _SMALL_PRIMES:
        if prime * prime > n:
            break
        while n % (prime * prime) == 0:
            n //= prime * prime
            outside *= prime
        if n % prime == 0:
            n //= prime
            inside *= prime
    whole = isqrt(n)
    if whole * whole == n:
        return outside * whole, inside
    # Without a prime below 1000 a number below 10^9 that is no square has no square in it.
    if n >= 10**9:
        raise UndecidedError
    return outside, inside * n


# --- In floating point ---


def _clearly_differ(one: Tree, other: Tree, names: frozenset[str], margin: float) -> bool:
    for shift in (0.37, 1.83):
        point = {name: shift + 0.1137 * index for index, name in enumerate(sorted(names))}
        point |= {"e": math.e, r"\pi": math.pi}
        try:
            left, right = _number(one, point), _number(other, point)
        except (UndecidedError, ArithmeticError, ValueError):
            continue
        if abs(left - right) > _CLEAR * max(abs(left), abs(right)) + margin:
            return True
    return False


def _number(tree: Tree, point: Mapping[str, float]) -> float:
    """The value of a tree at a point; only where every step stays real and away from cancellation.

    Raises:
        UndecidedError, ArithmeticError, ValueError: it does not.
    """
    kind, *parts = tree
    if kind == "num":
        return float(parts[0])  # type: ignore[arg-type]
    if kind == "var":
        return point[str(parts[0])]
    values = [_number(part, point) for part in parts if isinstance(part, tuple)]
    if kind == "add":
        total = values[0] + values[1]
        if abs(total) < 1e-4 * max(abs(values[0]), abs(values[1])):
            raise UndecidedError
        return total
    if kind == "mul":
        return values[0] * values[1]
    if kind == "div":
        return values[0] / values[1]
    if kind in ("neg", "abs"):
        return -values[0] if kind == "neg" else abs(values[0])
    if kind in ("log", "fn"):
        function = _FUNCTIONS[str(parts[0])] if kind == "fn" else lambda x: math.log(x) / math.log(values[0])
        function_value = function(values[-1])
        # \\sin\\pi is not 1e-16, and the sine of a large number is known to few digits.
        if abs(function_value) < 1e-6 or abs(values[-1]) > 1e6:
            raise UndecidedError
        return function_value
    return _real_power(values[0], values[1] if kind == "pow" else 1 / float(parts[0]))  # type: ignore[arg-type]


def _real_power(base: float, exponent: float) -> float:
    if base < 0 and exponent != int(exponent):
        raise UndecidedError
    power = base**exponent
    if not cmath.isfinite(power):
        raise UndecidedError
    return float(power)


_FUNCTIONS = {
    r"\sin": math.sin,
    r"\cos": math.cos,
    r"\tan": math.tan,
    r"\cot": lambda x: 1 / math.tan(x),
    r"\sec": lambda x: 1 / math.cos(x),
    r"\csc": lambda x: 1 / math.sin(x),
    r"\arcsin": math.asin,
    r"\arccos": math.acos,
    r"\arctan": math.atan,
    r"\sinh": math.sinh,
    r"\cosh": math.cosh,
    r"\tanh": math.tanh,
    r"\ln": math.log,
}
