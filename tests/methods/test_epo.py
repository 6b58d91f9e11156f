import math
from dataclasses import replace

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    SEEDS,
    batch_of,
    columns,
    drifted,
    lengths_of,
    random_batch,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import token_mean


def test_by_hand() -> None:
    # H = 1 2 3: mean 2, with the 4 of a rollout before 3. Band 1.5 to 4.5: the first is 0.5 below it.
    # L = -0.1 (2 - 0.2 0.5/3); slopes -0.1/3 each, and -0.1 0.2/3 more of the first: it is pulled up
    batch = batch_of([[1.0, 1.0]], [[0.5, 0.5], [0.5]], entropies=columns([[1.0, 2.0], [3.0]]))
    batch = replace(batch, state={"seen": [1, 4.0]})
    found = take_step(load("epo", bonus=0.1, alpha=0.2), batch, batch.old_logprobs)
    assert found.loss == pytest.approx(-0.1 * (2 - 0.2 * 0.5 / 3), abs=1e-6)
    slopes = columns([[-0.12 / 3, -0.1 / 3], [-0.1 / 3]])
    assert torch.allclose(found.gradients["entropies"], slopes, atol=1e-7)


def test_the_released_penalty_has_no_gradient() -> None:
    batch = batch_of([[1.0, 1.0]], [[0.5, 0.5], [0.5]], entropies=columns([[1.0, 2.0], [3.0]]))
    batch = replace(batch, state={"seen": [1, 4.0]})  # the first token is below the band
    found = take_step(load("epo", preset="released", bonus=0.1), batch, batch.old_logprobs)
    assert torch.allclose(found.gradients["entropies"], columns([[-0.1 / 3, -0.1 / 3], [-0.1 / 3]]), atol=1e-7)


def test_the_mean_is_over_the_rollouts_so_far() -> None:
    method, state = load("epo"), {}
    means = []
    for seed in range(3):
        batch = random_batch(seed)
        means.append(float(batch.entropies[batch.mask].mean()))
        made = method.advantages(replace(batch, state=state))
        state = dict(made.state)
        assert made.stats["epo/mean_entropy"].total == pytest.approx(sum(means) / len(means), rel=1e-5)


@pytest.mark.parametrize(
    ("done", "weight"),
    [
        (0, 1.0),
        (5, 1 - 0.2 * (1 - math.exp(-1))),
        (10, 1 - 0.2 * (1 - math.exp(-2))),
        (15, 0.8 * math.exp(-1.5)),
        (20, 0.8 * math.exp(-3)),
        (30, 0.8 * math.exp(-3)),
    ],
)
def test_the_schedule(done: int, weight: float) -> None:
    batch = replace(random_batch(0), state={"seen": [done, 1.0 * done]})
    made = load("epo", schedule=20).advantages(batch)
    assert float(made.carried["weight"][0, 0]) == pytest.approx(weight)
    assert float(load("epo").advantages(batch).carried["weight"][0, 0]) == 1.0


def naive(batch: RolloutBatch, mean: float) -> tuple[float, list[list[float]]]:
    lengths = lengths_of(batch)
    loss, gradient = 0.0, []
    for n, row in enumerate(tokens_of(batch.entropies, lengths)):
        weight = token_mean(lengths, [True] * len(lengths))[n]
        gradient.append([])
        for h in row:
            loss -= 0.3 * weight * (h - 0.4 * (max(h - 1.2 * mean, 0) + max(0.6 * mean - h, 0)))
            slope = 1.0 - 0.4 * (h > 1.2 * mean) + 0.4 * (h < 0.6 * mean)
            gradient[n].append(-0.3 * weight * slope)
    return loss, gradient


@pytest.mark.parametrize("seeds", SEEDS)
def test_it_is_the_formula_as_loops(seeds: range) -> None:
    settings = {"bonus": 0.3, "alpha": 0.4, "band_low": 0.6, "band_high": 1.2}
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        found = take_step(load("epo", **settings), batch, logprobs)
        plain = take_step(load("grpo", aggregate="token"), batch, logprobs)
        loss, gradient = naive(batch, float(batch.entropies[batch.mask].mean()))
        assert found.loss - plain.loss == pytest.approx(loss, abs=1e-5)
        expected = columns([*gradient, [0.0] * batch.mask.shape[1]])[:-1]
        assert torch.allclose(found.gradients["entropies"], expected, atol=1e-6)
        assert torch.equal(found.gradient, plain.gradient)


def test_without_a_band_it_is_the_bonus() -> None:
    batch = random_batch(2)
    logprobs = drifted(batch, 2, 0.3)
    one = take_step(load("epo", alpha=0.0, bonus=0.01), batch, logprobs)
    other = take_step(load("grpo", aggregate="token", entropy_coef=0.01), batch, logprobs)
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert torch.allclose(one.gradients["entropies"], other.gradients["entropies"], atol=1e-8)
