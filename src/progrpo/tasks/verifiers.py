"""Any single-turn environment of `verifiers` 0.4: its taskset's prompts, judged by its own rewards.

    task:
      name: verifiers
      taskset: my_env          # an installed environment, or a module of the current folder; as verifiers knows it
      config: {difficulty: 2}  # the taskset's own settings

The taskset's first `test_size` tasks are held out, the next `train_size` are trained on, in its own order. Environments with
tools, containers, judges that are models, or rewards that want a runtime are refused: nothing runs here but a reply.
Needs `pip install 'progrpo[verifiers]'`.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from pydantic import Field

from progrpo.errors import DataError
from progrpo.rewards.verifiers import taskset_of
from progrpo.settings import Settings
from progrpo.types import Message, Problem

REWARD = "verifiers"


class Params(Settings):
    taskset: str
    """Name of the environment: `--env.taskset.id` of verifiers."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The taskset's settings."""
    train_size: int = Field(1000, ge=1)
    """Tasks to train on, at most; an endless taskset gives exactly so many."""
    test_size: int = Field(100, ge=1)
    """Held-out tasks, the first of the taskset."""


def load(split: str, params: Params) -> Sequence[Problem]:
    """The tasks of one split.

    Raises:
        DataError: the taskset has no tasks for this split, or a task no prompt.
        ConfigError: the environment needs more than one reply (see `rewards/verifiers.py`).
    """
    taskset = taskset_of(params.taskset, params.config)
    start, stop = (0, params.test_size) if split == "test" else (params.test_size, params.test_size + params.train_size)
    tasks = list(islice(iter(taskset), start, stop))
    if not tasks:
        raise DataError(
            f"task verifiers: taskset {params.taskset!r} has no tasks for split {split!r} (from number {start} on); lower "
            "test_size"
        )
    return [_problem(task, params) for task in tasks]


def _problem(task: Any, params: Params) -> Problem:
    data = task.data
    if data.prompt is None:
        raise DataError(
            f"task verifiers: task {data.idx} of {params.taskset!r} has no prompt: its user opens the conversation"
        )
    written = data.model_dump(mode="json", exclude_none=True)
    answer = written.get("answer")
    return Problem(
        id=f"{data.idx}-{task.key[:16]}",
        prompt=_prompt(data),
        answer=answer if isinstance(answer, str) else None,
        info={"taskset": params.taskset, "config": params.config, "data": written},
        place=f"taskset {params.taskset}, task {data.idx}",
    )


def _prompt(data: Any) -> str | tuple[Message, ...]:
    """Plain text becomes a user's message where there is a system prompt; else it stays text for the model as it is."""
    system: list[Mapping[str, str]] = (
        [{"role": "system", "content": data.system_prompt}] if data.system_prompt is not None else []
    )
    if isinstance(data.prompt, str):
        return (*system, {"role": "user", "content": data.prompt}) if system else data.prompt
    messages = [{"role": str(one.role), "content": _text(one)} for one in data.prompt]
    return (*system, *messages)


def _text(message: Any) -> str:
    if not isinstance(message.content, str):
        raise DataError(
            f"task verifiers: a message of role {message.role} is not plain text, and models here read text alone"
        )
    return message.content
