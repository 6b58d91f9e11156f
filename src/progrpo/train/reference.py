"""The model as it was before training, for methods that compare the policy with it: a frozen copy, or the adapter off."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from progrpo.model import LanguageModel, ModelSettings, load_model
from progrpo.model.lora import is_adapted
from progrpo.processes import ALONE
from progrpo.train.parallel import Parallel, ParallelSettings
from progrpo.train.passes import Passes, SequenceScores
from progrpo.train.rows import TokenRows
from progrpo.train.scorer import Scorer


class Reference:
    """Scores sequences under the model before training, at the sampling temperature.

    A model that trains an adapter (as Transformers attaches them) is its own reference with the adapter switched off, at
    no memory; any other is loaded a second time and frozen.

    Args:
        settings: of the model before training, not of a checkpoint.
        trained: the policy's own scorer, as it is spread over several processes. parallel: how; None for one. before:
            the model before training, frozen, where it has been read to be sharded.
    """

    def __init__(
        self,
        policy: LanguageModel,
        settings: ModelSettings,
        temperature: float,
        *,
        trained: torch.nn.Module | None = None,
        parallel: Parallel | None = None,
        before: LanguageModel | None = None,
    ) -> None:
        parallel = parallel or Parallel(ParallelSettings(), ALONE)
        model, scorer = policy, trained or Scorer(policy, temperature)
        self._adapted = model.model if is_adapted(model.model) else None
        if self._adapted is None:
            if before is None:
                plain = settings.model_copy(update={"gradient_checkpointing": False})
                before = load_model(plain, again=True, merge=True)
                before.model.requires_grad_(False).eval()
            model = before
            scorer = parallel.frozen(Scorer(model, temperature), model.device)
        self._passes = Passes(model, scorer, parallel.processes)

    def score(self, rows: TokenRows, index: Tensor, *, columns: int, budget: int) -> SequenceScores:
        """Log-probs [N, S] of the sequences `index`, without gradient."""
        with _without_adapter(self._adapted):
            return self._passes.score(rows, index, columns=columns, budget=budget)


@contextmanager
def _without_adapter(model: Any) -> Iterator[None]:
    if model is None:
        yield
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.disable_adapters()
    # It also says that they need no gradient, which FSDP2 takes over into what it gathers in the first forward pass and keeps.
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        model.enable_adapters()
