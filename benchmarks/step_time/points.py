"""Measured points of the step model: measured here, or read from docs/step_points.jsonl."""

import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from step_time.model import Device, Load, Model, geometric_lengths, sampling_terms, training_terms
from vs_trl.machine import copy_bandwidth, matmul_peak
from vs_trl.steps import Sizes
from vs_trl.workloads import WORKLOADS, Run, Shape, Workload, model_folder, read_config

TINY = Shape(hidden=256, layers=6, heads=4, kv_heads=2, intermediate=704, vocabulary=4096, tied=False)
LARGE = Shape(hidden=1024, layers=12, heads=16, kv_heads=4, intermediate=2816, vocabulary=8192, tied=False)

_BASE = replace(WORKLOADS["c"], prompts=4, group=4, prompt_tokens=64, completion_tokens=64)
FITTED = {
    "base": _BASE,
    "G 2": replace(_BASE, group=2),
    "G 8": replace(_BASE, group=8),
    "P and G 8": replace(_BASE, prompts=8, group=8),
    "prompts of 16": replace(_BASE, prompt_tokens=16),
    "prompts of 256": replace(_BASE, prompt_tokens=256),
    "completions of 16": replace(_BASE, completion_tokens=16),
    "completions of 256": replace(_BASE, completion_tokens=256),
}
"""Model of 32 M parameters, completions of full length; one size changes at a time, and two once."""
HELD_OUT = {
    "long tail, half of the groups without gradient": WORKLOADS["b"],
    "completions of 256, P and G 8": WORKLOADS["c"],
    "6 M parameters": replace(_BASE, shape=TINY, prompts=8, group=8, completion_tokens=128),
    "134 M parameters": replace(_BASE, shape=LARGE),
}
"""What the fit has not seen: other lengths, and other models."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One measured rollout and its training.

    Attributes:
        machine: whose limits and multiples these are. fitted: the fit sees it; False: it is predicted.
        sampling_s, training_s: seconds; None where it was not seen.
        source: where the figures are from, if not from `--measure`.
    """

    machine: str
    name: str
    fitted: bool
    model: Model
    load: Load
    device: Device
    sampling_s: float | None
    training_s: float | None
    source: str = ""

    def terms(self, phase: str) -> Any:
        """[3] of "sampling" or "training"."""
        return (sampling_terms if phase == "sampling" else training_terms)(self.load, self.model, self.device)

    def seconds(self, phase: str) -> float | None:
        return self.sampling_s if phase == "sampling" else self.training_s

    def as_json(self) -> dict[str, Any]:
        load = asdict(self.load) | {
            "lengths": [lengths.tolist() for lengths in self.load.lengths],
            "learning": self.load.learning.tolist(),
        }
        return asdict(self) | {"load": load}


def read(path: Path) -> list[Point]:
    """The points of a file, one JSON object a line.

    Lengths are a list of a list for each group, or {"groups", "group", "median", "limit"}: geometric ones, drawn here.
    """
    return [_point(json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def _point(row: Mapping[str, Any]) -> Point:
    load, model = dict(row["load"]), dict(row["model"])
    drawn = load["lengths"]
    lengths = list(geometric_lengths(**drawn)) if isinstance(drawn, Mapping) else [np.array(group) for group in drawn]
    learning = np.array(load.get("learning", [True] * len(lengths)))
    if load.pop("every_other_learns", False):
        learning = np.arange(len(lengths)) % 2 == 0
    return Point(
        **row
        | {
            "model": Model(**model | {"sizes": Sizes(**model["sizes"])}),
            "load": Load(**load | {"lengths": lengths, "learning": learning}),
            "device": Device(**row["device"]),
        }
    )


def measure(machine: str, steps: int) -> Iterator[Point]:
    """The points above, on this machine's CPU in float32; the median of `steps` after one of warm-up."""
    device = Device(flops=matmul_peak("cpu", "fp32"), bandwidth=copy_bandwidth("cpu"))
    for fitted, works in ((True, FITTED), (False, HELD_OUT)):
        for name, work in works.items():
            yield _measured(work, device, steps, machine=machine, name=name, fitted=fitted)


def _measured(work: Workload, device: Device, steps: int, **about: Any) -> Point:
    from vs_trl.ours import Ours

    with tempfile.TemporaryDirectory() as folder:
        path = model_folder(work, Path(folder) / "model", "cpu")
        with_settings = Run(work=work, path=path, rollouts=steps + 1)
        ours = Ours(with_settings, Path(folder) / "ours")
        taken = [ours.step() for _ in range(steps + 1)][1:]
        max_rows = ours.trainer.settings.engine.model_dump().get("max_rows", 256)
        ours.close()
        config = read_config(path)
    middle = sorted(taken, key=lambda step: step.seconds)[len(taken) // 2]
    return Point(
        **about,
        model=Model(sizes=Sizes.of(config), layers=config["num_hidden_layers"], bytes=4),
        load=Load(
            prompt=work.prompt_tokens,
            lengths=list(middle.lengths.numpy()),
            learning=middle.learning.numpy(),
            max_rows=max_rows,
            micro_tokens=work.micro_tokens,
        ),
        device=device,
        sampling_s=statistics.median(step.phases["generate"] for step in taken),
        training_s=statistics.median(step.phases["train"] for step in taken),
    )
