"""SIGTERM: the run ends with a checkpoint at the next place where it can, and goes on from there to the last bit."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from progrpo.errors import TerminatedError
from progrpo.files import read_jsonl
from progrpo.train.stopping import Interrupted, StopSignal
from stand_ins.runs import run

Make = Callable[..., dict[str, Any]]


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def outcome(path: Path) -> tuple[list[Any], dict[str, torch.Tensor], list[Any]]:
    rows = [
        {key: value for key, value in row.items() if not key.startswith(("time/", "memory/"))}
        for row in read_jsonl(path / "metrics.jsonl")
    ]
    last = sorted((path / "checkpoints").glob("step-*"))[-1]
    rollouts = [(file.name, read_jsonl(file)) for file in sorted((path / "rollouts").iterdir())]
    return rows, load_file(last / "model.safetensors"), rollouts


def at(event: str, value: object, number: int) -> Callable[[str, Mapping[str, Any]], None]:
    """SIGTERM when the listener hears `event` with this name or step for the `number`th time."""
    heard = []

    def listen(name: str, data: Mapping[str, Any]) -> None:
        if name == event and value in (data.get("name"), data.get("step")):
            heard.append(name)
            if len(heard) == number:
                sigterm()

    return listen


JUDGE = '''
"""As stand_ins.parity; SIGTERM comes while the 60th completion is judged, once."""
import os, signal
from pathlib import Path
from stand_ins.parity import Params
from stand_ins import parity
count = [0]
def score(text, problem, params):
    count[0] = 0 if Path({flag!r}).exists() else count[0] + 1
    if count[0] == 60:
        Path({flag!r}).touch()
        os.kill(os.getpid(), signal.SIGTERM)
    return parity.score(text, problem, params)
'''


@pytest.mark.parametrize(
    ("event", "value", "number", "step"),
    [("phase", "train", 2, 2), ("evaluation", 2, 1, 2), ("phase", "generate", 4, 3)],
    ids=["in a step", "in an evaluation", "before a rollout"],
)
def test_a_terminated_run_goes_on_to_the_last_bit(
    settings: Make, tmp_path: Path, event: str, value: object, number: int, step: int
) -> None:
    data = settings(checkpoint={"every": 0}, method={"name": "dapo"})
    whole = outcome(run(data | {"out": str(tmp_path / "whole")}))
    with pytest.raises(TerminatedError, match=f"after step {step}, which has its checkpoint; go on with --resume"):
        run(data, listen=at(event, value, number))
    path = Path(data["out"])
    assert [one.name for one in (path / "checkpoints").iterdir()] == [f"step-{step:06d}"]
    rows, weights, rollouts = outcome(run(data, resume=True))
    assert rows == whole[0]
    assert all(torch.equal(weights[name], whole[1][name]) for name in weights)
    assert rollouts == whole[2]


def test_a_rollout_is_given_up_at_once_and_made_again(
    settings: Make, make_module: Callable[[str], str], tmp_path: Path
) -> None:
    # dapo samples up to 3 times 16 completions for a batch, and takes note of the problems it took
    flag = tmp_path / "flag"
    data = settings(evaluate={"every": 0}, checkpoint={"every": 0}, method={"name": "dapo", "max_rounds": 3})
    data |= {"reward": {"name": make_module(JUDGE.format(flag=str(flag)))}}
    flag.touch()
    whole = outcome(run(data | {"out": str(tmp_path / "whole")}))
    flag.unlink()
    with pytest.raises(TerminatedError, match=r"after step [123], "):
        run(data)
    assert len(list((Path(data["out"]) / "rollouts").iterdir())) == len(read_jsonl(Path(data["out"]) / "metrics.jsonl"))
    again = outcome(run(data, resume=True))
    assert again[0] == whole[0]
    assert all(torch.equal(again[1][name], whole[1][name]) for name in again[1])


def test_before_the_first_step_nothing_is_left(settings: Make) -> None:
    data = settings()
    with pytest.raises(TerminatedError, match="before the first step"):
        run(data, listen=at("phase", "evaluate", 1))
    assert not Path(data["out"]).exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_at_the_last_step_the_run_is_done(settings: Make) -> None:
    path = run(settings(steps=2), listen=at("phase", "train", 2))
    assert (path / "checkpoints" / "step-000002").is_dir()


def test_what_may_be_given_up_is() -> None:
    reached = []
    with StopSignal() as stop:
        with pytest.raises(Interrupted), stop.interruptible():
            reached.append(sigterm())
        assert stop.requested
        with pytest.raises(Interrupted), stop.interruptible():
            reached.append("begun although it was to stop")
    assert reached == []


def test_a_second_one_ends_the_process_at_once() -> None:
    code = """
import os, signal
from progrpo.train.stopping import StopSignal
with StopSignal():
    os.kill(os.getpid(), signal.SIGTERM)
    print("once", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("twice", flush=True)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (143, "once\n")
    assert "a second one ends it at once" in found.stderr
