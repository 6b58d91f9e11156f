"""Any Hugging Face causal model, in this process, on CPU or GPU.

The prompt is run once per group and its cache shared; finished rows leave the batch; the log-prob and entropy of every
sampled token are kept. Each completion draws its random numbers from its own seed (Philox, one number per token), so it
does not depend on the batch it was drawn in (up to rounding: in bf16 another batch size may turn a near-tie).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from transformers import DynamicCache

from progrpo.algo.logprobs import head_logprobs
from progrpo.engines import Engine, Generated, Request, Sampling
from progrpo.errors import NonFiniteError
from progrpo.model import LanguageModel
from progrpo.settings import Settings
from progrpo.types import Completion

_BLOCK = 64


class Params(Settings):
    max_rows: int = Field(256, gt=0)
    """Completions decoded side by side; whole groups only, at least one."""


def make(model: LanguageModel, params: Params) -> "HfEngine":
    return HfEngine(model, params)


class HfEngine(Engine):
    samples_trained_weights = True

    def __init__(self, model: LanguageModel, params: Params) -> None:
        self._model = model
        self._params = params

    @torch.no_grad()
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, prompt_logprobs: bool = False
    ) -> list[Generated]:
        was_training = self._model.model.training
        self._model.model.eval()
        # Prompts of like length share a wave, so that little is padded; the order asked for is restored at the end.
        order = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt_ids))
        results: dict[int, Generated] = {}
        with self._model.computing():
            for wave in _waves(order, requests, self._params.max_rows):
                generated = self._wave([requests[index] for index in wave], sampling, prompt_logprobs)
                results.update(zip(wave, generated, strict=True))
        self._model.model.train(was_training)
        return [results[index] for index in range(len(requests))]

    def _wave(self, requests: list[Request], sampling: Sampling, prompt_logprobs: bool) -> list[Generated]:
        prompts, present = _left_pad([request.prompt_ids for request in requests], self._model)
        positions = (present.cumsum(dim=1) - 1).clamp(min=0)
        cache = DynamicCache(config=self._model.model.config)
        states = self._model.hidden(
            prompts, attention_mask=present.long(), position_ids=positions, past_key_values=cache, use_cache=True
        )
        scores = self._score_prompts(states, prompts, present, sampling) if prompt_logprobs else None
        copies = torch.tensor([len(request.seeds) for request in requests], device=prompts.device)
        origin = torch.arange(len(requests), device=prompts.device).repeat_interleave(copies)  # [N]
        cache.batch_select_indices(origin)
        rows = _Rows([seed for request in requests for seed in request.seeds], sampling, self._model)
        rows.draw(self._model.head(states[:, -1])[origin])
        self._decode(rows, cache, present[origin], sampling)
        completions = iter(rows.finish())
        return [
            Generated(
                prompt_logprobs=None if scores is None else scores[index, present[index]].cpu(),
                completions=tuple(next(completions) for _ in request.seeds),
            )
            for index, request in enumerate(requests)
        ]

    def _decode(self, rows: "_Rows", cache: DynamicCache, present: Tensor, sampling: Sampling) -> None:
        """One token at a time for the rows that go on; a row that has ended leaves the cache."""
        padded = not bool(present.all())
        length = present.sum(dim=1)  # [rows] tokens seen by each row
        for _ in range(sampling.max_new_tokens - 1):
            going = rows.leave()
            if not len(rows.active):
                return
            if going is not None:
                cache.batch_select_indices(going)
                present, length = present[going], length[going]
            present = torch.cat([present, present.new_ones(present.shape[0], 1)], dim=1)
            states = self._model.hidden(
                rows.last[:, None],
                attention_mask=present.long() if padded else None,
                position_ids=length[:, None],
                past_key_values=cache,
                use_cache=True,
            )
            length = length + 1
            rows.draw(self._model.head(states[:, -1]))

    def _score_prompts(self, states: Tensor, prompts: Tensor, present: Tensor, sampling: Sampling) -> Tensor:
        """Log-prob of each prompt token but the first, [P, Q]; the rows come from the prefill that is made anyway."""
        scored = present.clone()
        scored.scatter_(1, present.long().argmax(dim=1, keepdim=True), False)
        temperature = sampling.temperature or 1.0
        return head_logprobs(states, prompts, scored, self._model.head, temperature=temperature)[0]


class _Rows:
    """The completions of one wave while they grow; `active` maps the rows of the batch to them."""

    def __init__(self, seeds: list[int], sampling: Sampling, model: LanguageModel) -> None:
        self._seeds = seeds
        self._sampling = sampling
        self._model = model
        self._stops = torch.tensor(sorted(model.stop_ids), device=model.device)
        self._streams = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]
        self._uniforms = np.empty((len(seeds), 0))
        count, longest = len(seeds), sampling.max_new_tokens
        self._tokens = torch.zeros(count, longest, dtype=torch.long, device=model.device)
        self._logprobs = torch.zeros(count, longest, device=model.device)
        self._entropies = torch.zeros(count, longest, device=model.device)
        self._lengths = torch.zeros(count, dtype=torch.long)
        self._stopped = torch.zeros(count, dtype=torch.bool)
        self._step = 0
        self.active = torch.arange(count, device=model.device)
        self.last = torch.zeros(0, dtype=torch.long, device=model.device)

    def draw(self, logits: Tensor) -> None:
        """Sample the next token of every active row from its logits [rows, V]."""
        active = self.active
        uniform = self._next_uniforms()[active.cpu()].to(active.device)
        token, logprob, entropy = sample(logits, uniform, self._sampling)
        self._tokens[active, self._step] = token
        self._logprobs[active, self._step] = logprob
        self._entropies[active, self._step] = entropy
        self._step += 1
        self.last = token

    def leave(self) -> Tensor | None:
        """Drop the rows that have ended; the positions that go on, or None where all do."""
        ended = torch.isin(self.last, self._stops)
        if not bool(ended.any()):
            return None
        done = self.active[ended].cpu()
        self._stopped[done] = True
        self._lengths[done] = self._step
        going = (~ended).nonzero()[:, 0]
        self.active, self.last = self.active[going], self.last[going]
        return going

    def finish(self) -> Iterator[Completion]:
        self.leave()
        self._lengths[self.active.cpu()] = self._step
        tokens, logprobs, entropies = (t.cpu() for t in (self._tokens, self._logprobs, self._entropies))
        broken = int(logprobs.isnan().any(dim=1).sum())
        if broken:
            raise NonFiniteError(
                f"the model gave log-probabilities that are nan for {broken} of {len(self._seeds)} completions; its weights "
                "or activations are broken (a checkpoint after a divergence? bf16 overflow?)"
            )
        for row, seed in enumerate(self._seeds):
            length = int(self._lengths[row])
            ids = tokens[row, :length].clone()
            yield Completion(
                seed=seed,
                text=self._model.decode(ids),
                finish="stop" if self._stopped[row] else "length",
                token_ids=ids,
                logprobs=logprobs[row, :length].clone(),
                entropies=entropies[row, :length].clone(),
            )

    def _next_uniforms(self) -> Tensor:
        """The uniform number of each completion for this token: number `step` of its own stream."""
        if self._step == self._uniforms.shape[1]:
            fresh = np.stack([stream.random(_BLOCK) for stream in self._streams])
            self._uniforms = np.concatenate([self._uniforms, fresh], axis=1)
        return torch.from_numpy(self._uniforms[:, self._step])


def sample(logits: Tensor, uniform: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one token per row by inverting its cumulative distribution at `uniform`.

    Args:
        logits: [R, V]. uniform: [R] float64 in [0, 1).

    Returns:
        token [R]; its log-probability [R] and the entropy [R] in nats of its distribution, both float32, at the sampling
        temperature and before top-k and top-p (at temperature 0: of the untempered distribution).
    """
    logprobs = (logits.float() / (sampling.temperature or 1.0)).log_softmax(dim=-1)
    probs = logprobs.exp()
    entropy = -torch.where(probs > 0, probs * logprobs, 0.0).sum(dim=-1)
    if sampling.temperature == 0:
        token = logprobs.argmax(dim=-1)
    else:
        cumulative = _truncate(probs, sampling).double().cumsum(dim=-1)
        # right=True picks the first entry *above* the threshold: a token of probability 0 can never be drawn.
        threshold = uniform[:, None] * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return token, logprobs.gather(-1, token[:, None])[:, 0], entropy


def _truncate(probs: Tensor, sampling: Sampling) -> Tensor:
    """Zero what top-k and top-p leave out (not renormalised). Ties at the edge of top-k are kept."""
    if 0 < sampling.top_k < probs.shape[-1]:
        edge = probs.topk(sampling.top_k, dim=-1).values[:, -1:]
        probs = torch.where(probs >= edge, probs, 0.0)
    if sampling.top_p < 1:
        sorted_probs, order = probs.sort(dim=-1, descending=True, stable=True)
        before = sorted_probs.cumsum(dim=-1) - sorted_probs
        dropped = before >= sampling.top_p * probs.sum(dim=-1, keepdim=True)
        probs = torch.zeros_like(probs).scatter(-1, order, sorted_probs.masked_fill(dropped, 0.0))
    return probs


def _waves(order: list[int], requests: Sequence[Request], max_rows: int) -> Iterator[list[int]]:
    wave: list[int] = []
    rows = 0
    for index in order:
        if wave and rows + len(requests[index].seeds) > max_rows:
            yield wave
            wave, rows = [], 0
        wave.append(index)
        rows += len(requests[index].seeds)
    if wave:
        yield wave


def _left_pad(prompts: list[Tensor], model: LanguageModel) -> tuple[Tensor, Tensor]:
    """Token ids [P, Q] with padding on the left, and where they are real."""
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.full((len(prompts), longest), model.pad_id)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = prompt
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    present = torch.arange(longest)[None, :] >= longest - lengths[:, None]
    return tokens.to(model.device), present.to(model.device)
