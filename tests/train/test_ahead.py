"""rollout.ahead: a rollout sampled while the one before is trained; and engines that fail in the middle of a run."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.errors import ConfigError, EngineError
from progrpo.files import read_jsonl
from progrpo.model import ModelSettings, load_model
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings
from stand_ins.vllm_server import serving

Make = Callable[..., dict[str, Any]]

BESIDE = """
import threading, time
from dataclasses import replace
from progrpo.engines import Capabilities, Engine, hf
from progrpo.engines.hf import HfEngine, Params
from progrpo.errors import EngineError
import copy

_FAILS = {fails}

class Beside(HfEngine):
    '''Samples from a copy of the weights, in whatever thread.'''
    capabilities = Capabilities(samples_trained_weights=False, beside=True)
    threads, calls = [], 0

    def __init__(self, model, params):
        super().__init__(replace(model, model=copy.deepcopy(model.model)), params)

    def update_weights(self, tensors, version):
        if _FAILS == "sync" and version == 2:
            raise EngineError("the sync failed")
        own = dict(self._model.model.named_parameters())
        for name, tensor in tensors:
            own[name].data.copy_(tensor.detach())
        self.version = version

    def generate(self, *args, **kwargs):
        Beside.threads.append(threading.current_thread().name)
        Beside.calls += 1
        if _FAILS == "generate" and self.version == 2:
            raise EngineError("the engine died")
        return super().generate(*args, **kwargs)

def make(model, params):
    return Beside(model, params)
"""
QUIET = {"evaluate": {"every": 0}, "checkpoint": {"every": 4}}


@pytest.fixture
def beside(make_module: Callable[[str], str]) -> Callable[..., str]:
    return lambda fails="": make_module(BESIDE.replace("{fails}", repr(fails)))


def metrics(data: dict[str, Any], **kwargs: Any) -> list[dict[str, Any]]:
    return list(read_jsonl(train(parse(RunSettings, data, where="test"), **kwargs).path / "metrics.jsonl"))


def test_a_rollout_ahead_is_one_rollout_old_and_corrected(settings: Make, beside: Any) -> None:
    name = beside()
    rows = metrics(settings(engine={"name": name}, rollout={"ahead": 1}, optim={"lr": 1e-2}, **QUIET))
    assert [row["sampler/staleness"] for row in rows] == [0.0, 1.0, 1.0, 1.0]
    assert rows[0]["off_policy/weight"] == pytest.approx(1.0, abs=1e-4)
    assert all(abs(row["off_policy/weight"] - 1) > 1e-4 for row in rows[1:])
    assert all("time/generate_hidden_s" in row for row in rows)
    threads = __import__(name, fromlist=["Beside"]).Beside.threads
    assert set(threads) == {"progrpo-sampling"}
    assert threading.current_thread().name not in threads


def test_none_ahead_is_the_plain_run(settings: Make, beside: Any, plain_run: Path) -> None:
    rows = metrics(settings(engine={"name": beside()}, rollout={"ahead": 0}))
    plain = list(read_jsonl(plain_run / "metrics.jsonl"))
    names = ("policy/grad_norm", "rollout/reward", "rollout/confidence")
    for name in names:
        assert [row[name] for row in rows[1:]] == pytest.approx([row[name] for row in plain[1:]], rel=1e-5)
    assert {row["sampler/staleness"] for row in rows[1:]} == {0.0}
    assert {row["time/generate_hidden_s"] for row in rows} == {0.0}


def test_who_cannot_sample_ahead(settings: Make, beside: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="engine 'hf' as it is set does not sample while the trainer computes"):
        metrics(settings(rollout={"ahead": 1}, old_logprobs="trainer"))
    data = settings(engine={"name": beside()}, rollout={"ahead": 1}, method={"name": "dapo", "max_rounds": 2})
    with pytest.raises(ConfigError, match="method 'dapo' samples in its own way"):
        metrics(data)
    assert not (tmp_path / "run").exists()
    chosen = parse(RunSettings, settings(rollout={"ahead": 1}, off_policy={"level": "none"}), where="test")
    assert chosen.off_policy.level == "none"  # what is said is done


@pytest.mark.parametrize(
    ("fails", "message", "ahead"),
    [("generate", "the engine died", 0), ("sync", "the sync failed", 0), ("generate", "the engine died", 1)],
)
def test_an_engine_that_fails_leaves_a_checkpoint_and_no_half_step(
    settings: Make, beside: Any, tmp_path: Path, fails: str, message: str, ahead: int
) -> None:
    data = settings(engine={"name": beside(fails)}, rollout={"ahead": ahead}, off_policy={"level": "none"}, **QUIET)
    # One ahead, the rollout that is sampled at version 2 is the one for step 4.
    done = 3 if ahead else 2
    with pytest.raises(EngineError, match=re.escape(f"{message}; step {done} has its checkpoint: go on with --resume")):
        metrics(data)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"step-{done:06d}"]
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert [row["step"] for row in rows] == list(range(1, done + 1))
    if ahead:
        return
    # What goes on from there is what a run without the failure does.
    whole = metrics(data | {"engine": {"name": beside()}, "out": str(tmp_path / "whole")})
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(data["engine"]["name"], whole_name := beside()))
    resumed = metrics(data | {"engine": {"name": whole_name}}, resume=True)
    assert [row["policy/grad_norm"] for row in resumed] == [row["policy/grad_norm"] for row in whole]


def test_a_run_over_a_server(settings: Make, tiny_folder: Callable[..., Path]) -> None:
    """Engine vllm, mode=server, one ahead, on the stand-in: it learns from what was sampled with the weights it sent."""
    model = load_model(ModelSettings(path=str(tiny_folder())))
    with serving(model) as server:
        engine = {"name": "vllm", "mode": "server", "urls": [server.url]}
        rows = metrics(settings(engine=engine, rollout={"ahead": 1}, optim={"lr": 1e-2}, **QUIET))
        assert server.version == "4"
    assert [row["sampler/staleness"] for row in rows] == [0.0, 1.0, 1.0, 1.0]
    assert rows[0]["sampler/gap"] < 1e-5  # the first rollout is the policy's own
    assert all(row["policy/grad_norm"] > 0 for row in rows)
