"""Whether a sync changed the engine at all: the same short completion, drawn again from the same seed."""

import torch

from progrpo.engines import Engine, Request, Sampling
from progrpo.model import LanguageModel
from progrpo.processes import Processes
from progrpo.train.checkpoint import generator_states, set_generators
from progrpo.types import WeightedMean

_TOKENS = 8


class SyncProbe:
    """Asks an engine that does not compare its weights itself (`Engine.checks_weights`) before and after each sync.

    Nothing else of a run depends on it: the random numbers of this process are put back.
    """

    def __init__(self, engine: Engine, model: LanguageModel, processes: Processes) -> None:
        self._engine, self._processes = engine, processes
        size = model.model.config.get_text_config().vocab_size
        prompt = torch.randint(0, size, (_TOKENS,), generator=torch.Generator().manual_seed(0))
        self._request = Request(prompt_ids=prompt, seeds=(0,))
        self._before: torch.Tensor | None = None

    def before_training(self) -> None:
        """Look once before the first step: an engine may sample from the very weights that it changes. The look after a sync is
        that before the next."""
        if self._before is None and not self._engine.checks_weights:
            self._before = self._look()

    def after_sync(self) -> dict[str, WeightedMean]:
        """`sampler/unchanged`: the share of processes whose engine gives the very log-probs that it gave before; {} where it
        is not asked."""
        if self._before is None:
            return {}
        before, self._before = self._before, self._look()
        answers = self._processes.gather(torch.equal(before, self._before))
        return {"sampler/unchanged": WeightedMean(float(sum(answers)), len(answers))}

    def _look(self) -> torch.Tensor:
        states = generator_states()
        (result,) = self._engine.generate([self._request], Sampling(max_new_tokens=_TOKENS))
        set_generators(states)
        return result.completions[0].sampler_logprobs.cpu()
