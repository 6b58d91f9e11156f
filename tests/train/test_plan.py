from collections.abc import Callable
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
