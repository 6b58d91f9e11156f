"""Keys and values of the rows being decoded: each group's prompt once, each row's own tokens in a slot of its own.

Nothing is copied as a row grows. A row or group that leaves is replaced by the last one, so that those in use always
stand first and no pass touches the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from progrpo.model import LanguageModel

_GROWTH = 128
"""Slots grow by at least so many tokens at a time, and by half their size."""
_FEW_QUERIES, _FEW_KEYS, _MANY_HEADS = 4, 64, 64
"""In float32 on a CPU, attention of at most so many queries to so many keys, for at least so many rows and heads, is computed
by batched products: torch's fused kernel takes up to four times as long there with two threads, and as long with one."""
_ALIGNED = 8
"""The fused kernel takes masks whose rows are so many numbers apart, or a multiple."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheCapacity:
    """Capacities: rows, groups, completions of the largest group, tokens of the longest prompt and completion."""

    rows: int
    groups: int
    group: int
    prompt: int
    completion: int

    def rounded(self) -> "CacheCapacity":
        """Somewhat longer prompts and completions, so that the next call fits too, and sizes that kernels like."""
        prompt, completion = (-(-tokens // _GROWTH) * _GROWTH for tokens in (self.prompt, self.completion))
        return replace(self, prompt=prompt, completion=completion)

    def holds(self, other: "CacheCapacity") -> bool:
        """Whether requests of the other capacity fit."""
        return all(getattr(self, part.name) >= getattr(other, part.name) for part in fields(self))


class SharedPromptCache:
    """The key-value cache of `capacity.rows` rows of `capacity.groups` groups.

    Args:
        reserve: allocate slots of the longest completion at once, where addresses must not change.
    """

    def __init__(self, model: LanguageModel, capacity: CacheCapacity, *, reserve: bool) -> None:
        config = model.model.config.get_text_config()
        self.heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.capacity = capacity
        self.dtype = torch.bfloat16 if model.precision == "bf16" else model.model.dtype
        self._device = model.device
        layers = range(config.num_hidden_layers)
        self.prompt_keys = [self._empty(capacity.groups, capacity.prompt) for _ in layers]
        self.prompt_values = [self._empty(capacity.groups, capacity.prompt) for _ in layers]
        length = capacity.completion if reserve else 0
        self.keys = [self._empty(capacity.rows, length) for _ in layers]
        self.values = [self._empty(capacity.rows, length) for _ in layers]
        self.prompt_mask = torch.full(
            (capacity.groups, 1, 1, capacity.prompt), -torch.inf, dtype=self.dtype, device=self._device
        )

    def keep_prompts(self, slots: Sequence[int], starts: Sequence[int], lengths: Sequence[int]) -> "KeepPrompts":
        """What fills the prompts of groups `slots` from a packed sequence on which they start at `starts`."""
        for slot, length in zip(slots, lengths, strict=True):
            self.prompt_mask[slot] = -torch.inf
            self.prompt_mask[slot, ..., :length] = 0
        return KeepPrompts(cache=self, places=tuple(zip(slots, starts, lengths, strict=True)))

    def grow(self, length: int) -> None:
        """Have slots of `length` own tokens for each row."""
        have = self.keys[0].shape[2]
        if length <= have:
            return
        target = min(self.capacity.completion, max(length, have + max(_GROWTH, have // 2)))
        for store in (self.keys, self.values):
            for layer, old in enumerate(store):
                store[layer] = self._empty(self.capacity.rows, target)
                store[layer][:, :, :have] = old

    def move_rows(self, to: Int[Tensor, " m"], source: Int[Tensor, " m"], length: int) -> None:
        """Copy the first `length` own tokens of rows `source` to rows `to`."""
        for store in (self.keys, self.values):
            for layer in store:
                layer[to, :, :length] = layer[source, :, :length]

    def move_groups(self, to: Int[Tensor, " m"], source: Int[Tensor, " m"]) -> None:
        """Copy the prompts of groups `source` to groups `to`."""
        for store in (self.prompt_keys, self.prompt_values):
            for prompts in store:
                prompts[to] = prompts[source]
        self.prompt_mask[to] = self.prompt_mask[source]

    def _empty(self, count: int, length: int) -> Tensor:
        # Zeros, not garbage: a masked key must not be nan, or 0 * nan would reach the sum.
        return torch.zeros(count, self.heads, length, self.width, dtype=self.dtype, device=self._device)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeepPrompts:
    """Copies keys and values of a prefill's packed sequence into the cache; `places` are (slot, start, length)."""

    cache: SharedPromptCache
    places: tuple[tuple[int, int, int], ...]

    def __call__(self, layer: int, key: Tensor, value: Tensor) -> None:
        for slot, start, length in self.places:
            self.cache.prompt_keys[layer][slot, :, :length] = key[start : start + length].transpose(0, 1)
            self.cache.prompt_values[layer][slot, :, :length] = value[start : start + length].transpose(0, 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decode:
    """The layout of one decoding step: row r, at its own position `length[r]`, sees its prompt and its own tokens.

    Attributes:
        row: [R] 0 to R - 1. place: [R] group slot * G + rank in the group; groups * G for a row that is none.
        length: [R] own tokens stored before this one. prompt: [R] tokens of the row's prompt.
        groups: group slots in use. span: own tokens looked at, more than the greatest length.
        mask: [R, 1, 1, span] 0 or -inf, of the cache's dtype; None where all rows see all of the span.
        prompt_mask: likewise of the prompts; None where all are as long as the longest.
    """

    cache: SharedPromptCache
    place: Int[Tensor, " R"]
    row: Int[Tensor, " R"]
    length: Int[Tensor, " R"]
    prompt: Int[Tensor, " R"]
    groups: int
    span: int
    prompt_span: int
    mask: Tensor | None
    prompt_mask: Tensor | None
    _windows: "dict[int, _Window]" = field(default_factory=dict)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None = None
    ) -> Tensor:
        cache, rows = self.cache, query.shape[0]
        mask, prompt_mask, beyond = self.mask, self.prompt_mask, None
        if window is not None and window < self.prompt_span + self.span:
            if window not in self._windows:
                self._windows[window] = self._within(window, query.shape[1] // cache.heads)
            mask, prompt_mask, beyond = self._windows[window]
        keys, values = cache.keys[layer], cache.values[layer]
        keys[self.row, :, self.length] = key.to(keys.dtype)
        values[self.row, :, self.length] = value.to(values.dtype)
        q = query.to(keys.dtype).unflatten(1, (cache.heads, -1))  # [R, K, H/K, D]
        own_output, own_total = _attention(q, keys[:rows, :, : self.span], values[:rows, :, : self.span], mask, scale)
        # The queries of a group side by side, so that its prompt is read once for all of them.
        prompts = slice(0, self.groups)
        together = q.new_zeros(self.groups * cache.capacity.group + 1, *q.shape[1:])
        together[self.place] = q
        grouped = together[:-1].unflatten(0, (self.groups, -1)).transpose(1, 2)  # [P, K, G, H/K, D]
        shared_output, shared_total = _attention(
            grouped.flatten(2, 3),
            cache.prompt_keys[layer][prompts, :, : self.prompt_span],
            cache.prompt_values[layer][prompts, :, : self.prompt_span],
            prompt_mask,
            scale,
        )
        place = self.place.clamp(max=self.groups * cache.capacity.group - 1)
        shared_output, shared_total = (
            part.unflatten(2, (cache.capacity.group, -1)).transpose(1, 2).flatten(0, 1)[place]
            for part in (shared_output, shared_total)
        )
        if beyond is not None:
            shared_total = shared_total.masked_fill(beyond[:, None, None], -torch.inf)
        # softmax over both parts: each part's share is its total weight against the other's.
        share = torch.sigmoid(shared_total - own_total)[..., None].to(own_output.dtype)
        return torch.lerp(own_output, shared_output, share).flatten(1, 2)  # [R, H, D]

    def _within(self, window: int, heads: int) -> "_Window":
        """For layers whose tokens see `window` tokens at most, `heads` query heads to each of keys."""
        own = torch.arange(self.span, device=self.length.device)[None]
        length, prompt = self.length[:, None], self.prompt[:, None]
        seen = (own <= length) & (own > length - window)  # [R, span]
        before = torch.arange(self.prompt_span, device=self.length.device)[None]
        seen_prompt = (before < prompt) & (before > prompt + length - window)  # [R, prompt_span]
        beyond = ~seen_prompt.any(dim=1)
        seen_prompt[:, 0] |= beyond  # a row of -inf alone would be nan
        group = self.cache.capacity.group
        together = seen_prompt.new_zeros(self.groups * group + 1, self.prompt_span)
        together[:, 0] = True
        together[self.place] = seen_prompt
        grouped = together[:-1].unflatten(0, (self.groups, group)).repeat_interleave(heads, dim=1)[:, None]
        masks = (torch.zeros_like(part, dtype=self.cache.dtype) for part in (seen, grouped))
        mask, prompt_mask = (
            zeros.masked_fill_(~part, -torch.inf) for zeros, part in zip(masks, (seen, grouped), strict=True)
        )
        return _Window(mask=mask[:, None, None], prompt_mask=prompt_mask, beyond=beyond)


class _Window(NamedTuple):
    """`mask` and `prompt_mask` [P, 1, G * H/K, prompt_span] (see `Decode`) of layers with a sliding window; `beyond` [R]: the
    row sees none of its prompt any more."""

    mask: Tensor
    prompt_mask: Tensor
    beyond: Tensor


def _attention(
    query: Float[Tensor, "n K m D"],
    key: Float[Tensor, "n K S D"],
    value: Float[Tensor, "n K S D"],
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """softmax(query key^T * scale + mask) value, and the log of the softmax's denominator [n, K, m] in float32."""
    if query.device.type == "cpu" and not _is_small(query, key):
        out, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, attn_mask=mask, scale=scale
        )
        return out, total
    if query.device.type == "cuda" and key.shape[2] % _ALIGNED == 0:
        bias = None if mask is None else mask.expand(*query.shape[:3], key.shape[2])
        out, total, _, _ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, True, scale=scale
        )
        return out, total[..., : query.shape[2]]
    scores = _float_product(query, key.transpose(-1, -2)) * scale
    if mask is not None:
        scores = scores + mask
    total = scores.logsumexp(dim=-1)
    return (scores - total[..., None]).exp().to(value.dtype) @ value, total


def _is_small(query: Tensor, key: Tensor) -> bool:
    count, heads, queries, _ = query.shape
    few = queries <= _FEW_QUERIES and key.shape[2] <= _FEW_KEYS
    return few and count * heads >= _MANY_HEADS and query.dtype == torch.float32


def _float_product(left: Tensor, right: Tensor) -> Tensor:
    """The batched product in float32 of factors that may be in half precision."""
    if left.dtype == torch.float32:
        return left @ right
    product = torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out_dtype=torch.float32)
    batched: Tensor = product.unflatten(0, left.shape[:2])
    return batched
