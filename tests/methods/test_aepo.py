from dataclasses import replace

import pytest
import torch

from progrpo.errors import ConfigError
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import batch_of, columns, take_step
from stand_ins.every_method import load

A = 0.7071068


def rollout(entropy: float, before: bool | None = None) -> RolloutBatch:
    state = {} if before is None else {"left_out": before}
    return batch_of(
        [[1.0, 0.0]], [[0.5, 0.5], [0.4]], entropies=columns([[entropy + 1, entropy], [entropy - 1]]), state=state
    )


@pytest.mark.parametrize(
    ("entropy", "before", "left_out"),
    [
        (1.1, None, True),
        (1.1, False, True),
        (0.8, None, False),
        (0.8, False, False),
        (0.8, True, True),  # between the two it stays as it was
        (1.0, False, False),
        (0.5, True, True),
        (0.4, True, False),
    ],
)
def test_the_switch_has_two_thresholds(entropy: float, before: bool | None, left_out: bool) -> None:
    made = load("aepo", low=0.5, high=1.0).advantages(rollout(entropy, before))
    assert made.state == {"left_out": left_out}
    assert made.keep.tolist() == [[True, not left_out]]


def test_by_hand() -> None:
    method = load("aepo", low=0.5, high=1.0, eps=0.0, aggregate="token")
    batch = rollout(2.0)
    found = take_step(method, batch, batch.old_logprobs)
    # the wrong one leaves the mean, too: two tokens are left
    assert torch.allclose(found.gradient, torch.tensor([[-A / 2, -A / 2], [0.0, 0.0]]), atol=1e-6)
    calm = replace(rollout(0.2), state={})
    found = take_step(method, calm, calm.old_logprobs)
    assert torch.allclose(found.gradient, torch.tensor([[-A / 3, -A / 3], [A / 3, 0.0]]), atol=1e-6)


def test_settings() -> None:
    with pytest.raises(ConfigError, match="low=2 is above high=1"):
        load("aepo", low=2.0, high=1.0)
