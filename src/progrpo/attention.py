"""Attention over sequences that share their prompts, plugged into the attention interface of Transformers' models.

A *packed line* is one row of tokens without padding: of each group its prompt once, then its completions. A prompt's
tokens see the prompt's tokens before them; a completion's see the whole prompt and their own before them. All else in
the model (projections, MLPs, norms) works token by token and needs to know nothing of it.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

from progrpo.errors import ModelError

LAYOUT = "progrpo_layout"
"""The keyword under which a layout travels through a model's forward to its attention layers."""

_PREFIX = "progrpo_over_"
_KNOWN = frozenset({"is_causal", "use_cache", "position_ids", "cache_position", "output_attentions", "return_dict"})
_PADDED = 1.25
"""Segments share one attention call while its rectangle is at most this many times the work that is needed."""
_SMALL = 1 << 16
"""A rectangle of at most so many query-key pairs is not split further: a call would cost more than its padding."""


class Layout(Protocol):
    """What an attention layer does with the tokens of one forward pass."""

    def attend(
        self, layer: int, query: Float[Tensor, "L H D"], key: Float[Tensor, "L K D"], value: Tensor, scale: float
    ) -> Float[Tensor, "L H D"]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Tokens that stand together on a packed line, seeing those before them and a prefix.

    Attributes:
        start, length: in tokens. prefix_start, prefix_length: the tokens all of them see; length 0 for none.
    """

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0

    @property
    def keys(self) -> int:
        return self.prefix_length + self.length


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Packed:
    """The layout of a packed line; `pack` makes it.

    Attributes:
        keep: called with (layer, key [L, K, D], value [L, K, D]) in each attention layer, to fill a cache.
    """

    order: Int[Tensor, " L"]
    rectangles: tuple["_Rectangle", ...]
    ragged: "_Ragged | None"
    keep: Callable[[int, Tensor, Tensor], None] | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        if self.keep is not None:
            self.keep(layer, key, value)
        if self.ragged is not None:
            return self.ragged.attend(query, key, value, scale)
        pieces = [rectangle.attend(query, key, value, scale) for rectangle in self.rectangles]
        return _rows(torch.cat(pieces), self.order)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Rectangle:
    """Segments of like length as one padded attention call: n segments of at most T queries and S keys.

    `queries` [n * T] and `keys` [n * S] are positions on the line (0 where padded); `mask` [n, 1, T, S] is 0 or -inf,
    None where no segment has a prefix and the plain causal mask does.
    """

    count: int
    queries: Int[Tensor, " n*T"]
    keys: Int[Tensor, " n*S"]
    mask: Tensor | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        q, k, v = (
            _rows(values, index).unflatten(0, (self.count, -1)).transpose(1, 2)  # [n, heads, T or S, D]
            for values, index in ((query, self.queries), (key, self.keys), (value, self.keys))
        )
        mask = None if self.mask is None else self.mask.to(q.dtype)
        out = scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return out.transpose(1, 2).flatten(0, 1)  # [n * T, H, D]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Ragged:
    """All segments in one call of the flash kernel for variable lengths (half precision on CUDA): nothing is padded."""

    keys: Int[Tensor, " S"]
    query_ends: Int[Tensor, " n+1"]
    key_ends: Int[Tensor, " n+1"]
    longest_query: int
    longest_key: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        out: Tensor = _flash()(
            query.contiguous(),
            _rows(key, self.keys),
            _rows(value, self.keys),
            self.query_ends,
            self.key_ends,
            self.longest_query,
            self.longest_key,
            scale=scale,
        )
        return out


def line_up(prompts: Sequence[Tensor], completions: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[Segment]]:
    """One line [L] of each prompt followed by its completions, and its segments."""
    pieces: list[Tensor] = []
    segments: list[Segment] = []
    start = 0
    for prompt, own in zip(prompts, completions, strict=True):
        first = start
        for piece in (prompt, *own):
            prefix = {} if piece is prompt else {"prefix_start": first, "prefix_length": len(prompt)}
            segments.append(Segment(start=start, length=len(piece), **prefix))
            pieces.append(piece)
            start += len(piece)
    return torch.cat(pieces), segments


def pack(
    segments: Sequence[Segment],
    device: torch.device,
    *,
    half: bool,
    keep: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Packed:
    """Lay out the segments of one line, which they cover in their order.

    Args:
        half: whether attention runs in half precision; on CUDA it then takes the kernel without padding.
    """
    if half and device.type == "cuda" and _has_flash():
        return Packed(
            order=torch.empty(0, dtype=torch.long), rectangles=(), ragged=_ragged(segments, device), keep=keep
        )
    order = torch.empty(sum(segment.length for segment in segments), dtype=torch.long)
    rectangles, done = [], 0
    for bucket in _buckets(segments):
        width = max(segment.length for segment in bucket)
        for row, segment in enumerate(bucket):
            first = done + row * width
            order[segment.start : segment.start + segment.length] = torch.arange(first, first + segment.length)
        done += len(bucket) * width
        rectangles.append(_rectangle(bucket, device))
    return Packed(order=order.to(device), rectangles=tuple(rectangles), ragged=None, keep=keep)


def install(model: Any) -> None:
    """Let the model's attention layers follow a layout where a forward pass brings one, and be as before elsewhere.

    Raises:
        ModelError: the model does not use Transformers' attention interface.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    plain = model.config._attn_implementation
    if plain.startswith(_PREFIX):
        return
    if plain not in ALL_ATTENTION_FUNCTIONS or plain not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise ModelError(f"attention {plain!r} cannot be extended")
    name = _PREFIX + plain
    ALL_ATTENTION_FUNCTIONS.register(name, partial(_attention, plain=ALL_ATTENTION_FUNCTIONS[plain]))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[plain])
    model.set_attn_implementation(name)


def uninstall(model: Any) -> None:
    """Undo `install`."""
    name = model.config._attn_implementation
    if name.startswith(_PREFIX):
        model.set_attn_implementation(name.removeprefix(_PREFIX))


@contextmanager
def uninstalled(model: Any) -> Iterator[None]:
    """The model as Transformers made it, for code that looks at the name of its attention."""
    name = model.config._attn_implementation
    uninstall(model)
    try:
        yield
    finally:
        if name.startswith(_PREFIX):
            install(model)


def arguments(layout: Layout, device: torch.device) -> dict[str, Any]:
    """Keyword arguments that make a forward pass of an installed model follow the layout."""
    # A mask that is four-dimensional already is passed through: none is built, and the layout reads none.
    return {LAYOUT: layout, "attention_mask": torch.zeros(1, 1, 1, 1, device=device), "use_cache": False}


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plain: Callable[..., Any],
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention function: query [1, H, L, D], key and value [1, K, L, D] -> [1, L, H, D]."""
    layout: Layout | None = kwargs.pop(LAYOUT, None)
    if layout is None:
        result: tuple[Tensor, None] = plain(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return result
    if unknown := sorted(name for name, given in kwargs.items() if given is not None and name not in _KNOWN):
        raise ModelError(f"its attention asks for {', '.join(unknown)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kind, dtype = query.device.type, query.dtype
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype
    q, k, v = (values[0].transpose(0, 1).to(half) for values in (query, key, value))  # [L, heads, D]
    return layout.attend(module.layer_idx, q, k, v, scale)[None].to(dtype), None


def _rows(values: Float[Tensor, "L heads D"], index: Int[Tensor, " m"]) -> Float[Tensor, "m heads D"]:
    # An embedding look-up: the gradient of a row that is read many times is summed in one pass, in float32 and in a
    # fixed order; that of plain indexing is not.
    return embedding(index, values.flatten(1)).unflatten(-1, values.shape[1:])


def _buckets(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Segments of like size, with and without prefix apart."""
    for prefixed in (False, True):
        mine = sorted(
            (segment for segment in segments if bool(segment.prefix_length) == prefixed and segment.length),
            key=lambda segment: (-segment.length, -segment.keys, segment.start),
        )
        bucket: list[Segment] = []
        for segment in mine:
            larger = [*bucket, segment]
            area = len(larger) * larger[0].length * _width(larger)
            if bucket and area > _SMALL and area > _PADDED * sum(one.length * one.keys for one in larger):
                yield bucket
                larger = [segment]
            bucket = larger
        if bucket:
            yield bucket


def _width(bucket: Sequence[Segment]) -> int:
    """Keys of a rectangle: the longest prefix, then the longest own part."""
    return max(segment.prefix_length for segment in bucket) + max(segment.length for segment in bucket)


def _rectangle(bucket: Sequence[Segment], device: torch.device) -> _Rectangle:
    start, length, prefix_start, prefix = (
        torch.tensor([getattr(segment, name) for segment in bucket])[:, None]  # [n, 1]
        for name in ("start", "length", "prefix_start", "prefix_length")
    )
    own = torch.arange(int(length.max()))[None]  # [1, T]
    queries = torch.where(own < length, start + own, 0)
    before = torch.arange(int(prefix.max()))[None]
    keys = torch.cat([torch.where(before < prefix, prefix_start + before, 0), queries], dim=1)
    mask = None
    if prefix.any():
        seen = torch.cat(
            [
                (before < prefix)[:, None].expand(-1, own.shape[1], -1),
                (own[:, None] <= own[..., None]) & (own < length)[:, None],
            ],
            dim=2,
        )[:, None]  # [n, 1, T, S]
        mask = torch.zeros(seen.shape, device=device).masked_fill(~seen.to(device), -torch.inf)
    return _Rectangle(
        count=len(bucket), queries=queries.flatten().to(device), keys=keys.flatten().to(device), mask=mask
    )


def _ragged(segments: Sequence[Segment], device: torch.device) -> _Ragged:
    keys = [
        torch.cat(
            [
                torch.arange(segment.prefix_start, segment.prefix_start + segment.prefix_length),
                torch.arange(segment.start, segment.start + segment.length),
            ]
        )
        for segment in segments
    ]

    def ends(lengths: list[int]) -> Tensor:
        return torch.tensor([0, *lengths], device=device).cumsum(0).int()

    return _Ragged(
        keys=torch.cat(keys).to(device),
        query_ends=ends([segment.length for segment in segments]),
        key_ends=ends([segment.keys for segment in segments]),
        longest_query=max(segment.length for segment in segments),
        longest_key=max(segment.keys for segment in segments),
    )


@cache
def _has_flash() -> bool:
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return False
    return "scale" in inspect.signature(varlen.varlen_attn).parameters


@cache
def _flash() -> Callable[..., Any]:
    """Torch's attention for variable lengths: causal from the last query and key backwards."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    causal: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    if "enable_gqa" in known:
        causal["enable_gqa"] = True
    return partial(varlen_attn, **causal)
