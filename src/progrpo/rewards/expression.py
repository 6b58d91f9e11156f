"""Countdown: an arithmetic expression over given numbers that reaches a target, checked by parsing, never by `eval`.

A solution also gets a canonical form: two expressions share it exactly if they are equal as formulas under
commutativity, associativity and the sign rules (`a-(b-c)` = `a+c-b`, `a/(b/c)` = `a*c/b`, `(a-b)*(c-d)` = `(b-a)*(d-c)`).
Distributed forms need a number twice, which the rules of the game forbid, so this decides "the same way to the target".
"""

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from progrpo import rewards
from progrpo.types import Problem, Verdict

MAX_CHARACTERS = 256
_SYMBOLS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_ALLOWED = re.compile(r"[0-9+\-*/() ]+")


class Params(rewards.Params):
    tag: str | None = None
    """Take the text of the last `<tag>...</tag>` as the answer; None takes the whole completion."""


class ExpressionError(ValueError):
    """The text is no expression over + - * / and whole numbers."""


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """Judge one completion: it must reach `problem.answer` (the target) with the numbers in `problem.info["numbers"]`,
    each at most once and at least `problem.info["min_used"]` of them (all, where the problem does not say).

    `no_answer`: nothing that parses. `wrong`: other numbers, division by zero, or another value.
    """
    extracted = _extract(text, params.tag)
    if extracted is None:
        return Verdict(status="no_answer", reward=params.wrong_reward, detail=f"no <{params.tag}> in the completion")
    try:
        tree = parse_expression(extracted)
    except ExpressionError as error:
        return Verdict(status="no_answer", reward=params.wrong_reward, extracted=extracted[:80], detail=str(error))
    fault, form = _judge(tree, problem)
    if fault:
        return Verdict(status="wrong", reward=params.wrong_reward, extracted=extracted, canonical=form, detail=fault)
    return Verdict(status="correct", reward=params.correct_reward, extracted=extracted, canonical=form)


def parse_expression(text: str) -> ast.expr:
    """Parse to a tree of `+ - * /` over non-negative integers.

    Raises:
        ExpressionError: another character, operator, unary sign, empty or longer than 256 characters.
    """
    text = text.strip()
    if not 0 < len(text) <= MAX_CHARACTERS:
        raise ExpressionError(f"expected 1 to {MAX_CHARACTERS} characters, got {len(text)}")
    if not _ALLOWED.fullmatch(text):
        raise ExpressionError("only digits, + - * / ( ) and spaces are allowed")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"does not parse: {error.__class__.__name__}") from None
    for node in ast.walk(tree):
        operator = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div)
        number = isinstance(node, ast.Constant) and type(node.value) is int
        if isinstance(node, ast.expr) and not operator and not number:
            raise ExpressionError(f"{type(node).__name__} is not allowed")
    return tree


@dataclass(frozen=True, slots=True)
class Form:
    """A sum (`over` added, `under` subtracted) or a signed product (`over` multiplied, `under` divided), sorted."""

    kind: Literal["sum", "product"]
    sign: int
    over: tuple[str, ...]
    under: tuple[str, ...]
    value: Fraction = field(compare=False)

    @property
    def text(self) -> str:
        """The form as a readable expression."""
        plus, minus = ("+", "-") if self.kind == "sum" else ("*", "/")
        text = plus.join(self.over) + "".join(minus + form for form in self.under)
        return text if self.sign > 0 else f"-({text})"


def canonical_form(tree: ast.expr) -> Form:
    """The form that all expressions of one solution share, with its exact value.

    Raises:
        ZeroDivisionError: a divisor is 0.
    """
    if isinstance(tree, ast.Constant):
        return number_form(tree.value)
    assert isinstance(tree, ast.BinOp)
    return combine(_SYMBOLS[type(tree.op)], canonical_form(tree.left), canonical_form(tree.right))


def number_form(value: int) -> Form:
    return Form("product", 1, (str(value),), (), Fraction(value))


def combine(operator: str, left: Form, right: Form) -> Form:
    """The canonical form of `left operator right`, operator one of + - * /.

    Raises:
        ZeroDivisionError: `right` is 0 and the operator "/".
    """
    if operator in "+-":
        over, under = _terms(left)
        plus, minus = _terms(right)
        if operator == "-":
            plus, minus = minus, plus
        value = left.value + right.value if operator == "+" else left.value - right.value
        return Form("sum", 1, tuple(sorted(over + plus)), tuple(sorted(under + minus)), value)
    sign, over, under = _factors(left)
    right_sign, times, by = _factors(right)
    if operator == "/":
        times, by = by, times
    value = left.value * right.value if operator == "*" else left.value / right.value
    return Form("product", sign * right_sign, tuple(sorted(over + times)), tuple(sorted(under + by)), value)


def _terms(form: Form) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Added and subtracted terms."""
    if form.kind == "sum":
        return form.over, form.under
    term = (form.text.removeprefix("-(").removesuffix(")") if form.sign < 0 else form.text,)
    return (term, ()) if form.sign > 0 else ((), term)


def _factors(form: Form) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Sign, numerators and denominators; a sum counts as one factor, turned so that it is positive."""
    if form.kind == "product":
        return form.sign, form.over, form.under
    turned = Form("sum", 1, form.under, form.over, -form.value)
    flip = form.value < 0 or (form.value == 0 and turned.text < form.text)
    return -1 if flip else 1, (f"({(turned if flip else form).text})",), ()


def _extract(text: str, tag: str | None) -> str | None:
    if tag is None:
        return text.strip()
    found = re.findall(rf"<{re.escape(tag)}>(.*?)</{re.escape(tag)}>", text, flags=re.DOTALL)
    return found[-1].strip() if found else None


def _judge(tree: ast.expr, problem: Problem) -> tuple[str, str | None]:
    """What is wrong with a parsed answer ("" if nothing), and its canonical form."""
    try:
        form = canonical_form(tree)
    except ZeroDivisionError:
        return "divides by zero", None
    numbers: Sequence[int] = problem.info["numbers"]
    used = Counter(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    least = int(problem.info.get("min_used", len(numbers)))
    if used - Counter(numbers) or used.total() < least:
        return f"uses {sorted(used.elements())}, expected at least {least} of {sorted(numbers)}", form.text
    if form.value != Fraction(problem.answer or 0):
        return f"equals {form.value}, expected {problem.answer}", form.text
    return "", form.text
