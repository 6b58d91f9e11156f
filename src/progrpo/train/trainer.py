"""The parts of a run, as the loop and what it calls see them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from progrpo.engines import Engine
from progrpo.evaluate.benchmark import BenchmarkPlan
from progrpo.methods import Method
from progrpo.model import LanguageModel
from progrpo.rollout.verify import Verifier
from progrpo.train.alarms.watching import Alarms
from progrpo.train.bundles import Bundles
from progrpo.train.old_logprobs import engine_scores
from progrpo.train.parallel import Parallel, SamplingCopy, sync
from progrpo.train.policy import Policy
from progrpo.train.record import RunDirectory
from progrpo.train.reference import Reference
from progrpo.train.settings import RunSettings
from progrpo.train.stream import ProblemStream
from progrpo.train.watch import Watch
from progrpo.types import Problem

Listener = Callable[[str, Mapping[str, Any]], None]
"""Called with "prepare", "check", "measure", "difficulty", "start", "phase", "sampled", "step", "alarm", "evaluation",
"benchmark", "rollout", "checkpoint" or "profile" and what belongs to it; at "rollout", the end of one with all its steps, it
may raise `StopTraining`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trainer:
    """The parts of a run. `done` optimiser steps were made before this process started."""

    settings: RunSettings
    run: RunDirectory
    method: Method
    model: LanguageModel
    parallel: Parallel
    policy: Policy
    engine: Engine
    verifier: Verifier
    reference: Reference | None
    stream: ProblemStream
    test: tuple[Problem, ...]
    benchmarks: tuple[BenchmarkPlan, ...]
    watch: Watch
    alarms: Alarms
    bundles: Bundles
    done: int
    listen: Listener

    evaluated: bool = False
    """Whether the evaluation that may be due after `done` steps was made."""
    sampling_copy: SamplingCopy | None = None
    sources: tuple[str, ...] = ()
    """Parts of a mixture."""

    def sync(self, step: int) -> None:
        """Bring the weights after `step` optimiser steps to the engine; every process has to call it."""
        sync(self.engine, self.model, step, self.parallel, self.sampling_copy)

    @property
    def engine_scores(self) -> bool:
        """See `progrpo.train.old_logprobs`."""
        return engine_scores(self.settings, self.engine, self.method)
