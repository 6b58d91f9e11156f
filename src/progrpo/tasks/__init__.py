"""One data set or benchmark = one file.

The contract:
    Params          its settings, a `Settings` model; those of a published data set build on `tasks._published.Published`
    load            load(split, params) -> Sequence[Problem], with the splits "train" and "test"
    REWARD          the reward that judges it unless the recipe names another: its name, or {"name": ..., key: value};
                    or reward(params) -> either, where that depends on its settings
    and, where they are needed:
    MAX_NEW_TOKENS  tokens a completion may have in `progrpo evaluate` unless told otherwise; 8,192 without it
    SAMPLES         completions per problem under each preset of `progrpo evaluate` ({"paper": 32, "recommended": 64})
    summarise       summarise(problems, params) -> {name: value}: numbers of the whole task that are no mean over
                    problems (a rating), from the `Judged` problems of an evaluation
    check           check(params, problems): called before an evaluation; raises a `DataError` where `summarise` lacks
                    something
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from progrpo import plugins
from progrpo.errors import DataError, PluginError
from progrpo.settings import Choice, parse
from progrpo.types import Problem


def load(choice: Choice) -> tuple[ModuleType, Any]:
    """Import the chosen task and validate its settings.

    Raises:
        PluginError: unknown name, or the file lacks `load` or `Params`.
        ConfigError: unknown or invalid setting.
    """
    module = plugins.load("tasks", choice.name)
    for name in ("load", "Params"):
        if not callable(getattr(module, name, None)):
            raise PluginError(f"task {choice.name!r}: {module.__name__} must define {name}")
    if not hasattr(module, "REWARD") and not hasattr(module, "reward"):
        raise PluginError(f"task {choice.name!r}: {module.__name__} must define REWARD or reward(params)")
    return module, parse(module.Params, choice.params, where=f"task {choice.name}")


def reward(choice: Choice) -> Choice:
    """The reward that judges the chosen task unless another is named."""
    module, params = load(choice)
    chosen = module.reward(params) if hasattr(module, "reward") else module.REWARD
    return Choice(name=chosen) if isinstance(chosen, str) else Choice(**chosen)


def problems(choice: Choice, split: str) -> Sequence[Problem]:
    """Load one split.

    Raises:
        DataError: the split is empty or two of its problems share an id.
    """
    module, params = load(choice)
    loaded: Sequence[Problem] = module.load(split, params)
    if len(loaded) == 0:
        raise DataError(f"task {choice.name!r}: split {split!r} has no problems")
    ids = {problem.id for problem in loaded}
    if len(ids) != len(loaded):
        raise DataError(f"task {choice.name!r}: split {split!r} has {len(loaded)} problems but {len(ids)} ids")
    return loaded


def overlap(train: Sequence[Problem], test: Sequence[Problem]) -> str | None:
    """A warning where held-out problems are training problems too, by prompt; None where none is."""
    known = {str(problem.prompt) for problem in train}
    shared = [problem for problem in test if str(problem.prompt) in known]
    if not shared:
        return None
    return (
        f"{len(shared)} of {len(test)} held-out problems are training problems too (the first: {shared[0].id!r}): held-out "
        "numbers will say what was learned by heart; give the two splits files of their own"
    )
