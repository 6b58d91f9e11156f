"""Whether an engine took the weights is seen from outside, and asking leaves no trace."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.files import read_jsonl
from stand_ins.runs import run

ASKED = """
import copy
from dataclasses import replace
import torch
from progrpo.engines import Capabilities, Engine, hf
from progrpo.engines.hf import Params

class Asked(Engine):
    capabilities = Capabilities(samples_trained_weights=True)

    def __init__(self, inner):
        self.inner = inner

    def update_weights(self, tensors, version):
        self.version = version

    def generate(self, requests, sampling, **kwargs):
        torch.rand(1)
        return self.inner.generate(requests, sampling, **kwargs)

def make(model, params):
    return Asked(hf.make({model}, params))
"""
FROZEN = "replace(model, model=copy.deepcopy(model.model))"


@pytest.mark.parametrize(("model", "expected"), [("model", 0.0), (FROZEN, 1.0)])
def test_a_sync_that_changes_nothing_is_seen(
    settings: Callable[..., dict[str, Any]], make_module: Callable[[str], str], model: str, expected: float
) -> None:
    engine = {"name": make_module(ASKED.replace("{model}", model))}
    path = run(settings(engine=engine, evaluate={"every": 0}, checkpoint={"every": 0}))
    rows = list(read_jsonl(path / "metrics.jsonl"))
    assert [row["sampler/unchanged"] for row in rows if row["policy/grad_norm"]] == [expected] * len(rows)
    frozen = [one["step"] for one in read_jsonl(path / "alarms.jsonl") if one["alarm"] == "frozen_engine"]
    assert frozen == ([3] if expected else [])


def test_engines_that_compare_themselves_are_not_asked(plain_run: Path) -> None:
    assert all("sampler/unchanged" not in row for row in read_jsonl(plain_run / "metrics.jsonl"))


def test_asking_changes_nothing(
    settings: Callable[..., dict[str, Any]], make_module: Callable[[str], str], plain_run: Path
) -> None:
    """The engine draws from torch's generator, which a method's own random numbers come from, too."""
    asked = run(settings(engine={"name": make_module(ASKED.replace("{model}", "model"))}))
    weights = [one / "checkpoints/step-000004/model.safetensors" for one in (asked, plain_run)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
