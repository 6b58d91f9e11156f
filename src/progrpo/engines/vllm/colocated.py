"""vLLM in the trainer's process: they take turns, and weights are loaded without another copy of the model."""

import logging
import os
import random
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from progrpo.engines import Capabilities, Done, Engine, Generated, Request, Sampling
from progrpo.engines._ends import Ends
from progrpo.engines._groups import gathered, places
from progrpo.engines.vllm.mapping import require_known, to_completion, to_sampling
from progrpo.engines.vllm.params import VllmParams
from progrpo.engines.vllm.start import ENVIRONMENT, arguments, write_description
from progrpo.engines.vllm.weights import Probe, SentWeights, named_tensors, repack_tied_head, stored_total
from progrpo.errors import EngineError
from progrpo.model import LanguageModel
from progrpo.types import Completion

OWN = Capabilities(
    samples_trained_weights=False,
    entropies=False,
    entropy_gradients=False,
    prompt_logprobs=False,
    batch_invariant=False,
)


class ColocatedEngine(Engine):
    """See `progrpo.engines.vllm`. Weights are sent at the first call of `generate` where nobody sent any before."""

    capabilities = OWN
    checks_weights = True

    def __init__(self, model: LanguageModel, params: VllmParams) -> None:
        self._model = model
        self._loaded = False
        self._calls = 0
        self._folder = tempfile.TemporaryDirectory(prefix="progrpo-vllm-")
        write_description(model, Path(self._folder.name))
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._alone = not torch.distributed.is_initialized()
        with _own_state():
            from vllm import LLM

            with _named("could not start"):
                self._llm: Any = LLM(model=self._folder.name, disable_log_stats=True, **arguments(model, params))
        self._probe = Probe(model, self._prompt_logprobs)

    def update_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        sent = SentWeights(named_tensors(self._model, tensors))
        with _named(f"could not take the weights of step {version}"), _without_its_doubts():
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(sent)})
            self._llm.apply_model(repack_tied_head)
            totals = self._llm.apply_model(stored_total)
            # Keys and values of the old weights.
            if not self._llm.reset_prefix_cache():
                raise EngineError("engine vllm: its prefix cache could not be emptied: requests are still running")
        sent.require_taken(totals[0], self._model, version)
        self._loaded = True
        self._probe.check(version)
        self.version = version

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        prompt_logprobs: bool = False,
        on_done: Done | None = None,
    ) -> list[Generated]:
        require_known(sampling)
        if not requests:
            return []
        if not self._loaded:
            self.update_weights(self._model.model.named_parameters(), self.version)
        ends = Ends(self._model, sampling)
        with closing(self._completions(requests, sampling, ends)) as completions:
            return gathered(requests, completions, on_done)

    def close(self) -> None:
        if self._llm is None:
            return
        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        if self._alone and torch.distributed.is_initialized():
            from vllm.distributed import cleanup_dist_env_and_memory

            cleanup_dist_env_and_memory()
        self._folder.cleanup()

    def _completions(
        self, requests: Sequence[Request], sampling: Sampling, ends: Ends
    ) -> Generator[tuple[int, int, Completion], None, None]:
        """Index of the request, place of the seed, and the completion, in the order in which they end."""
        from vllm import SamplingParams, TokensPrompt

        engine, waiting = self._llm.llm_engine, {}
        self._calls += 1
        try:
            for index, place in places(requests):
                request, name = requests[index], f"{self._calls}-{index}-{place}"
                chosen = to_sampling(sampling, request.seeds[place], ends.limit(request), ends)
                params = SamplingParams(**chosen, detokenize=bool(ends.texts), flat_logprobs=True)
                params.output_kind = params.output_kind.FINAL_ONLY
                with _named("refuses a request"):
                    engine.add_request(name, TokensPrompt(prompt_token_ids=request.prompt_ids.tolist()), params)
                waiting[name] = index, place
            while waiting:
                with _named("died while it sampled"), torch.inference_mode():
                    outputs = engine.step()
                for output in outputs:
                    if output.finished:
                        index, place = waiting.pop(output.request_id)
                        yield index, place, self._completion(output, requests[index].seeds[place], sampling, ends)
        finally:
            if waiting:  # somebody stopped: nothing of this call may stand in the next one's way
                engine.abort_request(list(waiting))

    def _completion(self, output: Any, seed: int, sampling: Sampling, ends: Ends) -> Completion:
        (drawn,) = output.outputs
        return to_completion(
            sampling,
            ends,
            seed=seed,
            token_ids=drawn.token_ids,
            logprobs=[drawn.logprobs.logprobs[start] for start in drawn.logprobs.start_indices],
            reason=drawn.finish_reason,
            version=self.version,
        )

    def _prompt_logprobs(self, tokens: list[int]) -> list[float]:
        from vllm import SamplingParams, TokensPrompt

        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        with _named("could not score the probe"):
            (output,) = self._llm.generate([TokensPrompt(prompt_token_ids=tokens)], params, use_tqdm=False)
        pairs = zip(output.prompt_logprobs[1:], tokens[1:], strict=True)
        return [float(values[token].logprob) for values, token in pairs]


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turns what vLLM raises into one line of ours; it has logged the rest."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AttributeError, MemoryError, OSError, KeyError) as error:
        if isinstance(error, EngineError):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(
            f"engine vllm: {what}: {type(error).__name__}: {first}; with too little memory lower engine.memory_fraction, "
            "engine.cache_gib, engine.max_rows or engine.max_model_len"
        ) from error


@contextmanager
def _without_its_doubts() -> Iterator[None]:
    """At each reload vLLM warns of layers that get no weights: those that have none, and a tied head. The probe says more."""
    logger = logging.getLogger("vllm.model_executor.model_loader.reload.layerwise")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _own_state() -> Iterator[None]:
    """Random numbers, the number of torch's threads and the function that sets it, as they were: vLLM changes all of them."""
    setter, count = torch.set_num_threads, torch.get_num_threads()
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_num_threads = setter
        torch.set_num_threads(count)
