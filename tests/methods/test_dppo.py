import math

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    Table,
    assert_same_step,
    batch_of,
    columns,
    drifted,
    lengths_of,
    random_batch,
    rewards_of,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import each_token, naive_loss


def gradient(old: Table, now: Table, **settings: object) -> list[float]:
    """Of a group of two, right and wrong, without scaling and with sums over 1 token: A/2 = 1/4 and -1/4."""
    found = take_step(load("dppo", fixed_length=1, **settings), batch_of([[1.0, 0.0]], old), columns(now).log())
    return (-4 * found.gradient).flatten().tolist()


def test_by_hand() -> None:
    # The right one rises by 0.15 and by 0.16, the wrong one falls by as much: the ratio where the bound is kept, else 0.
    old = [[0.5, 0.5], [0.5, 0.5]]
    assert gradient(old, [[0.64, 0.66], [0.36, 0.34]]) == pytest.approx([1.28, 0.0, -0.72, 0.0])
    # a rare token may go to a hundred times its probability, where a ratio would stop at 1.28; its weight is at most 20
    assert gradient([[0.001], [0.5]], [[0.1], [0.5]]) == pytest.approx([20.0, -1.0])
    assert gradient([[0.001], [0.5]], [[0.1], [0.5]], largest_ratio=1000.0) == pytest.approx([100.0, -1.0])
    # a token that moved against its advantage is free to come back
    assert gradient([[0.9], [0.1]], [[0.1], [0.9]]) == pytest.approx([1 / 9, -9.0])
    # each side has its own bound
    assert gradient(old, [[0.6, 0.8], [0.4, 0.2]], clip_low=0.35, clip_high=0.05) == pytest.approx(
        [0.0, 0.0, -0.8, -0.4]
    )


def test_the_loss_by_hand() -> None:
    # - 1/(2 * 2) sum of ratio A log p: right 0.6/0.5 * 1/2 * log 0.6, wrong 0.4/0.5 * -1/2 * log 0.4
    found = take_step(
        load("dppo", fixed_length=2), batch_of([[1.0, 0.0]], [[0.5], [0.5]]), columns([[0.6], [0.4]]).log()
    )
    assert found.loss == pytest.approx(-(0.6 * math.log(0.6) - 0.4 * math.log(0.4)) / 4, abs=1e-6)


def test_kl_by_hand() -> None:
    # from 0.5 to 0.6: 0.5 log(0.5/0.6) + 0.5 log(0.5/0.4) = 0.020411; to 0.7: 0.087177, which is more than 0.05
    assert gradient([[0.5, 0.5], [0.5]], [[0.6, 0.7], [0.3]], preset="kl") == pytest.approx([1.2, 0.0, 0.0, 0.0])
    # A near certain token that falls by 0.13 has moved by 1 - 0.87 = 0.13 and by 0.9 log(0.9/0.77) + 0.1 log(0.1/0.23) = 0.0571
    assert gradient([[0.5], [0.9]], [[0.5], [0.77]]) == pytest.approx([1.0, -0.77 / 0.9])
    assert gradient([[0.5], [0.9]], [[0.5], [0.77]], preset="kl") == pytest.approx([1.0, 0.0])


def token(divergence: str, low: float, high: float, largest: float):
    def one(now: float, old: float, advantage: float) -> tuple[float, float]:
        p, q = math.exp(now), math.exp(old)
        kl = q * (old - now) + (1 - q) * math.log((1 - q + 1e-8) / (1 - p + 1e-8))
        size = abs(p - q) if divergence == "tv" else kl
        within = size <= high or p <= q if advantage > 0 else size <= low or p >= q
        weight = min(math.exp(now - old), largest)
        return (weight * advantage * now, weight * advantage) if within else (0.0, 0.0)

    return one


def centred(rewards: Table) -> Table:
    made = []
    for row in rewards:
        known = [r for r in row if not math.isnan(r)]
        mean = sum(known) / len(known) if known else 0.0
        made.append([0.0 if math.isnan(r) else r - mean for r in row])
    return made


@pytest.mark.parametrize("divergence", ["tv", "kl"])
@pytest.mark.parametrize(("low", "high", "largest"), [(0.15, 0.15, 20.0), (0.02, 0.3, 1.5)])
def test_it_is_the_formula_as_loops(divergence: str, low: float, high: float, largest: float) -> None:
    method = load("dppo", divergence=divergence, clip_low=low, clip_high=high, largest_ratio=largest, fixed_length=4)
    for seed in range(30):
        batch: RolloutBatch = random_batch(seed)
        logprobs, lengths = drifted(batch, seed, 0.8), lengths_of(batch)
        now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
        advantages = each_token(centred(rewards_of(batch)), lengths)
        weights = [1 / (4 * len(lengths))] * len(lengths)
        expected = naive_loss(now, old, advantages, weights, token(divergence, low, high, largest))
        assert_same_step(take_step(method, batch, logprobs), *expected, batch.mask)


def test_on_the_policy_that_sampled_it_is_the_policy_gradient() -> None:
    for seed in range(10):
        batch = random_batch(seed)
        one = take_step(load("dppo"), batch, batch.old_logprobs)
        other = take_step(load("grpo", scale="none", aggregate="fixed"), batch, batch.old_logprobs)
        assert torch.allclose(one.gradient, other.gradient, atol=1e-7)
