"""Our graders as rewards of a `verifiers` environment, plugged in by import path:

    --env.taskset.task.rewards.correct.fn progrpo.adapters.verifiers.math

Each reward of progrpo is here under its name, with its own defaults, and reads the task's fields: `answer` is the gold, the
rest its info. For other settings or another field, a file of one's own: `correct = grader("expression", answer="target")`. Slow
graders work in processes that are killed at their time limit; a grader that fails raises, so that the trace records an error
rather than a 0.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from progrpo import plugins, rewards
from progrpo.errors import ConfigError, VerifierError
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem

Judge = Callable[..., Awaitable[float]]


def grader(name: str, *, answer: str = "answer", **params: Any) -> Judge:
    """A reward function of verifiers, `(task, trace) -> float`, from a reward of ours.

    Args:
        answer: the field of the task that is the gold answer. params: the reward's settings.

    Raises:
        PluginError: no such reward. ConfigError: unknown setting, or a reward that counts the completion's tokens, which is
            told its text alone here.
    """
    choice = Choice(name=name, **params)
    if rewards.load(choice).counts_tokens:
        raise ConfigError(
            f"reward {name}: it counts the completion's tokens, and verifiers hands over its text; without that part"
        )
    verifier = Verifier(choice, VerifySettings(workers=1))

    async def judge(task: Any, trace: Any) -> float:
        data = task.model_dump(mode="json", exclude_none=True)
        gold = data.get(answer)
        problem = Problem(
            id=str(data.get("idx", "")),
            prompt=task.prompt_text,
            answer=None if gold is None else str(gold),
            info={key: value for key, value in data.items() if key != answer},
        )
        (verdict,) = await asyncio.to_thread(verifier.judge, [(trace.last_reply, problem, None)])
        if verdict.failed:
            raise VerifierError(f"reward {name}: {verdict.status}: {verdict.detail}")
        return verdict.reward

    judge.__name__ = name
    return judge


@cache
def _with_defaults(name: str) -> Judge:
    return grader(name)


def __getattr__(name: str) -> Judge:
    if name in plugins.names("rewards"):
        return _with_defaults(name)
    raise AttributeError(f"progrpo.adapters.verifiers has no {name!r}; rewards: {', '.join(plugins.names('rewards'))}")
