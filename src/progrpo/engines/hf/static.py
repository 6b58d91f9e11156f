"""Decoding by plain passes with Transformers' own cache, for models whose attention cannot share prompts.

A batch of whole groups runs to its end. The prompt is run once per group and its cache copied; rows that have ended leave.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from progrpo.algo.logprobs import head_logprobs
from progrpo.engines import Done, Generated, Request, Sampling
from progrpo.engines._ends import Ends
from progrpo.engines.hf.results import Results
from progrpo.engines.hf.sampling import kept, sample, uniforms_of
from progrpo.model import LanguageModel


class StaticDecoder:
    """Generates for one list of requests (see `ContinuousDecoder`), `max_rows` completions at a time."""

    def __init__(
        self,
        model: LanguageModel,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        max_rows: int,
        prompt_logprobs: bool,
    ) -> None:
        self._model = model
        self._requests = requests
        self._sampling = sampling
        self._max_rows = max_rows
        self._prompt_logprobs = prompt_logprobs
        size = (sum(len(request.seeds) for request in requests), sampling.max_new_tokens)
        self._tokens = torch.zeros(size, dtype=torch.long, device=model.device)
        self._values = torch.zeros(kept(sampling), *size, device=model.device)
        self._ends = Ends(model, sampling)
        self._limits = [self._ends.limit(request) for request in requests]
        self._results = Results(self._ends, requests, self._tokens, self._values)
        self._stops = torch.tensor(sorted(self._ends.ids), device=model.device)

    def run(self, on_done: Done | None) -> list[Generated]:
        """All results, in the order of the requests."""
        # Prompts of like length share a batch, so that little is padded.
        order = sorted(range(len(self._requests)), key=lambda index: len(self._requests[index].prompt_ids))
        for batch in _batches(order, self._requests, self._max_rows):
            self._run_batch(batch)
            for index in batch:
                result = self._results.take(index)
                if on_done is not None:
                    on_done(index, result)
        return self._results.all()

    def _run_batch(self, batch: list[int]) -> None:
        prompts, present = _left_pad([self._requests[index].prompt_ids for index in batch], self._model)
        positions = (present.cumsum(dim=1) - 1).clamp(min=0)
        cache = DynamicCache(config=self._model.model.config)
        states = self._model.hidden(
            prompts, attention_mask=present.long(), position_ids=positions, past_key_values=cache, use_cache=True
        )
        if self._prompt_logprobs:
            self._score_prompts(batch, states, prompts, present)
        counts = [len(self._requests[index].seeds) for index in batch]
        origin = torch.arange(len(batch), device=prompts.device).repeat_interleave(
            torch.tensor(counts, device=prompts.device)
        )  # [N]
        _select(cache, origin)
        seeds = [seed for index in batch for seed in self._requests[index].seeds]
        # One number per token of each completion, from its own stream.
        uniforms = torch.from_numpy(np.stack([uniforms_of(s).random(self._sampling.max_new_tokens) for s in seeds]))
        out = torch.tensor([row for index in batch for row in self._results.rows(index)], device=prompts.device)
        limits = torch.tensor([self._limits[index] for index in batch], device=prompts.device)[origin]
        logits = self._model.head(states[:, -1])[origin]
        self._decode(cache, logits, present[origin], out, uniforms.to(out.device), limits)

    def _decode(
        self, cache: DynamicCache, logits: Tensor, present: Tensor, out: Tensor, uniforms: Tensor, limits: Tensor
    ) -> None:
        """One token at a time for the rows that go on; a row that has ended leaves the cache."""
        padded = not bool(present.all())
        length = present.sum(dim=1)  # [rows] tokens seen by each row
        for step in range(self._sampling.max_new_tokens):
            token, values = sample(logits, uniforms[:, step], self._sampling)
            self._tokens[out, step] = token
            self._values[:, out, step] = values
            stopped = torch.isin(token, self._stops)
            if self._ends.texts:
                stopped |= self._completed(token, out, step + 1)
            ended = stopped | (step + 1 >= limits)
            for row, by_stop in zip(out[ended].tolist(), stopped[ended].tolist(), strict=True):
                self._results.close(row, step + 1, by_stop)
            if bool(ended.all()):
                return
            if bool(ended.any()):
                going = (~ended).nonzero()[:, 0]
                _select(cache, going)
                present, length, out, uniforms, limits, token = (
                    values[going] for values in (present, length, out, uniforms, limits, token)
                )
            present = torch.cat([present, present.new_ones(present.shape[0], 1)], dim=1)
            states = self._model.hidden(
                token[:, None],
                attention_mask=present.long() if padded else None,
                position_ids=length[:, None],
                past_key_values=cache,
                use_cache=True,
            )
            length = length + 1
            logits = self._model.head(states[:, -1])

    def _completed(self, token: Tensor, out: Tensor, drawn: int) -> Tensor:
        """[rows] Which rows have completed a stop string with their last token, number `drawn`."""
        completed = torch.zeros_like(token, dtype=torch.bool)
        for row, last in enumerate(token.tolist()):
            if self._ends.may_complete(last):
                tail = self._tokens[out[row], max(0, drawn - self._ends.window) : drawn].tolist()
                completed[row] = self._ends.complete(tail)
        return completed

    def _score_prompts(self, batch: list[int], states: Tensor, prompts: Tensor, present: Tensor) -> None:
        """Log-prob of each prompt token but the first; the rows come from the prefill that is made anyway."""
        scored = present.clone()
        scored.scatter_(1, present.long().argmax(dim=1, keepdim=True), False)
        temperature = self._sampling.temperature or 1.0
        values = head_logprobs(states, prompts, scored, self._model.head, temperature=temperature)[0]
        for row, index in enumerate(batch):
            self._results.keep_prompt(index, values[row, present[row]].cpu())


def _batches(order: list[int], requests: Sequence[Request], max_rows: int) -> Iterator[list[int]]:
    """Whole groups of at most `max_rows` rows, one at least."""
    batch: list[int] = []
    rows = 0
    for index in order:
        if batch and rows + len(requests[index].seeds) > max_rows:
            yield batch
            batch, rows = [], 0
        batch.append(index)
        rows += len(requests[index].seeds)
    if batch:
        yield batch


def _select(cache: DynamicCache, rows: Tensor) -> None:
    """Make the cache's rows these of its rows."""
    # Not batch_select_indices, which leaves out the states of convolutions and linear attention.
    cache.reorder_cache(cast("torch.LongTensor", rows))


def _left_pad(prompts: list[Tensor], model: LanguageModel) -> tuple[Tensor, Tensor]:
    """Token ids [P, Q] with padding on the left, and where they are real."""
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.full((len(prompts), longest), model.pad_id)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = prompt
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    present = torch.arange(longest)[None, :] >= longest - lengths[:, None]
    return tokens.to(model.device), present.to(model.device)
