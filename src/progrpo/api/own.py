"""What a Python caller may hand over in place of names: rows of problems and functions that judge them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from progrpo.errors import ConfigError, DataError
from progrpo.files import make_folder, to_json, write_whole
from progrpo.rewards._functions import name_of
from progrpo.types import Problem

Rows = Iterable[Mapping[str, Any]]
"""Problems as mappings: {"prompt": ..., "answer": ..., further columns for the reward}. A `datasets.Dataset` is one, too."""
RewardLike = str | Mapping[str, Any] | Callable[..., Any] | Sequence[str | Mapping[str, Any] | Callable[..., Any]]
TaskLike = str | Mapping[str, Any] | Rows | Callable[[str], Rows]


def reward_section(reward: RewardLike) -> dict[str, Any]:
    """The section `reward` of the settings for a name, a section, a function, or several of them, which are added up.

    Raises:
        ConfigError: a function cannot be called as a reward is.
    """
    if isinstance(reward, str | Mapping) or callable(reward):
        return _part(reward)
    if not reward:
        raise ConfigError("reward: expected a name, a function, a section or a list of them, got an empty list")
    return {"name": "combined", "parts": [_part(one) for one in reward]}


def _part(reward: str | Mapping[str, Any] | Callable[..., Any]) -> dict[str, Any]:
    if isinstance(reward, str):
        return {"name": reward}
    if isinstance(reward, Mapping):
        name = reward.get("name")
        return {**reward, "name": name_of(name)} if callable(name) else dict(reward)
    return {"name": name_of(reward)}


def is_rows(value: Any) -> bool:
    """Whether a value is rows rather than a name or a section."""
    return (
        value is not None
        and not isinstance(value, str | Mapping | Path)
        and (callable(value) or isinstance(value, Iterable))
    )


def has_rows(task: Any) -> bool:
    """Whether a task is given as rows, or a section in which some split is."""
    return is_rows(task) or (isinstance(task, Mapping) and any(is_rows(task.get(split)) for split in ("train", "test")))


def task_section(task: Any, folder: Path) -> dict[str, Any]:
    """The section `task` of the settings for rows, with their files written into `folder`.

    Args:
        task: rows to train on; a function that gives those of "train" and "test"; or a section whose `train` and `test` are
            rows (its other keys are those of the task `file`).

    Raises:
        DataError: a row is no mapping, or holds what JSON cannot.
        ConfigError: `folder` is of a run with other rows.
    """
    if is_rows(task):
        splits = {"train": task("train"), "test": task("test")} if callable(task) else {"train": task}
        section: dict[str, Any] = {}
    else:
        splits = {split: task[split] for split in ("train", "test") if is_rows(task.get(split))}
        section = {key: value for key, value in task.items() if key not in splits}
    columns: set[str] = set()
    for split, rows in splits.items():
        section[split] = str(_write(rows, folder / f"{split}.jsonl", columns))
    defaults = {"info_keys": None, **({} if "answer" in columns else {"answer_key": None})}
    return {"name": "file", **defaults, **section}


def _write(rows: Rows, path: Path, columns: set[str]) -> Path:
    lines = []
    for index, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            what = "a Problem; write it as a mapping" if isinstance(row, Problem) else f"{row!r:.80}"
            raise DataError(
                f'{path.stem} problems, row {index}: expected a mapping {{"prompt": ..., "answer": ...}}, got {what}'
            )
        columns.update(row)
        try:
            lines.append(to_json(dict(row)) + "\n")
        except (TypeError, ValueError) as error:
            raise DataError(f"{path.stem} problems, row {index}: cannot be written as JSON: {error}") from None
    text = "".join(lines)
    if path.exists() and path.read_text("utf-8") == text:
        return path
    if path.exists() and (path.parent.parent / "config.yaml").exists():
        raise ConfigError(
            f"{path}: the run there has other problems than those given; choose another directory with out="
        )
    make_folder(path.parent)
    write_whole(path, text)
    return path
