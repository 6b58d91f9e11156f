import math

import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from stand_ins.batch_steps import (
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
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_mean


def load(**settings: object) -> Method:
    return methods.load(Choice(name="ucpo", **settings))


def test_by_hand() -> None:
    # Mean log-probs -0.2 -0.3 -0.5 -0.9 of four correct completions: q = 0.31824 0.28796 0.23576 0.15804 (exp, over their
    # sum), 1/q = 3.14225 3.47271 4.24158 6.32767; w = 0.8 + 4 * 0.2 * (1/q)/sum = 0.94628 0.96167 0.99746 1.09458
    batch = batch_of(
        [[1.0, 1.0, 0.0, 1.0, 1.0]],
        [[math.exp(-0.2)], [math.exp(-0.1), math.exp(-0.5)], [0.01], [math.exp(-0.5)], [math.exp(-0.9)]],
    )
    plain = methods.load(Choice(name="grpo")).advantages(batch).values[0]
    found = load().advantages(batch)
    assert (found.values[0] / plain).tolist() == pytest.approx([0.94628, 0.96167, 1.0, 0.99746, 1.09458], abs=1e-5)
    # |w - 1| = 0.05372 0.03833 0.00254 0.09458
    assert found.stats["ucpo/weight_spread"].value == pytest.approx(0.18917 / 4, abs=1e-5)


def naive(batch, logprobs, *, tau: float, floor: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    group, old = batch.rewards.shape[1], tokens_of(batch.old_logprobs, lengths)
    weights = []
    for p, row in enumerate(rewards_of(batch)):
        means = {
            g: sum(old[p * group + g]) / len(old[p * group + g])
            for g, reward in enumerate(row)
            if reward == 1 and old[p * group + g]
        }
        weights.append([1.0] * group)
        if len(means) >= 2:
            total = sum(math.exp(value) for value in means.values())
            inverse = {g: 1 / max(math.exp(value) / total, floor) for g, value in means.items()}
            for g, value in inverse.items():
                weights[p][g] = len(means) * ((1 - tau) / len(means) + tau * value / sum(inverse.values()))
    shared = [
        [a * w for a, w in zip(row, own, strict=True)]
        for row, own in zip(naive_grpo(rewards_of(batch)), weights, strict=True)
    ]
    now = tokens_of(logprobs, lengths)
    return naive_loss(now, old, each_token(shared, lengths), sequence_mean(lengths), clipped(0.8, 1.2))


@pytest.mark.parametrize("settings", [{"tau": 0.2, "floor": 1e-6}, {"tau": 1.0, "floor": 0.3}])
def test_it_is_the_formula_as_loops(settings: dict[str, float]) -> None:
    for seed in range(30):
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        assert_same_step(take_step(load(**settings), batch, logprobs), *naive(batch, logprobs, **settings), batch.mask)


def test_the_positive_advantage_of_a_group_is_kept_and_the_rest_untouched() -> None:
    for seed in range(10):
        batch = random_batch(seed, group=6)
        plain = methods.load(Choice(name="grpo")).advantages(batch).values
        found = load(tau=1.0).advantages(batch).values
        right = batch.correct & batch.judged
        assert torch.allclose((found * right).sum(dim=1), (plain * right).sum(dim=1), atol=1e-5)
        assert torch.equal(found[~right], plain[~right])


def test_tau_zero_is_grpo() -> None:
    for seed in range(10):
        batch = random_batch(seed)
        assert torch.equal(
            load(tau=0.0).advantages(batch).values, methods.load(Choice(name="grpo")).advantages(batch).values
        )
