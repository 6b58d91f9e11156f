import math

import pytest
import torch

from progrpo.errors import ConfigError
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
    Table,
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
from stand_ins.naive_methods import clipped, each_token, group_token_mean, naive_grpo, naive_loss, sequence_mean


def test_by_hand() -> None:
    # 3 of 4: mean 3/4, sample deviation 1/2: 1/2 and -3/2, times (1/4)^(1/2) = 1/2; 1 of 4: 3/2 and -1/2, times sqrt(3)/2
    batch = batch_of([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4], [[0.5]] * 12)
    made = load("f_grpo", gamma=0.5, eps=0.0).advantages(batch)
    root = math.sqrt(3) / 2
    assert made.values[0].tolist() == pytest.approx([0.25, 0.25, 0.25, -0.75])
    assert made.values[1].tolist() == pytest.approx([1.5 * root, *[-0.5 * root] * 3])
    assert made.values[2].tolist() == [0.0] * 4
    weight = made.stats["f_grpo/weight"]  # of the two groups that have an advantage
    assert (weight.total, weight.count) == (pytest.approx(0.5 + root), 2)


def test_what_is_not_judged_is_in_no_share() -> None:
    batch = batch_of([[1.0, 0.0, NAN, NAN]], [[0.5]] * 4)
    grpo = load("grpo").advantages(batch).values
    assert torch.allclose(load("f_grpo", gamma=2.0).advantages(batch).values, grpo / 4)


def naive(batch: RolloutBatch, gamma: float) -> Table:
    made = []
    for row, own in zip(rewards_of(batch), naive_grpo(rewards_of(batch)), strict=True):
        known = [r for r in row if not math.isnan(r)]
        share = sum(r == 1 for r in known) / len(known) if known else 0.0
        made.append([a * (1 - share) ** gamma for a in own])
    return made


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_it_is_the_formula_as_loops(gamma: float) -> None:
    for seed in range(30):
        batch = random_batch(seed, group=4)
        logprobs, lengths = drifted(batch, seed, 0.3), lengths_of(batch)
        now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
        advantages = each_token(naive(batch, gamma), lengths)
        expected = naive_loss(now, old, advantages, sequence_mean(lengths), clipped(0.8, 1.2))
        assert_same_step(take_step(load("f_grpo", gamma=gamma), batch, logprobs), *expected, batch.mask)
        expected = naive_loss(now, old, advantages, group_token_mean(lengths, 4), clipped(0.8, 1.28))
        on_dapo = load("dapo", add={"name": "f_grpo", "gamma": gamma})
        assert_same_step(take_step(on_dapo, batch, logprobs), *expected, batch.mask)


def test_gamma_zero_is_grpo_bit_for_bit() -> None:
    for seed in range(20):
        batch = random_batch(seed)
        grpo = load("grpo").advantages(batch).values
        assert torch.equal(load("f_grpo", gamma=0.0).advantages(batch).values, grpo)


def test_gamma_has_no_default() -> None:
    with pytest.raises(ConfigError, match="gamma"):
        load("grpo", add={"name": "f_grpo"})
