"""The scorer of a reasoning-gym data set, for problems of the task `reasoning_gym`.

A data set scores an answer in [0, 1]: many give 0.01 or 0.05 to any answer of the right shape. A completion is correct from
`correct_at` on; its reward is that of a correct or a wrong one, or with `partial` the score itself.

Some data sets hand the answer to Python's `eval` or to SymPy's parser, which evaluates, too. There an answer is read first, and
one that is more than literals, numbers, names and arithmetic is wrong without being evaluated.
"""

import ast
import copy
import dataclasses
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from json import loads
from typing import Any

from pydantic import Field

from progrpo import rewards
from progrpo.errors import ConfigError, HostError
from progrpo.files import to_json
from progrpo.rewards import _tagged, expression
from progrpo.types import Problem, Verdict

__all__ = ["INSTALL", "dataset_of"]

SLOW = True  # code of others: it may hang
INSTALL = "pip install 'progrpo[reasoning-gym]'"
_LITERALS = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
"""Data sets of reasoning-gym 0.1.25 that evaluate an answer as Python: a list, where they want text."""
_EXPRESSIONS = frozenset(
    {"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"}
)
"""Those that give it to SymPy's parser."""
_FORMS = {
    "complex_arithmetic": re.compile(r"[-+*. 0-9eij]+"),
}
"""What answers look like where the scorer would take others for right: the distance of `nan` is none."""
_BY_TEXT = frozenset({"game_of_life_halting"})
"""Data sets whose scorer takes every answer for right: it compares truth values of texts, and "False" is true. Here only the
answer itself, in upper or lower case, is given to it."""
_UNREADABLE = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, SyntaxError, RecursionError)
_FROM_NUMBERS = frozenset({"countdown", "puzzle24"})
_ARITHMETIC = (ast.Name, ast.BinOp, ast.operator, ast.Call)
_HARMLESS = (ast.Expression, ast.Constant, ast.Load, ast.List, ast.Tuple, ast.UnaryOp, ast.unaryop)
_TRIGONOMETRIC = ("sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "sec", "csc", "cot")
_FUNCTIONS = frozenset({*_TRIGONOMETRIC, "Abs", "Rational", "exp", "ln", "log", "sqrt"})


class Params(rewards.Params):
    tag: str | None = "answer"
    """Take the text of the last `<tag>...</tag>` as the answer; None takes the whole completion."""
    correct_at: float = Field(1.0, gt=0, le=1)
    """A completion is correct if its score is at least this."""
    partial: bool = False
    """Whether the score, times `correct_reward`, is the reward. A group of wrong answers may then have an advantage."""
    ways: bool = False
    """Whether right completions are told apart by their way to the answer, so that distinct solutions are counted: `countdown`
    and `puzzle24` by the expression, equal up to commutativity and the like; any other data set by the text before the answer,
    without white space at the ends of its lines."""


def canonical(params: Params) -> bool:
    return params.ways


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """Judge one completion by its data set's own scorer, on the question that the task drew.

    Raises:
        ConfigError: the problem is of another task.
    """
    at_once = fast_verdict(text, problem, params)
    if at_once is not None:
        return at_once
    answer = _tagged.last(text, params.tag)
    try:
        value = _score_of(problem, answer or "")
    except _UNREADABLE as error:
        # Most scorers catch what an answer in another form makes of them; some do not.
        detail = f"the data set's scorer: {type(error).__name__}: {error!s:.200}"
        return Verdict(status="wrong", reward=params.wrong_reward, extracted=answer, detail=detail)
    correct = value >= params.correct_at
    plain = params.correct_reward if correct else params.wrong_reward
    return Verdict(
        status="correct" if correct else "wrong",
        reward=params.correct_reward * value if params.partial else plain,
        extracted=answer,
        canonical=_way(text, problem, answer or "", params) if correct and params.ways else None,
        detail=f"score {value:g}",
    )


def _way(text: str, problem: Problem, answer: str, params: Params) -> str:
    """What right completions that go the same way share."""
    if problem.info["dataset"] in _FROM_NUMBERS:
        try:
            return expression.read_expression(answer).text
        except ValueError:  # by a broken or negative number, which these data sets allow
            return "".join(answer.split())
    before = _tagged.before(text, params.tag)
    return "\n".join(line.strip() for line in before.strip().splitlines())


def fast_verdict(text: str, problem: Problem, params: Params) -> Verdict | None:
    """`no_answer`, and `wrong` for what must not be evaluated; anything else is the scorer's to say."""
    if "entry" not in problem.info:
        raise ConfigError(
            "reward reasoning_gym: the problem is of another task; it judges those of task `reasoning_gym` alone"
        )
    answer = _tagged.last(text, params.tag)
    if not answer:
        missing = "an empty answer" if answer == "" else f"no <{params.tag}> in the completion"
        return Verdict(status="no_answer", reward=params.wrong_reward, detail=missing)
    refusal = None if _is_gold(problem, answer) else _refusal(problem.info["dataset"], answer)
    if refusal is not None:
        return Verdict(status="wrong", reward=params.wrong_reward, extracted=answer, detail=refusal)
    return None


def _is_gold(problem: Problem, answer: str) -> bool:
    """Whether it is the data set's own answer, which may reach the scorer whatever it looks like."""
    gold = str(problem.info["entry"].get("answer", "")).strip()
    return answer == gold or (problem.info["dataset"] in _BY_TEXT and answer.casefold() == gold.casefold())


def gold_fault(problem: Problem, params: Params) -> str | None:
    """A gold answer that its own data set does not score as correct."""
    if problem.answer is None or "entry" not in problem.info:
        return None
    value = _score_of(problem, problem.answer)
    return None if value >= params.correct_at else f"the data set scores its own answer {value:g}"


def prepare(params: Params) -> None:
    """Raises HostError where reasoning-gym is missing."""
    _require_installed()


def warm(params: Params) -> None:
    _factory()


def dataset_of(name: str, config: Mapping[str, Any], *, seed: int = 0, size: int = 1) -> Any:
    """reasoning-gym's data set of that name.

    Args:
        config: its own settings, without seed and size.

    Raises:
        HostError: reasoning-gym is missing or another version.
        ConfigError: no such data set, no such setting (near names are given), or a value that it refuses.
    """
    known = _factory().DATASETS
    if name not in known or name == "composite":
        near = get_close_matches(name, known, n=5, cutoff=0.4) or sorted(known)[:5]
        hint = "for several data sets give task.datasets" if name == "composite" else f"near: {', '.join(near)}"
        raise ConfigError(f"task reasoning_gym: no data set {name!r} among its {len(known)}; {hint}")
    settings = _config(name, config, known[name][1])
    try:
        return _factory().create_dataset(name, seed=seed, size=size, **settings)
    except (AssertionError, TypeError, ValueError) as error:  # its own checks of its settings
        raise ConfigError(
            f"task reasoning_gym: data set {name!r} refuses its settings {dict(config)!r:.200}: {error}"
        ) from error


def _config(name: str, config: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """The settings with tuples where the data set's own defaults are tuples: YAML knows lists alone."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    own = [field for field in fields if field not in ("seed", "size")]
    for key in config:
        if key in ("seed", "size"):
            raise ConfigError(
                f"task reasoning_gym: {key} is not for the data set's settings; the task has seed, train_size and test_size"
            )
        if key not in fields:
            near = get_close_matches(key, own, n=3, cutoff=0.4) or own
            raise ConfigError(f"task reasoning_gym: data set {name!r} has no setting {key!r}; near: {', '.join(near)}")
    return {
        key: tuple(value) if isinstance(value, list) and isinstance(fields[key].default, tuple) else value
        for key, value in config.items()
    }


def _score_of(problem: Problem, answer: str) -> float:
    info = problem.info
    dataset = _scorer(info["dataset"], to_json(dict(info["config"])))
    return float(dataset.score_answer(answer, copy.deepcopy(dict(info["entry"]))))


@lru_cache(maxsize=64)
def _scorer(name: str, config: str) -> Any:
    return dataset_of(name, loads(config))


def _refusal(dataset: str, answer: str) -> str | None:
    """Why an answer must not reach the data set's scorer; None where it may."""
    if dataset in _BY_TEXT:
        return "not the answer"
    form = _FORMS.get(dataset)
    if form is not None and not form.fullmatch(answer):
        return f"not of the form {form.pattern}"
    if dataset not in _LITERALS | _EXPRESSIONS:
        return None
    try:
        tree = ast.parse(answer, mode="eval")
    except (RecursionError, MemoryError):
        return "nested too deeply"
    except (SyntaxError, ValueError):
        # Python's eval refuses it likewise; SymPy's parser rewrites before it evaluates.
        return None if dataset in _LITERALS else "no arithmetic expression"
    allowed = _HARMLESS + _ARITHMETIC if dataset in _EXPRESSIONS else _HARMLESS
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        unknown = called is not None and (not isinstance(called, ast.Name) or called.id not in _FUNCTIONS)
        if unknown or not isinstance(node, allowed) or (isinstance(node, ast.Name) and "__" in node.id):
            return f"not evaluated: {type(node).__name__} is neither a literal nor arithmetic"
    return None


def _require_installed() -> None:
    if find_spec("reasoning_gym") is None:
        raise HostError(f"reasoning-gym is missing: {INSTALL}")


@lru_cache(maxsize=1)
def _factory() -> Any:
    _require_installed()
    try:
        import reasoning_gym
        import reasoning_gym.factory
    except ImportError as error:
        raise HostError(f"reasoning-gym cannot be imported ({error}): {INSTALL}") from error
    for name in ("DATASETS", "create_dataset"):
        if not hasattr(reasoning_gym.factory, name):
            raise HostError(f"reasoning_gym.factory has no {name}; install a version that is known: {INSTALL}")
    return reasoning_gym.factory
