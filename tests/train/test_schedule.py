"""The learning rate over the steps, and that the module which makes it imports no other trainer's packages."""

import subprocess
import sys
from typing import Any, Literal

import pytest
import torch
from transformers import get_scheduler

from progrpo.train.schedule import make_schedule
from progrpo.train.settings import OptimSettings

Schedule = Literal["constant", "linear", "cosine"]


def rates(schedule: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return found


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # lr 2; warm-up 0, 1/2 of it; then r = 0, 1/4, 2/4, 3/4 of the four steps that are left
        ("constant", [0, 1, 2, 2, 2, 2]),
        ("linear", [0, 1, 2, 1.5, 1, 0.5]),
        # (1 + cos(pi r))/2: 1, 0.853553, 0.5, 0.146447
        ("cosine", [0, 1, 2, 1.7071068, 1, 0.2928932]),
    ],
)
def test_the_rates_of_six_steps(kind: Schedule, expected: list[float]) -> None:
    schedule = make_schedule(sgd(), OptimSettings(lr=2.0, warmup_steps=2, schedule=kind), 6)
    assert rates(schedule, 6) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "name"), [("constant", "constant_with_warmup"), ("linear", "linear"), ("cosine", "cosine")]
)
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 7), (3, 11), (5, 5)])
def test_the_numbers_are_those_of_transformers_to_the_last_bit(
    kind: Schedule, name: str, warmup: int, steps: int
) -> None:
    ours = make_schedule(sgd(), OptimSettings(lr=2.0, warmup_steps=warmup, schedule=kind), steps)
    theirs = get_scheduler(name, sgd(), num_warmup_steps=warmup, num_training_steps=steps)
    assert rates(ours, steps + 2) == rates(theirs, steps + 2)
    assert ours.state_dict() == theirs.state_dict()  # either reads what the other wrote


def test_no_package_of_another_trainer_is_imported_with_it() -> None:
    code = "import progrpo.train.policy, progrpo.train.schedule, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "progrpo.train.schedule" in loaded
    assert not {"peft", "bitsandbytes", "datasets", "transformers.optimization", "torch.distributed.checkpoint"} & {
        *loaded
    }
