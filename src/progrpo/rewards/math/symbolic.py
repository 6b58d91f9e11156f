"""Equality of two answers by algebra (Math-Verify 0.9 on sympy). May take arbitrarily long: only for killable workers.

Math-Verify's own time limits are signals, which work in the main thread only and cancel any other alarm; they are off.
Its reader of plain expressions is off too: it hands the text to Python's parser, and an answer is never executed.
"""

import contextlib
import logging
import re
import string
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeVar

from progrpo.rewards.math.exact import tree_of
from progrpo.rewards.math.forms import Based, Form
from progrpo.rewards.math.formulas import as_sympy
from progrpo.rewards.math.numbers import Number, stands_for
from progrpo.rewards.math.text import FUNCTIONS, has_prose

T = TypeVar("T")

MAX_BITS = 10_000
"""A larger or smaller value is not compared as a decimal."""

_SCIENTIFIC = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([+-]?\d+)(?!\w)")
_SEPARATED = re.compile(r"(?<![\d.])([1-9]\d{0,2}(?:,\d{3})+)(?![\d,])")
# Math-Verify reads 2(3) as the mixed number 2 + 3; the 2 of \\sin^2(x) is no factor.
_PRODUCT = re.compile(
    rf"(\\(?:{FUNCTIONS}|operatorname)\s*(?:_\s*(?:\{{[^{{}}]*\}}|\w))?\s*\^\s*\d+\s*\()|"
    r"(?<=\d)(?<!_\d)(?<!_\d\d)\s*(?=\()(?!\([^()]*,)"
)
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\^\{\\circ\}")
_NAME = re.compile(r"\\[A-Za-z]+|[A-Za-z]")


class UnreadableGoldError(ValueError):
    """The gold answer cannot be read as mathematics."""


@lru_cache(maxsize=10_000)
def equal(gold: Form, answer: Form, rounded_places: int | None, relative_tolerance: float) -> bool:
    """Whether two forms are equal by algebra.

    Raises:
        UnreadableGoldError: nothing can be said, because the gold answer is no mathematics.
    """
    one, other = (_attempt(as_sympy, tree) if (tree := tree_of(form)) else None for form in (gold, answer))
    if one is None or other is None:
        capitals = _capitals(*("" if isinstance(form, Number | Based) else form.text for form in (gold, answer)))
        one = _expression(gold, capitals)
        if one is None:
            raise UnreadableGoldError("the gold answer cannot be read as mathematics")
        other = _expression(answer, capitals)
        if other is None:
            return False
    numeric = _numerically_equal(gold, answer, one, other, rounded_places, relative_tolerance)
    return _verify(one, other) if numeric is None else numeric


def _capitals(*texts: str) -> dict[str, str]:
    """New letters for capitals whose small letter is there too: Math-Verify reads both alike, so that R^2 - r^2 is 0."""
    names = {name for text in texts for name in _NAME.findall(text)}
    free = [
        letter for letter in string.ascii_lowercase if letter not in "deio" and not {letter, letter.upper()} & names
    ]
    clashing = sorted(name for name in names if name != name.lower() and name.lower() in names)
    return dict(zip(clashing, free, strict=False))


def _expression(form: Form, capitals: dict[str, str]) -> Any:
    """The sympy object of a form; None where it cannot be read."""
    from sympy import Rational

    if isinstance(form, Number):
        return Rational(form.value.numerator, form.value.denominator)
    if isinstance(form, Based):
        return None
    return _parse(_NAME.sub(lambda match: capitals.get(match.group(), match.group()), form.text))


@lru_cache(maxsize=4096)
def _parse(text: str) -> Any:
    if _unbalanced(text) or has_prose(text):
        return None
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    # Its only warning says that the time limit is off, which it is on purpose.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    text = _DEGREES.sub(r"(\1 \\cdot \\frac{\\pi}{180})", text)
    text = _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text)
    text = _SEPARATED.sub(lambda match: match.group().replace(",", ""), text)
    text = _PRODUCT.sub(lambda match: match.group(1) or r" \cdot ", text).replace("*", r" \cdot ")
    spelling = NormalizationConfig(basic_latex=True, units=False, malformed_operators=False, nits=False, boxed="last")
    config = LatexExtractionConfig(
        boxed_match_priority=0, try_extract_without_anchor=False, normalization_config=spelling
    )
    parsed = parse(
        f"\\boxed{{{text}}}",
        extraction_config=[config],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return parsed[0] if parsed else None


def _unbalanced(text: str) -> bool:
    """Whether a brace closes none or is never closed: Math-Verify would read up to there and drop the rest."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return True
    return depth != 0


def _numerically_equal(
    gold: Form, answer: Form, one: Any, other: Any, rounded_places: int | None, relative_tolerance: float
) -> bool | None:
    """The judgement where a decimal stands for a rounded value; None where only exact equality counts."""
    left, right = _value(one), _value(other)
    if left is None or right is None:
        return None
    if isinstance(gold, Number) and stands_for(gold, right, rounded_places):
        return True
    if isinstance(answer, Number) and stands_for(answer, left, rounded_places):
        return True
    if relative_tolerance and not (isinstance(gold, Number) and gold.value.denominator == 1):
        return abs(left - right) <= Fraction(relative_tolerance) * abs(left)
    return None


def _attempt(function: Callable[..., T], *arguments: Any) -> T | None:
    """The result, or None where sympy fails: on unusual input it raises nearly anything, none of which is a judgement."""
    failures = (ArithmeticError, ValueError, TypeError, AttributeError, LookupError, RuntimeError)
    with contextlib.suppress(*failures):
        return function(*arguments)
    return None


def _value(expression: Any) -> Fraction | None:
    """A constant's value to 30 digits; None for anything that is no finite real constant."""
    from sympy import Expr

    # Numbers times matrices are expressions too.
    if not isinstance(expression, Expr) or expression.free_symbols or not expression.is_commutative:
        return None
    value = _attempt(expression.evalf, 30)
    if value is None or not (value.is_Float or value.is_Rational):
        return None
    # As a fraction, e^{e^{20}} would take 200 million digits.
    return None if value.is_Float and abs(value._mpf_[2]) > MAX_BITS else Fraction(str(value))


def _verify(one: Any, other: Any) -> bool:
    from sympy import Expr, I
    from sympy.core.relational import Relational

    if isinstance(one, Expr) and isinstance(other, Expr):
        # Most wrong answers are seen in numbers, long before the algebra that would expand (x+y+z+1)^{200}.
        if not _attempt(_differ, one, other) and (_attempt(_cancel, one, other) or _same(one, other)):
            return True
        # i is a variable to Math-Verify; 1/(1+i) = (1-i)/2 needs the imaginary unit.
        imaginary = [{symbol: I for symbol in side.free_symbols if symbol.name == "i"} for side in (one, other)]
        replaced = [
            _attempt(side.xreplace, substitution) for side, substitution in zip((one, other), imaginary, strict=True)
        ]
        return any(imaginary) and None not in replaced and not _attempt(_differ, *replaced) and _same(*replaced)
    if _same(one, other):
        return True
    return isinstance(one, Relational) and isinstance(other, Relational) and bool(_attempt(_same_solutions, one, other))


def _cancel(one: Any, other: Any) -> bool:
    """Whether the difference is 0 as it stands, as a fraction, or expanded: most equal answers are, at a tenth of the
    cost of simplifying."""
    from sympy import cancel, exp, expand, together
    from sympy.functions.elementary.trigonometric import TrigonometricFunction

    difference = one - other
    if difference == 0:
        return True
    if (cancel if difference.is_rational_function() else expand)(difference) == 0:
        return True
    if not difference.has(TrigonometricFunction):
        return False
    # As exponentials most identities are between fractions, and the multiple of an angle is a power.
    return bool(expand(together(difference.rewrite(exp)).as_numer_denom()[0]) == 0)


def _same(one: Any, other: Any) -> bool:
    from math_verify import verify

    return bool(verify([one], [other], timeout_seconds=None, allow_set_relation_comp=True))


def _same_solutions(one: Any, other: Any) -> bool:
    """Whether two relations in one variable have the same real solutions: 2x > 4 and x > 2."""
    from sympy import Symbol

    names = [{symbol.name for symbol in side.free_symbols} for side in (one, other)]
    if names[0] != names[1] or len(names[0]) != 1:
        return False
    variable = Symbol(names[0].pop(), real=True)
    sets = [side.subs(dict.fromkeys(side.free_symbols, variable)).as_set() for side in (one, other)]
    return bool(sets[0] == sets[1])


def _differ(one: Any, other: Any) -> bool:
    """Whether two expressions certainly differ at some point, to 15 digits of their own size.

    Math-Verify rounds differences to 15 places, which makes e^{-100} equal e^{-101}.
    """
    from sympy import Rational

    names = sorted({symbol.name for symbol in one.free_symbols | other.free_symbols})
    for shift in (3, 11):
        point = {name: Rational(2 * index + shift, 7) for index, name in enumerate(names)}
        values = []
        for side in (one, other):
            # Not by substitution, which would compute exact powers of whatever stands in the exponent.
            value = side.evalf(30, subs={symbol: point[symbol.name] for symbol in side.free_symbols})
            values.append(value.as_real_imag())
        for left, right in zip(*values, strict=True):
            # A value of precision 1 is noise around 0.
            reliable = all(part.is_Float and part._prec > 1 for part in (left, right))
            if reliable and abs(left - right) > max(abs(left), abs(right)) * Rational(1, 10**15):
                return True
    return False
