"""A step of the paper's settings on many devices, from what one was measured to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from progrpo.train.rows import TokenRows
from progrpo.train.share import shares
from step_time.model import Device, Fit, Load, Model, geometric_lengths, rows_by_pass, sampling_terms, training_terms
from vs_trl.steps import Sizes

NODE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """A published model. `parameters`: all of them, which are gathered. `max_rows`: of its recipe."""

    model: Model
    parameters: float
    max_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What is trained: recipes/paper/qwen2.5-*-math-progrpo.yaml, and what those leave to the data.

    Attributes:
        prompt: tokens of a prompt. median: of the completions' geometric lengths. learns: share of groups with a gradient.
    """

    prompts: int = 512
    group: int = 8
    minibatch: int = 32
    limit: int = 8192
    micro_tokens: int = 10_240
    prompt: int = 256
    median: float = 1000.0
    learns: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Bytes/s that reach one device from the others: within a node, and between nodes."""

    node: float
    between: float

    def of(self, devices: int) -> float:
        return self.node if devices <= NODE else self.between


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Seconds of one step of all devices.

    Attributes:
        sampling: of the slowest device. waiting: of it, what the mean device waits for the slowest. tail: of it, what goes
            to passes with less than a quarter of the rows that could be decoded, on the slowest device.
        training: of the slowest, all optimiser steps. idle_devices: share of them that an optimiser step gives nothing.
        weights: gathered for training and for sampling, gradients among them.
        tokens: sampled.
    """

    devices: int
    sampling: float
    waiting: float
    tail: float
    training: float
    idle_devices: float
    weights: float
    tokens: int

    @property
    def seconds(self) -> float:
        return self.sampling + self.training + self.weights


def predict(
    size: Size,
    settings: Settings,
    devices: int,
    device: Device,
    fits: Mapping[str, Fit],
    links: Links,
    seed: int = 0,
) -> Prediction:
    """One step by FSDP2: each device samples its groups from a whole copy and trains its share of each mini-batch."""
    lengths = geometric_lengths(settings.prompts, settings.group, settings.median, settings.limit, seed)
    learning = np.random.default_rng(seed + 1).random(settings.prompts) < settings.learns
    parts = [part for part in np.array_split(np.arange(settings.prompts), devices) if len(part)]
    sampled = [_sampling(list(lengths[part]), settings, size, device, fits["sampling"]) for part in parts]
    slowest = max(range(len(parts)), key=lambda one: sampled[one])
    training, batches, idle = 0.0, 0, []
    for start in range(0, settings.prompts, settings.minibatch):
        block = np.arange(start, start + settings.minibatch)
        seconds, micro, busy = _training(
            lengths[block[learning[block]]], settings, size, devices, device, fits["training"]
        )
        training, batches = training + seconds, batches + micro
        idle.append(1 - busy / devices)
    steps = settings.prompts // settings.minibatch
    moved = (
        4.0 * size.parameters * (2 * batches + steps + 1)
    )  # weights twice a micro-batch, gradients, and once to sample
    return Prediction(
        devices=devices,
        sampling=sampled[slowest],
        waiting=sampled[slowest] - float(np.mean(sampled)),
        tail=sampled[slowest] * tail_share(list(lengths[parts[slowest]]), size.max_rows),
        training=training,
        idle_devices=float(np.mean(idle)),
        weights=moved / links.of(devices) if devices > 1 else 0.0,
        tokens=int(lengths.sum()),
    )


def _sampling(
    lengths: Sequence[NDArray[np.int64]], settings: Settings, size: Size, device: Device, fitted: Fit
) -> float:
    return fitted.seconds(sampling_terms(_load(lengths, settings, size), size.model, device))


def _training(
    lengths: NDArray[np.int64], settings: Settings, size: Size, devices: int, device: Device, fitted: Fit
) -> tuple[float, int, int]:
    """One optimiser step: seconds of the slowest device, its micro-batches, and how many devices have something to do."""
    slowest, most = 0.0, 1
    divided = divide(lengths, settings.prompt, devices)
    for share in divided:
        compute, memory, calls = training_terms(_load(share, settings, size), size.model, device)
        # AdamW works on the part of the weights that the device holds.
        slowest = max(slowest, fitted.seconds(np.array([compute, memory / devices, calls])))
        most = max(most, round(calls / size.model.layers))
    return slowest, most, sum(bool(share) for share in divided)


def _load(lengths: Sequence[NDArray[np.int64]], settings: Settings, size: Size) -> Load:
    return Load(
        prompt=settings.prompt,
        lengths=lengths,
        max_rows=size.max_rows,
        learning=np.ones(len(lengths), dtype=bool),
        micro_tokens=settings.micro_tokens,
        checkpointing=True,
    )


def divide(lengths: NDArray[np.int64], prompt: int, devices: int) -> list[list[NDArray[np.int64]]]:
    """The completions of each device, by group, as training divides them (progrpo/train/share.py).

    Args:
        lengths: [groups, G].
    """
    group, one = lengths.shape[1], torch.zeros(1, dtype=torch.long)
    rows = TokenRows(
        prompts=(one.expand(prompt),) * lengths.size,
        completions=tuple(one.expand(length) for length in lengths.flatten().tolist()),
        group=group,
    )
    divided = [share.numpy() for share in shares(rows, torch.arange(lengths.size), devices)]
    return [[lengths.flatten()[share[share // group == of]] for of in np.unique(share // group)] for share in divided]


def tail_share(lengths: Sequence[NDArray[np.int64]], max_rows: int) -> float:
    """Share of passes with fewer than a quarter of `max_rows` rows, or of all rows where there are fewer of them."""
    rows = min(max_rows, sum(len(group) for group in lengths))
    return float((rows_by_pass(lengths, max_rows) < rows / 4).mean())


def _qwen(parameters: float, max_rows: int, **config: int) -> Size:
    model = Model(sizes=Sizes.of(config), layers=config["num_hidden_layers"], bytes=2)
    return Size(model=model, parameters=parameters, max_rows=max_rows)


QWEN = {
    "7B": _qwen(
        7.62e9,
        64,
        hidden_size=3584,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        intermediate_size=18_944,
        vocab_size=152_064,
    ),
    "32B": _qwen(
        32.76e9,
        32,
        hidden_size=5120,
        num_hidden_layers=64,
        num_attention_heads=40,
        num_key_value_heads=8,
        intermediate_size=27_648,
        vocab_size=152_064,
    ),
}
"""Qwen2.5's published configurations."""
