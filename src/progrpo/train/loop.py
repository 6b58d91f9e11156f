"""The whole of Algorithm 1: sample, verify, weigh, update."""

from contextlib import closing
from functools import partial

from progrpo.processes import join
from progrpo.rollout.verify import Verifier
from progrpo.train.clock import Clock
from progrpo.train.evaluation import evaluate
from progrpo.train.keeper import Keeper
from progrpo.train.profile import Profiler
from progrpo.train.record import RunDirectory
from progrpo.train.rollout_record import record_rollout, write_evaluation, write_step
from progrpo.train.rows import make_rows
from progrpo.train.sampling import Rollouts
from progrpo.train.scoring import policy_batch
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose, prepare
from progrpo.train.step_on import step_on
from progrpo.train.token_counts import TokenCounts
from progrpo.train.trainer import Listener, Trainer
from progrpo.types import WeightedMean


def train(
    settings: RunSettings,
    *,
    resume: bool = False,
    profile: bool = False,
    listen: Listener = lambda event, data: None,
) -> RunDirectory:
    """Train as `settings` say, into `settings.out`; with `resume`, go on from its latest checkpoint.

    On one machine, on CPU, a resumed run gives the same weights and metrics to the last bit as one never stopped.
    Started in several processes (torchrun, accelerate launch, srun), each does its share and only the main one writes.
    With `profile`, the rollouts `record.profile_rollouts` are traced (see profile.py).

    Raises:
        ProgrpoError: any of `progrpo.errors`; nothing of an earlier run is overwritten.
    """
    chosen, processes = choose(settings), join()
    with Verifier(chosen.reward, settings.verify) as verifier:
        trainer = prepare(chosen, verifier, resume=resume, listen=listen, processes=processes)
        settings, clock, rollouts = trainer.settings, Clock(trainer.model.device), Rollouts(trainer)
        with trainer.run as run, closing(trainer.engine), Keeper(trainer, clock) as keeper:
            listen("start", {"done": trainer.done, "steps": settings.steps, "out": str(run.path)})
            profiler = Profiler(run.path, settings.record.profile_rollouts if profile else (), listen)
            done = trainer.done
            with keeper.until_stopped(done):
                lacking = {} if trainer.evaluated else evaluate(trainer, done, clock)
            if lacking:
                listen("step", write_evaluation(trainer, done, lacking, clock.take()))
                keeper.made_up(done)
            while done < settings.steps and not keeper.ended:
                with profiler.rollout(done + 1):
                    done = rollout_and_update(trainer, done, clock, keeper, rollouts)
                keeper.after(done)
        return run


def rollout_and_update(trainer: Trainer, done: int, clock: Clock, keeper: Keeper, rollouts: Rollouts) -> int:
    """One pass of Alg. 1's while loop: a rollout, and its optimiser steps one after another. Returns the steps done."""
    # 1. Sampling phase (lines 7-9): G completions of each problem, verified.
    trainer.listen("phase", {"name": "generate"})
    with keeper.until_stopped(done):
        rollout, of_sampling = rollouts.take(done, clock)

    # 2. and 3. c(q), c(o) and log-probs under the policy that sampled, and the advantages (lines 10-27).
    with clock.phase("score"), keeper.rescued(done, again=True):
        rows = make_rows(rollout.groups)
        batch, scoring = policy_batch(
            trainer.settings,
            trainer.policy,
            trainer.method,
            trainer.reference,
            rollout.groups,
            rows,
            done=done,
            engine_scores=trainer.engine_scores,
        )
        with clock.phase("write"):
            trainer.bundles.begin(done + 1, rollout.groups, batch, trainer.policy, engine_scores=trainer.engine_scores)
        advantages = trainer.method.advantages(batch)
        trainer.method.remember(advantages)
    of_rollout = record_rollout(trainer, done + 1, rollout.groups, batch, advantages, of_sampling, clock)

    # 4. Loss and update (lines 28-41), one optimiser step per mini-batch of problems.
    per_rollout = trainer.settings.batch.steps_per_rollout
    for part in range(per_rollout):
        trainer.listen("phase", {"name": "train"})
        with clock.phase("train"):
            of_step = step_on(
                trainer.settings,
                trainer.policy,
                trainer.method,
                batch,
                rows,
                advantages,
                part=part,
                step=done + 1,
                counts=TokenCounts() if part else scoring,
                dump=partial(trainer.run.dump, done + 1),
                trace=trainer.bundles.trace(),
            )
        # Every step says what rollout it learns from; what that rollout cost stands in the row of its first step.
        metrics: dict[str, WeightedMean | float] = {
            key: value for key, value in of_rollout.items() if part == 0 or not key.startswith("tokens/")
        }
        metrics.update(of_step)
        done += 1
        if part == per_rollout - 1:
            # Whatever is sampled from here on, is sampled from the policy as it is now.
            try:
                with keeper.rescued(done):
                    metrics |= rollouts.sync(done, clock, trained=of_step["policy/grad_norm"].total > 0)
                    metrics |= evaluate(trainer, done, clock)
            except Exception:
                write_step(trainer, done, metrics | clock.take())  # the step is made
                raise
        trainer.listen("step", write_step(trainer, done, metrics | clock.take()))
    return done
