"""`progrpo.train`: one call from settings to a run, with callbacks."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers.utils import logging as transformers_logging

from progrpo.api.own import RewardLike, TaskLike, has_rows, reward_section, task_section
from progrpo.api.progress import TrainingProgress
from progrpo.api.run import TrainingRun
from progrpo.errors import StopTraining
from progrpo.processes import launched
from progrpo.train import loop
from progrpo.train.record import PROBLEMS, require_free
from progrpo.train.settings import RunSettings, load_settings


class Callback:
    """What happens during a run, for subclasses that override what they want to hear of.

    Each is called in every process of a run that has several. Raise `progrpo.StopTraining("why")` in any of them but `on_start`
    and `on_end`: the run then ends after the rollout it is in, with a checkpoint, and `train` returns as usual.
    """

    def on_start(self, run: TrainingRun, done: int, steps: int) -> None:
        """The run directory is there; `done` of `steps` optimiser steps were made before."""

    def on_step(self, run: TrainingRun, step: int, metrics: Mapping[str, Any]) -> None:
        """An optimiser step was made and logged; `metrics` is its row of metrics.jsonl. Step 0: the evaluation before."""

    def on_evaluation(self, run: TrainingRun, step: int, measures: Mapping[str, float]) -> None:
        """The held-out problems were evaluated; means by measure ("pass@1", ...)."""

    def on_benchmark(self, run: TrainingRun, step: int, task: str, measures: Mapping[str, float]) -> None:
        """A benchmark of `evaluate.tasks` was evaluated; means by measure, and numbers of the whole task."""

    def on_checkpoint(self, run: TrainingRun, step: int, path: Path) -> None:
        """A checkpoint was written."""

    def on_end(self, run: TrainingRun) -> None:
        """The run is over."""


CallbackLike = Callback | Callable[[int, Mapping[str, Any]], None]
"""A `Callback`, or a function of (step, metrics), called after each optimiser step."""


def train(
    settings: RunSettings | Mapping[str, Any] | str | Path | None = None,
    *,
    task: TaskLike | None = None,
    reward: RewardLike | None = None,
    resume: bool = False,
    profile: bool = False,
    callbacks: Iterable[CallbackLike] = (),
    progress: bool = True,
    **overrides: Any,
) -> TrainingRun:
    """Train a model; returns the run with its metrics, samples and checkpoints.

        run = progrpo.train("math", model="Qwen/Qwen2.5-0.5B-Instruct", task=rows, reward=my_reward, steps=100)
        run.metrics["rollout/reward"]

    Args:
        settings: a recipe (its path, or the name of one that ships: `progrpo recipes`), a mapping of settings, or
            `load_settings(...)`; None takes all of them from the keywords.
        task: problems as a list of {"prompt", "answer", ...}, a function from "train" or "test" to such a list, a section whose
            `train` and `test` are such lists, or what a recipe may say (a name, a section). Rows are kept in the run directory.
        reward: a function score(text, problem) or, as for TRL, reward(prompts, completions, **columns); several, to be added
            up; or what a recipe may say. None takes the recipe's, else the task's own. A function is called in this process;
            one that may hang belongs into a file with `SLOW = True`.
        resume: go on from the latest checkpoint, if there is one.
        profile: trace the rollouts `record.profile_rollouts`.
        callbacks: `Callback` objects, or functions of (step, metrics).
        progress: show a bar on a terminal, a line a step elsewhere, on standard error.
        **overrides: settings by name, sections as mappings that change the keys they name: steps=100, optim={"lr": 3e-6},
            method="grpo", **{"sampling.temperature": 0.9}.

    Returns:
        The run, finished, or ended by a callback.

    Raises:
        ProgrpoError: any of `progrpo.errors`; nothing of an earlier run is overwritten.
    """
    resolved = settings_of(settings, task=task, reward=reward, resume=resume, overrides=overrides)
    show = Console(stderr=True, quiet=not (progress and launched().main))
    hearers = [one if isinstance(one, Callback) else _AfterStep(one) for one in callbacks]
    transformers_logging.disable_progress_bar()
    with TrainingProgress(show) as bar:
        heard = _Heard(Path(str(resolved.out)), hearers, bar)
        directory = loop.train(resolved, resume=resume, profile=profile, listen=heard)
    run = TrainingRun(directory.path)
    for one in hearers:
        one.on_end(run)
    return run


def settings_of(
    settings: RunSettings | Mapping[str, Any] | str | Path | None,
    *,
    task: TaskLike | None,
    reward: RewardLike | None,
    resume: bool,
    overrides: Mapping[str, Any],
) -> RunSettings:
    """The settings of a run that begins with what a Python caller gave; rows are written into its directory."""
    source = settings.model_dump(mode="json") if isinstance(settings, RunSettings) else settings or {}
    changes = dict(overrides)
    if reward is not None:
        changes["reward"] = reward_section(reward)
    if not has_rows(task):
        return load_settings(source, changes if task is None else {**changes, "task": task})
    # The directory must be known before the rows can be written into it: settled with any task first.
    out = Path(str(load_settings(source, {**changes, "task": {"name": "file"}}).out))
    if not resume:
        require_free(out)
    return load_settings(source, {**changes, "task": task_section(task, out / PROBLEMS)})


class _AfterStep(Callback):
    def __init__(self, function: Callable[[int, Mapping[str, Any]], None]) -> None:
        self._function = function

    def on_step(self, run: TrainingRun, step: int, metrics: Mapping[str, Any]) -> None:
        self._function(step, metrics)


class _Heard:
    """The listener of a run that tells its callbacks, and remembers that one of them ended it until the rollout is over."""

    def __init__(self, out: Path, callbacks: list[Callback], progress: TrainingProgress) -> None:
        self._out = out
        self._callbacks = callbacks
        self._progress = progress
        self._stop: StopTraining | None = None

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        self._progress(event, data)
        try:
            for one in self._callbacks:
                self._tell(one, event, data)
        except StopTraining as stop:
            self._stop = self._stop or stop
        if event == "rollout" and self._stop is not None:
            raise self._stop

    def _tell(self, one: Callback, event: str, data: Mapping[str, Any]) -> None:
        if event not in ("start", "step", "evaluation", "benchmark", "checkpoint"):
            return
        run = TrainingRun(self._out)
        if event == "start":
            one.on_start(run, data["done"], data["steps"])
        elif event == "step":
            one.on_step(run, data["step"], data)
        elif event == "evaluation":
            one.on_evaluation(run, data["step"], {key: value for key, value in data.items() if key != "step"})
        elif event == "benchmark":
            one.on_benchmark(run, data["step"], data["task"], data["measures"])
        else:
            one.on_checkpoint(run, data["step"], Path(data["path"]))
