import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.algo.gae import generalised_advantages
from progrpo.errors import ShapeError
from stand_ins.naive_methods import gae

VALUES = torch.tensor([[0.5, 0.2, 0.4], [0.1, 0.0, 0.0]])
MASK = torch.tensor([[True, True, True], [True, False, False]])
REWARDS = torch.tensor([1.0, -1.0])


def test_three_tokens_by_hand() -> None:
    # gamma 0.9, lambda 0.5:  d1 = 0.9*0.2 - 0.5 = -0.32,  d2 = 0.9*0.4 - 0.2 = 0.16,  d3 = 1 - 0.4 = 0.6
    #   A3 = 0.6,  A2 = 0.16 + 0.45*0.6 = 0.43,  A1 = -0.32 + 0.45*0.43 = -0.1265
    # the second row has one token:  A = -1 - 0.1 = -1.1
    made = generalised_advantages(VALUES, MASK, REWARDS, gamma=0.9, lam=0.5)
    assert made[0].tolist() == pytest.approx([-0.1265, 0.43, 0.6])
    assert made[1].tolist() == pytest.approx([-1.1, 0.0, 0.0])


def test_without_discount_it_is_the_reward_minus_the_value() -> None:
    made = generalised_advantages(VALUES, MASK, REWARDS)
    assert made[0].tolist() == pytest.approx([0.5, 0.8, 0.6])
    assert made[1].tolist() == pytest.approx([-1.1, 0.0, 0.0])


def test_lambda_zero_is_the_one_step_difference() -> None:
    # 0.9*0.2 - 0.5, 0.9*0.4 - 0.2, 1 - 0.4
    made = generalised_advantages(VALUES, MASK, REWARDS, gamma=0.9, lam=0.0)
    assert made[0].tolist() == pytest.approx([-0.32, 0.16, 0.6])


def test_gamma_zero_gives_the_reward_to_the_last_token_alone() -> None:
    made = generalised_advantages(VALUES, MASK, REWARDS, gamma=0.0, lam=1.0)
    assert made[0].tolist() == pytest.approx([-0.5, -0.2, 0.6])


@given(seed=st.integers(0, 2**32), gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_it_is_the_double_sum_of_the_definition(seed: int, gamma: float, lam: float) -> None:
    draw = random.Random(seed)
    lengths = [draw.randint(0, 5) for _ in range(3)]
    rows = [[draw.uniform(-2, 2) for _ in range(length)] for length in lengths]
    rewards = [draw.uniform(-2, 2) for _ in lengths]
    # behind the last token stands what must not be read
    values = torch.tensor([[*row, *[float("nan")] * (5 - len(row))] for row in rows])
    mask = torch.arange(5)[None, :] < torch.tensor(lengths)[:, None]
    made = generalised_advantages(values, mask, torch.tensor(rewards), gamma=gamma, lam=lam)
    for own, row, reward, length in zip(made, rows, rewards, lengths, strict=True):
        assert own[:length].tolist() == pytest.approx(gae(row, reward, gamma=gamma, lam=lam), abs=1e-5)
        assert not own[length:].any()


def test_more_padding_changes_nothing() -> None:
    wider = [torch.cat([values, torch.ones_like(values)], dim=1) for values in (VALUES, MASK)]
    wider[1][:, 3:] = False
    made = generalised_advantages(*wider, REWARDS, gamma=0.9, lam=0.5)
    assert torch.equal(made[:, :3], generalised_advantages(VALUES, MASK, REWARDS, gamma=0.9, lam=0.5))


def test_no_gradient_and_no_writing_into_arguments() -> None:
    values, rewards = VALUES.clone().requires_grad_(), REWARDS.clone().requires_grad_()
    made = generalised_advantages(values, MASK, rewards, gamma=0.9, lam=0.5)
    assert not made.requires_grad
    assert torch.equal(values, VALUES)


def test_half_precision_is_summed_in_float32() -> None:
    made = generalised_advantages(VALUES.bfloat16(), MASK, REWARDS, gamma=0.9, lam=0.5)
    assert made.dtype == torch.float32
    rounded = generalised_advantages(VALUES.bfloat16().float(), MASK, REWARDS, gamma=0.9, lam=0.5)
    assert torch.equal(made, rounded)


@pytest.mark.parametrize(
    ("values", "mask", "rewards", "named"),
    [
        (VALUES[0], MASK, REWARDS, "values"),
        (VALUES, MASK[:, :2], REWARDS, "mask"),
        (VALUES, MASK, torch.ones(3), "rewards"),
        (VALUES, MASK, REWARDS[:, None], "rewards"),
    ],
)
def test_shapes_are_compared(values: torch.Tensor, mask: torch.Tensor, rewards: torch.Tensor, named: str) -> None:
    with pytest.raises(ShapeError, match=f"^{named}:"):
        generalised_advantages.__wrapped__(values, mask, rewards)
