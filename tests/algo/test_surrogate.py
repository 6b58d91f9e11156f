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


@pytest.mark.parametrize("advantage", [2.0, -2.0])
@pytest.mark.parametrize(("low", "high", "at"), [(0.0, 0.0, 1.0), (0.0, 0.28, 1.0), (0.2, 0.0, 1.0), (0.5, 0.5, 1.5)])
def test_on_the_edge_of_the_range_the_gradient_is_that_of_the_ratio(
    low: float, high: float, at: float, advantage: float
) -> None:
    # torch.clamp, and with it verl and TRL, has the slope 1 on its edges; 0.5 and 1.5 are exact in binary
    now = torch.zeros(1, 1, requires_grad=True)
    old = -torch.tensor([[at]]).log()
    exact = torch.exp(now.detach() - old).item() == at
    value = clipped_surrogate(now, old, torch.tensor([advantage]), clip_low=low, clip_high=high)
    value.sum().backward()
    ratio = torch.exp(-old)
    loss1, loss2 = ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage
    assert exact
    assert value.item() == torch.minimum(loss1, loss2).item() == at * advantage
    assert now.grad.item() == at * advantage


def test_with_a_clip_of_0_nothing_is_gained_beyond_the_ratio_of_1() -> None:
    now, old = ratio(0.9, 1.1)
    now.requires_grad_()
    clipped_surrogate(now, old, torch.tensor([2.0]), clip_low=0.0, clip_high=0.0).sum().backward()
    assert now.grad[0].tolist() == pytest.approx([1.8, 0.0])


def clamped(now: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, dual_clip: float) -> torch.Tensor:
    """The objective as it is usually written, by torch.clamp, torch.minimum and torch.maximum."""
    ratio, weight = (now - old).exp(), advantages[:, None]
    inner = torch.minimum(ratio * weight, ratio.clamp(0.8, 1.28) * weight)
    return torch.where(weight < 0, torch.maximum(inner, dual_clip * weight), inner)


@pytest.mark.parametrize("dual_clip", [1.1, 3.0, 10.0])
def test_value_and_gradient_are_those_of_clamp_minimum_and_maximum(dual_clip: float) -> None:
    draw = torch.Generator().manual_seed(3)
    old = -3 * torch.rand(40, 50, generator=draw)
    start = old + torch.randn(40, 50, generator=draw)
    advantages = torch.randn(40, generator=draw)
    advantages[0] = 0.0
    found = []
    for function in (clipped_surrogate, clamped):
        now = start.clone().requires_grad_()
        value = function(now, old, advantages, dual_clip=dual_clip)
        value.sum().backward()
        found.append((value.detach(), now.grad))
    assert torch.allclose(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1])


def test_dual_clip_by_hand() -> None:
    # A = -2: 0.8 below the range, then the ratio, and never beyond three times; A = 2 has its own bound
    now, old = ratio(0.5, 2.0, 3.0, 5.0)
    now.requires_grad_()
    value = clipped_surrogate(now, old, torch.tensor([-2.0]), dual_clip=3.0)
    assert value[0].tolist() == pytest.approx([-1.6, -4.0, -6.0, -6.0])
    value[0, [0, 1, 3]].sum().backward()
    assert now.grad[0].tolist() == pytest.approx([0.0, -4.0, 0.0, 0.0])
    assert clipped_surrogate(now, old, torch.tensor([2.0]), dual_clip=3.0)[0].tolist() == pytest.approx(
        [1.0, 2.56, 2.56, 2.56]
    )


@pytest.mark.parametrize("dual_clip", [1.0, 0.5, -3.0, math.nan])
def test_a_dual_clip_is_above_1(dual_clip: float) -> None:
    now, old = ratio(1.0)
    with pytest.raises(ValueError, match="dual_clip: expected a number above 1"):
        clipped_surrogate(now, old, torch.tensor([1.0]), dual_clip=dual_clip)


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
