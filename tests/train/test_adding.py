"""The adding rule: a method, reward, task, engine or measure is one file, and nothing else has to be edited."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from progrpo.cli.evaluate import run_evaluate
from progrpo.files import read_jsonl
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings

FILES = {
    "task": '''"""Write some letters."""
from pydantic import Field
from progrpo.settings import Settings
from progrpo.types import Problem

REWARD = "math"  # the recipe names another

class Params(Settings):
    size: int = Field(6, ge=1)

def load(split, params):
    return [Problem(id=f"{split}-{n}", prompt=f"{split[1]}{n}=", info={"even": n % 2 == 0}) for n in range(params.size)]
''',
    "reward": '''"""An even number of characters is right; judged in a worker process."""
SLOW = True

def score(text, problem):
    return None if not text else len(text) % 2 == 0
''',
    "method": '''"""Rewards without a mean, times a factor."""
from progrpo import methods

class Params(methods.Params):
    factor: float = 2.0

def advantages(batch, params):
    values = params.factor * batch.rewards.nan_to_num()
    return methods.Advantages(values=values, columns={"toy_factor": values * 0 + params.factor})
''',
    "engine": '''"""The engine "hf", in capitals."""
from dataclasses import replace
from progrpo import engines
from progrpo.settings import Choice, Settings

class Params(Settings):
    pass

class Loud(engines.Engine):
    def __init__(self, inner):
        self.inner, self.capabilities = inner, inner.capabilities

    def generate(self, requests, sampling, *, prompt_logprobs=False, on_done=None):
        results = self.inner.generate(requests, sampling, prompt_logprobs=prompt_logprobs)
        return [
            replace(one, completions=tuple(replace(own, text=own.text.upper()) for own in one.completions))
            for one in results
        ]

    def update_weights(self, tensors, version):
        self.inner.update_weights(tensors, version)

def make(model, params):
    return Loud(engines.load(Choice(name="hf"), model))
''',
    "measure": '''"""Share of completions in capitals."""
def measure(judged, params):
    return {"toy_capitals": sum(sample.text == sample.text.upper() for sample in judged.samples) / judged.n}
''',
}


def test_one_file_each_named_by_path(
    settings: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toys").mkdir()
    for kind, text in FILES.items():
        (tmp_path / "toys" / f"toy_{kind}.py").write_text(text)
    toys = {kind: f"./toys/toy_{kind}.py" for kind in FILES}
    data = settings(
        task={"name": toys["task"], "size": 5},
        reward={"name": toys["reward"]},
        method={"name": toys["method"], "factor": 3.0},
        engine={"name": toys["engine"]},
        evaluate={"every": 2, "n": 4, "measures": ["pass_at_k", toys["measure"]]},
        verify={"workers": 1},
        steps=2,
    )
    path = train(parse(RunSettings, data, where="test")).path

    rows = read_jsonl(path / "rollouts" / "step-000001.jsonl")
    assert {row["problem"] for row in rows} <= {f"train-{n}" for n in range(5)}  # the task
    for row in rows:
        assert row["completion"] == row["completion"].upper()  # the engine
        expected = "bad_gold" if not row["completion"] else "wrong" if len(row["completion"]) % 2 else "correct"
        assert row["status"] == expected  # the reward
        assert row["toy_factor"] == 3.0  # the method
        assert row["advantage"] == 3.0 * (expected == "correct")
    assert {row["status"] for row in rows} >= {"correct", "wrong"}
    assert [row["evaluate/toy_capitals"] for row in read_jsonl(path / "metrics.jsonl") if row["step"] == 2] == [1.0]
    config = yaml.safe_load((path / "config.yaml").read_text())
    assert config["method"]["factor"] == 3.0
    assert config["method"]["clip_low"] == 0.2  # defaults are written out
    assert config["task"] == {"name": toys["task"], "size": 5}

    chosen = [
        f"reward.name={toys['reward']}",
        f"engine.name={toys['engine']}",
        f"evaluate.measures=[{toys['measure']}]",
    ]
    run_evaluate(str(path), [], 2, None, [*chosen, "max_new_tokens=5", "verify.workers=1"], None)
    header = json.loads((path / "evaluations" / "toy_task.json").read_text())
    assert header["complete"]
    assert header["summary"]["toy_capitals"]["mean"] == 1.0
    assert (header["problems"], header["settings"]["task"]["size"]) == (5, 5)
