"""What is kept of a rollout: its metrics, the alarms they raise, and a row per completion."""

import logging
from collections.abc import Mapping

from progrpo.methods import Advantages
from progrpo.train.clock import Clock
from progrpo.train.disk_space import TOKEN_BYTES
from progrpo.train.metrics import TOKEN_COLUMNS, correct_by_source, default_confidence, rollout_metrics, rollout_rows
from progrpo.train.off_policy import off_policy_metrics
from progrpo.train.settings import RunSettings
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
            | correct_by_source(groups, trainer.sources)
            | of_sampling
        )
        if of_sampling.get("rollout/replayed", WeightedMean(0, 1)).total:
            metrics = {key: _nothing(key, value, of_sampling) for key, value in metrics.items()}
        if not trainer.engine_scores:
            metrics |= off_policy_metrics(batch, groups, trainer.settings.off_policy, step - 1)
    for text in trainer.alarms.hear(metrics):
        logger.warning("step %d: %s", step, text)
    record = trainer.settings.record
    with clock.phase("write"):
        tokens = keeps_tokens(trainer.settings, step)
        number = (step - 1) // trainer.settings.batch.steps_per_rollout
        if record.rollouts_every and (
            number % record.rollouts_every == 0 or (tokens and record.tokens == "checkpoints")
        ):
            tokens = tokens and _fits(groups, record.tokens_mib, step)
            rows = rollout_rows(groups, advantages, confidence=confidence, tokens=tokens)
            trainer.run.write_rows("rollouts", step, rows)
        if record.samples_every and number % record.samples_every == 0:
            trainer.run.track_samples(
                step, lambda: rollout_rows(groups, advantages, confidence=confidence, tokens=False)
            )
        if (gone := outdated(trainer.settings, step)) is not None:
            trainer.run.drop_columns("rollouts", gone, TOKEN_COLUMNS)
    return metrics


def _nothing(key: str, value: WeightedMean, of_sampling: Mapping[str, WeightedMean]) -> WeightedMean:
    """What is known of a rollout of which nothing was sampled: how it came to be, and no reward, length or verdict."""
    of_completions = key.startswith(("rollout/", "reward/", "verdict/")) and key not in of_sampling
    return WeightedMean(0.0, 0) if of_completions else value


def keeps_tokens(settings: RunSettings, step: int) -> bool:
    """Whether the rollout that feeds from `step` on is recorded with its tokens (`record.tokens`)."""
    record = settings.record
    if record.tokens != "checkpoints" or not record.rollouts_every:
        return record.tokens is True
    end = step - 1 + settings.batch.steps_per_rollout
    every = settings.checkpoint.every
    return end >= settings.steps or (every > 0 and end % every == 0)


def outdated(settings: RunSettings, step: int) -> int | None:
    """The first step of the rollout whose tokens go when that of `step` is recorded with its own: its checkpoint goes, too.
    None where there is none."""
    every, per_rollout = settings.checkpoint.every, settings.batch.steps_per_rollout
    if settings.record.tokens != "checkpoints" or not every or not keeps_tokens(settings, step):
        return None
    ends = [*range(every, settings.steps, every), settings.steps]  # of the rollouts that lead to a checkpoint
    place = ends.index(step - 1 + per_rollout) - settings.checkpoint.keep
    return ends[place] - per_rollout + 1 if place >= 0 else None


def _fits(groups: tuple[Group, ...], limit_mib: float, step: int) -> bool:
    count = sum(len(completion.token_ids) for group in groups for completion in group.completions)
    size = count * TOKEN_BYTES / 2**20
    if size > limit_mib:
        logger.warning(
            "step %d: written without tokens, which would take %.0f MiB; record.tokens_mib=%g is the most",
            step,
            size,
            limit_mib,
        )
    return size <= limit_mib
