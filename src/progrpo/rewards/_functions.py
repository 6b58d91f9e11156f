"""Rewards that are plain functions: of a module, of this Python session, or with columns in and a list out as TRL calls them.

    def reward(prompts, completions, **columns) -> list[float | None]

Such a function is called once for a batch of completions, by keyword. `prompts` and `completions` are as the row has its
prompt: texts for a text, messages ([{"role": "assistant", "content": ...}]) for messages. Each column of the rows is a list
beside them; "answer" is there for every task that has one. None is no verdict for that completion.
"""

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from progrpo import plugins
from progrpo.errors import ConfigError, PluginError
from progrpo.types import Problem

SESSION = "python:"
"""Begins the name of a function that only this process knows."""

_session: dict[str, Callable[..., Any]] = {}
_GIVEN = ("prompts", "completions")


def name_of(function: Callable[..., Any]) -> str:
    """A name by which `progrpo.rewards.load` finds the function: "MODULE:FUNCTION" where another process would find it, too;
    else "python:FUNCTION", in this process alone (a function of a script, a notebook or another function).

    Raises:
        ConfigError: it can be called in none of the ways a reward is.
    """
    require_callable(function)
    module, name = (
        getattr(function, "__module__", None) or "",
        getattr(function, "__qualname__", type(function).__name__),
    )
    if name.isidentifier() and module not in ("", "__main__", "__mp_main__"):
        try:
            if getattr(import_module(module), name, None) is function:
                return f"{module}:{name}"
        except ImportError:  # of a module made by hand: nobody else finds it, either
            pass
    short = name.rpartition(".")[2].strip("<>")
    _session[short] = function
    return f"{SESSION}{short}"


def require_callable(function: Callable[..., Any]) -> None:
    """Raises ConfigError if a function takes neither (text, problem[, params]) nor (prompts, completions, **columns)."""
    if takes_columns(function) or plugins.accepts(function, 2) or plugins.accepts(function, 3):
        return
    raise ConfigError(
        f"reward: {getattr(function, '__name__', function)}{inspect.signature(function)} cannot be called as score(text, "
        "problem[, params]), nor as reward(prompts, completions, **columns)"
    )


def takes_columns(function: Callable[..., Any]) -> bool:
    """Whether a function is written as TRL's users write them: it has a parameter `completions`."""
    return plugins.takes(function, "completions")


def as_module(name: str, function: Callable[..., Any]) -> ModuleType:
    """A module of the contract of rewards that consists of the function."""
    module = ModuleType(name)
    if takes_columns(function):
        vars(module)["score_all"] = _with_columns(name, function)
        vars(module)["gold_fault"] = lambda problem, params: _missing(function, problem)
    else:
        vars(module)["score"] = function
    return module


def of_session(name: str) -> Callable[..., Any]:
    """The function registered under "python:NAME".

    Raises:
        PluginError: this process knows none.
    """
    known = _session.get(name.removeprefix(SESSION))
    if known is None:
        raise PluginError(
            f"reward {name!r} was a function of another Python session; give it again (reward=FUNCTION), or put it into a file "
            "of its own and name that (reward.name=./my_reward.py)"
        )
    return known


def only_function(module: ModuleType, name: str) -> Callable[..., Any] | None:
    """The function meant by a module without the names of the contract: `reward`, or the only public one it defines.

    Raises:
        PluginError: it defines several, and none is called `reward`.
    """
    functions = {
        key: value
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    }
    if "reward" in functions or len(functions) == 1:
        return functions.get("reward") or next(iter(functions.values()))
    if len(functions) > 1 and any(takes_columns(value) for value in functions.values()):
        raise PluginError(
            f"reward {name!r} defines {', '.join(functions)}; name the one that is meant: "
            f"reward.name={name}:{next(iter(functions))}"
        )
    return None


def _with_columns(name: str, function: Callable[..., Any]) -> Callable[[Sequence[str], Sequence[Problem]], list[Any]]:
    def score_all(texts: Sequence[str], problems: Sequence[Problem]) -> list[Any]:
        rows = [columns_of(problem) for problem in problems]
        known = dict.fromkeys(key for row in rows for key in row)
        if not _takes_any(function):
            known = {key: None for key in known if plugins.takes(function, key)}
        columns: dict[str, list[Any]] = {key: [row.get(key) for row in rows] for key in known}
        prompts = [_prompt(problem) for problem in problems]
        columns["completions"] = [
            text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
            for text, prompt in zip(texts, prompts, strict=True)
        ]
        if _takes_any(function) or plugins.takes(function, "prompts"):
            columns["prompts"] = prompts
        rewards = function(**columns)
        if not isinstance(rewards, Sequence) or isinstance(rewards, str) or len(rewards) != len(texts):
            count = f"{len(rewards)} of them" if isinstance(rewards, Sequence) else type(rewards).__name__
            raise PluginError(
                f"reward {name!r}: expected a list of {len(texts)} rewards, one a completion, got {count}"
            )
        return list(rewards)

    return score_all


def columns_of(problem: Problem) -> dict[str, Any]:
    """The columns of a problem's row as a reward with columns sees them, the prompt left out."""
    row = {"answer": problem.answer, **problem.info}
    return {key: value for key, value in row.items() if key not in ("prompt", *_GIVEN)}


def _prompt(problem: Problem) -> Any:
    """The prompt as its row has it; where the row was not kept, as the model is given it."""
    row_prompt = problem.info.get("prompt", problem.prompt)
    return row_prompt if isinstance(row_prompt, str) else [dict(message) for message in row_prompt]


def _missing(function: Callable[..., Any], problem: Problem) -> str | None:
    """Which columns a function insists on that a problem's row has not, in words."""
    known = columns_of(problem)
    parameters = inspect.signature(function).parameters.values()
    required = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    lacking = [name for name in required if name not in known and name not in _GIVEN]
    return f"the reward needs {', '.join(lacking)}; the row has {', '.join(known)}" if lacking else None


def _takes_any(function: Callable[..., Any]) -> bool:
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())
