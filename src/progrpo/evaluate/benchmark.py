"""Evaluate one task into a run directory, going on where an earlier call stopped."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progrpo import plugins, rewards, tasks
from progrpo.engines import Engine, sampling_precision
from progrpo.environment import digest, environment
from progrpo.evaluate import EvaluateSettings, evaluate_parts, measured, require_entropies, warn_of_cut
from progrpo.evaluate.directory import EvaluationFile
from progrpo.evaluate.presets import MAX_NEW_TOKENS, PresetName, require_default_task, require_kept, samples
from progrpo.measures import Measure, require_numbers
from progrpo.model import LanguageModel, ModelSettings
from progrpo.model.files import fingerprint
from progrpo.rollout.gold import bad_gold_rows, without
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.sources import own_source
from progrpo.tasks import Task
from progrpo.types import Problem, ProblemResult

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done ("golds" or "sampling"), problems done, and problems in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkPlan:
    """One task as it will be evaluated, its data loaded and its settings resolved.

    Attributes:
        preset: by whose rules, or None. problems: all of them, those with bad golds included.
    """

    task: Task
    problems: tuple[Problem, ...]
    reward: Choice
    settings: EvaluateSettings
    max_new_tokens: int
    preset: PresetName | None

    @property
    def name(self) -> str:
        """Of its files: the task's, and the preset's where there is one."""
        task = plugins.label(self.task.name)
        return f"{task}-{self.preset}" if self.preset else task


def plan(
    choice: Choice,
    *,
    reward: Choice | None,
    settings: EvaluateSettings,
    n: int | None,
    max_new_tokens: int | None,
    preset: PresetName | None,
    split: str = "test",
) -> BenchmarkPlan:
    """Load a task's problems and settle how it is evaluated, before a model is loaded.

    Args:
        reward, max_new_tokens: None takes the task's own. n: None takes the preset's, else what `settings` say.

    Raises:
        ProgrpoError: unknown names or settings, no data, or settings that contradict the preset.
    """
    task = tasks.load(choice)
    chosen = reward or task.reward()
    judge = rewards.load(chosen)
    full = Choice(name=chosen.name, **{**chosen.params, **judge.params.model_dump(mode="json")})
    if judge.takes_columns:
        task = tasks.load(tasks.for_columns(choice))
    default_limit: int = getattr(task.module, "MAX_NEW_TOKENS", MAX_NEW_TOKENS)
    limit = max_new_tokens or default_limit
    if preset is not None:
        require_kept(preset, settings.model_dump(), limit)
        require_default_task(preset, task.name, task.params)
        n = samples(task.module, preset)
    problems = tuple(task.problems(split))
    if split == "test":
        task.check(problems)
    return BenchmarkPlan(
        task=task,
        problems=problems[: settings.problems] if settings.problems else problems,
        reward=full,
        settings=settings if n is None else settings.model_copy(update={"n": n}),
        max_new_tokens=limit,
        preset=preset,
    )


def evaluate_benchmark(
    benchmark: BenchmarkPlan,
    folder: Path,
    *,
    load: Callable[[], tuple[LanguageModel, Engine]],
    about: ModelSettings,
    engine_choice: Choice,
    verify: VerifySettings,
    seed: int,
    on_progress: Progress,
) -> Mapping[str, Any]:
    """Evaluate what is not there yet, and write the header with the summary; returns the header.

    Other measures than before are taken from the completions that are there; nothing is sampled again for them.

    Args:
        load: gives the model and what generates; called only where something is left to sample.
        about, engine_choice: their settings, for the header.

    Raises:
        RunDirectoryError: `folder` holds this evaluation with other settings, or another process works on it.
        VerifierError: too many verdicts failed; the problems before them are kept.
        ProgrpoError: see `progrpo.errors`.
    """
    settings = benchmark.settings
    asked = _asked(benchmark, about, engine_choice, verify, seed) | {"environment": environment(about.device, seed)}
    with EvaluationFile(folder, benchmark.name, asked) as file, Verifier(benchmark.reward, verify) as verifier:
        chosen = settings.load_measures(verifier)
        done = file.done()
        wanted = [_as_asked(one) for one in chosen]
        if file.header.get("measures") != wanted:
            done = [measured(problem, chosen) for problem in done]
            file.remeasure(done, wanted)
        if file.complete:
            return file.header
        if "excluded" in file.header and len(done) == len(benchmark.problems) - len(file.header["excluded"]):
            return file.finish(done, over_task(benchmark, chosen, done))
        model, engine = load()
        require_entropies(chosen, engine, engine_choice.name)
        file.require_commit(getattr(model.model.config, "_commit_hash", None))
        problems = _usable(benchmark, file, verifier, verify, on_progress)
        judged = {one.problem for one in done}
        left = [problem for problem in problems if problem.id not in judged]
        of = len(problems)

        def report(sampled: int) -> None:
            on_progress("sampling", len(done) + sampled, of)

        report(0)
        for part in evaluate_parts(
            left,
            model=model,
            engine=engine,
            verifier=verifier,
            chosen=chosen,
            settings=settings,
            max_new_tokens=benchmark.max_new_tokens,
            seed=seed,
            on_sampled=report,
        ):
            # Over all so far: a short last part must not stop what is sound as a whole.
            verifier.require_trustworthy([*(sample for one in done for sample in one.samples), *part.verdicts])
            file.append(part.problems, part.seconds)
            done += part.problems
        warn_of_cut(done, benchmark.max_new_tokens, model.positions, name=benchmark.name)
        return file.finish(done, over_task(benchmark, chosen, done))


def _asked(
    benchmark: BenchmarkPlan, about: ModelSettings, engine: Choice, verify: VerifySettings, seed: int
) -> dict[str, Any]:
    """What the header says was asked. The weights are known by what is in them where they are local, else by their id (and
    the commit, once they are loaded); the problems by their digest."""
    settings = benchmark.settings
    return {
        "task": benchmark.task.name,
        "preset": benchmark.preset,
        "model": about.path,
        "weights": fingerprint(about.path) or about.path,
        "settings": {
            "n": settings.n,
            **{name: getattr(settings, name) for name in ("temperature", "top_p", "top_k", "raw")},
            **({"stop": settings.stop} if settings.stop else {}),
            "max_new_tokens": benchmark.max_new_tokens,
            "seed": seed,
            "precision": sampling_precision(engine, about.precision),
            "attention": about.attention,
            **({"system_prompt": about.system_prompt} if about.system_prompt is not None else {}),
            **({"chat_template_kwargs": about.chat_template_kwargs} if about.chat_template_kwargs else {}),
            "task": benchmark.task.params.model_dump(mode="json"),
            "reward": benchmark.reward.model_dump(mode="json"),
            **({"reward_sources": own} if (own := rewards.own_sources(benchmark.reward)) else {}),
            "engine": engine.model_dump(mode="json"),
            "check_gold": verify.check_gold,
        },
        "problems": len(benchmark.problems),
        "digest": digest(benchmark.problems),
    }


def _as_asked(measure: Measure) -> dict[str, Any]:
    """A measure with its settings, and of a user's own what it was."""
    source = own_source("measures", measure.name)
    return {"name": measure.name, **measure.params.model_dump(mode="json"), **({"source": source} if source else {})}


def over_task(
    benchmark: BenchmarkPlan, chosen: Sequence[Measure], problems: Sequence[ProblemResult]
) -> dict[str, float]:
    """The numbers of the whole task that are no mean over problems: the measures' and the task's own."""
    numbers: dict[str, float] = {}
    for measure in chosen:
        numbers |= measure.over_task(problems)
    if (summary := benchmark.task.summarise(problems)) is not None:
        numbers |= require_numbers(summary, where=f"task {benchmark.task.name!r}: summarise")
    return numbers


def _usable(
    benchmark: BenchmarkPlan, file: EvaluationFile, verifier: Verifier, verify: VerifySettings, on_progress: Progress
) -> Sequence[Problem]:
    """The problems whose own golds verify; decided once, when the evaluation begins."""
    if "excluded" not in file.header:
        bad: Sequence[Mapping[str, Any]] = ()
        if verify.check_gold:
            of = len(benchmark.problems)
            bad = bad_gold_rows(
                benchmark.problems, verifier, split="test", on_progress=lambda done: on_progress("golds", done, of)
            )
        file.note(excluded=[dict(row) for row in bad])
    return without(benchmark.problems, file.header["excluded"], split="test")
