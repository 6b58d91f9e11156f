"""The same run, started by each launcher as a user would: two processes that give what one gives."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from progrpo.files import read_jsonl
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings
from stand_ins.several_processes import free_port

Make = Callable[..., dict[str, Any]]
Start = Callable[[Sequence[str]], list[subprocess.Popen[str]]]


def _start(command: Sequence[str], **environ: str) -> subprocess.Popen[str]:
    together = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)} | environ
    return subprocess.Popen(command, env=together, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def by_torchrun(program: Sequence[str]) -> list[subprocess.Popen[str]]:
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()))
    return [_start([sys.executable, *launcher, *program])]


def by_accelerate(program: Sequence[str]) -> list[subprocess.Popen[str]]:
    launcher = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    return [_start([sys.executable, *launcher, "--main_process_port", str(free_port()), *program])]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def by_srun(program: Sequence[str]) -> list[subprocess.Popen[str]]:
    """What Slurm's srun does: a task for each process, told of the others by variables of its own."""
    port = next(
        filter(_is_free, range(20_000 + os.getpid() % 10_000, 40_000))
    )  # they meet at 20,000 + the job's number
    job = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_SRUN_COMM_HOST": "127.0.0.1", "SLURM_JOB_ID": str(port - 20_000)}
    ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
    return [_start([sys.executable, *program], **job, **rank) for rank in ranks]


@pytest.mark.slow
@pytest.mark.parametrize("start", [by_torchrun, by_accelerate, by_srun])
def test_two_processes_of_a_launcher_train_as_one(
    start: Start, settings: Make, tmp_path: Path, lacks: Callable[[str], NoReturn]
) -> None:
    if start is by_accelerate and find_spec("accelerate") is None:
        lacks("accelerate is missing: pip install accelerate")
    several = settings(steps=2, evaluate={"every": 0}, out=str(tmp_path / "several"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(several))
    started = start(["-m", "progrpo", "train", str(recipe)])
    try:
        outputs = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), "\n".join(outputs)
    alone = train(parse(RunSettings, several | {"out": str(tmp_path / "alone")}, where="test"))
    ours, theirs = (read_jsonl(path / "metrics.jsonl") for path in (alone.path, tmp_path / "several"))
    assert [row["step"] for row in theirs] == [1, 2]
    for one, other in zip(ours, theirs, strict=True):
        assert other["rollout/reward"] == one["rollout/reward"]
        assert other["policy/grad_norm"] == pytest.approx(one["policy/grad_norm"], rel=1e-5)
    assert sum(output.count("run directory") for output in outputs) == 1  # the main process alone speaks
