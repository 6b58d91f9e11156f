"""Evaluation on the test split while a run goes on."""

from progrpo.evaluate import run_evaluation
from progrpo.train.clock import Clock
from progrpo.train.metrics import held_out_by_source
from progrpo.train.setup import Trainer


def evaluate(trainer: Trainer, step: int, clock: Clock) -> dict[str, float]:
    """Evaluate where the settings ask for it at this step, and keep a row per problem; metrics, {} where they do not.

    Raises:
        VerifierError: too many verdicts failed.
    """
    settings, sampling = trainer.settings.evaluate, trainer.settings.sampling
    if not settings.every or (step % settings.every and step < trainer.settings.steps):
        return {}
    trainer.listen("phase", {"name": "evaluate"})
    with clock.phase("evaluate"):
        result = run_evaluation(
            trainer.test,
            model=trainer.model,
            engine=trainer.engine,
            verifier=trainer.verifier,
            settings=settings if settings.stop is not None else settings.model_copy(update={"stop": sampling.stop}),
            max_new_tokens=sampling.max_new_tokens,
            seed=trainer.settings.seed,
            processes=trainer.parallel.processes,
            on_sampled=lambda done, of: trainer.listen("sampled", {"done": done, "of": of}),
        )
        trainer.run.write_rows("evaluations", step, result.rows)
    trainer.verifier.require_trustworthy(result.verdicts)
    trainer.listen("evaluation", {"step": step, **result.means})
    means = {f"evaluate/{name}": value for name, value in result.means.items()}
    means |= held_out_by_source(result.problems, trainer.sources)
    return means | {"evaluate/failed_verdicts": result.failed}
