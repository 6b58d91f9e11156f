from collections.abc import Callable

import pytest
import torch

from progrpo import methods
from progrpo.settings import Choice
from progrpo.types import RolloutBatch

Make = Callable[..., RolloutBatch]


def test_no_division_by_the_standard_deviation(rollout_batch: Make) -> None:
    values = methods.load(Choice(name="dr_grpo")).advantages(rollout_batch()).values
    # rewards 1 0 0: mean 1/3; the second group is all correct
    assert values.tolist() == [pytest.approx([2 / 3, -1 / 3, -1 / 3]), [0.0, 0.0, 0.0]]


def test_token_sums_over_a_constant() -> None:
    lengths = torch.tensor([[2, 6], [4, 4]])
    # N = 4 sequences, the run's limit 10 tokens unless the setting says otherwise
    assert methods.load(Choice(name="dr_grpo")).weights(lengths, 10).flatten().tolist() == pytest.approx([1 / 40] * 4)
    chosen = methods.load(Choice(name="dr_grpo", fixed_length=5))
    assert chosen.weights(lengths, 10).flatten().tolist() == pytest.approx([1 / 20] * 4)
