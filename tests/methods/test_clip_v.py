import math
from functools import partial

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    SEEDS,
    Table,
    assert_formula,
    batch_of,
    columns,
    lengths_of,
    rewards_of,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_factors

A = 0.7071068


def test_by_hand() -> None:
    # d = 0 0 | 0 0.2: mean 0.05, deviation 0.0866025; the last is 2.31 deviations above 0 (not above the mean)
    batch = batch_of([[1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]], entropy_gradients=columns([[0.0, 0.0], [0.0, 0.2]]))
    for mu, expected in ((2.2, [A / 2, 0.0]), (2.4, [A / 4, A / 4])):
        found = take_step(load("clip_v", eps=0.0, mu=mu), batch, batch.old_logprobs)
        assert torch.allclose(found.gradient, torch.tensor([[-A / 4, -A / 4], expected]), atol=1e-6)


@pytest.mark.parametrize(("share", "left_out"), [(1e-4, [3]), (0.26, [3]), (0.5, [2, 3]), (1.0, [2, 3])])
def test_no_more_than_a_share_goes_the_largest_first(share: float, left_out: list[int]) -> None:
    # of 4 tokens: one at least, then rounded down
    batch = batch_of([[1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]], entropy_gradients=columns([[0.3, 0.0], [0.2, 0.4]]))
    made = load("clip_v", mu=0.1, max_fraction=share).advantages(batch)
    assert made.carried["left_out"].flatten().nonzero()[:, 0].tolist() == left_out


def naive(batch: RolloutBatch, logprobs: torch.Tensor, mu: float, share: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    now, old, changes = (tokens_of(each, lengths) for each in (logprobs, batch.old_logprobs, batch.entropy_gradients))
    advantages = each_token(naive_grpo(rewards_of(batch)), lengths)
    flat = [value for row in changes for value in row]
    mean = sum(flat) / len(flat)
    spread = math.sqrt(sum((value - mean) ** 2 for value in flat) / len(flat))
    beyond = [
        (-value, n, t)
        for n, row in enumerate(changes)
        for t, value in enumerate(row)
        if advantages[n][t] < 0 and value > mu * spread
    ]
    left = list(lengths)
    for _, n, t in sorted(beyond)[: max(1, math.floor(round(share * len(flat), 9)))]:
        advantages[n][t] = 0.0
        left[n] -= 1
    return naive_loss(
        now, old, advantages, sequence_factors(left, batch.rewards.shape[1], "sequence"), clipped(0.8, 1.2)
    )


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("mu", "share"), [(0.3, 1.0), (0.5, 0.1)])
def test_it_is_the_formula_as_loops(mu: float, share: float, seeds: range) -> None:
    assert_formula(load("clip_v", mu=mu, max_fraction=share), partial(naive, mu=mu, share=share), seeds)


def test_it_asks_for_the_gradients_of_entropies() -> None:
    assert load("clip_v").needs == {"entropy_gradients"}
    assert load("clip_v").further.names == ("entropy_gradients",)
