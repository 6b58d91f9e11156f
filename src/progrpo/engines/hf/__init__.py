"""Any Hugging Face causal model, in this process, on CPU or GPU.

A group's prompt is run once and its cache shared; rows that have ended leave and waiting groups enter; the log-prob and
entropy of every sampled token are kept. Each completion draws its random numbers from its own seed (Philox, one number
per token), so it does not depend on the batch it was drawn in (up to rounding: another batch size may turn a near-tie).
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from progrpo.engines import Capabilities, Done, Engine, Generated, Request, Sampling
from progrpo.engines.hf import probe
from progrpo.engines.hf.cache import CacheCapacity
from progrpo.engines.hf.continuous import ContinuousDecoder, capacity_for
from progrpo.engines.hf.graphs import Graphs
from progrpo.engines.hf.state import DecoderState
from progrpo.engines.hf.static import StaticDecoder
from progrpo.engines.hf.weights import SamplerWeights
from progrpo.errors import ModelError
from progrpo.model import LanguageModel
from progrpo.settings import Settings

logger = logging.getLogger(__name__)

Way = Literal["graphs", "continuous", "static"]
"""Continuous batching with CUDA graphs or without, or static batches of plain passes."""


class Params(Settings):
    max_rows: int = Field(256, gt=0)
    """Completions decoded side by side; whole groups only, at least one."""
    max_tokens: int | None = Field(None, gt=0)
    """Tokens that the cache holds at most, each row at its longest and each prompt once; None: as `max_rows` needs."""
    cuda_graphs: bool = True
    """On CUDA, launch each decoding pass as one graph. The cache then stays allocated between rollouts, at its largest."""
    packed: bool = True
    """On a CPU, sample from copies of the linear layers in the layout that its products read fastest, where these are at most a
    quarter of the machine's memory. In float32 they are the weights once more; in bf16 they take the place of copies that there
    are anyway."""
    precision: Literal["bf16"] | None = None
    """bf16 samples from bf16 copies of the linear layers of a model that is trained in float32: a pass reads half as much. The
    policy that samples is then the trained one, rounded, and `sampler/gap` says how far the two are apart. Where the engine
    gives the old log-probs (`old_logprobs`), importance ratios make up for it; else `off_policy.level=token` does. None samples
    in `model.precision`."""


def make(model: LanguageModel, params: Params) -> "HfEngine":
    return HfEngine(model, params)


class HfEngine(Engine):
    capabilities = Capabilities(samples_trained_weights=True, token_temperatures=True)
    checks_weights = True  # they are the trained ones, or copies made by version

    def __init__(self, model: LanguageModel, params: Params) -> None:
        self._params = params
        self._weights = SamplerWeights(model, params.precision or model.precision, packed=params.packed)
        self._model = self._weights.sampler
        self._kept: tuple[DecoderState, Graphs] | None = None
        self._way: Way | None = None

    def update_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        self._weights.sync(trained=True)
        self.version = version

    @torch.no_grad()
    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        prompt_logprobs: bool = False,
        on_done: Done | None = None,
    ) -> list[Generated]:
        if not requests:
            return []
        self._weights.sync(trained=False)  # what was read into the model since
        was_training = self._model.model.training
        self._model.model.eval()
        try:
            with self._model.computing():
                if self._way is None:
                    self._way = self._choose()
                return self._run(requests, sampling, prompt_logprobs, on_done, self._way, self._params.max_rows)
        finally:
            self._model.model.train(was_training)

    def _choose(self) -> Way:
        """The fastest way of decoding that gives what plain passes give, tried on this model.

        Raises:
            ModelError: none does.
        """
        fast: tuple[Way, ...] = ("continuous",) if self._model.shares_prompts else ()
        if fast and self._params.cuda_graphs and self._model.device.type == "cuda":
            fast = ("graphs", *fast)
        for way in fast:
            fault = self._fault(way)
            if fault is None:
                return way
            logger.warning(
                "engine hf: decoding with %s does not hold for this model (%s); taking a slower way", way, fault
            )
        if (fault := self._fault("static")) is not None:
            raise ModelError(
                f"engine hf: a model of type {self._model.model.config.model_type} cannot be sampled from: with Transformers' "
                f"cache it does not give what plain passes give ({fault}); take another engine (engine.name=vllm) or model"
            )
        return "static"

    def _fault(self, way: Way) -> str | None:
        def decode(requests: Sequence[Request], sampling: Sampling) -> list[Generated]:
            return self._run(requests, sampling, False, None, way, 6)

        fault = probe.fault(self._model, decode)
        self._kept = None
        return fault

    def _run(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        prompt_logprobs: bool,
        on_done: Done | None,
        way: Way,
        limit: int,
    ) -> list[Generated]:
        if way == "static":
            decoder = StaticDecoder(self._model, requests, sampling, max_rows=limit, prompt_logprobs=prompt_logprobs)
            return decoder.run(on_done)
        most = self._params.max_tokens
        capacity = capacity_for(requests, sampling, limit, most)
        count = sum(len(request.seeds) for request in requests)
        if way == "continuous":
            rows, graphs = DecoderState(self._model, capacity, count, sampling, reserve=False), None
        else:
            rows, graphs = self._rows_with_graphs(capacity, count, sampling)
        return ContinuousDecoder(rows, graphs, requests, max_tokens=most, prompt_logprobs=prompt_logprobs).run(on_done)

    def _rows_with_graphs(self, capacity: CacheCapacity, count: int, sampling: Sampling) -> tuple[DecoderState, Graphs]:
        """Those of an earlier call where they serve this one."""
        if self._kept is None or not self._kept[0].serves(capacity, count, sampling):
            self._kept = None  # its memory goes before the next is taken
            rows = DecoderState(self._model, capacity.rounded(), count, sampling, reserve=True)
            self._kept = rows, Graphs(rows)
        return self._kept
