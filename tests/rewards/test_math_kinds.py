"""Kinds of answers, each with its look-alikes; where the answer stands; golds; and rewriting against what a parser reads."""

import itertools
import logging
from fractions import Fraction
from typing import Any

import pytest
from math_kinds import FOUND, KINDS, SENTENCES

from progrpo.errors import ConfigError
from progrpo.rewards.math import Params, fast_verdict, gold_fault, score, symbolic, warm
from progrpo.rewards.math.numbers import Number, read_number
from progrpo.rewards.math.text import clean
from progrpo.settings import parse as parse_settings
from progrpo.types import Problem

ROWS = [
    (kind, gold, rf"So it is $\boxed{{{answer}}}$.", right)
    for kind, sides in KINDS.items()
    for right, pairs in zip((True, False), sides, strict=True)
    for gold, answer in pairs
] + [(kind, *row) for kind, rows in SENTENCES.items() for row in rows]


def problem(gold: str | None) -> Problem:
    return Problem(id="x", prompt="", answer=gold)


@pytest.fixture(scope="module", autouse=True)
def _algebra_is_loaded() -> None:
    warm(Params())


@pytest.mark.parametrize("kind", [*KINDS, *SENTENCES])
def test_kind(kind: str) -> None:
    rows = [row[1:] for row in ROWS if row[0] == kind]
    found = [(gold, text, score(text, problem(gold), Params()).correct) for gold, text, _ in rows]
    assert found == rows


@pytest.mark.parametrize("kind", KINDS)
def test_fast_verdict_never_contradicts(kind: str) -> None:
    for _, gold, text, right in [row for row in ROWS if row[0] == kind]:
        verdict = fast_verdict(text, problem(gold), Params())
        assert verdict is None or verdict.correct == right, (gold, text)


@pytest.mark.parametrize("kind", KINDS)
def test_golds_of_right_answers_are_usable(kind: str) -> None:
    for gold in dict.fromkeys(gold for gold, _ in KINDS[kind][0]):
        assert gold_fault(problem(gold), Params()) is None, gold


# --- Where the answer stands ---


@pytest.mark.parametrize(("find", "gold", "text", "right"), FOUND)
def test_find(find: Any, gold: str, text: str, right: bool) -> None:
    params = parse_settings(Params, {"find": find}, where="math")
    assert score(text, problem(gold), params).correct == right


def test_find_refuses_what_it_does_not_know() -> None:
    for wrong in ("boxes", [], ["boxed", "line"], 3):
        with pytest.raises(ConfigError, match="find"):
            parse_settings(Params, {"find": wrong}, where="math")


def test_former_settings_say_find() -> None:
    # config.yaml of earlier runs: answer_line and last_expression, each on or off.
    assert parse_settings(Params, {"answer_line": True, "last_expression": False}, where="math") == Params()
    assert Params(answer_line=False).find == ("boxed",)
    assert Params(last_expression=True).find == ("boxed", "answer_line", "last_expression")
    with pytest.raises(ConfigError, match="leave out answer_line"):
        parse_settings(Params, {"answer_line": True, "find": "boxed"}, where="math")
    with pytest.raises(ConfigError, match="true or false"):
        parse_settings(Params, {"answer_line": "maybe"}, where="math")


# --- Cut output ---

UNFINISHED = [
    (r"<think> so \boxed{34}", None),
    (r"<think> so \boxed{34}", "stop"),
    (r"<think>a</think> then <think> \boxed{34}", "stop"),
    (r"so \boxed{34} and", "length"),
    ("Answer: 34", "length"),
]


@pytest.mark.parametrize(("text", "finish"), UNFINISHED)
def test_unfinished_completions(text: str, finish: Any) -> None:
    assert score(text, problem("34"), Params(), finish=finish).status == "correct"
    verdict = fast_verdict(text, problem("34"), Params(unfinished="no_answer"), finish=finish)
    assert verdict is not None
    assert (verdict.status, verdict.extracted) == ("no_answer", None)
    assert "unfinished" in verdict.detail


def test_finished_completions_are_judged_either_way() -> None:
    for text in (r"<think>a \boxed{3}</think>\boxed{34}", r"\boxed{34}", r"a</think>\boxed{34}"):
        for finish in ("stop", None):
            assert score(text, problem("34"), Params(unfinished="no_answer"), finish=finish).correct


# --- Golds ---


@pytest.mark.parametrize(
    ("gold", "says"),
    [
        ("the answer is unknown", "is no answer"),
        ("I don't know", "is no answer"),
        ("we are not sure", "is no answer"),
        ("open question", "is no answer"),
        ("Unknown", "is no answer"),
        ("n/a", "is no answer"),
        ("N/A", "is no answer"),
        ("nan", "is no answer"),
        ("null", "is no answer"),
        (r"\text{not given}", "is no answer"),
        ("See solution.", "is no answer"),
        ("...", "is no answer"),
        ("5 is not the answer", "cannot be read"),
        (r"5\text{ vs 6}", "cannot be read"),
        (r"3\text{ if }n\text{ is even}", "cannot be read"),
        ("<think>5</think>", "is not judged correct"),
    ],
)
def test_golds_that_are_no_answers(gold: str, says: str) -> None:
    assert says in (gold_fault(problem(gold), Params()) or "")


@pytest.mark.parametrize("gold", ["yes", "Monday", "no solution", "cannot be determined", "None", "undefined", "True"])
def test_words_that_are_answers(gold: str) -> None:
    assert gold_fault(problem(gold), Params()) is None


def test_a_gold_must_be_readable_where_completions_give_it() -> None:
    # A line ends at the line's end and a sentence at its full stop, a box does not.
    gold = "A. Because"
    assert gold_fault(problem(gold), Params(find=("boxed",))) is None
    assert "as answer_line" in (gold_fault(problem(gold), Params()) or "")
    assert gold_fault(problem("5"), Params(find=("gsm8k", "last_number"))) is None


# --- Rewriting before a parser: what Math-Verify reads in the original must be read to an equal value ---

FUNCTIONS = ("sin", "cos", "tan", "sec", "cot", "csc", "sinh", "cosh", "ln", "log", "arctan")
POWERS = ("", "^2", "^{2}", " ^2", "^{10}")
ARGUMENTS = ("(x)", "{x}", " x", "(2x)", r"\left(x\right)", r"\frac{x}{2}", r"(\frac{x}{2})", "(x+1)", "(2)")


def original(text: str) -> Any:
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    found = parse(rf"\boxed{{{text}}}", [LatexExtractionConfig()], parsing_timeout=None)
    return found[0] if found and not isinstance(found[0], str) else None


def same(one: Any, other: Any) -> bool:
    """Whether two expressions agree at a point of all their letters."""
    letters = sorted(one.free_symbols | other.free_symbols, key=str)
    point = {letter: Fraction(3 + index, 7) for index, letter in enumerate(letters)}
    difference = (one - other).subs(point)
    return bool(abs(complex(difference.evalf(20))) < 1e-12) if letters or difference != 0 else True


def read_alike(function: str, powers: tuple[str, ...]) -> int:
    """How many spellings Math-Verify reads; all of them must be read to an equal value after the rewriting."""
    read = 0
    for power, argument in itertools.product(powers, ARGUMENTS):
        text = rf"3\{function}{power}{argument}+1"
        before, after = original(text), symbolic._parse(clean(text))
        if before is not None:
            read += 1
            assert after is not None, text
            assert same(before, after), (text, before, after)
    return read


@pytest.mark.parametrize("function", ["sin", "ln", "log"])
def test_functions_are_read_as_they_stand(function: str) -> None:
    assert read_alike(function, ("", "^2", "^{2}")) >= 24


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_all_functions_are_read_as_they_stand(function: str) -> None:
    assert read_alike(function, POWERS) >= 40


CURRENCIES = ("", r"\$", r"\$ ", "US$", "€", r"\pounds ", "¥", r"\text{\$}", r"\textdollar ")
SEPARATORS = (",", "{,}", r"\,", r",\!", r"{,}\!", r"\!", r",\! ", "~", r"\ ", r"\;", r"\text{,}", " ", "'")
DECIMALS = (("", 0), (".20", Fraction(1, 5)), (".05", Fraction(1, 20)))
GROUPS = (("1", "000"), ("16", "386"), ("12", "345", "678"))


@pytest.mark.parametrize("currency", CURRENCIES)
def test_money_is_read_to_its_value(currency: str) -> None:
    for separator, (decimals, part), groups, sign in itertools.product(SEPARATORS, DECIMALS, GROUPS, ("", "-")):
        text = f"{sign}{currency}{separator.join(groups)}{decimals}"
        value = (int("".join(groups)) + part) * (-1 if sign else 1)
        number = read_number(clean(text))
        assert isinstance(number, Number), text
        assert number.value == value, text


def test_money_is_read_as_math_verify_reads_it() -> None:
    read = 0
    for separator, (decimals, _), groups in itertools.product((",", "{,}", r",\!"), DECIMALS, GROUPS):
        text = rf"\${separator.join(groups)}{decimals}"
        before, number = original(text), read_number(clean(text))
        if before is not None and before.is_number:
            read += 1
            assert number is not None
            assert abs(float(before) - float(number.value)) < 1e-9, text
    assert read >= 20
