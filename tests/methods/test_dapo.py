from collections.abc import Callable

import pytest
import torch

from progrpo import methods
from progrpo.settings import Choice
from progrpo.types import RolloutBatch

Make = Callable[..., RolloutBatch]


def test_clip_higher_and_group_tokens(rollout_batch: Make) -> None:
    method = methods.load(Choice(name="dapo"))
    assert (method.params.clip_low, method.params.clip_high) == (0.2, 0.28)
    # groups of 3 and 9 tokens, P = 2: 1/(2*3) and 1/(2*9)
    weights = method.weights(torch.tensor([[1, 2], [4, 5]]), 10)
    assert weights.flatten().tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 18, 1 / 18])
    batch = rollout_batch()
    grpo = methods.load(Choice(name="grpo"))
    assert torch.equal(method.advantages(batch).values, grpo.advantages(batch).values)
