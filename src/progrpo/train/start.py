"""The policy before training, as an engine samples from it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from progrpo.engines import Engine, EngineSetup
from progrpo.evaluate import require_entropies
from progrpo.methods import Method
from progrpo.model import LanguageModel
from progrpo.rollout.verify import Verifier
from progrpo.train import checkpoint, difficulty
from progrpo.train.difficulty import PassRates
from progrpo.train.old_logprobs import require_ahead, require_capable
from progrpo.train.parallel import Parallel, SamplingCopy, sync
from progrpo.train.record import RunDirectory
from progrpo.train.settings import RunSettings
from progrpo.types import Problem


class Start:
    """The policy before training, and the engine that samples from it: made where it is first needed.

    Attributes:
        synced: whether an engine with weights of its own has the model's.
    """

    def __init__(
        self,
        settings: RunSettings,
        method: Method,
        setup: EngineSetup,
        model: LanguageModel,
        sampling_copy: SamplingCopy | None,
        verifier: Verifier,
        parallel: Parallel,
    ) -> None:
        self.synced = False
        self._settings, self._method, self._setup = settings, method, setup
        self._model, self._copy = model, sampling_copy
        self._verifier, self._parallel = verifier, parallel
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """The chosen engine on the model; the same at every call.

        Raises:
            ConfigError: the method, or a measure of the evaluations, reads what this engine does not give.
        """
        if self._engine is None:
            sampler = self._copy.model if self._copy else self._model
            self._engine = self._setup.make(sampler)
            self._require_capable(self._engine)
        return self._engine

    def pass_rates(
        self, problems: Sequence[Problem], run: RunDirectory | None, listen: Callable[[str, Mapping[str, Any]], None]
    ) -> PassRates:
        """Those of the run that is resumed; else measured, and told. The generators of torch are left as they are."""
        if run is not None:
            return difficulty.from_rows(run.pass_rates())
        settings, processes = self._settings, self._parallel.processes
        generators = checkpoint.generator_states()
        rates = processes.same(lambda: difficulty.cached(problems, settings))
        if rates is None:
            engine = self.engine()
            if self._setup.own_weights:
                sync(engine, self._model, 0, self._parallel, self._copy)
                self.synced = True
            rates = difficulty.measure(
                problems,
                settings,
                model=self._model,
                engine=engine,
                verifier=self._verifier,
                processes=processes,
                on_progress=lambda done, of: listen("measure", {"done": done, "of": of}),
            )
        checkpoint.set_generators(generators)
        listen("difficulty", {"lines": [*difficulty.describe(problems, rates, settings.data)]})
        return rates

    def close(self) -> None:
        """Close the engine, if it was made."""
        if self._engine is not None:
            self._engine.close()

    def _require_capable(self, engine: Engine) -> None:
        settings = self._settings
        require_capable(engine, settings, self._method)
        require_ahead(engine, settings, self._method, self._parallel.processes.count)
        if settings.evaluate.every:
            require_entropies(settings.evaluate.load_measures(self._verifier), engine, self._setup.name)
