"""One data set or benchmark = one file.

The contract: `Params` (a `Settings` model), `load(split, params) -> Sequence[Problem]` with the splits "train" and
"test", and `REWARD`, the name of the reward that judges it unless the recipe names another.
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
    return module, parse(module.Params, choice.params, where=f"task {choice.name}")


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
