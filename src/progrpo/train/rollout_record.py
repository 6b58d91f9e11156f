"""What is kept of a rollout: its metrics, the alarms they raise, and a row per completion."""

import logging

from progrpo.methods import Advantages
from progrpo.train.clock import Clock
from progrpo.train.metrics import default_confidence, rollout_metrics, rollout_rows
from progrpo.train.off_policy import off_policy_metrics
from progrpo.train.setup import Trainer
from progrpo.types import Group, RolloutBatch, WeightedMean

logger = logging.getLogger(__name__)


def record_rollout(
    trainer: Trainer,
    step: int,
    groups: tuple[Group, ...],
    batch: RolloutBatch,
    advantages: Advantages,
    of_sampling: dict[str, WeightedMean],
    clock: Clock,
) -> dict[str, WeightedMean]:
    """Say aloud what the alarms have to say, write the completions where the settings ask for it; the rollout's metrics.

    Args:
        step: the first optimiser step that the rollout feeds. of_sampling: metrics of how it was sampled.
    """
    with clock.phase("score"):
        confidence = default_confidence(batch)
        metrics = (
            rollout_metrics(groups, batch, advantages, confidence=confidence, canonical=trainer.verifier.canonical)
            | of_sampling
        )
        if not trainer.engine_scores:
            metrics |= off_policy_metrics(batch, groups, trainer.settings.off_policy, step - 1)
    for text in trainer.alarms.hear(metrics):
        logger.warning("step %d: %s", step, text)
    record = trainer.settings.record
    with clock.phase("write"):
        if (
            record.rollouts_every
            and (step - 1) // trainer.settings.batch.steps_per_rollout % record.rollouts_every == 0
        ):
            rows = rollout_rows(groups, advantages, confidence=confidence, tokens=record.tokens)
            trainer.run.write_rows("rollouts", step, rows)
    return metrics
