import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.algo.advantages import group_advantages
from progrpo.algo.reweight import confidence_shift, reweight_advantages
from progrpo.errors import ShapeError

A = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
RIGHT = torch.tensor([[True, False, True, False]])
PROMPT = torch.tensor([0.1])
CONFIDENCE = torch.tensor([[0.9, 0.2, 0.5, 0.4]])


def shifted(**changes: object) -> list[float]:
    settings: dict[str, object] = {"alpha": 0.5} | changes
    correct = settings.pop("correct", RIGHT)
    return reweight_advantages(A, correct, PROMPT, CONFIDENCE, **settings)[0].tolist()


def test_prompt_baseline_is_eq_4() -> None:
    # A + 0.5 * (0.1 - c): 1 - 0.4, -1 - 0.05, 1 - 0.2, -1 - 0.15
    assert shifted() == pytest.approx([0.6, -1.05, 0.8, -1.15])


def test_group_mean_baseline_is_eq_10() -> None:
    # mean c = 0.5: 1 - 0.2, -1 + 0.15, 1 + 0, -1 + 0.05
    assert shifted(baseline="group_mean") == pytest.approx([0.8, -0.85, 1.0, -0.95])


def test_one_minus_prompt_is_the_exploratory_form() -> None:
    # 1 - 0.1 - c = 0, 0.7, 0.4, 0.5, halved
    assert shifted(baseline="one_minus_prompt") == pytest.approx([1.0, -0.65, 1.2, -0.75])


def test_one_and_none() -> None:
    # 1 - c = 0.1, 0.8, 0.5, 0.6 and -c = -0.9, -0.2, -0.5, -0.4, halved
    assert shifted(baseline="one") == pytest.approx([1.05, -0.6, 1.25, -0.7])
    assert shifted(baseline="none") == pytest.approx([0.55, -1.1, 0.75, -1.2])


def test_apply_to() -> None:
    assert shifted(apply_to="correct") == pytest.approx([0.6, -1.0, 0.8, -1.0])
    assert shifted(apply_to="incorrect") == pytest.approx([1.0, -1.05, 1.0, -1.15])
    # the group mean is over all four in any case
    assert shifted(apply_to="correct", baseline="group_mean") == pytest.approx([0.8, -1.0, 1.0, -1.0])


ALL, NONE = torch.ones_like(RIGHT), torch.zeros_like(RIGHT)


@pytest.mark.parametrize(
    ("skip", "correct", "left_alone"),
    [
        ("degenerate", ALL, True), ("degenerate", NONE, True), ("degenerate", RIGHT, False),
        ("all_wrong", ALL, False), ("all_wrong", NONE, True), ("all_wrong", RIGHT, False),
        ("never", ALL, False), ("never", NONE, False), ("never", RIGHT, False),
    ],
)  # fmt: skip
def test_which_groups_are_left_alone(skip: str, correct: torch.Tensor, left_alone: bool) -> None:
    assert (shifted(skip=skip, correct=correct) == A[0].tolist()) is left_alone


def test_half_right_group_of_plus_minus_one_rewards_is_not_all_wrong() -> None:
    # rewards +1 -1 +1 -1 sum to 0, the condition of Eq. 4 read literally; the verdicts say half right
    assert shifted(skip="all_wrong") != A[0].tolist()


def test_a_degenerate_group_keeps_exactly_zero() -> None:
    advantages = group_advantages(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    correct = torch.tensor([[True] * 4, [False] * 4])
    result = reweight_advantages(advantages, correct, torch.rand(2), torch.rand(2, 4), alpha=0.3)
    assert result.tolist() == [[0.0] * 4] * 2


@given(st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=4))
def test_alpha_zero_returns_the_advantages_bit_for_bit(values: list[float]) -> None:
    advantages = torch.tensor([values])  # -0.0 among them: -0.0 + 0 would be 0.0
    result = reweight_advantages(advantages, RIGHT, PROMPT, torch.tensor([[0.9, math.nan, 0.5, 0.4]]), alpha=0.0)
    assert [math.copysign(1, a) for a in result[0].tolist()] == [math.copysign(1, a) for a in values]
    assert torch.equal(result, advantages)


@given(st.integers(0, 1000), st.floats(0.01, 4.0))
def test_among_correct_completions_it_strictly_falls_with_confidence(seed: int, alpha: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(1, 8, generator=generator).round(decimals=3)
    correct = torch.tensor([[True] * 5 + [False] * 3])
    advantages = group_advantages(correct.float())
    result = reweight_advantages(advantages, correct, torch.rand(1, generator=generator), confidence, alpha=alpha)
    for i in range(5):
        for j in range(5):
            if confidence[0, i] < confidence[0, j]:
                assert result[0, i] > result[0, j]


@given(st.integers(0, 1000))
def test_group_mean_shifts_sum_to_zero_and_ignore_what_a_prompt_adds(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(3, 8, generator=generator) / 2
    correct = torch.rand(3, 8, generator=generator) < 0.5
    of_prompt = torch.rand(3, 1, generator=generator) / 2
    unused = torch.full((3,), math.nan)
    shift = confidence_shift(correct, unused, confidence, baseline="group_mean", skip="never")
    moved = confidence_shift(correct, unused, confidence + of_prompt, baseline="group_mean", skip="never")
    assert torch.allclose(shift.sum(dim=1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(shift, moved, atol=1e-6)


@pytest.mark.parametrize("baseline", ["prompt", "group_mean", "correct_mean", "one_minus_prompt", "one", "none"])
def test_permuting_a_group_permutes_the_result(baseline: str) -> None:
    order = [2, 0, 3, 1]
    straight = reweight_advantages(A, RIGHT, PROMPT, CONFIDENCE, alpha=0.7, baseline=baseline)
    permuted = reweight_advantages(
        A[:, order], RIGHT[:, order], PROMPT, CONFIDENCE[:, order], alpha=0.7, baseline=baseline
    )
    assert torch.allclose(permuted, straight[:, order])


def test_nan_confidence_gets_no_shift_and_stays_out_of_the_mean() -> None:
    confidence = torch.tensor([[0.9, math.nan, 0.5, 0.4]])
    # mean of 0.9 0.5 0.4 = 0.6
    result = reweight_advantages(A, RIGHT, PROMPT, confidence, alpha=1.0, baseline="group_mean")
    assert result[0].tolist() == pytest.approx([0.7, -1.0, 1.1, -0.8])


def test_nan_prompt_gets_no_shift() -> None:
    result = reweight_advantages(A, RIGHT, torch.tensor([math.nan]), CONFIDENCE, alpha=1.0)
    assert torch.equal(result, A)


def test_no_gradient_flows_and_inputs_are_unchanged() -> None:
    tensors = [A.clone().requires_grad_(), PROMPT.clone().requires_grad_(), CONFIDENCE.clone().requires_grad_()]
    result = reweight_advantages(tensors[0], RIGHT, tensors[1], tensors[2], alpha=0.3)
    assert not result.requires_grad
    for tensor, original in zip(tensors, (A, PROMPT, CONFIDENCE), strict=True):
        assert torch.equal(tensor.detach(), original)


def test_bf16_is_computed_in_float32() -> None:
    result = reweight_advantages(A.bfloat16(), RIGHT, PROMPT.bfloat16(), CONFIDENCE.bfloat16(), alpha=0.3)
    assert result.dtype == torch.float32


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha: expected a finite value >= 0"):
        shifted(alpha=alpha)


def test_shapes_are_compared() -> None:
    with pytest.raises(ShapeError, match="prompt_confidence"):
        confidence_shift.__wrapped__(RIGHT, torch.zeros(2), CONFIDENCE)
    with pytest.raises(ShapeError, match="advantages"):
        reweight_advantages.__wrapped__(A[:, :3], RIGHT, PROMPT, CONFIDENCE, alpha=0.3)
