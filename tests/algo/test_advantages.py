import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.algo.advantages import group_advantages, smallest_advantage

GROUPS = st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=16)


def test_sample_standard_deviation() -> None:
    # rewards 1 0 0 0: mean 1/4, squared deviations 9/16 + 3/16 = 3/4, over G-1 = 3: std 1/2
    result = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), eps=0.0)
    assert result[0].tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5])


def test_population_standard_deviation_is_eq_8() -> None:
    # mu = 1/4, sigma = sqrt(1/4 * 3/4) = sqrt(3)/4
    result = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), ddof=0, eps=0.0)
    assert result[0].tolist() == pytest.approx([math.sqrt(3), *[-1 / math.sqrt(3)] * 3])


def test_without_scaling() -> None:
    result = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), scale="none")
    assert result[0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_eps_is_added_to_the_standard_deviation() -> None:
    # std 1/2, eps 1/2: deviations 3/4 and -1/4 over 1
    result = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), eps=0.5)
    assert result[0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_a_reward_that_is_nan_is_left_out() -> None:
    # of 1 0 0 0 with one more that nobody judged: as without it
    result = group_advantages(torch.tensor([[1.0, math.nan, 0.0, 0.0, 0.0]]), eps=0.0)
    assert result[0].tolist() == pytest.approx([1.5, 0.0, -0.5, -0.5, -0.5])
    # all that were judged are equal; none was judged
    rewards = torch.tensor([[1.0, math.nan, 1.0], [math.nan] * 3])
    assert group_advantages(rewards, eps=0.0).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("reward", [0.1 + 0.2, 1 / 3, -0.7, 1e-8, 1e8])
@pytest.mark.parametrize("group", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("scale", ["std", "none"])
def test_equal_rewards_give_exactly_zero(reward: float, group: int, scale: str) -> None:
    rewards = torch.full((1, group), reward, dtype=torch.float64)
    assert group_advantages(rewards, scale=scale, eps=0.0).tolist() == [[0.0] * group]


def test_equal_up_to_float64_residue_counts_as_equal() -> None:
    rewards = torch.tensor([[0.1 + 0.2] * 6 + [0.3]], dtype=torch.float64)  # differ in the last bit
    assert group_advantages(rewards, eps=0.0).tolist() == [[0.0] * 7]


@given(GROUPS)
def test_reward_scale_does_not_matter(rewards: list[float]) -> None:
    zero_one = torch.tensor([rewards])
    assert torch.allclose(group_advantages(zero_one), group_advantages(2 * zero_one - 1), atol=1e-5)


@given(GROUPS, st.randoms(use_true_random=False))
def test_permuting_a_group_permutes_the_result(rewards: list[float], rng: random.Random) -> None:
    order = list(range(len(rewards)))
    rng.shuffle(order)
    values = torch.tensor([rewards])
    assert torch.allclose(group_advantages(values[:, order]), group_advantages(values)[:, order], atol=1e-6)


def test_groups_are_independent() -> None:
    both = torch.tensor([[1.0, 0.0, 0.0], [5.0, 4.0, -2.0]])
    assert torch.equal(group_advantages(both)[1:], group_advantages(both[1:]))


def test_bf16_input_gives_float32_and_input_is_unchanged() -> None:
    rewards = torch.tensor([[1.0, 0.0, 1.0]]).bfloat16()
    before = rewards.clone()
    assert group_advantages(rewards).dtype == torch.float32
    assert torch.equal(rewards, before)


@pytest.mark.parametrize("group", [2, 4, 8, 16])
@pytest.mark.parametrize(("scale", "ddof"), [("std", 0), ("std", 1), ("none", 1)])
def test_smallest_advantage_is_the_minimum_over_all_mixed_groups(group: int, scale: str, ddof: int) -> None:
    found = min(
        group_advantages(torch.tensor([[1.0] * right + [0.0] * (group - right)]), scale=scale, ddof=ddof, eps=0.0)
        .abs()
        .min()
        .item()
        for right in range(1, group)
    )
    assert smallest_advantage(group, scale=scale, ddof=ddof) == pytest.approx(found, rel=1e-5)


def test_smallest_advantage_known_values() -> None:
    # paper-independent arithmetic: G=8 gives 1/sqrt(7) and 1/sqrt(8)
    assert smallest_advantage(8, ddof=0) == pytest.approx(0.377964, abs=1e-6)
    assert smallest_advantage(8, ddof=1) == pytest.approx(0.353553, abs=1e-6)
