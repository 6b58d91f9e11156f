"""Countdown answers, checked by parsing and never by `eval`: reach a target from given numbers with + - * /.

As in the television game every intermediate result is a positive whole number. An answer is one expression
("(6-2)*5+3") or, for small models, a chain of steps ("6-2=4,4*5=20,20+3=23"); both are judged alike.

A solution also gets a canonical form: two answers share it exactly if they are equal as formulas under commutativity,
associativity and the sign rules (`a-(b-c)` = `a+c-b`, `a/(b/c)` = `a*c/b`). Distributed forms need a number twice,
which the rules forbid, so this decides "the same way to the target".
"""

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from progrpo import rewards
from progrpo.rewards import _tagged
from progrpo.types import Problem, Verdict

__all__ = ["apply", "combine", "number", "read_expression", "read_steps"]

CANONICAL = True
_MAX_CHARACTERS = 256
_SYMBOLS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_ALLOWED = re.compile(r"[0-9+\-*/() ]+")
_STEP = re.compile(r" *([0-9]+) *([+\-*/]) *([0-9]+) *= *([0-9]+) *")


class Params(rewards.Params):
    tag: str | None = None
    """Take the text of the last `<tag>...</tag>` as the answer; None takes the whole completion."""


class UnreadableError(ValueError):
    """The text is neither an expression over + - * / and whole numbers nor a chain of steps."""


class RuleError(ValueError):
    """The answer can be read and breaks a rule of the game."""


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """Judge one completion: it must reach `problem.answer` (the target) with the numbers in `problem.info["numbers"]`,
    each at most once and at least `problem.info["min_used"]` of them (all, where the problem does not say).

    `problem.info["grammar"]` says how it is written: "expression" (where the problem does not say) or "steps".
    `no_answer`: nothing that can be read. `wrong`: it breaks a rule or gives another value. `bad_gold`: see `gold_fault`.
    """
    fault = gold_fault(problem, params)
    if fault is not None:
        return Verdict(status="bad_gold", reward=params.wrong_reward, detail=fault)
    extracted = _tagged.last(text, params.tag)
    if extracted is None:
        return Verdict(status="no_answer", reward=params.wrong_reward, detail=f"no <{params.tag}> in the completion")
    form = None
    try:
        numbers: Sequence[int] = problem.info["numbers"]
        steps = problem.info.get("grammar") == "steps"
        form = read_steps(extracted, numbers) if steps else read_expression(extracted)
        _require_numbers(form, numbers, int(problem.info.get("min_used", len(numbers))))
        if form.value != int(problem.answer or 0):
            raise RuleError(f"equals {form.value}, expected {problem.answer}")
    except UnreadableError as error:
        return Verdict(status="no_answer", reward=params.wrong_reward, extracted=extracted[:80], detail=str(error))
    except RuleError as error:
        canonical = form.text if form else None
        return Verdict(
            status="wrong", reward=params.wrong_reward, extracted=extracted, canonical=canonical, detail=str(error)
        )
    return Verdict(status="correct", reward=params.correct_reward, extracted=extracted, canonical=form.text)


def gold_fault(problem: Problem, params: Params) -> str | None:
    """Why a problem cannot be judged: no whole-number target, or no list of whole numbers to reach it with."""
    if not re.fullmatch(r"[0-9]{1,18}", str(problem.answer)):
        return f"the answer must be the target, a positive whole number, got {problem.answer!r}"
    numbers = problem.info.get("numbers")
    if not isinstance(numbers, list | tuple) or not all(type(value) is int and value > 0 for value in numbers):
        return f"numbers must be a list of positive whole numbers, got {numbers!r:.80}"
    least = problem.info.get("min_used", len(numbers))
    if type(least) is not int:
        return f"min_used must be a whole number, got {least!r:.80}"
    return None


@dataclass(frozen=True, slots=True)
class Form:
    """A canonical form: a sum (`over` added, `under` subtracted) or a product (multiplied, divided), parts sorted.

    Two forms are equal if their texts are; `value` is exact, `leaves` are the numbers used, sorted.
    """

    kind: Literal["sum", "product"]
    over: tuple[str, ...]
    under: tuple[str, ...]
    value: int = field(compare=False)
    leaves: tuple[int, ...] = field(compare=False)

    @property
    def text(self) -> str:
        """The form as a readable expression."""
        plus, minus = ("+", "-") if self.kind == "sum" else ("*", "/")
        return plus.join(self.over) + "".join(minus + part for part in self.under)


def number(value: int) -> Form:
    return Form("product", (str(value),), (), value, (value,))


def combine(operator: str, left: Form, right: Form) -> Form:
    """The canonical form of `left operator right`, operator one of + - * /.

    Raises:
        RuleError: the result is not a positive whole number.
    """
    value = apply(operator, left.value, right.value)
    if value is None:
        raise RuleError(f"{left.value}{operator}{right.value} is not a positive whole number")
    leaves = tuple(sorted(left.leaves + right.leaves))
    kind: Literal["sum", "product"] = "sum" if operator in "+-" else "product"
    over, under = _parts(left, kind)
    more, less = _parts(right, kind)
    if operator in "-/":
        more, less = less, more
    return Form(kind, tuple(sorted(over + more)), tuple(sorted(under + less)), value, leaves)


def apply(operator: str, left: int, right: int) -> int | None:
    """The result of one operation on positive whole numbers; None where it is not one itself."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right if left > right else None
        case "*":
            return left * right
        case _:
            return left // right if right and left % right == 0 else None


def read_expression(text: str) -> Form:
    """Read "(6-2)*5+3".

    Raises:
        UnreadableError: another character or operator, a unary sign, empty, or longer than 256 characters.
        RuleError: an intermediate result is not a positive whole number.
    """
    text = _checked(text)
    if not _ALLOWED.fullmatch(text):
        raise UnreadableError("only digits, + - * / ( ) and spaces are allowed")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise UnreadableError(f"does not parse: {error.__class__.__name__}") from None
    return _read_tree(tree)


def read_steps(text: str, numbers: Sequence[int]) -> Form:
    """Read "6-2=4,4*5=20,20+3=23": each step takes two numbers that are there and leaves its result; the last result is
    the answer. Where a given number and an earlier result are equal, the result is taken.

    Raises:
        UnreadableError: another form, empty, or longer than 256 characters.
        RuleError: a number is not there, or a step's result is wrong or not a positive whole number.
    """
    available = [number(value) for value in numbers]
    for part in _checked(text).split(","):
        match = _STEP.fullmatch(part)
        if match is None:
            raise UnreadableError(f"expected steps like 6-2=4,4*5=20, got {part[:40]!r}")
        left, operator, right, result = match.groups()
        form = combine(operator, _take(available, int(left)), _take(available, int(right)))
        if form.value != int(result):
            raise RuleError(f"{left}{operator}{right} equals {form.value}, not {result}")
        available.append(form)
    return available[-1]


def _read_tree(tree: ast.expr) -> Form:
    if isinstance(tree, ast.Constant) and type(tree.value) is int:
        return number(tree.value)
    if isinstance(tree, ast.BinOp) and type(tree.op) in _SYMBOLS:
        return combine(_SYMBOLS[type(tree.op)], _read_tree(tree.left), _read_tree(tree.right))
    raise UnreadableError(f"{type(tree).__name__} is not allowed")


def _take(available: list[Form], value: int) -> Form:
    for position in reversed(range(len(available))):
        if available[position].value == value:
            return available.pop(position)
    raise RuleError(f"{value} is not there; there are {sorted(form.value for form in available)}")


def _require_numbers(form: Form, numbers: Sequence[int], least: int) -> None:
    if Counter(form.leaves) - Counter(numbers) or len(form.leaves) < least:
        raise RuleError(f"uses {list(form.leaves)}, expected at least {least} of {sorted(numbers)}")


def _parts(form: Form, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A form as parts of a larger sum or product: flattened where the kind is the same, else one part."""
    if form.kind == kind or len(form.leaves) == 1:
        return form.over, form.under
    return ((form.text,) if kind == "sum" else (f"({form.text})",)), ()


def _checked(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= _MAX_CHARACTERS:
        raise UnreadableError(f"expected 1 to {_MAX_CHARACTERS} characters, got {len(text)}")
    return text
