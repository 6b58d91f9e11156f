import math

import pytest
import torch

from progrpo.algo.surrogate import clipped_surrogate
from progrpo.errors import ShapeError


def ratio(*values: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs whose ratios are `values`, and the old ones."""
    old = torch.full((1, len(values)), -1.0)
    return old + torch.log(torch.tensor([values])), old


def test_clip_range_08_128() -> None:
    # positive advantage 2: the gain is capped at 1.28 * 2 above, never below
    now, old = ratio(0.5, 1.0, 1.28, 2.0)
    assert clipped_surrogate(now, old, torch.tensor([2.0]))[0].tolist() == pytest.approx([1.0, 2.0, 2.56, 2.56])
    # negative advantage -2: min takes the worse; the gain from pushing down is capped at 0.8 * -2
    assert clipped_surrogate(now, old, torch.tensor([-2.0]))[0].tolist() == pytest.approx([-1.6, -2.0, -2.56, -4.0])


def test_gradient_is_ratio_times_advantage_or_zero_where_clipped() -> None:
    now, old = ratio(0.5, 1.0, 2.0)
    now.requires_grad_()
    clipped_surrogate(now, old, torch.tensor([2.0])).sum().backward()
    assert now.grad[0].tolist() == pytest.approx([1.0, 2.0, 0.0])  # 0.5*2, 1*2, clipped
    now.grad = None
    clipped_surrogate(now, old, torch.tensor([-2.0])).sum().backward()
    assert now.grad[0].tolist() == pytest.approx([0.0, -2.0, -4.0])


def test_no_gradient_into_old_logprobs_or_advantages() -> None:
    now, old = ratio(1.1, 0.9)
    now.requires_grad_()
    old.requires_grad_()
    advantages = torch.tensor([1.0], requires_grad=True)
    clipped_surrogate(now, old, advantages).sum().backward()
    assert old.grad is None
    assert advantages.grad is None


def test_one_advantage_per_token() -> None:
    now, old = ratio(1.0, 1.0, 1.0)
    result = clipped_surrogate(now, old, torch.tensor([[1.0, -2.0, 3.0]]))
    assert result[0].tolist() == pytest.approx([1.0, -2.0, 3.0])


def test_clip_bounds_per_token() -> None:
    now, old = ratio(2.0, 2.0)
    high = torch.tensor([[0.5, 1.5]])
    assert clipped_surrogate(now, old, torch.tensor([1.0]), clip_high=high)[0].tolist() == pytest.approx([1.5, 2.0])


def test_nan_is_not_taken_for_a_ratio_of_one() -> None:
    value = clipped_surrogate(torch.tensor([[math.nan, -1.0]]), torch.tensor([[-1.0, -1.0]]), torch.tensor([1.0]))
    assert value[0].isnan().tolist() == [True, False]


@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
@pytest.mark.parametrize(
    ("now", "old"), [(-math.inf, -1.0), (-1.0, -math.inf), (-math.inf, -math.inf), (0.0, -500.0), (-500.0, 0.0)]
)
def test_infinite_logprobs_give_finite_values_and_gradients(now: float, old: float, advantage: float) -> None:
    values = torch.tensor([[now]], requires_grad=True)
    result = clipped_surrogate(values, torch.tensor([[old]]), torch.tensor([advantage]))
    result.sum().backward()
    assert torch.isfinite(result).all()
    assert torch.isfinite(values.grad).all()


def test_bf16_is_computed_in_float32_and_inputs_are_unchanged() -> None:
    now, old = ratio(1.5, 0.7)
    before = now.clone()
    result = clipped_surrogate(now.bfloat16(), old.bfloat16(), torch.tensor([1.0]).bfloat16())
    assert result.dtype == torch.float32
    assert torch.equal(now, before)


def test_a_column_of_advantages_is_refused() -> None:
    # [N, 1] would broadcast against [N, S] without a word
    now, old = ratio(1.0, 1.0)
    with pytest.raises(ShapeError, match="advantages"):
        clipped_surrogate.__wrapped__(now, old, torch.tensor([[1.0]]))
