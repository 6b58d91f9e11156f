"""What two evaluations must share to be compared: sampling, task and reward, as words by name."""

from collections.abc import Mapping
from typing import Any

from progrpo.files import is_number
from progrpo.settings import flat

SAMPLING = ("n", "temperature", "top_p", "top_k", "max_new_tokens", "stop", "precision")
WORDS = {"top_p": "top-p", "top_k": "top-k", "max_new_tokens": "limit", "digest": "problems"}
"""What is said in place of a name."""

SOURCE = "text of "
"""Begins the condition that a user's own reward was the same; where only one side knows, nothing is said."""

_OF_DATA = frozenset({"path", "source", "revision", "expected", "contests", "ratings", "rating"})
_OF_SPLITS = frozenset({"train", "test", "train_size", "test_size", "held_out_fraction", "seed", "weight"})
_WHERE = _OF_DATA | _OF_SPLITS
"""Settings of a task that say where its data come from, which of them are taken, and what else is made of the completions; the
problems themselves are compared by their digest, or one by one."""


def conditions_of(preset: str | None, settings: Mapping[str, Any], counts: str, digest: str) -> dict[str, str]:
    """The conditions of an evaluation.

    Args:
        settings: of the sampling; of the "task" and the "reward", those of each; of a user's own rewards digests, as
            "reward_sources". counts: completions per problem, in words. digest: of the problems.
    """
    sampling = {name: settings[name] for name in SAMPLING if settings.get(name) is not None} | {"n": counts}
    task = {
        key: _without_data(value) for key, value in (settings.get("task") or {}).items() if key not in {*_WHERE, "name"}
    }
    reward = settings.get("reward") or {}
    return (
        {"preset": preset or "none"}
        | {name: _plain(sampling[name]) for name in SAMPLING if name in sampling}
        | flat(task, "task.")
        | flat(reward if isinstance(reward, Mapping) else {"name": reward}, "reward.")
        | {f"{SOURCE}{name}": source for name, source in (settings.get("reward_sources") or {}).items()}
        | {"digest": digest}
    )


def _without_data(value: Any) -> Any:
    """A setting of a task without what says where the data of its parts come from (see `progrpo.tasks.mixture`)."""
    if isinstance(value, list | tuple):
        return [_without_data(part) for part in value]
    if isinstance(value, Mapping):
        return {key: _without_data(part) for key, part in value.items() if key not in _WHERE}
    return value


def _plain(value: Any) -> str:
    """1 and 1.0 are one setting."""
    return f"{value:g}" if is_number(value) and abs(value) < 1e5 else str(value)
