import math
from functools import partial

import pytest
import torch

from progrpo.methods.step import part_of, part_of_batch
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    SEEDS,
    Table,
    assert_formula,
    batch_of,
    columns,
    lengths_of,
    random_batch,
    rewards_of,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_factors

A = 0.7071068


def test_by_hand() -> None:
    # S = p (log p + H): 0.5 (-0.693147 + 0.693147) = 0 three times; 0.2 (-1.609438 + 0.609438) = -0.2 of the last.
    # Mean -0.05, deviation sqrt(3 0.05^2 + 0.15^2)/2 = 0.0866025; z = -0.15 is 1.732 deviations below.
    log2 = math.log(2)
    batch = batch_of([[1.0, 0.0]], [[0.5, 0.5], [0.5, 0.2]], entropies=columns([[log2, log2], [log2, 0.609438]]))
    for mu, last in ((1.7, 0.0), (1.8, A / 4)):
        found = take_step(load("clip_b", eps=0.0, mu=mu), batch, batch.old_logprobs)
        # the wrong completion's mean is over the tokens that are left
        own = A / 2 if last == 0 else A / 4
        assert torch.allclose(found.gradient, torch.tensor([[-A / 4, -A / 4], [own, last]]), atol=1e-6)


def test_tokens_pushed_up_are_kept() -> None:
    log2 = math.log(2)
    batch = batch_of([[0.0, 1.0]], [[0.5, 0.5], [0.5, 0.2]], entropies=columns([[log2, log2], [log2, 0.609438]]))
    found = take_step(load("clip_b", mu=0.0), batch, batch.old_logprobs)
    assert bool((found.gradient != 0).all())


def naive(batch: RolloutBatch, logprobs: torch.Tensor, mu: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    now, old, entropies = (tokens_of(each, lengths) for each in (logprobs, batch.old_logprobs, batch.entropies))
    advantages = each_token(naive_grpo(rewards_of(batch)), lengths)
    signals = [
        [math.exp(value) * (value + entropies[n][t]) for t, value in enumerate(row)] for n, row in enumerate(old)
    ]
    flat = [value for row in signals for value in row]
    mean = sum(flat) / len(flat)
    spread = math.sqrt(sum((value - mean) ** 2 for value in flat) / len(flat))
    left = list(lengths)
    for n, row in enumerate(signals):
        for t, value in enumerate(row):
            if advantages[n][t] < 0 and value - mean < -mu * spread:
                advantages[n][t] = 0.0
                left[n] -= 1
    weights = sequence_factors(left, batch.rewards.shape[1], "sequence")
    return naive_loss(now, old, advantages, weights, clipped(0.8, 1.2))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("mu", [0.3, 1.0])
def test_it_is_the_formula_as_loops(mu: float, seeds: range) -> None:
    method = load("clip_b", mu=mu)
    assert_formula(method, partial(naive, mu=mu), seeds)
    dropped = [bool(method.advantages(random_batch(seed)).carried["left_out"].any()) for seed in seeds]
    assert sum(dropped) > len(seeds) / 2


def test_the_statistics_are_the_rollout_s() -> None:
    # of one problem alone the outlier would be another
    batch = random_batch(1)
    whole = load("clip_b", mu=0.5).advantages(batch).carried["left_out"]
    method = load("clip_b", mu=0.5)
    part = part_of(method.advantages(batch), slice(1, 2), 3)
    assert torch.equal(part.carried["left_out"], whole[3:6])
    alone = method.advantages(part_of_batch(batch, slice(1, 2))).carried["left_out"]
    assert not torch.equal(alone, whole[3:6])
