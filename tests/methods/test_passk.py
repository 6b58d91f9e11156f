import itertools
import math

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
    assert_same_step,
    batch_of,
    drifted,
    lengths_of,
    random_batch,
    rewards_of,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, each_token, naive_loss, sequence_mean


def values(row: list[float], **settings: object) -> list[float]:
    batch = batch_of([row], [[0.5]] * len(row))
    return load("passk", **{"eps": 0.0, **settings}).advantages(batch).values[0].tolist()


def test_by_hand() -> None:
    # 1 right of 4, k 2: 3 of the 6 pairs lack it: rho 1/2, sigma 1/2; right (1/2)/(1/2) = 1;
    # wrong: 1/2 less the share C(2,1)/C(3,1) = 2/3 of its pairs that are lost, over 1/2: -1/3
    assert values([1.0, 0.0, 0.0, 0.0], k=2) == pytest.approx([1.0, -1 / 3, -1 / 3, -1 / 3])
    # 2 of 4: one pair of 6 is lost: sigma = sqrt(5/36); right (1/6)/sigma = 1/sqrt(5); wrong (1/6 - 1/3)/sigma
    assert values([1.0, 1.0, 0.0, 0.0], k=2) == pytest.approx([5**-0.5] * 2 + [-(5**-0.5)] * 2)
    # 3 of 4: every pair holds a right one
    assert values([1.0, 1.0, 1.0, 0.0], k=2) == [0.0] * 4
    assert values([0.0] * 4, k=2) == values([1.0] * 4, k=2) == [0.0] * 4


def test_with_8_and_4_problems_solved_five_times_train_no_more() -> None:
    for right in range(9):
        found = values([1.0] * right + [0.0] * (8 - right), k=4)
        assert any(found) == (1 <= right <= 4)


def test_k_1_is_grpo_with_the_population_standard_deviation() -> None:
    for right in range(6):
        row = [1.0] * right + [0.0] * (5 - right)
        grpo = load("grpo", ddof=0, eps=0.0).advantages(batch_of([row], [[0.5]] * 5)).values[0]
        assert values(row, k=1) == pytest.approx(grpo.tolist(), abs=1e-5)


def by_all_groups(row: list[float], k: int, eps: float) -> list[float]:
    """From the definition: over all groups of k, each with the reward of its best."""
    known = [i for i, r in enumerate(row) if not math.isnan(r)]
    groups = [(group, max(row[i] for i in group)) for group in itertools.combinations(known, k)]
    if not groups or len({best for _, best in groups}) < 2:
        return [0.0] * len(row)
    mean = sum(best for _, best in groups) / len(groups)
    deviation = math.sqrt(sum((best - mean) ** 2 for _, best in groups) / len(groups)) + eps
    made = [0.0] * len(row)
    for i in known:
        own = [(best - mean) / deviation for group, best in groups if i in group]
        made[i] = sum(own) / len(own)
    return made


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_it_is_the_mean_over_all_groups_of_k_as_loops(k: int) -> None:
    for seed in range(50):
        batch = random_batch(seed, group=6)
        logprobs, lengths = drifted(batch, seed, 0.3), lengths_of(batch)
        made = [by_all_groups(row, k, 1e-6) for row in rewards_of(batch)]
        now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
        expected = naive_loss(now, old, each_token(made, lengths), sequence_mean(lengths), clipped(0.8, 1.2))
        assert_same_step(take_step(load("passk", k=k), batch, logprobs), *expected, batch.mask)


def test_advantages_of_a_group_sum_to_0() -> None:
    for right, k in itertools.product(range(9), (1, 2, 4, 7)):
        assert sum(values([1.0] * right + [0.0] * (8 - right), k=k)) == pytest.approx(0.0, abs=1e-5)


def test_only_the_verdicts_count_and_those_without_one_do_not() -> None:
    plain = values([1.0, 0.0, 0.0, 0.0], k=2)
    assert values([3.0, -1.0, 0.0, -2.0], k=2) == pytest.approx(plain)
    assert values([1.0, 0.0, NAN, 0.0, 0.0], k=2) == pytest.approx([*plain[:2], 0.0, *plain[2:]])
    # two judged, groups of three: none
    assert values([1.0, NAN, NAN, 0.0], k=3) == [0.0] * 4


def test_a_group_that_is_too_small_is_warned_of() -> None:
    assert load("passk", k=4).check(8) == []
    assert "every advantage is 0" in load("passk", k=8).check(8)[0]


def test_it_takes_a_batch_of_several_problems() -> None:
    batch: RolloutBatch = batch_of([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [[0.5]] * 6)
    found = load("passk", k=2).advantages(batch).values
    assert torch.equal(found[0], found[1].flip(0))
