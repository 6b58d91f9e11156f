"""What is kept of a rollout and of a step: metrics, the alarms they raise, and a row per completion."""

import logging
from collections.abc import Mapping
from typing import Any

from progrpo.methods import Advantages
from progrpo.train.clock import Clock
from progrpo.train.metrics import correct_by_source, default_confidence, rollout_metrics, rollout_rows
from progrpo.train.off_policy import off_policy_metrics
from progrpo.train.settings import RunSettings
from progrpo.train.trainer import Trainer
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
    """Write the completions where the settings ask for it; the rollout's metrics.

    Args:
        step: the first optimiser step that the rollout feeds. of_sampling: metrics of how it was sampled.
    """
    with clock.phase("score"):
        confidence = default_confidence(batch)
        trainer.bundles.judged(advantages, confidence)
        metrics = (
            rollout_metrics(groups, batch, advantages, confidence=confidence, canonical=trainer.verifier.canonical)
            | correct_by_source(groups, trainer.sources)
            | of_sampling
        )
        if of_sampling.get("rollout/replayed", WeightedMean(0, 1)).total:
            metrics = {key: _nothing(key, value, of_sampling) for key, value in metrics.items()}
        if not trainer.engine_scores:
            metrics |= off_policy_metrics(batch, groups, trainer.settings.off_policy, step - 1)
    record = trainer.settings.record
    with clock.phase("write"):
        number = (step - 1) // trainer.settings.batch.steps_per_rollout
        if record.rollouts_every and (number % record.rollouts_every == 0 or keeps_tokens(trainer.settings, step)):
            trainer.run.write_rows("rollouts", step, rollout_rows(groups, advantages, confidence=confidence))
        if record.samples_every and number % record.samples_every == 0:
            trainer.run.track_samples(step, lambda: rollout_rows(groups, advantages, confidence=confidence))
    return metrics


def write_step(trainer: Trainer, step: int, metrics: Mapping[str, WeightedMean | float]) -> dict[str, Any]:
    """Write the row of a step, and what alarms begin or end with it: each is said once, aloud, and has the bundle kept of the
    rollout that it begins with. The row."""
    row = trainer.run.write_metrics(step, metrics)
    trainer.bundles.logged(row)
    events = trainer.alarms.hear(row)
    trainer.run.write_alarms([event._asdict() for event in events])
    for event in events:
        logger.warning("step %d: alarm %s: %s", step, event.alarm, event.text)
        if event.begins:
            trainer.bundles.keep(step, f"alarm: {event.alarm}")
        trainer.listen("alarm", event._asdict())
    return row


def write_evaluation(
    trainer: Trainer, step: int, metrics: Mapping[str, float], times: Mapping[str, float]
) -> dict[str, Any]:
    """Write what the evaluation before the first step found, or one that is made up for after `step` steps into the row that
    lacks it. The row."""
    if step == 0:
        return write_step(trainer, step, {**metrics, **times})
    return trainer.run.complete_metrics(step, {**metrics, "time/evaluate_s": times["time/evaluate_s"]})


def _nothing(key: str, value: WeightedMean, of_sampling: Mapping[str, WeightedMean]) -> WeightedMean:
    """What is known of a rollout of which nothing was sampled: how it came to be, and no reward, length or verdict."""
    of_completions = key.startswith(("rollout/", "reward/", "verdict/", "source/")) and key not in of_sampling
    return WeightedMean(0.0, 0) if of_completions else value


def keeps_tokens(settings: RunSettings, step: int) -> bool:
    """Whether it is known from the start that the rollout that feeds from `step` on is kept as a bundle (`record.tokens`)."""
    record, per_rollout, every = settings.record, settings.batch.steps_per_rollout, settings.checkpoint.every
    if record.tokens != "checkpoints" or not record.rollouts_every:
        number = (step - 1) // per_rollout
        return record.tokens is True and record.rollouts_every > 0 and number % record.rollouts_every == 0
    before, end = step - 1, step - 1 + per_rollout
    return before == 0 or end >= settings.steps or (every > 0 and 0 in (before % every, end % every))
