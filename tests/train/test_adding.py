"""The adding rule: a method, reward, task, engine or measure is one file, and nothing else has to be edited."""

import json
import re
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

PAGE = (Path(__file__).parent.parent.parent / "docs" / "extending.md").read_text("utf-8")
FILES = dict(re.findall(r"^## An? (\w+)$.*?^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))
"""The examples of docs/extending.md, by what they are."""


def test_one_file_each_named_by_path(
    settings: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(FILES) == {"task", "reward", "method", "engine", "measure"}
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
