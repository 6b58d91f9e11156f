"""Packed sequences: sequences that share their prompts on one row without padding, and the attention over them.

A *packed sequence* is one row of tokens without padding: of each group its prompt once, then its completions. A prompt's
tokens see the prompt's tokens before them; a completion's see the whole prompt and their own before them. All else in
the model (projections, MLPs, norms) works token by token and needs to know nothing of it.

An example, two groups: a prompt of three tokens with completions of two and one, a prompt of two with one of one.

    row         a0 a1 a2 | b0 b1 | c0 | d0 d1 | e0        L = 9; plain rows would forward 5 + 4 + 3 = 12
    position     0  1  2    3  4    3    0  1    2        as if each sequence stood alone
    segment      0          1       2    3       4        start 0, 3, 5, 6, 8; length 3, 2, 1, 2, 1
    sees        itself      0 and   0 and  it-   3 and    segments 1 and 2 have prefix_start 0, prefix_length 3; segment 4
                alone       itself  itself self  itself   has 6 and 2: b1 sees a0 a1 a2 b0 b1, c0 sees a0 a1 a2 c0 and no b

On CPU and in float32 segments of like size share a rectangle of queries and keys: here the prompts (2 segments of 3 queries
and 3 keys, d padded by one) and the completions (3 segments of 2 queries and 3 + 2 keys: the longest prefix, then the
longest own part; what pads is masked). A mask grows with the square of the length, so a long completion goes into a
rectangle without one: its prefix's queries are computed once more, the plain causal order is right for prefix and
completion in a row, and what comes out for the prefix is left. A layer with a sliding window takes part in all this while
no sequence is longer than its window; else its rectangles all have masks, which say the window too. In bf16 on CUDA nothing
is padded: each segment's keys are its prefix and itself, a0 a1 a2 | a0 a1 a2 b0 b1 | a0 a1 a2 c0 | d0 d1 | d0 d1 e0, and a
causal kernel for variable lengths takes them.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

_PADDED = 1.25
"""Segments share one attention call while its rectangle is at most this many times the work that is needed."""
_SMALL = 1 << 16
"""A rectangle of at most so many query-key pairs is not split further: a call would cost more than its padding."""
_MASKED = 1 << 22
"""A segment of more query-key pairs gets no mask (of 4 bytes a pair), where its prefix is not the longer part: then the
queries that are computed again are fewer than the keys that a causal call need not look at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Tokens that stand together in a packed sequence, seeing those before them and a prefix.

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
    """The layout of a packed sequence; `pack` makes it.

    Attributes:
        how: the way attention is computed on this device.
        keep: called with (layer, key [L, K, D], value [L, K, D]) in each attention layer, to fill a cache.
        longest: tokens of the longest sequence.
        within: makes the way of computing it for layers with a sliding window of so many tokens.
    """

    how: "_Rectangles | _Ragged"
    longest: int
    within: "Callable[[int], _Rectangles | _Ragged]"
    keep: Callable[[int, Tensor, Tensor], None] | None = None

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None = None
    ) -> Tensor:
        if self.keep is not None:
            self.keep(layer, key, value)
        how = self.how if window is None or window >= self.longest else self.within(window)
        return how.attend(query, key, value, scale)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Rectangle:
    """Segments of like length as one padded attention call: n segments of at most T queries and S keys.

    `mask` [n, 1, T, S] is 0 or -inf; None where the plain causal mask does: no segment has a prefix, or its queries begin
    with those of its prefix.
    """

    segments: int
    queries: int
    keys: int
    mask: Tensor | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        q, k, v = (
            rows.unflatten(0, (self.segments, -1)).transpose(1, 2) for rows in (query, key, value)
        )  # [n, heads, T or S, D]
        mask = None if self.mask is None else self.mask.to(q.dtype)
        out = scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return out.transpose(1, 2).flatten(0, 1)  # [n * T, H, D]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Rectangles:
    """All segments in a few padded calls.

    `queries` and `keys` are positions in the packed sequence, rectangle after rectangle (0 where padded): one look-up serves
    them all. `order` [L] is where each token of it stands among the queries.
    """

    queries: Int[Tensor, " T"]
    keys: Int[Tensor, " S"]
    order: Int[Tensor, " L"]
    each: tuple[_Rectangle, ...]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        of_queries = [rectangle.segments * rectangle.queries for rectangle in self.each]
        of_keys = [rectangle.segments * rectangle.keys for rectangle in self.each]
        parts = zip(
            self.each,
            _rows(query, self.queries).split(of_queries),
            _rows(key, self.keys).split(of_keys),
            _rows(value, self.keys).split(of_keys),
            strict=True,
        )
        return _rows(torch.cat([rectangle.attend(q, k, v, scale) for rectangle, q, k, v in parts]), self.order)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Ragged:
    """All segments in one call of the flash kernel for variable lengths (half precision on CUDA): nothing is padded."""

    keys: Int[Tensor, " S"]
    query_ends: Int[Tensor, " n+1"]
    key_ends: Int[Tensor, " n+1"]
    longest_query: int
    longest_key: int
    window: int | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        out: Tensor = _flash(self.window)(
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


def concatenate(prompts: Sequence[Tensor], completions: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[Segment]]:
    """The packed sequence [L]: each prompt followed by its completions; and its segments."""
    pieces: list[Tensor] = []
    segments: list[Segment] = []
    start = 0
    for prompt, group_completions in zip(prompts, completions, strict=True):
        first = start
        for piece in (prompt, *group_completions):
            prefix = {} if piece is prompt else {"prefix_start": first, "prefix_length": len(prompt)}
            segments.append(Segment(start=start, length=len(piece), **prefix))
            pieces.append(piece)
            start += len(piece)
    return torch.cat(pieces), segments


def pack(
    segments: Sequence[Segment],
    device: torch.device,
    *,
    bf16: bool,
    keep: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Packed:
    """Lay out the segments of one packed sequence, which they cover in their order.

    Args:
        bf16: whether attention runs in bf16; on CUDA it then takes the kernel without padding.
    """
    lay_out = _ragged if bf16 and device.type == "cuda" and _has_flash() else _rectangles

    @cache
    def within(window: int) -> _Rectangles | _Ragged:
        return lay_out(segments, device, window)

    longest = max((segment.keys for segment in segments), default=0)
    return Packed(how=lay_out(segments, device, None), longest=longest, within=within, keep=keep)


def _rows(values: Float[Tensor, "L heads D"], index: Int[Tensor, " m"]) -> Float[Tensor, "m heads D"]:
    # An embedding look-up: the gradient of a row that is read many times is summed in one pass and a fixed order; that
    # of plain indexing is not.
    rows: Tensor = embedding(index, values.flatten(1)).unflatten(-1, values.shape[1:])
    return rows


def _buckets(segments: Sequence[Segment], window: int | None) -> Iterator[list[Segment]]:
    """Segments of like size: those without a prefix, those that need a mask, and those whose prefix is computed again."""
    again_of = partial(_with_prefix, window=window)
    for prefixed, again in ((False, False), (True, False), (True, True)):
        mine = sorted(
            (
                segment
                for segment in segments
                if segment.length and (bool(segment.prefix_length), again_of(segment)) == (prefixed, again)
            ),
            key=lambda segment: (-_queries(segment, window), -segment.keys, segment.start),
        )
        bucket: list[Segment] = []
        for segment in mine:
            larger = [*bucket, segment]
            area = len(larger) * _queries(larger[0], window) * _width(larger, window)
            if bucket and area > _SMALL and area > _PADDED * sum(_queries(one, window) * one.keys for one in larger):
                yield bucket
                larger = [segment]
            bucket = larger
        if bucket:
            yield bucket


def _with_prefix(segment: Segment, window: int | None) -> bool:
    """Whether the prefix's queries are computed again, so that no mask is needed; a window needs one all the same."""
    return window is None and 0 < segment.prefix_length <= segment.length and segment.length * segment.keys > _MASKED


def _queries(segment: Segment, window: int | None) -> int:
    """Queries that are computed for it."""
    return segment.keys if _with_prefix(segment, window) else segment.length


def _width(bucket: Sequence[Segment], window: int | None) -> int:
    """Keys of a rectangle: the longest prefix, then the longest own part; or the longest of both in a row."""
    if _with_prefix(bucket[0], window):
        return bucket[0].keys
    return max(segment.prefix_length for segment in bucket) + max(segment.length for segment in bucket)


def _rectangles(segments: Sequence[Segment], device: torch.device, window: int | None) -> _Rectangles:
    order = torch.empty(sum(segment.length for segment in segments), dtype=torch.long)
    queries, keys, each, done = [], [], [], 0
    for bucket in _buckets(segments, window):
        width = max(_queries(segment, window) for segment in bucket)
        for row, segment in enumerate(bucket):
            first = done + row * width + _queries(segment, window) - segment.length
            order[segment.start : segment.start + segment.length] = torch.arange(first, first + segment.length)
        done += len(bucket) * width
        of_queries, of_keys, mask = _rectangle(bucket, window)
        queries.append(of_queries.flatten())
        keys.append(of_keys.flatten())
        each.append(
            _Rectangle(
                segments=len(bucket),
                queries=width,
                keys=of_keys.shape[1],
                mask=None if mask is None else torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf).to(device),
            )
        )
    return _Rectangles(
        queries=torch.cat(queries).to(device), keys=torch.cat(keys).to(device), order=order.to(device), each=tuple(each)
    )


def _rectangle(bucket: Sequence[Segment], window: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Positions of the queries [n, T] and of the keys [n, S] of a rectangle, and which are seen [n, 1, T, S]."""
    start, length, prefix_start, prefix = (
        torch.tensor([getattr(segment, name) for segment in bucket])[:, None]  # [n, 1]
        for name in ("start", "length", "prefix_start", "prefix_length")
    )
    if _with_prefix(bucket[0], window):
        place = torch.arange(_width(bucket, window))[None]
        in_sequence = torch.where(place < prefix + length, start + place - prefix, 0)
        both = torch.where(place < prefix, prefix_start + place, in_sequence)
        return both, both, None
    offsets = torch.arange(int(length.max()))[None]  # [1, T]
    queries = torch.where(offsets < length, start + offsets, 0)
    before = torch.arange(int(prefix.max()))[None]
    keys = torch.cat([torch.where(before < prefix, prefix_start + before, 0), queries], dim=1)
    if window is None and not prefix.any():
        return queries, keys, None
    seen = torch.cat(
        [
            (before < prefix)[:, None].expand(-1, offsets.shape[1], -1),
            (offsets[:, None] <= offsets[..., None]) & (offsets < length)[:, None],
        ],
        dim=2,
    )
    if window is not None:
        position = torch.cat([before.expand(len(bucket), -1), prefix + offsets], dim=1)  # [n, S]
        back = (prefix + offsets)[..., None] - position[:, None]  # [n, T, S]
        # What pads a rectangle keeps something to see: a row of -inf alone would be nan, and so would its gradient.
        seen &= (back < window) | (offsets >= length)[..., None]
    return queries, keys, seen[:, None]


def _ragged(segments: Sequence[Segment], device: torch.device, window: int | None) -> _Ragged:
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
        window=window,
    )


@cache
def _has_flash() -> bool:
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return False
    return "window_size" in inspect.signature(varlen.varlen_attn).parameters  # since torch 2.11


@cache
def _flash(window: int | None) -> Callable[..., Any]:
    """Torch's attention for variable lengths: causal from the last query and key backwards, over a window of so many keys."""
    from torch.nn.attention.varlen import varlen_attn

    # Before torch 2.12 grouped heads need no flag.
    grouped: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
    return partial(varlen_attn, window_size=(-1 if window is None else window - 1, 0), **grouped)
