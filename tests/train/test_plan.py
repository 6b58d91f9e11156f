import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.settings import parse
from progrpo.train.plan import make_plan
from progrpo.train.settings import RunSettings

Make = Callable[..., dict[str, Any]]


def plan(settings: dict[str, Any]) -> list[str]:
    return make_plan(parse(RunSettings, settings, where="test"))


def test_a_model_that_is_here_has_its_memory_counted(settings: Make) -> None:
    lines = plan(settings())
    assert not [line for line in lines if "the run would stop" in line or "not known" in line]
    assert [line.split(":")[0] for line in lines[-2:]] == ["model", "memory"]


@pytest.mark.parametrize("path", ["no-such-owner/no-such-model", "/nowhere/at/all"])
def test_a_model_that_is_not_here_stops_no_plan(settings: Make, path: str) -> None:
    lines = plan(settings(model={"path": path}))
    assert "optimiser step: 4 problems = 16 sequences; 1 steps per rollout" in lines
    assert lines[-2].startswith("warning: as things are the run would stop: model")
    assert lines[-1].startswith("warning: what memory the run takes is not known without the model's configuration")
    assert path in lines[-1]


def test_held_out_problems_that_are_trained_on_are_said(settings: Make, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) + "\n" for n in range(9))
    (tmp_path / "a.jsonl").write_text(rows)
    (tmp_path / "b.jsonl").write_text(rows[: len(rows) // 3] + '{"prompt": "9+9=", "answer": "18"}\n')
    task = {"name": "file", "chat": False, "train": str(tmp_path / "a.jsonl"), "test": str(tmp_path / "b.jsonl")}
    lines = plan(settings(task=task, reward={"name": "math"}, batch={"prompts": 4, "group": 2}))
    assert [line for line in lines if "3 of 4 held-out problems are training problems too" in line]
    task["test"] = str(tmp_path / "c.jsonl")
    (tmp_path / "c.jsonl").write_text('{"prompt": "9+9=", "answer": "18"}\n')
    assert not [line for line in plan(settings(task=task, reward={"name": "math"})) if "training problems too" in line]
