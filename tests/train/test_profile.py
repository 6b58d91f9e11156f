"""Traces of rollouts: what they show, and that they change nothing."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.files import read_jsonl
from progrpo.train.clock import PHASES
from progrpo.train.profile import Profiler, _config
from stand_ins.runs import run

Make = Callable[..., dict[str, Any]]


def numbers(path: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.items() if not key.startswith(("time/", "memory/"))}
        for row in read_jsonl(path / "metrics.jsonl")
    ]


def test_a_profiled_run_has_the_same_numbers_and_two_traces(
    settings: Make, tmp_path: Path, make_module: Callable[[str], str]
) -> None:
    parity = make_module("from stand_ins.parity import CANONICAL, Params, score\nSLOW = True\n")
    shared = {"reward": {"name": parity}, "evaluate": {"every": 3, "n": 2}, "checkpoint": {"every": 1}, "steps": 3}
    plain = run(settings(out=str(tmp_path / "plain"), **shared))
    told: list[tuple[str, Any]] = []
    traced = run(
        settings(out=str(tmp_path / "traced"), **shared), profile=True, listen=lambda *event: told.append(event)
    )
    assert numbers(traced) == numbers(plain)
    assert not (plain / "profiles").exists()
    paths = sorted((traced / "profiles").iterdir())
    assert [path.name for path in paths] == ["step-000002.json.gz", "step-000003.json.gz"]
    assert [data for event, data in told if event == "profile"] == [
        {"step": step, "path": str(path)} for step, path in zip((2, 3), paths, strict=True)
    ]
    for path in paths:
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        ranges = {event["name"] for event in events if event.get("cat") == "user_annotation"}
        # evaluated after the third step only
        assert set(PHASES) - ({"evaluate"} if path is paths[0] else set()) <= ranges
        assert ("evaluate" in ranges) == (path is paths[1])
        if _config() is not None:  # a torch that shows the other threads, too
            assert "judge" in ranges
        assert any(event["name"] == "aten::mm" or event["name"] == "aten::addmm" for event in events)
        assert path.stat().st_size < 1_000_000


def test_the_rollouts_to_trace_can_be_chosen(settings: Make) -> None:
    batch = {"prompts": 4, "group": 4, "minibatch_prompts": 2}
    record = {"profile_rollouts": [2]}
    data = settings(batch=batch, record=record, evaluate={"every": 0}, checkpoint={"every": 4}, steps=6)
    path = run(data, profile=True)
    # the second rollout feeds steps 3 and 4
    assert [path.name for path in (path / "profiles").iterdir()] == ["step-000003.json.gz"]


def test_a_rollout_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    profiler = Profiler(tmp_path, (1, 2), lambda event, data: None)
    with pytest.raises(OSError, match="full"), profiler.rollout(1):
        raise OSError("full")
    assert not list(tmp_path.iterdir())
    with profiler.rollout(2):
        pass
    assert [path.name for path in (tmp_path / "profiles").iterdir()] == ["step-000002.json.gz"]
