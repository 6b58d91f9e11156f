"""One verifier = one file. The contract: `Params` (a `Settings` model) and `score(text, problem, params) -> Verdict`.

A file may set `SLOW = True`: its calls then run in a worker process that is killed at the time limit (rollout/verify.py).
"""

from types import ModuleType
from typing import Any

from progrpo import plugins
from progrpo.errors import PluginError
from progrpo.settings import Choice, Settings, parse


class Params(Settings):
    """Settings every reward has; a file's own `Params` adds to them."""

    correct_reward: float = 1.0
    """Reward of a correct completion, any scale; "correct" itself is the verdict's status."""
    wrong_reward: float = 0.0
    """Reward of every other completion, that without an answer included."""


def load(choice: Choice) -> tuple[ModuleType, Any]:
    """Import the chosen reward and validate its settings.

    Raises:
        PluginError: unknown name, or the file lacks `score`.
        ConfigError: unknown or invalid setting.
    """
    module = plugins.load("rewards", choice.name)
    if not callable(getattr(module, "score", None)):
        raise PluginError(f"reward {choice.name!r}: {module.__name__} must define score(text, problem, params)")
    return module, parse(getattr(module, "Params", Params), choice.params, where=f"reward {choice.name}")
