"""The problems of a run: those that fit, in the order in which they come, and how many steps they make."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from progrpo.errors import ConfigError
from progrpo.methods import Method
from progrpo.plural import counted
from progrpo.rollout.generate import fit_prompts
from progrpo.tasks import Task
from progrpo.train.difficulty import PassRates
from progrpo.train.settings import RunSettings
from progrpo.train.stream import SOURCE, ProblemStream
from progrpo.types import Problem


def require_usable(method: Method, settings: RunSettings, problems: Sequence[Problem]) -> None:
    """Raises ConfigError if dynamic sampling could meet a problem twice for one batch, or the method reads answers that are
    not there."""
    if (rounds := method.rounds) * settings.batch.prompts > len(problems) and rounds > 1:
        raise ConfigError(
            f"method.max_rounds={rounds} times batch.prompts={settings.batch.prompts} exceeds the "
            f"{counted(len(problems), 'training problem')}: one batch would meet a problem twice; lower one of them"
        )
    without = [problem.id for problem in problems if not problem.answer] if "answer_logprobs" in method.needs else []
    if without:
        raise ConfigError(
            f"method {method.name!r} rewards the likelihood of each problem's answer, and {len(without)} of {len(problems)} "
            f"training problems have none (the first: {without[0]!r:.80}); use a task with answers, or another method"
        )


def no_epochs(method: Method, task: Task) -> str | None:
    """Why an epoch is nothing that could be counted; None where it is."""
    if task.endless:
        return f"task {task.name} makes up its problems, as many as it is asked for, so that an epoch is any number of them"
    if method.rounds > 1:
        return f"method {method.name} takes up to {method.rounds} times batch.prompts problems for a batch, as it goes"
    if any(weight is not None for weight in task.sources.values()):
        return "the sources of a mixture with weights come round at rates of their own"
    return None


def require_epochs(settings: RunSettings, method: Method, task: Task) -> None:
    """Raises ConfigError if the run is to last `epochs` and these cannot be counted."""
    if settings.epochs is not None and (reason := no_epochs(method, task)):
        raise ConfigError(f"epochs={settings.epochs:g}: {reason}; say how long the run is with steps")


def in_steps(settings: RunSettings, problems: int) -> RunSettings:
    """The settings with the optimiser steps that `epochs` of so many training problems make: whole rollouts, rounded up."""
    if settings.epochs is None:
        return settings
    rollouts = math.ceil(round(settings.epochs * problems / settings.batch.prompts, 9))
    return settings.model_copy(update={"steps": rollouts * settings.batch.steps_per_rollout})


def describe_epoch(settings: RunSettings, problems: int) -> str:
    """What once through the training problems is, in rollouts and optimiser steps."""
    rollouts = problems / settings.batch.prompts
    return (
        f"epoch: {counted(problems, 'training problem')} = {counted(rollouts, 'rollout')} = "
        f"{counted(rollouts * settings.batch.steps_per_rollout, 'optimiser step')}"
    )


def describe_length(settings: RunSettings) -> str:
    """The run in steps, rollouts and completions."""
    batch = settings.batch
    rollouts = settings.steps // batch.steps_per_rollout
    epochs = "" if settings.epochs is None else f"{counted(settings.epochs, 'epoch')} = "
    return (
        f"run: {epochs}{counted(settings.steps, 'optimiser step')} = {counted(rollouts, 'rollout')} = "
        f"{counted(rollouts * batch.prompts * batch.group, 'completion')}"
    )


def fit_splits(
    settings: RunSettings, tokenizer: Any, positions: int | None, splits: Mapping[str, Sequence[Problem]]
) -> dict[str, tuple[Sequence[Problem], int]]:
    """The problems of each split that fit the run's limits, and the longest of their prompts in tokens (see `fit_prompts`)."""
    return {
        name: fit_prompts(
            problems,
            tokenizer,
            max_prompt_tokens=settings.data.max_prompt_tokens,
            positions=positions,
            max_new_tokens=settings.sampling.max_new_tokens,
            drop=settings.data.long_prompts == "drop",
            source=f"{name} problems",
            chat=settings.model.chat,
        )
        for name, problems in splits.items()
    }


def make_stream(
    settings: RunSettings,
    problems: Sequence[Problem],
    sources: Mapping[str, float | None],
    rates: PassRates | None = None,
) -> ProblemStream:
    """The training problems in the order of the run.

    Args:
        sources: see `Task.sources`. rates: pass rates, for a curriculum; a problem without one comes last. None leaves the
            order alone.

    Raises:
        ConfigError: see `ProblemStream`.
    """
    return ProblemStream(
        problems,
        seed=settings.seed,
        shuffle=settings.data.shuffle,
        per_rollout=settings.batch.prompts,
        weights={name: weight for name, weight in sources.items() if weight is not None},
        ease=None
        if rates is None
        else {key: -1.0 if rate.value is None else rate.value for key, rate in rates.items()},
    )


def describe_sources(
    settings: RunSettings, problems: Sequence[Problem], sources: Mapping[str, float | None]
) -> Iterator[str]:
    """A line for each part of a mixture: its training problems, and its share of a rollout."""
    counts = Counter(str(problem.facts[SOURCE]) for problem in problems) if sources else {}
    total = sum(weight or 0.0 for weight in sources.values())
    for name, weight in sources.items():
        share = "" if weight is None else f", {weight / total * settings.batch.prompts:.4g} of each rollout on average"
        yield f"source {name}: {counted(counts.get(name, 0), 'training problem')}{share}"
