"""A run, or its plan, from settings as a recipe has them; and what a run kept of a rollout."""

from pathlib import Path
from typing import Any

from progrpo.files import read_jsonl
from progrpo.rollout.bundle import bundle_path, sound_bundle, token_columns
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.plan import make_plan
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose

COUNTDOWN = {"name": "countdown", "numbers": 3, "max_number": 6, "max_target": 20, "min_used": 2, "min_solutions": 1}


def tiny_settings(model: Path, out: Path) -> dict[str, Any]:
    """The settings of a run of half a second on the tiny model."""
    return {
        "out": str(out),
        "steps": 4,
        "model": {"path": str(model)},
        "task": COUNTDOWN | {"train_size": 24, "test_size": 4},
        "reward": {"name": "stand_ins.parity"},
        "method": {"name": "progrpo"},
        "sampling": {"max_new_tokens": 10},
        "batch": {"prompts": 4, "group": 4, "micro_tokens": 128},
        "optim": {"lr": 1e-3},
        "evaluate": {"every": 2, "n": 4},
        "checkpoint": {"every": 2},
    }


def run(data: dict[str, Any], **kwargs: Any) -> Path:
    """Train; the run directory."""
    return train(parse(RunSettings, data, where="test"), **kwargs).path


def token_rows(run: Path, step: int) -> list[dict[str, Any]]:
    """The rows of the rollout that feeds from `step` on, with the columns of its bundle."""
    columns = token_columns(sound_bundle(bundle_path(run, step)))
    rows = read_jsonl(run / "rollouts" / f"step-{step:06d}.jsonl")
    return [row | more for row, more in zip(rows, columns, strict=True)]


def plan(data: dict[str, Any]) -> list[str]:
    """The lines of `--dry-run`."""
    return make_plan(choose(parse(RunSettings, data, where="test")))
