"""The rewards of a `verifiers` 0.4 environment, for problems of the task `verifiers`.

The reply becomes a trace of verifiers with one turn, and the task's own reward functions judge it; the verdict's parts are
their weighted values. What counts as correct is a reward above `correct_above`: verifiers has numbers alone.
"""

import asyncio
import inspect
from collections.abc import Mapping
from functools import lru_cache
from json import dumps, loads
from typing import Any

from progrpo.errors import ConfigError, HostError
from progrpo.settings import Settings
from progrpo.types import Problem, Verdict

__all__ = ["taskset_of"]

SLOW = True  # code of others: it may hang


class Params(Settings):
    correct_above: float = 0.0
    """A completion is correct if its total reward is above this."""
    wrong_reward: float = 0.0
    """Reward of a completion that could not be judged."""


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """The total of the environment's rewards; an error of theirs is the verifier's (`crashed`)."""
    if "taskset" not in problem.info:
        raise ConfigError("reward verifiers: the problem is of another task; it judges those of task `verifiers` alone")
    info = problem.info
    task = _task_of(info["taskset"], dumps(dict(info["config"]), sort_keys=True), dumps(info["data"], sort_keys=True))
    trace = _trace(task, text)
    asyncio.run(task.score(trace))
    total = float(trace.reward)
    return Verdict(
        status="correct" if total > params.correct_above else "wrong",
        reward=total,
        extracted=text.strip(),
        parts={name: value.value for name, value in trace.rewards.items() if value is not None},
    )


def taskset_of(name: str, config: Mapping[str, Any]) -> Any:
    """verifiers' taskset of that name, if a reply is all that its tasks need.

    Raises:
        HostError: verifiers is missing or another version. ConfigError: the environment needs more than a reply.
        ImportError: no such environment.
    """
    return _taskset(name, dumps(dict(config), sort_keys=True))


@lru_cache(maxsize=8)
def _taskset(name: str, config: str) -> Any:
    loaders = _verifiers().utils.loaders
    taskset = loaders.load_taskset(loaders.taskset_config_type(name)(id=name, **loads(config)))
    _require_single_turn(name, taskset, loaders.task_type(name))
    return taskset


@lru_cache(maxsize=4096)
def _task_of(name: str, config: str, data: str) -> Any:
    taskset = _taskset(name, config)
    kind = _verifiers().utils.loaders.task_type(name)
    return kind(kind.data_type().model_validate_json(data), taskset.config.task)


def _trace(task: Any, text: str) -> Any:
    v1 = _verifiers()
    trace = v1.Trace(
        task=v1.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        agent=v1.AgentInfo(config=v1.AgentConfig()),
        state=(v1.utils.generic.concrete_type(type(task), v1.State) or v1.State)(),
    )
    asked = task.data.prompt if isinstance(task.data.prompt, str) else task.data.prompt_text
    trace.nodes.append(v1.MessageNode(message=v1.types.UserMessage(content=asked)))
    trace.nodes.append(v1.MessageNode(parent=0, message=v1.types.AssistantMessage(content=text), sampled=True))
    return trace


def _require_single_turn(name: str, taskset: Any, kind: Any) -> None:
    v1 = _verifiers()
    needs = []
    if kind.NEEDS_CONTAINER:
        needs.append("a container")
    if kind.toolsets(taskset.config.task):
        needs.append("tools")
    if taskset.config.task.judges:
        needs.append("judges that are models")
    if any(getattr(kind, hook) is not getattr(v1.Task, hook) for hook in ("setup", "finalize")):
        needs.append("a runtime (setup or finalize)")
    hooks = [
        function
        for function in vars(kind).values()
        if callable(function) and (getattr(function, "reward", False) or getattr(function, "metric", False))
    ]
    wanting = [function.__name__ for function in hooks if _wants_runtime(function)]
    if wanting:
        needs.append(f"a runtime for {', '.join(wanting)}")
    if needs:
        raise ConfigError(
            f"task verifiers: environment {name!r} needs {', '.join(needs)}, and here a reply is all there is; run it in a "
            "trainer that has them, with progrpo's adapter (docs/adapters.md)"
        )


def _wants_runtime(function: Any) -> bool:
    parameter = inspect.signature(function).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty


@lru_cache(maxsize=1)
def _verifiers() -> Any:
    try:
        import verifiers.v1 as v1
        import verifiers.v1.utils.generic
        import verifiers.v1.utils.loaders

        import verifiers
    except ImportError as error:
        raise HostError(f"verifiers cannot be imported ({error}): pip install 'progrpo[verifiers]'") from error
    for place, attribute in ((v1, "Trace"), (v1.Task, "score"), (v1.utils.loaders, "load_taskset")):
        if not hasattr(place, attribute):
            raise HostError(
                f"verifiers {verifiers.__version__}: {attribute} is missing; install a version that is known: pip install "
                "'verifiers>=0.4,<0.5'"
            )
    return v1
