"""Faults that are planted in short runs of countdown: each raises its alarm within 20 steps, and a sound run raises none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo import tasks
from progrpo.files import read_jsonl
from progrpo.settings import Choice
from stand_ins.runs import run

pytestmark = pytest.mark.slow

TASK = {
    "name": "countdown",
    "numbers": 4,
    "max_number": 8,
    "max_target": 24,
    "min_used": 3,
    "min_solutions": 4,
    "train_size": 200,
    "test_size": 16,
}
FROZEN = """
import copy
from dataclasses import replace
from progrpo.engines import Capabilities, Engine, hf
from progrpo.engines.hf import Params

class Frozen(Engine):
    capabilities = Capabilities(samples_trained_weights=True)

    def __init__(self, inner):
        self.inner = inner

    def update_weights(self, tensors, version):
        self.version = version

    def generate(self, requests, sampling, **kwargs):
        return self.inner.generate(requests, sampling, **kwargs)

def make(model, params):
    return Frozen(hf.make(replace(model, model=copy.deepcopy(model.model)), params))
"""
PAYS_FOR_LENGTH = "def score(text, problem):\n    return float(len(text))\n"


def countdown(out: Path, **changes: Any) -> dict[str, Any]:
    return {
        "out": str(out),
        "steps": 20,
        "model": {"path": "embedded:countdown"},
        "task": TASK,
        "method": {"name": "grpo"},
        "sampling": {"max_new_tokens": 40},
        "batch": {"prompts": 8, "group": 8, "micro_tokens": 2048},
        "optim": {"lr": 3e-4},
        "evaluate": {"every": 10, "n": 8},
        "checkpoint": {"every": 0},
    } | changes


def raised(data: dict[str, Any]) -> dict[str, int]:
    """The alarms of a run, and the step each began at."""
    return {one["alarm"]: one["step"] for one in read_jsonl(run(data) / "alarms.jsonl") if one["event"] == "begins"}


def test_a_frozen_engine(tmp_path: Path, make_module: Callable[[str], str]) -> None:
    told = raised(countdown(tmp_path / "run", engine={"name": make_module(FROZEN)}))
    assert told["frozen_engine"] == 3
    assert told["sampler_gap"] <= 20
    assert set(told) == {"frozen_engine", "sampler_gap"}


def test_a_reward_that_pays_for_length(tmp_path: Path) -> None:
    reward = tmp_path / "reward.py"
    reward.write_text(PAYS_FOR_LENGTH)
    told = raised(countdown(tmp_path / "run", reward={"name": str(reward)}, optim={"lr": 1e-3}))
    assert told["length_blow_up"] <= 20


@pytest.mark.parametrize(
    ("column", "alarm"), [("count", "zero_std_groups"), ("year", "nothing_correct"), ("id", "verdict_failures")]
)
def test_a_mistyped_gold_column(tmp_path: Path, column: str, alarm: str) -> None:
    """Of an answer that is another and met by chance now and then, of one that no completion meets, and of one that cannot be
    read at all."""
    problems = tasks.load(Choice(**TASK)).problems("train")
    rows = [
        {"id": one.id, "prompt": one.prompt, "target": one.answer, "count": "4", "year": "2024", "info": dict(one.info)}
        for one in problems
    ]
    file = tmp_path / "problems.jsonl"
    file.write_text(
        "".join(json.dumps(row["info"] | {k: v for k, v in row.items() if k != "info"}) + "\n" for row in rows)
    )
    task = {"name": "file", "train": str(file), "answer_key": column, "chat": False, "held_out_fraction": 0.1}
    task["info_keys"] = None  # all of them: the numbers, and how an answer is written
    data = countdown(tmp_path / "run", task=task, reward={"name": "expression"}, verify={"check_gold": False})
    assert raised(data)[alarm] <= 20


@pytest.mark.parametrize("method", ["grpo", "progrpo"])
def test_a_sound_run(tmp_path: Path, method: str) -> None:
    assert raised(countdown(tmp_path / "run", method={"name": method})) == {}
