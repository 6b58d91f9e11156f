"""When two answers are equal, decided on their forms; only scalars that are no plain numbers need algebra.

Every comparison has three values. None: it hangs on parts that the `Leaf` left open.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from progrpo.rewards.math.equations import conclusion, has_unknown, is_solved, names
from progrpo.rewards.math.forms import Based, Chain, Compound, Form, Scalar, read
from progrpo.rewards.math.numbers import Number, numbers_equal
from progrpo.rewards.math.relations import (
    VARIABLE,
    as_interval,
    as_tuples,
    as_union,
    has_variable,
    is_algebraic,
    is_assignment,
    name,
)
from progrpo.rewards.math.text import is_words, key
from progrpo.rewards.math.units import agree, split_tail

Leaf = Callable[[Form, Form], bool | None]
"""leaf(gold, answer): whether two forms are equal by algebra; None where it does not decide."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of rewards/math.py that comparison needs; see there."""

    percent_optional: bool
    evaluated: bool
    rounded_places: int | None
    relative_tolerance: float


_ZERO = Number(Fraction(0))
_INTERVALS = ("()", "(]", "[)", "[]")
_EVALUATES = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf|binom|choose|max|min|gcd|lcm|det|sup|inf|deg|dim|bmod)(?![a-zA-Z])|!|"
    r"\\frac\{d|\\begin\{vmatrix\}|\|\\begin"
)
"""Operations whose result is the answer: one that the gold answer does not have is left unevaluated."""


def compare(gold: Form, answer: Form, leaf: Leaf, rules: Rules) -> bool | None:
    """Whether an answer equals the gold answer. Not symmetric: the gold answer sets the form."""
    if isinstance(gold, Number) and isinstance(answer, Number):
        return numbers_equal(
            gold,
            answer,
            percent_optional=rules.percent_optional,
            rounded_places=rules.rounded_places,
            relative_tolerance=rules.relative_tolerance,
        )
    if not (isinstance(gold, Number | Scalar) and isinstance(answer, Number | Scalar)):
        named = as_tuples(gold, answer)
        if named is None:
            return False
        gold, answer = named
    gold, answer = conclusion(gold), conclusion(answer)
    if isinstance(gold, Chain) and (exact := _exact_part(gold)) is not gold:
        return True if key(_text(gold)) == key(_text(answer)) else compare(exact, answer, leaf, rules)
    if isinstance(gold, Chain) and set(gold.signs) == {"="} and not any(map(has_unknown, gold.parts)):
        return compare(read(gold.parts[-1]), answer, leaf, rules)  # 5+6 = 11
    if isinstance(gold, Chain):
        return _compare_relation(gold, answer, leaf, rules)
    if isinstance(answer, Chain):
        return _compare_with_relation(gold, answer, leaf, rules)
    if isinstance(gold, Based) or isinstance(answer, Based):
        return _compare_based(gold, answer)
    if isinstance(gold, Compound) and isinstance(answer, Compound):
        return _compare_groups(gold, answer, leaf, rules)
    if isinstance(gold, Compound):
        return _compare_group_and_single(gold, answer, leaf, rules)
    if isinstance(answer, Compound):
        return _compare_single_and_group(gold, answer, leaf, rules)
    return _compare_singles(gold, answer, leaf, rules)


def _compare_singles(gold: Form, answer: Form, leaf: Leaf, rules: Rules) -> bool | None:
    """Two of number and scalar, not both numbers."""
    units = [form.unit for form in (gold, answer) if isinstance(form, Number | Scalar)]
    if len(units) == 2 and not agree(*units):
        return False
    if isinstance(gold, Scalar) and isinstance(answer, Scalar) and _bare(gold.text) == _bare(answer.text):
        return True
    if any(isinstance(form, Scalar) and is_words(form.text) for form in (gold, answer)):
        return False
    if isinstance(gold, Number) and gold.step is None and rules.evaluated:
        return False
    return _ask(gold, answer, leaf, rules)


def _bare(text: str) -> str:
    return key(text).lstrip("+")


def _ask(gold: Form, answer: Form, leaf: Leaf, rules: Rules) -> bool | None:
    if rules.evaluated and set(_EVALUATES.findall(_text(answer))) - set(_EVALUATES.findall(_text(gold))):
        return False
    return leaf(gold, answer)


def _text(form: Form) -> str:
    return "" if isinstance(form, Number | Based) else form.text


def _compare_based(gold: Form, answer: Form) -> bool:
    """The gold answer's base must be named; without one, an answer in some base counts by its value."""
    if isinstance(gold, Number) and isinstance(answer, Based):
        return gold.value == int(answer.digits, answer.base)
    return gold == answer


def _compare_groups(gold: Compound, answer: Compound, leaf: Leaf, rules: Rules) -> bool | None:
    gold, answer = as_union(gold, answer.kind), as_union(answer, gold.kind)
    if gold.kind == answer.kind == "union":
        return _match(gold.items, answer.items, leaf, rules) or _ask(gold, answer, leaf, rules)
    if "union" in (gold.kind, answer.kind):
        return _ask(gold, answer, leaf, rules)
    if gold.kind in ("set", "list") and answer.kind in ("set", "list"):
        return _match(gold.items, answer.items, leaf, rules, distinct="set" in (gold.kind, answer.kind))
    if gold.kind == answer.kind == "ratio":
        gold, answer = _without_half(gold, answer), _without_half(answer, gold)
    if len(gold.items) != len(answer.items):
        return False
    # The pair (1,2) may be a point or an open interval, never [1,2); three numbers may stand in any brackets.
    both = gold.kind in _INTERVALS and answer.kind in _INTERVALS
    same = gold.kind == answer.kind or (both and len(gold.items) != 2)
    bare = (gold.kind == "list" and answer.kind == "()") or (gold.kind == "()" and answer.kind == "list")
    return _all_equal(gold.items, answer.items, leaf, rules) if same or bare else False


def _all_equal(gold: Sequence[Form], answer: Sequence[Form], leaf: Leaf, rules: Rules) -> bool | None:
    all_equal: bool | None = True
    for one, other in zip(gold, answer, strict=True):
        equal = compare(one, other, leaf, rules)
        if equal is False:
            return False
        all_equal = None if equal is None else all_equal
    return all_equal


def _match(
    gold: Sequence[Form], answer: Sequence[Form], leaf: Leaf, rules: Rules, *, distinct: bool = False
) -> bool | None:
    """Whether each part of one has its own equal in the other; `distinct` lets repeated parts count once."""
    if not distinct and len(gold) != len(answer):
        return False
    table = [[compare(one, other, leaf, rules) for other in answer] for one in gold]
    columns = list(zip(*table, strict=True)) if table and answer else [()] * len(answer)
    if not all(any(equal is not False for equal in line) for line in [*table, *columns]):
        return False
    if distinct:
        return True if all(True in line for line in [*table, *columns]) else None
    free = set(range(len(answer)))
    for line in table:
        taken = next((index for index in free if line[index] is True), None)
        if taken is None:
            return None if any(None in line for line in table) else False
        free.discard(taken)
    return True


def _compare_group_and_single(gold: Compound, answer: Form, leaf: Leaf, rules: Rules) -> bool | None:
    if gold.kind in ("set", "list") and len(gold.items) == 1:
        return compare(gold.items[0], answer, leaf, rules)
    if gold.kind == "ratio" and isinstance(answer, Number):
        return _ratio_value(gold) == answer.value
    return False if _cannot_be(gold, answer) else _ask(gold, answer, leaf, rules)


def _compare_single_and_group(gold: Form, answer: Compound, leaf: Leaf, rules: Rules) -> bool | None:
    if answer.kind in ("set", "list") and len(answer.items) == 1:
        return compare(gold, answer.items[0], leaf, rules)
    if answer.kind == "ratio" and isinstance(gold, Number):
        return _ratio_value(answer) == gold.value
    return False if _cannot_be(answer, gold) else _ask(gold, answer, leaf, rules)


def _cannot_be(group: Compound, single: Form) -> bool:
    """Whether no algebra can make one thing of several; a product of matrices or an operation on sets may be one."""
    composite = isinstance(single, Scalar) and re.search(r"\\begin|\\cap|\\setminus|\\mathbb|\\\{|\\mid", single.text)
    return not composite or group.kind in ("list", "ratio")


def _without_half(time: Compound, other: Compound) -> Compound:
    """A time without "am" or "pm" where the other side has none, as with units."""
    named = [bool(side.items) and isinstance(side.items[-1], Scalar) for side in (time, other)]
    return Compound("ratio", time.items[:-1], time.text) if named == [True, False] else time


def _ratio_value(ratio: Compound) -> object:
    top, bottom = (ratio.items[0], ratio.items[1]) if len(ratio.items) == 2 else (None, None)
    return top.value / bottom.value if isinstance(top, Number) and isinstance(bottom, Number) and bottom.value else None


def _exact_part(gold: Chain) -> Form:
    r"""Of a gold answer "\sqrt{2} \approx 1.414" what stands before the first \approx; of "x \approx 1.414" x = 1.414."""
    if r"\approx" not in gold.signs or set(gold.signs) - {"=", r"\approx"}:
        return gold
    end = gold.signs.index(r"\approx") + 1
    if end == 1 and VARIABLE.fullmatch(gold.parts[0]):
        end = 2
    return gold if has_variable(gold.parts[end - 1]) else read(" = ".join(gold.parts[:end]))


def _compare_relation(gold: Chain, answer: Form, leaf: Leaf, rules: Rules) -> bool | None:
    """The gold answer is a relation."""
    interval = as_interval(gold)
    if not isinstance(answer, Chain):
        if interval:
            return compare(interval[1], answer, leaf, rules)
        if is_assignment(gold):
            return compare(read(gold.parts[-1]), answer, leaf, rules)
        return _ask(gold, answer, leaf, rules) if isinstance(answer, Compound) and answer.kind != "list" else False
    other = as_interval(answer)
    if interval and other:
        return interval[0] == other[0] and compare(interval[1], other[1], leaf, rules)
    if interval and not is_solved(answer):
        return key(gold.text) == key(answer.text)
    if set(answer.signs) == {"="} and VARIABLE.fullmatch(answer.parts[-1]) and not VARIABLE.fullmatch(answer.parts[0]):
        answer = Chain(answer.parts[::-1], answer.signs, " = ".join(answer.parts[::-1]))
    if is_assignment(gold) and is_assignment(answer):
        values = read(gold.parts[-1]), read(answer.parts[-1])
        if name(gold.parts[0]) == name(answer.parts[0]):
            return compare(*values, leaf, rules)
        if isinstance(values[0], Number) and isinstance(values[1], Number) and not is_algebraic(gold):
            return False
    elif is_assignment(gold) and not is_algebraic(gold) and not has_variable(gold.parts[-1]):
        return _compare_with_relation(read(gold.parts[-1]), answer, leaf, rules)  # 2x = 10 for x = 5
    return True if key(gold.text) == key(answer.text) else _ask(gold, answer, leaf, rules)


def _compare_with_relation(gold: Form, answer: Chain, leaf: Leaf, rules: Rules) -> bool | None:
    """The answer is a relation and the gold answer is not: x = 5 for 5, 200+4 = 204 for 204, x >= 0 for [0, oo)."""
    interval = as_interval(answer)
    if interval:
        return compare(gold, interval[1], leaf, rules) if isinstance(gold, Compound) else False
    if set(answer.signs) - {"=", r"\approx"}:
        return _ask(gold, answer, leaf, rules) if isinstance(gold, Compound) and is_solved(answer) else False
    parts = list(answer.parts)
    if r"\approx" in answer.signs and not (answer.signs[0] == r"\approx" and VARIABLE.fullmatch(parts[0])):
        before = answer.signs.index(r"\approx") + 1
        if any(has_unknown(part) and not names(part) for part in parts[before:]):
            return False
        parts = parts[:before]
    if VARIABLE.fullmatch(parts[-1]) and not VARIABLE.fullmatch(parts[0]):
        parts.reverse()
    elif isinstance(read(parts[0]), Number) and not isinstance(read(parts[-1]), Number):
        parts.reverse()  # 204 = 200+4
    verdict = compare(gold, read(parts[-1]), leaf, rules)
    if verdict is False or len(parts) == 1:
        return verdict
    said = [_says(part, parts[-1], leaf, _loose(rules)) for part in parts[:-1] if part]
    if "no" in said or set(said) == {"nothing"}:
        return False
    return None if "open" in said else verdict


def _says(part: str, value: str, leaf: Leaf, rules: Rules) -> Literal["yes", "no", "open", "nothing"]:
    """Whether "part = value" says what something is: yes; no where it is false, nothing where it has yet to be solved."""
    form, goal = read(part), read(value)
    plain = not has_variable(part)
    if not plain and names(part, value_is_zero=goal == _ZERO, value_is_group=isinstance(goal, Compound)):
        return "yes"
    if not plain and isinstance(form, Number):
        things = [text[len(split_tail(text)[0]) :].strip() for text in (part, value)]
        if all(things) and things[0] != things[1]:
            return "yes"  # 5 m = 500 cm: nothing is converted
        plain = True
    if not plain and not has_unknown(part):
        return "yes"  # \gcd(12, 18) = 6
    if not plain and isinstance(goal, Number) and has_unknown(part, constants="ei"):
        return "nothing"
    equal = compare(goal, form, leaf, rules)
    if equal is None:
        return "open"
    return "yes" if equal else ("no" if plain else "nothing")


def _loose(rules: Rules) -> Rules:
    return Rules(rules.percent_optional, False, rules.rounded_places, rules.relative_tolerance)
