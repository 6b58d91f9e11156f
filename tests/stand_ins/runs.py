"""A run, or its plan, from settings as a recipe has them."""

from pathlib import Path
from typing import Any

from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.plan import make_plan
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose


def run(data: dict[str, Any], **kwargs: Any) -> Path:
    """Train; the run directory."""
    return train(parse(RunSettings, data, where="test"), **kwargs).path


def plan(data: dict[str, Any]) -> list[str]:
    """The lines of `--dry-run`."""
    return make_plan(choose(parse(RunSettings, data, where="test")))
