"""Continuous batching as Transformers ships it, over a paged cache: for GPUs without vLLM, with flash attention.

A completion that ends makes room for the next one at once, and a group's prompt is run once and forked. Tokens are drawn
here, in the place of Transformers' logits processors, and as engine hf draws them: the same seed gives the same completion
as there (up to rounding), whatever else is asked, with log-probs and entropies before top-k and top-p.

Without flash attention (package flash-attn or kernels, half precision, a GPU) each token attends to the cache of all rows
under a mask, so that the work grows with the square of `max_rows`: engine hf is faster then.

With model.precision=bf16 the weights are rounded to bf16 while it generates, norms and residuals included; training
computes under autocast. Its log-probs are then not those of the trained weights (see `Capabilities`).
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import torch
import transformers
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from progrpo import attention
from progrpo.algo.logprobs import head_logprobs
from progrpo.engines import Capabilities, Done, Engine, Generated, Request, Sampling
from progrpo.engines._ends import Ends
from progrpo.engines._lending import lent, rounded
from progrpo.engines.hf.results import named
from progrpo.engines.hf.sampling import kept, sample, uniforms_of
from progrpo.errors import ConfigError, NonFiniteError, PluginError
from progrpo.model import LanguageModel
from progrpo.settings import Settings
from progrpo.types import Completion

logger = logging.getLogger(__name__)

_CHILD = "__child#"  # Transformers names the copies of request "7" so: "7", "7__child#0", "7__child#1", ...
_SLACK = 1.2  # Transformers admits no new prompt while less than 15 % of its cache is free.
_PROMPT_TOKENS = 8192  # Of one forward pass over prompts to score.


class Params(Settings):
    max_rows: int = Field(256, gt=0)
    """Completions decoded side by side."""
    max_batch_tokens: int = Field(2048, gt=0)
    """Tokens of one forward pass (at least one per row); longer prompts are read in pieces."""
    memory_fraction: float = Field(0.8, gt=0, le=1)
    """Share of the memory then free that the cache may take. It takes what its rows need at full length, or this share
    where that is less: some completions then wait, or are set back and run again to the same tokens."""
    cuda_graphs: bool = False
    """Replay the forward passes as CUDA graphs, which are captured anew in every rollout."""


def make(model: LanguageModel, params: Params) -> "PagedEngine":
    """Raises ConfigError where this machine, model or version of Transformers cannot do it."""
    relied_on = {
        "GenerationMixin": "init_continuous_batching",
        "ContinuousBatchingConfig": "max_batch_tokens max_memory_percent max_requests_per_batch use_cuda_graph",
        "ContinuousBatchingManager": "add_request get_result is_running warmup start stop destroy",
    }
    pairs = [(owner, name) for owner, names in relied_on.items() for name in names.split()]
    lacking = [f"{owner}.{name}" for owner, name in pairs if not hasattr(getattr(transformers, owner, None), name)]
    if lacking:
        raise ConfigError(
            f"engine paged: transformers {transformers.__version__} lacks {', '.join(lacking)}; expected 5.17 to 5.23; "
            "pip install 'transformers>=5.17,<5.24', or set engine.name=hf"
        )
    if model.device.type == "cpu" and not transformers.utils.is_psutil_available():
        raise ConfigError(
            "engine paged: on a CPU Transformers measures the free memory with psutil, which is not installed; "
            "pip install psutil, or set engine.name=hf"
        )
    with attention.uninstalled(model.model):
        name = model.model.config._attn_implementation
    if name not in ("sdpa", "eager") and "flash" not in name:
        raise ConfigError(
            f"engine paged: model.attention is {name!r}; expected sdpa, eager or a flash_attention, which is what "
            "Transformers' continuous batching can run; set model.attention=sdpa or engine.name=hf"
        )
    return PagedEngine(model, params)


class PagedEngine(Engine):
    checks_weights = True  # they are the trained ones

    def __init__(self, model: LanguageModel, params: Params) -> None:
        self._model = model
        self._params = params
        # In float32 passes differ by the order of their sums alone.
        self.capabilities = Capabilities(samples_trained_weights=model.precision == "fp32")

    def update_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        self.version = version  # it reads the trained weights at every call

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
        results: dict[int, Generated] = {}
        ends = Ends(self._model, sampling)
        limits = [ends.limit(request) for request in requests]
        with lent(self._model):
            scores = _score(self._model, requests, sampling) if prompt_logprobs else {}
            with rounded(self._model), self._running(requests, sampling) as (manager, drawer):
                for index, completions in self._groups(manager, drawer, requests, limits):
                    results[index] = Generated(prompt_logprobs=scores.get(index), completions=completions)
                    if on_done is not None:
                        on_done(index, results[index])
        return [results[index] for index in range(len(requests))]

    def _groups(
        self, manager: Any, drawer: "_Drawer", requests: Sequence[Request], limits: Sequence[int]
    ) -> Iterator[tuple[int, tuple[Completion, ...]]]:
        """Hand in requests as slots come free; the index and completions of each as its last one ends."""
        waiting = deque(range(len(requests)))
        growing: dict[int, dict[int, Completion]] = {}
        while waiting or growing:
            while waiting and len(requests[waiting[0]].seeds) <= len(drawer.free):
                index = waiting.popleft()
                growing[index] = {}
                self._submit(manager, drawer, index, requests[index], limits[index])
            result = manager.get_result(timeout=1.0)
            if result is None and manager.is_running():
                continue
            if result is None or result.error is not None:
                raise RuntimeError(f"engine paged: generation stopped: {result and result.error}")
            parent, _, child = result.request_id.partition(_CHILD)
            index, copy = int(parent), int(child) + 1 if child else 0
            seed, record = requests[index].seeds[copy], drawer.close(result.request_id)
            growing[index][copy] = self._completion(seed, result.generated_tokens, record, drawer.ends)
            if len(growing[index]) == len(requests[index].seeds):
                yield index, tuple(completion for _, completion in sorted(growing.pop(index).items()))

    def _submit(self, manager: Any, drawer: "_Drawer", index: int, request: Request, limit: int) -> None:
        names = [str(index), *(f"{index}{_CHILD}{child}" for child in range(len(request.seeds) - 1))]
        prompt = request.prompt_ids.tolist()
        for name, seed in zip(names, request.seeds, strict=True):
            drawer.open(name, seed, len(prompt))
        # A fork is made when all of the prompt but its last token is in the cache: there must be one before it.
        forks = len(prompt) > 1
        manager.num_return_sequences = len(names) if forks else 1
        for name in names[:1] if forks else names:
            manager.add_request(prompt, name, limit, eos_token_id=sorted(drawer.ends.ids))

    def _completion(self, seed: int, tokens: list[int], record: Tensor, ends: Ends) -> Completion:
        completed = ends.first(tokens)
        tokens = tokens[:completed]
        drawn, *values = record[:, : len(tokens)].clone()
        token_ids = torch.tensor(tokens, dtype=torch.long)
        if not torch.equal(drawn.long(), token_ids):
            raise PluginError(
                f"engine paged: transformers {transformers.__version__} gave other tokens than were drawn, so nothing is known "
                "of them; install transformers 5.17 to 5.23, or set engine.name=hf"
            )
        if bool(values[0].isnan().any()):
            raise NonFiniteError(
                f"the log-probs of seed {seed} are nan; weights or activations are broken (a diverged checkpoint? overflow?)"
            )
        return Completion(
            seed=seed,
            text=ends.text(token_ids),
            finish="stop" if completed is not None or tokens[-1] in ends.ids else "length",
            token_ids=token_ids,
            **named(torch.stack(values)),
        )

    @contextmanager
    def _running(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[Any, "_Drawer"]]:
        """A manager whose thread generates, and what draws in it; thread and cache are gone afterwards, come what may."""
        slots = max(2 * self._params.max_rows, *(len(request.seeds) for request in requests))
        drawer = _Drawer(self._model, sampling, slots=slots)
        manager = self._open(drawer, requests, sampling)
        if self._model.device.type == "cuda" and "flash" not in self._model.model.config._attn_implementation:
            logger.warning("engine paged: no flash attention, so each token sees all rows; engine hf is likely faster")
        try:
            manager.start()
            yield manager, drawer
        finally:
            manager.stop(hard_stop=True)
            manager.destroy()
            if self._model.device.type == "cuda":
                torch._C._cuda_clearCublasWorkspaces()  # one for each stream it has used: they would pile up
            if (error := manager.background_thread_status.fatal_error) is not None:
                raise error.with_traceback(None) from None  # its frames hold the cache; Transformers has logged them

    def _open(self, drawer: "_Drawer", requests: Sequence[Request], sampling: Sampling) -> Any:
        """A manager with its cache: as large as its rows need at full length, or as large as may be."""
        model, params, known = self._model, self._params, transformers.ContinuousBatchingConfig
        rows = min(params.max_rows, sum(len(request.seeds) for request in requests))
        prompts = [len(request.prompt_ids) for request in requests]
        bf16 = model.precision == "bf16" and model.device.type == "cuda"
        extra: dict[str, Any] = {"auto_switch_to_flash": bf16} if hasattr(known, "auto_switch_to_flash") else {}
        if not extra and not bf16:  # 5.17 goes over to flash attention, which float32 cannot run, unless told "paged"
            model.model.set_attn_implementation(f"paged|{model.model.config._attn_implementation}")
        config = known(
            max_batch_tokens=max(rows, min(params.max_batch_tokens, rows + sum(prompts))),
            max_memory_percent=params.memory_fraction,
            max_requests_per_batch=rows,
            # With sharing, a prompt whose last token alone is not in the cache is forked after a pass over no token: an error.
            allow_block_sharing=False,
            use_cuda_graph=params.cuda_graphs,
            **extra,
        )
        utils = transformers.generation.continuous_batching.utils
        page_size: Any = getattr(config, "page_size", None) or config.block_size
        pages = ceil((max(prompts) + sampling.max_new_tokens) / page_size)
        for blocks in (ceil(_SLACK * rows * pages) + 1, None):
            manager = model.model.init_continuous_batching(
                generation_config=transformers.GenerationConfig(do_sample=False, eos_token_id=-1),
                continuous_batching_config=replace(config, num_blocks=blocks),
                workload_hints=utils.WorkloadHints(max(prompts), sampling.max_new_tokens, rows),
            )
            manager.logit_processor = drawer
            try:
                with torch.random.fork_rng(range(torch.cuda.device_count())):  # it seeds all generators anew
                    manager.warmup()  # makes the cache
                return manager
            except (MemoryError, ValueError) as error:
                reason = str(error)
        raise ConfigError(
            f"engine paged: Transformers cannot lay out its cache ({reason}; memory in bytes); lower engine.max_rows or "
            "engine.max_batch_tokens, raise engine.memory_fraction, or set engine.name=hf"
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """A growing completion: where it is recorded, and its uniform random numbers."""

    slot: int
    prompt_length: int
    stream: np.random.Generator
    numbers: list[float]

    def uniform(self, position: int) -> float:
        while position >= len(self.numbers):
            self.numbers.extend(self.stream.random(64).tolist())
        return self.numbers[position]


class _Drawer:
    """Stands in for Transformers' list of logits processors: draws each token itself and records what it knows of it.

    What comes back are scores in which the drawn token is the likeliest. All that changes from step to step travels as
    five int32 per row (slot, position, halves of a float64 uniform number, whether a stop string is complete), so that a CUDA
    graph may hold the call.

    Args:
        slots: completions that may be open at a time, at 16 or 24 bytes a token.
    """

    tensors_required = 5
    do_processing = True

    def __init__(self, model: LanguageModel, sampling: Sampling, *, slots: int) -> None:
        self.ends = ends = Ends(model, sampling)
        rows = model.model.config.get_text_config().vocab_size
        self._end = min((token for token in ends.ids if token < rows), default=None)
        self._sampling = sampling
        self._rows: dict[str, _Row] = {}
        self.free = list(range(slots))
        self._idle = slots  # One slot and one position more: for rows that fill up a batch and for steps past the end.
        self._record = torch.zeros(1 + kept(sampling), slots + 1, sampling.max_new_tokens + 1, device=model.device)

    def open(self, name: str, seed: int, prompt_length: int) -> None:
        self._rows[name] = _Row(slot=self.free.pop(), prompt_length=prompt_length, stream=uniforms_of(seed), numbers=[])

    def close(self, name: str) -> Tensor:
        """Tokens and their values [4 or 6, max_new_tokens + 1] of a completion that ended; its slot comes free."""
        slot = self._rows.pop(name).slot
        self.free.append(slot)
        return self._record[:, slot].cpu()

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """No request brings arguments of its own."""

    def fill_defaults(self, columns: Tensor) -> None:
        columns[0] = self._idle
        columns[1:] = 0

    def prepare_tensor_args(self, requests_in_batch: Sequence[Any], arg_storage: Tensor) -> Tensor:
        states = [future.state for future in requests_in_batch if future.has_new_token]
        arguments = np.zeros((5, len(states)), dtype=np.int32)
        uniforms = np.zeros(len(states))
        arguments[0] = self._idle
        for column, state in enumerate(states):
            if (row := self._rows.get(state.request_id)) is not None:  # else a warm-up, or a step past the end
                # `position_offset` is what the cache will hold after this step, also for a request that was set back.
                position = min(state.position_offset - row.prompt_length, self._sampling.max_new_tokens)
                arguments[:2, column] = row.slot, position
                uniforms[column] = row.uniform(position)
                arguments[4, column] = bool(self.ends.texts) and self._completed(state)
        arguments[2:4] = uniforms.view(np.int32).reshape(-1, 2).T
        arg_storage[:, : len(states)] = torch.from_numpy(arguments).to(arg_storage.device)
        # Rows that pad the batch must not write where those of the last batch did.
        self.fill_defaults(arg_storage[:, len(states) :])
        return arg_storage

    def __call__(self, input_ids: Tensor, scores: Tensor, arguments: Tensor) -> Tensor:
        slot, position = arguments[0].long(), arguments[1].long()
        uniform = arguments[2:4].T.contiguous().view(torch.float64)[:, 0]
        token, values = sample(scores, uniform, self._sampling)
        self._record[:, slot, position] = torch.cat([token.float()[None], values])
        if self._end is not None:
            # The step after a stop string ends the request; what is drawn in it is cut off.
            token = torch.where(arguments[4] > 0, self._end, token)
        return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)

    def _completed(self, state: Any) -> bool:
        """Whether what a request has generated so far ends with a stop string, or has gone on past one."""
        tail = state.generated_tokens[-self.ends.window :]
        return any(map(self.ends.may_complete, tail)) and self.ends.complete(tail)


def _score(model: LanguageModel, requests: Sequence[Request], sampling: Sampling) -> dict[int, Tensor]:
    """Log-probs of each prompt's tokens, by plain passes over a few prompts, padded where a causal model does not look."""
    scores: dict[int, Tensor] = {}
    order = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt_ids))
    while order:
        count = max(1, _PROMPT_TOKENS // len(requests[order[-1]].prompt_ids))
        order, chosen = order[:-count], order[-count:]
        lengths = [len(requests[index].prompt_ids) for index in chosen]
        tokens = pad_sequence([requests[index].prompt_ids for index in chosen], True, model.pad_id).to(model.device)
        scored = torch.arange(max(lengths), device=model.device) < torch.tensor(lengths, device=model.device)[:, None]
        scored[:, 0] = False
        with model.computing():
            states = model.hidden(tokens, use_cache=False)
            values, _ = head_logprobs(states, tokens, scored, model.head, temperature=sampling.temperature or 1.0)
        scores |= {index: row[:length] for index, row, length in zip(chosen, values.cpu(), lengths, strict=True)}
    return scores
