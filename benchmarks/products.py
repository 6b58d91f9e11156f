"""Products of a few rows by a weight, plain and packed as engine `hf` packs them on a CPU, and attention of a decoding step.

    python benchmarks/products.py [--threads 2]

Each weight is one of several in turn, so that none is found in the processor's cache, as in a pass over a model's layers.
Medians over passes, in microseconds; what is packed gives the same product up to the order of its sums.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.nn.functional import linear

from progrpo.engines.hf import cache
from progrpo.engines.hf.weights import _pack, _product

SHAPES = ((128, 384), (512, 1408), (640, 2048), (512, 8192), (640, 262_144))
ROWS = (4, 16, 32, 256, 2048)
MOST = 1 << 27
"""Numbers of all weights of one shape together, and of the products of the largest ones."""
KEYS = ((256, 2, 2, 32, 20), (64, 4, 2, 64, 16), (64, 4, 2, 64, 64), (8, 4, 2, 64, 64))
"""Rows, heads of keys, queries, width, keys."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| weight | format | rows | plain, us | packed, us |\n|---|---|---|---|---|")
    with torch.no_grad():
        for width, height in SHAPES:
            for dtype in (torch.float32, torch.bfloat16):
                products(width, height, dtype)
        print("\n| rows, heads, queries, width, keys | fused, us | batched products, us |\n|---|---|---|")
        for shape in KEYS:
            attentions(*shape)


def products(width: int, height: int, dtype: torch.dtype) -> None:
    weights = [torch.randn(height, width, dtype=dtype) for _ in range(max(1, min(32, MOST // 4 // (width * height))))]
    packed = [_pack(weight) for weight in weights]
    for rows in ROWS:
        if rows * height > MOST:
            continue
        states = torch.randn(rows, width, dtype=dtype)
        plain_us = microseconds([partial(linear, states, weight) for weight in weights])
        packed_us = microseconds([partial(_product, states, weight, None) for weight in packed])
        print(f"| {width} x {height} | {str(dtype)[6:]} | {rows} | {plain_us:,.0f} | {packed_us:,.0f} |", flush=True)


def attentions(rows: int, heads: int, queries: int, width: int, keys: int) -> None:
    query = torch.randn(rows, heads, queries, width)
    stores = [torch.randn(rows, heads, 256, width)[:, :, :keys] for _ in range(4)]
    calls = [partial(cache._attention, query, store, store, None, 0.2) for store in stores]
    taken = []
    for cache._MANY_HEADS in (10**9, 1):  # never by batched products, and always
        taken.append(microseconds(calls))
    fused, batched = taken
    print(f"| {rows}, {heads}, {queries}, {width}, {keys} | {fused:,.0f} | {batched:,.0f} |")


def microseconds(calls: Sequence[Callable[[], object]]) -> float:
    """Of one call: the median over passes through all of them, after two."""
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        for call in calls:
            call()
        seconds.append((time.perf_counter() - started) / len(calls))
    return 1e6 * statistics.median(seconds[2:])


if __name__ == "__main__":
    main()
