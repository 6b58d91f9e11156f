"""Decoding with shared prompts and continuous batching: rows that have ended leave, and waiting groups take their place."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from progrpo.algo.logprobs import head_logprobs
from progrpo.attention.packed import concatenate, pack
from progrpo.engines import Done, Generated, Request, Sampling
from progrpo.engines._ends import Ends
from progrpo.engines.hf.cache import CacheCapacity
from progrpo.engines.hf.graphs import Graphs
from progrpo.engines.hf.results import Results
from progrpo.engines.hf.sampling import uniforms_of
from progrpo.engines.hf.state import DecoderState

_PREFILL_TOKENS = 16_384
"""Prompts of at most so many tokens go through the model in one pass."""
_UNIFORMS = 64
"""Random numbers of a row drawn at a time."""


class ContinuousDecoder:
    """Generates for one list of requests.

    Args:
        rows: the device's side, of a capacity that `capacity_for` gives for these requests or larger. graphs: of its pass, or
            None. max_tokens: prompts and longest completions of the groups side by side never exceed this (one group
            runs in any case); None for no limit.
    """

    def __init__(
        self,
        rows: DecoderState,
        graphs: Graphs | None,
        requests: Sequence[Request],
        *,
        max_tokens: int | None,
        prompt_logprobs: bool,
    ) -> None:
        self._device_rows = rows
        self._graphs = graphs
        self._model, self._sampling, self._capacity = rows.model, rows.sampling, rows.capacity
        self._requests = requests
        self._max_tokens = max_tokens
        self._prompt_logprobs = prompt_logprobs
        self._ends = Ends(rows.model, rows.sampling)
        self._limits = [self._ends.limit(request) for request in requests]
        self._results = Results(self._ends, requests, rows.tokens, rows.values)
        # The longest prompts first: whether they fit shows at once, and like lengths share a pass.
        self._waiting = deque(sorted(range(len(requests)), key=lambda index: -len(requests[index].prompt_ids)))
        self._groups: list[int] = []  # the request in each group slot
        self._left: list[int] = []  # its rows that go on
        self._count = 0  # rows that go on: they stand first
        capacity = self._capacity.rows
        self._drawn = np.zeros(capacity, dtype=np.int64)  # tokens of each row
        self._limit = np.zeros(capacity, dtype=np.int64)  # and how many it may have
        self._numbers = np.zeros((capacity, _UNIFORMS))
        self._streams: list[np.random.Generator] = [uniforms_of(0)] * capacity
        self._stops = torch.tensor(sorted(self._ends.ids), device=rows.model.device)

    def run(self, on_done: Done | None) -> list[Generated]:
        """All results, in the order of the requests."""
        while self._waiting or self._count:
            while entering := self._next_groups():
                self._enter(entering)
                self._leave(on_done)
            if self._count:
                self._step()
                self._leave(on_done)
        return self._results.all()

    def _next_groups(self) -> list[int]:
        """Waiting requests that fit beside those that run, of one prefill."""
        entering: list[int] = []
        rows, tokens, prefill = self._count, self._reserved(self._groups), 0
        while self._waiting and len(self._groups) + len(entering) < self._capacity.groups:
            request = self._requests[self._waiting[0]]
            rows += len(request.seeds)
            tokens += self._reserved([self._waiting[0]])
            prefill += len(request.prompt_ids)
            fits = rows <= self._capacity.rows and (self._max_tokens is None or tokens <= self._max_tokens)
            first = not (self._groups or entering)
            if not first and not (fits and prefill <= _PREFILL_TOKENS):
                break
            entering.append(self._waiting.popleft())
        return entering

    def _reserved(self, requests: Sequence[int]) -> int:
        longest = self._sampling.max_new_tokens
        return sum(len(self._requests[r].prompt_ids) + len(self._requests[r].seeds) * longest for r in requests)

    def _enter(self, entering: list[int]) -> None:
        """Prefill the prompts of these requests and draw the first token of each of their completions."""
        state, device, first = self._device_rows, self._model.device, len(self._groups)
        prompts = [self._requests[index].prompt_ids for index in entering]
        counts = [len(self._requests[index].seeds) for index in entering]
        states, packed, starts = self._prefill(prompts, first)
        if self._prompt_logprobs:
            self._score_prompts(states, packed, entering, starts)
        ends = torch.tensor([start + len(prompt) - 1 for start, prompt in zip(starts, prompts, strict=True)])
        logits = self._model.head(states[0, ends.to(device)])  # [entering, V]
        self._groups += entering
        self._left += counts
        new = slice(self._count, self._count + sum(counts))
        self._count = new.stop
        origin = [group for group, count in enumerate(counts) for _ in range(count)]  # of each new row
        ranks = [rank for count in counts for rank in range(count)]
        for target, values in (
            (
                state.place,
                [(first + group) * self._capacity.group + rank for group, rank in zip(origin, ranks, strict=True)],
            ),
            (state.out, [row for index in entering for row in self._results.rows(index)]),
            (state.prompt, [len(prompts[group]) for group in origin]),
            (state.length, [0] * len(origin)),
        ):
            target[new] = torch.tensor(values, device=device)
        self._drawn[new] = 0
        self._limit[new] = [self._limits[entering[group]] for group in origin]
        seeds = [seed for index in entering for seed in self._requests[index].seeds]
        self._streams[new] = [uniforms_of(seed) for seed in seeds]
        self._draw_uniforms(new)
        state.draw(new, logits[torch.tensor(origin, device=device)])
        self._drawn[new] = 1

    def _prefill(self, prompts: list[Tensor], first: int) -> tuple[Tensor, Tensor, list[int]]:
        """One packed pass over the prompts, whose keys and values go to the group slots from `first` on.

        Returns:
            The states [1, L, D], the packed sequence [1, L] and where each prompt starts on it.
        """
        packed, segments = concatenate(prompts, [[] for _ in prompts])
        starts, lengths = [segment.start for segment in segments], [segment.length for segment in segments]
        slots = range(first, first + len(prompts))
        layout = pack(
            segments,
            self._model.device,
            bf16=self._model.precision == "bf16",
            keep=self._device_rows.cache.keep_prompts(slots, starts, lengths),
        )
        packed = packed[None].to(self._model.device)
        positions = torch.cat([torch.arange(length) for length in lengths])[None].to(self._model.device)
        return self._model.hidden(packed, position_ids=positions, layout=layout), packed, starts

    def _score_prompts(self, states: Tensor, packed: Tensor, entering: list[int], starts: list[int]) -> None:
        scored = torch.ones_like(packed, dtype=torch.bool)
        scored[0, starts] = False
        temperature = self._sampling.temperature or 1.0
        values = head_logprobs(states, packed, scored, self._model.head, temperature=temperature)[0][0].cpu()
        for index, start in zip(entering, starts, strict=True):
            self._results.keep_prompt(index, values[start : start + len(self._requests[index].prompt_ids)].clone())

    def _step(self) -> None:
        """One more token for every row."""
        count, drawn = self._count, self._drawn[: self._count]
        span = int(drawn.max())
        self._draw_uniforms(slice(0, count))
        if self._graphs is not None:
            self._graphs.advance(count, span)
        else:
            self._device_rows.cache.grow(span)
            prompts = [len(self._requests[index].prompt_ids) for index in self._groups]
            self._device_rows.advance(
                count,
                groups=len(self._groups),
                span=span,
                prompts=max(prompts),
                even=int(drawn.min()) == span,
                even_prompts=min(prompts) == max(prompts),
            )
        self._drawn[:count] += 1

    def _draw_uniforms(self, rows: slice) -> None:
        """The uniform number of each row's next token: number `drawn` of its own stream."""
        at = self._drawn[rows] % _UNIFORMS
        for offset in np.flatnonzero(at == 0):
            row = rows.start + int(offset)
            self._numbers[row] = self._streams[row].random(_UNIFORMS)
        values = self._numbers[np.arange(rows.start, rows.stop), at]
        self._device_rows.uniform[rows] = torch.from_numpy(values).to(self._model.device)

    def _leave(self, on_done: Done | None) -> None:
        """Record the rows that have ended and close the gaps they leave; then the groups that are done.

        Rows in use stand first, so the last ones that go on fill the gaps. Of six rows, two of each of three groups,
        1, 2 and 3 end:

            row         0  1  2  3  4  5         gone = 1 2 3, so three go on: the first three rows shall be theirs
            group       0  0  1  1  2  2         holes: those of them that are gone, 1 and 2
            ended          x  x  x               movers: the rows behind that go on, 4 and 5

            row         0  1  2                  row 4 was copied to 1 and row 5 to 2; what stands in rows 3 to
            group       0  2  2                  5 is read by nobody. Left: 1 row of group 0, 0 of 1, 2 of 2
        """
        state, count = self._device_rows, self._count
        stopped = torch.isin(state.last[:count], self._stops).cpu().numpy()
        if self._ends.texts:
            stopped |= self._completed(count)
        ended = stopped | (self._drawn[:count] >= self._limit[:count])
        if not ended.any():
            return
        gone = np.flatnonzero(ended)
        out, place = state.out[:count].cpu(), state.place[:count].cpu()
        for row in gone.tolist():
            self._results.close(int(out[row]), int(self._drawn[row]), bool(stopped[row]))
            self._left[int(place[row]) // self._capacity.group] -= 1
        self._count = count - len(gone)
        holes, movers = gone[gone < self._count], np.flatnonzero(~ended[self._count :]) + self._count
        if len(holes):
            for values in (self._drawn, self._limit, self._numbers):
                values[holes] = values[movers]
            for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
                self._streams[hole] = self._streams[mover]
            device = self._model.device
            to, source = torch.from_numpy(holes).to(device), torch.from_numpy(movers).to(device)
            # The token drawn last has no keys yet.
            state.move(to, source, int(self._drawn[holes].max()) - 1)
        self._close_groups(on_done)

    def _completed(self, count: int) -> np.ndarray:
        """Which of the first `count` rows have completed a stop string with their last token."""
        state, window, completed = self._device_rows, self._ends.window, np.zeros(count, dtype=bool)
        last = state.last[:count].tolist()
        for row in [row for row, token in enumerate(last) if self._ends.may_complete(token)]:
            drawn = int(self._drawn[row])
            tail = state.tokens[state.out[row], max(0, drawn - window) : drawn].tolist()
            completed[row] = self._ends.complete(tail)
        return completed

    def _close_groups(self, on_done: Done | None) -> None:
        """Hand over the groups whose rows have all ended, and close the gaps among the slots of prompts in the same way.

        The example of `_leave` goes on: slot 1 is done, two groups go on. Its slot is a hole, that of group 2 a mover:

            slot    0        1        2              slot    0        1
            request 0        1        2       ->     request 0        2
            left    1        0        2              left    1        2

        The prompt of slot 2 is copied to slot 1. A row knows its prompt by `place` = slot * G + rank in the group, so the
        places 2 * 2 + 0 and 2 * 2 + 1 of its rows become 1 * 2 + 0 and 1 * 2 + 1; row 0 keeps its own.
        """
        done = [slot for slot, left in enumerate(self._left) if not left]
        if not done:
            return
        finished = [self._groups[slot] for slot in done]
        keep = len(self._groups) - len(done)
        holes = [slot for slot in done if slot < keep]
        movers = [slot for slot in range(keep, len(self._groups)) if self._left[slot]]
        if holes:
            state, device, group = self._device_rows, self._model.device, self._capacity.group
            to, source = torch.tensor(holes, device=device), torch.tensor(movers, device=device)
            state.cache.move_groups(to, source)
            renamed = torch.arange(len(self._groups), device=device)
            renamed[source] = to
            place = state.place[: self._count]
            state.place[: self._count] = renamed[place // group] * group + place % group
            for hole, mover in zip(holes, movers, strict=True):
                self._groups[hole], self._left[hole] = self._groups[mover], self._left[mover]
        del self._groups[keep:], self._left[keep:]
        for index in finished:
            result = self._results.take(index)
            if on_done is not None:
                on_done(index, result)


def capacity_for(
    requests: Sequence[Request], sampling: Sampling, max_rows: int, max_tokens: int | None
) -> CacheCapacity:
    """Capacities that hold as many whole groups as the limits allow, and one in any case."""
    group = max(len(request.seeds) for request in requests)
    prompt = max(len(request.prompt_ids) for request in requests)
    smallest = min(len(request.seeds) for request in requests)
    rows = min(max(max_rows, group), sum(len(request.seeds) for request in requests))
    if max_tokens is not None:
        rows = max(group, min(rows, max_tokens // sampling.max_new_tokens))
    # Twice the groups that fill the rows: one that waits for its last completion must not keep others from entering.
    groups = min(len(requests), 2 * max(1, rows // smallest))
    return CacheCapacity(rows=rows, groups=groups, group=group, prompt=prompt, completion=sampling.max_new_tokens)
