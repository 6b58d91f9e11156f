"""Evaluation while a run goes on: on the test split, and on the benchmarks of `evaluate.tasks`."""

from collections.abc import Mapping, Sequence
from typing import Any

from progrpo import schema
from progrpo.evaluate import EvaluateSettings, EvaluationResult, run_evaluation
from progrpo.evaluate.benchmark import BenchmarkPlan, over_task
from progrpo.rollout.verify import Verifier
from progrpo.train.clock import Clock
from progrpo.train.metrics import held_out_by_source
from progrpo.train.trainer import Trainer
from progrpo.types import Problem


def evaluate(trainer: Trainer, step: int, clock: Clock) -> dict[str, float]:
    """Evaluate where the settings ask for it at this step, and keep a row per problem; metrics, {} where they do not.

    Raises:
        VerifierError: too many verdicts failed.
    """
    settings, sampling = trainer.settings.evaluate, trainer.settings.sampling
    last = step >= trainer.settings.steps
    if not settings.every or (step % settings.every and not last) or (step == 0 and not settings.at_start):
        return {}
    trainer.listen("phase", {"name": "evaluate"})
    with clock.phase("evaluate"):
        result = _evaluated(
            trainer, trainer.test, trainer.verifier, settings, settings.max_new_tokens or sampling.max_new_tokens
        )
        trainer.run.write_rows("evaluations", step, result.rows)
    trainer.verifier.require_trustworthy(result.verdicts)
    trainer.listen("evaluation", {"step": step, **result.means})
    metrics = {f"{schema.HELD_OUT}{name}": value for name, value in result.means.items()}
    metrics |= held_out_by_source(result.problems, trainer.sources)
    metrics[f"{schema.HELD_OUT}failed_verdicts"] = result.failed
    for benchmark in trainer.benchmarks:
        with clock.phase("evaluate"):
            metrics |= _on_benchmark(trainer, benchmark, step)
    trainer.watch.saw(step, metrics)
    return metrics


def has_evaluation(rows: Sequence[Mapping[str, Any]], step: int) -> bool:
    """Whether the last of these rows of metrics is that of a step and says what an evaluation found."""
    return bool(rows) and rows[-1]["step"] == step and any(key.startswith(schema.HELD_OUT) for key in rows[-1])


def _on_benchmark(trainer: Trainer, benchmark: BenchmarkPlan, step: int) -> dict[str, float]:
    settings = benchmark.settings
    with Verifier(benchmark.reward, trainer.settings.verify) as verifier:
        result = _evaluated(trainer, benchmark.problems, verifier, settings, benchmark.max_new_tokens)
        measures = settings.load_measures(verifier)
        verifier.require_trustworthy(result.verdicts)
    trainer.run.write_rows(f"evaluations/{benchmark.name}", step, result.rows)
    numbers = {**result.means, **over_task(benchmark, measures, result.problems)}
    trainer.listen("benchmark", {"step": step, "task": benchmark.name, "measures": numbers})
    numbers["failed_verdicts"] = result.failed
    return {f"{schema.BENCHMARK}{benchmark.name}/{name}": value for name, value in numbers.items()}


def _evaluated(
    trainer: Trainer,
    problems: Sequence[Problem],
    verifier: Verifier,
    settings: EvaluateSettings,
    max_new_tokens: int,
) -> EvaluationResult:
    stop = trainer.settings.sampling.stop
    return run_evaluation(
        problems,
        model=trainer.model,
        engine=trainer.engine,
        verifier=verifier,
        settings=settings if settings.stop is not None else settings.model_copy(update={"stop": stop}),
        max_new_tokens=max_new_tokens,
        seed=trainer.settings.seed,
        processes=trainer.parallel.processes,
        on_sampled=lambda done, of: trainer.listen("sampled", {"done": done, "of": of}),
    )
