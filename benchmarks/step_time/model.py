"""Seconds of sampling and of training from what they ask of a device: three terms each, and how much of each the device gives.

Sampling a rollout takes

    compute:  least FLOPs of the tokens / FLOP/s of a large matrix product
    memory:   (weights once a pass + each row's cache once a token) / bytes/s of a large copy
    calls:    passes x layers

where a pass makes one token of each row that is decoded, and rows are decoded as engine `hf` does it: a group enters as soon as
its rows fit into `max_rows`. Passes are therefore more than the longest completion where rows wait, and no fewer where only
one row is left: the long tail. Training the rollout takes

    compute:  three times the forward FLOPs of what is trained (four with gradient checkpointing) / FLOP/s
    memory:   AdamW's seven numbers a parameter and step, read or written / bytes/s
    calls:    micro-batches x layers

Measured seconds are fitted as a sum of multiples of the terms by least squares of the relative error. One over the multiple of
compute and of memory is the share of the device's limit that is reached, at most all of it; that of calls is seconds a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from vs_trl.steps import Sizes, forward_flops

LEAST = np.array([1.0, 1.0, 0.0])
"""Of the multiples of compute, memory and calls: no device does more than its limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What it does at most: FLOP/s of a large matrix product in the precision used, bytes/s of a large copy."""

    flops: float
    bandwidth: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model. `layers`: how many. `bytes`: of a number in the copy that samples."""

    sizes: Sizes
    layers: int
    bytes: int

    @property
    def parameters(self) -> int:
        """In products: the input embedding is left out."""
        return self.sizes.body + self.sizes.head


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """One rollout on one device.

    Attributes:
        prompt: tokens of each prompt. lengths: of the completions in tokens, an array for each group, in the order in which
            groups enter. max_rows: decoded side by side.
        learning: [groups] which are trained. micro_tokens: of a micro-batch. steps: optimiser steps made of the rollout.
        checkpointing: layers are computed again in the backward pass.
    """

    prompt: int
    lengths: Sequence[NDArray[np.int64]]
    max_rows: int
    learning: NDArray[np.bool_]
    micro_tokens: int
    steps: int = 1
    checkpointing: bool = False


def geometric_lengths(groups: int, group: int, median: float | None, limit: int, seed: int = 0) -> NDArray[np.int64]:
    """[groups, group] lengths of completions that end at each token with the same probability, or at `limit`."""
    if median is None:
        return np.full((groups, group), limit, dtype=np.int64)
    chance = np.random.default_rng(seed).random((groups, group))
    drawn = np.ceil(np.log(chance) / np.log(0.5) * median).astype(np.int64)
    return np.clip(drawn, 1, limit)


def rows_by_pass(lengths: Sequence[NDArray[np.int64]], max_rows: int) -> NDArray[np.int64]:
    """[passes] how many rows are decoded at each, until the last completion has ended.

    A group enters when all of its rows fit.
    """
    spans: list[tuple[int, int]] = []
    ends: list[int] = []  # of the rows being decoded: the pass before which each has ended
    now = 0
    for group in lengths:
        while ends and len(ends) + len(group) > max_rows:
            now = min(ends)
            ends = [end for end in ends if end > now]
        spans += [(now, now + int(length)) for length in group]
        ends += [now + int(length) for length in group]
    alive = np.zeros(max(end for _, end in spans), dtype=np.int64)
    for start, end in spans:
        alive[start:end] += 1
    return alive


def sampling_terms(load: Load, model: Model, device: Device) -> NDArray[np.float64]:
    """[3] compute and memory in seconds at the device's limits, and passes x layers."""
    made = len(rows_by_pass(load.lengths, load.max_rows))
    lengths = np.concatenate(load.lengths).astype(np.float64)
    cache = (lengths * load.prompt + lengths**2 / 2).sum() * model.sizes.cache
    return np.array(
        [
            _forward_flops(lengths, len(load.lengths), load.prompt, model.sizes) / device.flops,
            model.bytes * (made * model.parameters + cache) / device.bandwidth,
            made * model.layers,
        ]
    )


def training_terms(load: Load, model: Model, device: Device) -> NDArray[np.float64]:
    """[3] compute and memory in seconds at the device's limits, and micro-batches x layers."""
    trained = [lengths for lengths, learns in zip(load.lengths, load.learning, strict=True) if learns]
    lengths = np.concatenate([np.zeros(0), *trained])
    tokens = lengths.sum() + len(trained) * load.prompt
    forwards = 4 if load.checkpointing else 3
    return np.array(
        [
            forwards * _forward_flops(lengths, len(trained), load.prompt, model.sizes) / device.flops,
            load.steps * 28.0 * model.parameters / device.bandwidth,
            max(load.steps, np.ceil(tokens / load.micro_tokens)) * model.layers,
        ]
    )


def _forward_flops(lengths: NDArray[np.float64], prompts: int, prompt: int, sizes: Sizes) -> float:
    """Each prompt once, the head on the rows that are sampled from."""
    rows = float(lengths.sum())
    contexts = prompts * prompt**2 / 2 + float((lengths * prompt + lengths**2 / 2).sum())
    return forward_flops(prompts * prompt + rows, rows, contexts, sizes)


@dataclass(frozen=True, slots=True)
class Fit:
    """`multiples`: [3] of compute, memory and calls."""

    multiples: NDArray[np.float64]

    def seconds(self, terms: NDArray[np.float64]) -> float:
        return float(self.multiples @ terms)

    def __str__(self) -> str:
        compute, memory, calls = self.multiples
        return (
            f"{100 / compute:.0f} % of the FLOP/s, {100 / memory:.0f} % of the bytes/s, {1e6 * calls:,.0f} us a layer"
        )


def fit(terms: Sequence[NDArray[np.float64]], seconds: Sequence[float]) -> Fit:
    """Least squares of the relative error, no multiple below `LEAST`."""
    matrix = np.stack(terms) / np.asarray(seconds)[:, None]
    scale = np.where(matrix.any(axis=0), matrix.max(axis=0), 1.0)
    found = lsq_linear(matrix / scale, np.ones(len(seconds)), bounds=(LEAST * scale, np.inf))
    return Fit(found.x / scale)
