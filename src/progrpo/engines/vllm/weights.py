"""Trained weights on their way to an engine with weights of its own: names, adapters merged in, sums, and the probe."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from progrpo.algo.logprobs import token_logprobs
from progrpo.errors import EngineError
from progrpo.model import LanguageModel
from progrpo.model.lora import merged_tensors

_TOLERANCE = {"fp32": 0.01, "bf16": 0.2}
"""Of the probe's difference to the spread of its log-probs: rounding gives a hundredth of it, other weights about 1."""
_PROBE_TOKENS = 24
_SUM_TOLERANCE = {"fp32": 1e-5, "bf16": 0.05}
"""Of the sum over all weights: in bf16 the engine stores rounded ones."""


def named_tensors(
    model: LanguageModel, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Weights by their names in a checkpoint, one after the other: an adapter is added to what it adapts.

    Args:
        tensors: the model's parameters by name (see `Engine.update_weights`). dtype: cast to it; None leaves them.
    """
    for name, tensor in merged_tensors(model.model, tensors):
        yield name, tensor.detach() if dtype is None else tensor.detach().to(dtype)


@dataclass(slots=True)
class SentWeights:
    """Counts what goes through it.

    Attributes:
        total: sum over all numbers of all tensors, in float64; invariant under the fusing of layers. names: of the tensors.
    """

    tensors: Iterable[tuple[str, Tensor]]
    total: float = 0.0
    count: int = 0
    exhausted: bool = False

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.tensors:
            self.total += float(tensor.detach().sum(dtype=torch.float64))
            self.count += 1
            yield name, tensor
        self.exhausted = True

    def require_taken(self, stored: float | None, model: LanguageModel, version: int) -> None:
        """Compare what was sent with what the engine stores.

        Args:
            stored: its `stored_total`.

        Raises:
            EngineError: it has not read all, or stores other numbers.
        """
        if not self.exhausted:
            raise EngineError(f"engine vllm: it read {self.count} tensors of step {version} and not the rest")
        if stored is None:
            return
        apart = abs(stored - self.total) / max(1.0, abs(self.total))
        if not apart < _SUM_TOLERANCE[model.precision]:
            raise EngineError(
                f"engine vllm: the weights of step {version} add up to {self.total:.9g}, those it stores to {stored:.9g}: some "
                "were not sent, or not taken"
            )


def stored_total(loaded: torch.nn.Module) -> float | None:
    """The sum over all parameters of an engine's model, in float64; None where some have been packed away into another form."""
    parameters = list(loaded.parameters())
    if any(parameter.numel() == 0 for parameter in parameters):
        return None
    return sum(float(parameter.detach().sum(dtype=torch.float64)) for parameter in parameters)


def repack_tied_head(loaded: torch.nn.Module) -> None:
    """Pack an output head anew that shares the embedding's weights: on a CPU it computes with a packed copy of them, which a
    reload leaves as it was (log-probs were off by up to 1.3 nats)."""
    head = getattr(loaded, "lm_head", None)
    tied = getattr(getattr(loaded, "config", None), "tie_word_embeddings", False)
    if tied and head is not None and hasattr(head, "cpu_linear"):
        head.quant_method.process_weights_after_loading(head)


class Probe:
    """The log-probs of one sequence of tokens, by engine and trainer: what shows that a sync took.

    Args:
        model: whose weights are trained. ask: gives the engine's log-probs of the tokens of a sequence but the first.
    """

    def __init__(self, model: LanguageModel, ask: Callable[[list[int]], list[float]]) -> None:
        self._model, self._ask = model, ask
        generator = torch.Generator().manual_seed(0)
        size = model.model.config.get_text_config().vocab_size
        self._tokens = torch.randint(0, size, (_PROBE_TOKENS,), generator=generator)
        self._before: tuple[Tensor, Tensor | None] | None = None

    def check(self, version: int) -> None:
        """Compare engine and trainer after a sync.

        Raises:
            EngineError: the engine does not hold the weights that were sent.
        """
        engine, trainer = torch.tensor(self._ask(self._tokens.tolist())), self._of_trainer()
        before, self._before = self._before, (engine, trainer)
        if bool(engine.isnan().any()):
            raise EngineError(
                f"engine vllm: its log-probs are nan after the sync of step {version}; look at the weights"
            )
        if trainer is None:
            return
        spread = float((trainer - trainer.mean()).norm().clamp(min=1e-3))
        apart = float((engine - trainer).norm()) / spread
        if not apart < _TOLERANCE[self._model.precision]:
            raise EngineError(
                f"engine vllm: after the sync of step {version} its log-probs of a probe differ from the trainer's by "
                f"{apart:.1e} of their spread (at most {float((engine - trainer).abs().max()):.2g} nats): it does not hold the "
                "weights that were sent. Is its model the one that is trained, and this version of vLLM in the tested range?"
            )
        if before is None or before[1] is None or self._model.precision != "fp32":
            return
        moved = float((trainer - before[1]).abs().max())
        if moved > 1e-5 and torch.equal(engine, before[0]):
            raise EngineError(
                f"engine vllm: the sync of step {version} changed nothing: the trainer's log-probs of a probe moved by "
                f"{moved:.1e} nats, the engine's by nothing"
            )

    @property
    def gap(self) -> float:
        """Largest difference between engine and trainer at the last check, in nats; nan where the trainer gave none."""
        if self._before is None or self._before[1] is None:
            return math.nan
        return float((self._before[0] - self._before[1]).abs().max())

    @torch.no_grad()
    def _of_trainer(self) -> Tensor | None:
        """None where the model is sharded, and no one process can run it."""
        from torch.distributed.tensor import DTensor

        module = self._model.model
        if any(isinstance(parameter, DTensor) for parameter in module.parameters()):
            return None
        tokens, training = self._tokens[None].to(self._model.device), module.training
        module.eval()
        try:
            with self._model.computing():
                logits = self._model.head(self._model.hidden(tokens, use_cache=False))
        finally:
            module.train(training)
        return token_logprobs(logits, tokens)[0, 1:].float().cpu()
