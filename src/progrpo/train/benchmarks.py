"""The benchmarks that a run is evaluated on while it goes on (`evaluate.tasks`): what `progrpo evaluate` would evaluate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from progrpo import plugins
from progrpo.engines import Engine
from progrpo.errors import ConfigError
from progrpo.evaluate import require_entropies
from progrpo.evaluate.benchmark import BenchmarkPlan, plan
from progrpo.evaluate.presets import expand
from progrpo.rollout.generate import require_context
from progrpo.rollout.gold import bad_gold_rows, without
from progrpo.rollout.verify import Verifier
from progrpo.settings import Choice
from progrpo.train.settings import RunSettings
from progrpo.types import Problem


def plan_benchmarks(settings: RunSettings) -> tuple[BenchmarkPlan, ...]:
    """The benchmarks with their data, none where nothing is evaluated.

    Raises:
        ProgrpoError: unknown names or settings, no data, or a name that stands twice.
    """
    if not settings.evaluate.every:
        return ()
    plans: dict[str, BenchmarkPlan] = {}
    for choice in _chosen(settings):
        name = plugins.label(choice.name)
        if name in plans:
            raise ConfigError(
                f"evaluate.tasks: {name!r} stands twice; metrics go by the name, so that it may stand once"
            )
        plans[name] = plan(
            choice,
            # as `progrpo evaluate RUN` does: the task of the run is judged as in training, on whatever data
            reward=settings.reward if choice.name == settings.task.name else None,
            settings=settings.evaluate,
            n=None,
            max_new_tokens=settings.evaluate.max_new_tokens or settings.sampling.max_new_tokens,
            preset=None,
        )
    return tuple(plans.values())


def _chosen(settings: RunSettings) -> list[Choice]:
    """Each task with its settings: those of the run where it is trained on the same."""
    choices: list[Choice] = []
    for one in settings.evaluate.tasks:
        names = [one.name] if one.params else expand([one.name])
        for name in names:
            trained = settings.task.params if name == settings.task.name else {}
            choices.append(Choice(**{"name": name, **trained, **one.params}))
    return choices


def bad_golds(
    settings: RunSettings,
    verifier: Verifier,
    train: Sequence[Problem],
    test: Sequence[Problem],
    plans: Sequence[BenchmarkPlan] = (),
    *,
    listen: Callable[[str, Mapping[str, Any]], None],
) -> list[Mapping[str, Any]]:
    """A row for each problem whose own gold answer does not verify (see `bad_gold_rows`); none where nobody asked.

    Args:
        verifier: of the run; each benchmark has its own.
    """
    if not settings.verify.check_gold:
        return []
    rows: list[Mapping[str, Any]] = []
    before, of = 0, len(train) + len(test) + sum(len(one.problems) for one in plans)

    def report(done: int) -> None:
        listen("check", {"done": before + done, "of": of})

    for split, problems in (("train", train), ("test", test)):
        rows += bad_gold_rows(problems, verifier, split=split, on_progress=report)
        before += len(problems)
    for one in plans:
        with Verifier(one.reward, settings.verify) as of_benchmark:
            rows += bad_gold_rows(one.problems, of_benchmark, split=_split(one), on_progress=report)
        before += len(one.problems)
    return rows


def usable(
    plans: Sequence[BenchmarkPlan],
    excluded: Sequence[Mapping[str, Any]],
    settings: RunSettings,
    tokenizer: Any,
    positions: int | None,
) -> tuple[BenchmarkPlan, ...]:
    """The benchmarks without the problems that are `excluded`.

    Raises:
        DataError: a prompt leaves no room for a completion, or no problem is left.
    """
    ready = [replace(one, problems=tuple(without(one.problems, excluded, split=_split(one)))) for one in plans]
    limit = settings.evaluate.max_new_tokens or 1  # what nobody asked for is cut where the model's positions end
    for one in ready:
        require_context(
            one.problems,
            tokenizer,
            positions=positions,
            max_new_tokens=limit,
            source=one.name,
            chat=settings.model.chat,
        )
    return tuple(ready)


def require_measurable(plans: Sequence[BenchmarkPlan], settings: RunSettings, engine: Engine) -> None:
    """Raises ConfigError if a measure of a benchmark reads what the engine does not give."""
    for one in plans:
        with Verifier(one.reward, settings.verify) as verifier:
            require_entropies(one.settings.load_measures(verifier), engine, settings.engine.name)


def _split(one: BenchmarkPlan) -> str:
    """Its name in excluded.jsonl, where the splits of the run stand, too."""
    return f"benchmark {one.name}"
