"""When a checkpoint is written: as `checkpoint.every` says, after the last step, and when SIGTERM or a failure between two
optimiser steps ends the run."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from progrpo.errors import AlarmError, EngineError, StopTraining, StorageError, TerminatedError, VerifierError
from progrpo.train import checkpoint
from progrpo.train.clock import Clock
from progrpo.train.stopping import Interrupted, StopSignal
from progrpo.train.trainer import Trainer

logger = logging.getLogger(__name__)


class Keeper:
    """Writes the checkpoints of a run. Use as a context manager: within it SIGTERM is heard and ends the run with one."""

    def __init__(self, trainer: Trainer, clock: Clock) -> None:
        self._trainer = trainer
        self._clock = clock
        self._stop = StopSignal()
        self._saved = trainer.done
        self._undo: Callable[[], None] = lambda: None
        self.ended = bool(trainer.watch.ended)
        """Whether the run is over before its last step: a listener said so (`StopTraining`), or `early_stopping` or an alarm
        does."""
        if self.ended:
            logger.warning("the run is over since step %d: %s", trainer.done, trainer.watch.ended)
        self._require_no_alarm(trainer.done)

    def after(self, done: int) -> None:
        """Write a checkpoint of `done` optimiser steps if one is due, or the run ends here.

        Raises:
            TerminatedError: SIGTERM came meanwhile, and there are steps left; they have their checkpoint.
            AlarmError: an alarm of `alarms.stop` is raised, likewise.
        """
        every, steps = self._trainer.settings.checkpoint.every, self._trainer.settings.steps
        best = self._trainer.watch.best
        self.ended = any(self._trainer.parallel.processes.gather(self._told_to_stop(done)))
        if done >= steps or self.ended or (every and done % every == 0) or (best and best.step == done):
            self._save(done)
        with self._clock.phase("write"):
            self._trainer.bundles.end(self._trainer.policy)
        self._require_no_alarm(done)
        # Under several processes SIGTERM may have come to one before the others.
        if any(self._trainer.parallel.processes.gather(self._stop.requested)) and done < steps:
            self._end(done)

    def made_up(self, done: int) -> None:
        """Take up what an evaluation says that was cut off after `done` steps, and is made by the run that goes on."""
        best = self._trainer.watch.best
        if best and best.step == done:
            self._save(done)
        self.ended = self.ended or bool(self._trainer.watch.ended)

    def _told_to_stop(self, done: int) -> bool:
        """Whether a listener, early stopping or an alarm ends the run at the end of this rollout."""
        why = self._trainer.watch.ended or self._trainer.alarms.ended
        try:
            self._trainer.listen("rollout", {"done": done})
        except StopTraining as stop:
            why = str(stop)
        if why:
            logger.warning("the run ends after step %d: %s", done, why)
        return bool(why)

    @contextmanager
    def until_stopped(self, done: int) -> Iterator[None]:
        """Do what may be given up, because it changes nothing of the policy: SIGTERM does not wait for its end.

        What was drawn and taken within is forgotten, so that a resumed run does it again from the same place.

        Several processes wait for one another within, so that none of them can leave: there SIGTERM waits for `after`.

        Args:
            done: optimiser steps made so far.

        Raises:
            TerminatedError: SIGTERM came; the steps have their checkpoint. Exception: see `rescued`.
        """
        if self._trainer.parallel.processes.count > 1:
            yield
            return
        self._undo = self._as_now()
        try:
            with self._stop.interruptible():
                yield
        except Interrupted:
            self._undo()
            self._end(done)
        except StorageError:
            raise
        except Exception as error:
            self._undo()
            self._rescue(done, error)
            raise

    def _as_now(self) -> Callable[[], None]:
        """What brings random number generators and the method's memory back to where they are now."""
        state = self._trainer.method.state
        generators, remembered = checkpoint.generator_states(), dict(state)

        def undo() -> None:
            checkpoint.set_generators(generators)
            state.clear()
            state.update(remembered)

        return undo

    @contextmanager
    def rescued(self, done: int, *, again: bool = False) -> Iterator[None]:
        """Do what an engine or a verifier may fail in, between two optimiser steps: `done` of them are made, and nothing of the
        next.

        Args:
            again: the rollout that was sampled will be sampled again, so that it is forgotten as `until_stopped` forgets.

        Raises:
            Exception: it did; in a run of one process the steps have their checkpoint, unless it is the disk that failed. (Of
                several, the others may be waiting for this one, so that none can be written.)
        """
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            if self._trainer.parallel.processes.count > 1:
                raise
            if again:
                self._undo()
            self._rescue(done, error)
            raise

    def __enter__(self) -> Self:
        self._stop.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.__exit__(kind, value, tb)

    def _rescue(self, done: int, error: Exception) -> None:
        """Keep the steps that were made, and say so.

        Raises:
            EngineError, VerifierError: it was one, and is one that says so.
        """
        if self._saved < done:
            self._save(done)
        safe = f"step {done} has its checkpoint: go on with --resume" if done else "no step was made"
        for kind in (VerifierError, EngineError):  # some below them take more than words
            if isinstance(error, kind):
                raise kind(f"{error}; {safe}") from error
        if done:
            logger.warning("%s", safe)

    def _require_no_alarm(self, done: int) -> None:
        why = self._trainer.alarms.ended
        if why and done < self._trainer.settings.steps:
            raise AlarmError(
                f"the run ends after step {done}, which has its checkpoint: {why}. It goes on with --resume once the alarm is "
                "left out of alarms.stop, or its threshold is another"
            )

    def _end(self, done: int) -> None:
        if self._saved < done:
            self._save(done)
        where = f"after step {done}, which has its checkpoint" if done else "before the first step"
        raise TerminatedError(f"terminated by SIGTERM {where}; go on with --resume")

    def _save(self, done: int) -> None:
        with self._clock.phase("write"):
            checkpoint.save(
                self._trainer.run.checkpoints,
                done,
                self._trainer.policy,
                keep=self._trainer.settings.checkpoint.keep,
                merged=self._trainer.settings.checkpoint.merged,
                method_state=self._trainer.method.state,
                best=self._trainer.watch.best,
            )
        self._saved = done
        self._trainer.bundles.saved(done)
        folder = self._trainer.run.checkpoints / f"step-{done:06d}"
        self._trainer.listen("checkpoint", {"step": done, "path": str(folder)})
