"""CUDA graphs of the decoding pass: one launch instead of a thousand, for a few sizes that all others are rounded up to."""

from typing import Any

import torch

from progrpo.engines.hf.state import DecoderState

_SMALLEST_SPAN = 64


class Graphs:
    """Replays `rows.advance` for the first n rows; its state is that of `rows`, which must outlive it."""

    def __init__(self, rows: DecoderState) -> None:
        self._rows = rows
        self._graphs: dict[tuple[int, int], Any] = {}
        self._pool: Any = None

    def advance(self, count: int, span: int) -> None:
        """`DecoderState.advance` of `count` rows that have drawn at most `span` tokens."""
        rows, capacity = self._rows, self._rows.capacity
        size = min(capacity.rows, round_up(count, 1))
        width = min(capacity.completion, round_up(span, _SMALLEST_SPAN))
        idle = slice(count, size)
        # Rows that are none: they read the first prompt and write where nobody reads.
        rows.place[idle] = capacity.groups * capacity.group
        rows.out[idle] = rows.count
        rows.length[idle] = 1
        rows.last[idle] = 0
        rows.prompt[idle] = 1
        graph = self._graphs.get((size, width))
        if graph is None:
            graph = self._graphs[size, width] = self._capture(size, width)
        graph.replay()

    def _capture(self, size: int, width: int) -> Any:
        rows, capacity = self._rows, self._rows.capacity
        last, length = rows.last.clone(), rows.length.clone()

        def once() -> None:
            rows.advance(
                size, groups=capacity.groups, span=width, prompts=capacity.prompt, even=False, even_prompts=False
            )

        # Once outside the graph, so that libraries set themselves up; its effects are undone.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            once()
        torch.cuda.current_stream().wait_stream(side)
        rows.last.copy_(last)
        rows.length.copy_(length)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            once()
        self._pool = self._pool or graph.pool()
        return graph


def round_up(value: int, smallest: int) -> int:
    """The next power of two, or one and a half times one."""
    power = smallest
    while power < value:
        if power + power // 2 >= value and power > 1:
            return power + power // 2
        power *= 2
    return power
