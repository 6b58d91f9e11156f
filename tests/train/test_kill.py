"""kill -9 at random moments: the run that is resumed is the run that was never stopped, to the last bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from progrpo.files import read_jsonl

STEPS = 24


def recipe(folder: Path, out: Path) -> Path:
    settings = {
        "steps": STEPS,
        "out": str(out),
        "model": {"path": "embedded:countdown"},
        "task": {"name": "countdown", "numbers": 4, "max_number": 8, "max_target": 24, "min_used": 3, "train_size": 40}
        | {"min_solutions": 4, "test_size": 4},
        "method": {"name": "progrpo"},
        "sampling": {"max_new_tokens": 40},
        "batch": {"prompts": 4, "group": 8, "minibatch_prompts": 2},
        "optim": {"lr": 3e-4, "warmup_steps": 3, "schedule": "cosine"},
        "evaluate": {"every": 4, "n": 4},
        "checkpoint": {"every": 4},
    }
    path = folder / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def start(path: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "progrpo", "train", str(path), "--resume"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def steps_of(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


@pytest.mark.slow
def test_resume_after_kill_at_random_moments(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(recipe(tmp_path, whole)).wait(timeout=300) == 0
    rng = random.Random()
    path = recipe(tmp_path, killed)
    moments = []
    for _ in range(5):
        process = start(path)
        target = rng.uniform(0, STEPS)
        while process.poll() is None and steps_of(killed) < target:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.3))  # anywhere in a step: sampling, updating, or while a checkpoint is written
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        moments.append((round(target, 1), steps_of(killed), sorted(p.name for p in (killed / "checkpoints").glob("*"))))
    assert start(path).wait(timeout=300) == 0, moments

    def rows(out: Path) -> list[dict]:
        return [
            {k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))}
            for row in read_jsonl(out / "metrics.jsonl")
        ]

    assert rows(killed) == rows(whole), moments
    name = Path("checkpoints") / f"step-{STEPS:06d}"
    assert load_file(killed / name / "model.safetensors").keys() == load_file(whole / name / "model.safetensors").keys()
    assert (killed / name / "model.safetensors").read_bytes() == (whole / name / "model.safetensors").read_bytes(), (
        moments
    )
    for folder in ("rollouts", "evaluations"):
        assert {p.name: p.read_text() for p in (killed / folder).iterdir()} == {
            p.name: p.read_text() for p in (whole / folder).iterdir()
        }
