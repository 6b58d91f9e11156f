"""The rows of a decoder on the device, and the one pass that gives each of them a token more."""

import torch
from torch import Tensor

from progrpo.engines import Sampling
from progrpo.engines.hf.cache import CacheCapacity, Decode, SharedPromptCache
from progrpo.engines.hf.sampling import kept, sample
from progrpo.model import LanguageModel


class DecoderState:
    """What is known of each row on the device: all that a pass reads and writes, at addresses that never change.

    Attributes:
        last: [R] token drawn last. length: [R] tokens drawn. prompt: [R] tokens of the prompt. uniform: [R] the random
            number of the next draw. place: [R] group slot * G + rank. out: [R] the completion it is.
        tokens: [N + 1, S] of all completions, and values: [3 or 5, N + 1, S] of the tokens, as `sample` gives them; the
            last row takes what rows that are none write.
    """

    def __init__(
        self, model: LanguageModel, capacity: CacheCapacity, count: int, sampling: Sampling, *, reserve: bool
    ) -> None:
        self.model, self.capacity, self.count, self.sampling = model, capacity, count, sampling
        self.cache = SharedPromptCache(model, capacity, reserve=reserve)
        self.index = torch.arange(capacity.rows, device=model.device)
        self.last, self.length, self.prompt, self.place, self.out = (
            torch.zeros(capacity.rows, dtype=torch.long, device=model.device) for _ in range(5)
        )
        self.uniform = torch.zeros(capacity.rows, dtype=torch.float64, device=model.device)
        size = (count + 1, sampling.max_new_tokens)
        self.tokens = torch.zeros(size, dtype=torch.long, device=model.device)
        self.values = torch.zeros(kept(sampling), *size, device=model.device)

    def serves(self, capacity: CacheCapacity, count: int, sampling: Sampling) -> bool:
        """Whether `count` completions of requests of this capacity can be drawn so."""
        return self.capacity.holds(capacity) and self.count >= count and self.sampling == sampling

    def advance(self, rows: int, *, groups: int, span: int, prompts: int, even: bool, even_prompts: bool) -> None:
        """Feed the last token of the first `rows` rows and draw the next.

        Args:
            groups: group slots in use. span: no row has drawn more tokens. prompts: no prompt is longer.
            even: every row has drawn `span` tokens. even_prompts: every prompt has `prompts` tokens.
        """
        length = self.length[:rows] - 1  # own tokens that stand before the one fed
        mask = None
        if not even:
            ahead = torch.arange(span, device=length.device)[None] > length[:, None]
            mask = torch.zeros(ahead.shape, dtype=self.cache.dtype, device=length.device)
            mask = mask.masked_fill_(ahead, -torch.inf)[:, None, None]
        layout = Decode(
            cache=self.cache,
            row=self.index[:rows],
            place=self.place[:rows],
            length=length,
            prompt=self.prompt[:rows],
            groups=groups,
            span=span,
            prompt_span=prompts,
            mask=mask,
            prompt_mask=None if even_prompts else self.cache.prompt_mask[:groups, ..., :prompts],
        )
        positions = self.prompt[:rows] + length
        states = self.model.hidden(self.last[None, :rows], position_ids=positions[None], layout=layout)
        self.draw(slice(0, rows), self.model.head(states[0]))

    def draw(self, rows: slice, logits: Tensor) -> None:
        """Sample the next token of these rows from their logits [R, V]."""
        token, values = sample(logits, self.uniform[rows], self.sampling)
        out, at = self.out[rows], self.length[rows]
        self.tokens[out, at] = token
        self.values[:, out, at] = values
        self.last[rows] = token
        self.length[rows] += 1

    def move(self, to: Tensor, source: Tensor, length: int) -> None:
        """Put rows `source`, of at most `length` tokens, where rows `to` stand."""
        for state in (self.last, self.length, self.prompt, self.place, self.out):
            state[to] = state[source]
        self.cache.move_rows(to, source, length)
