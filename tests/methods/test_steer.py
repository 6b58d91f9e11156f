import math

import pytest
import torch

from progrpo.errors import ConfigError
from progrpo.methods import steer
from progrpo.methods.step import make_step
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    SEEDS,
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
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, token_mean

A = 0.7071068


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        # p = 0.5, H = 1 and p = 0.25, H = 0.5; A = +-0.70711, ratios 1.
        # |A (1-p)(log p + H)| = A 0.5 0.306853 = 0.108489 and A 0.75 0.886294 = 0.470026; k = 0.223144 / 0.470026
        ({}, (math.exp(-0.223144 * 0.108489 / 0.470026), 0.8)),
        # once more times p: 0.054245 and 0.117507
        ({"power": 2}, (math.exp(-0.223144 * 0.054245 / 0.117507), 0.8)),
        ({"mode": "linear"}, (1.2, 0.8)),
    ],
)
def test_by_hand(settings: dict, weights: tuple[float, float]) -> None:
    batch = batch_of([[1.0, 0.0]], [[0.5], [0.25]], entropies=columns([[1.0], [0.5]]))
    found = take_step(load("steer", eps=0.0, **settings), batch, batch.old_logprobs)
    one, two = weights
    assert found.loss == pytest.approx(-(one - two) * A / 2, abs=1e-6)
    assert found.gradient.flatten().tolist() == pytest.approx([-one * A / 2, two * A / 2], abs=1e-6)


def test_small_changes_are_not_stretched() -> None:
    # A (1-p)(log p + H) of p = 0.99, H = 0.06: 0.70711 0.01 0.04995 = 0.000353, far below 0.02: w = 0.8^(0.000353/0.02)
    batch = batch_of([[1.0, 0.0]], [[0.99], [0.99]], entropies=columns([[0.06], [0.06]]))
    found = take_step(load("steer", eps=0.0), batch, batch.old_logprobs)
    assert float(found.gradient[1, 0]) == pytest.approx(0.8 ** (0.000353 / 0.02) * A / 2, abs=1e-5)


def test_the_derived_change_is_that_of_a_step_on_the_sampled_logit() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(50, 9, generator=draw, dtype=torch.float64)
    token = torch.randint(0, 9, (50,), generator=draw)
    logp = logits.log_softmax(dim=-1)

    def entropy(values: torch.Tensor) -> torch.Tensor:
        return -(values.softmax(dim=-1) * values.log_softmax(dim=-1)).sum(dim=-1)

    own = logp.gather(1, token[:, None])
    step = 1e-6 * torch.zeros_like(logits).scatter(1, token[:, None], 1 - own.exp())
    change = (entropy(logits + step) - entropy(logits - step)) / 2e-6
    batch = batch_of([[1.0, 0.0]] * 25, own.exp().tolist(), entropies=entropy(logits)[:, None].float())
    # A = 1 and -1 of a half right group of two with the population's deviation
    method = load("steer", power=2, ddof=0, eps=0.0)
    made = make_step(batch, method.advantages(batch), slice(0, 25), seed=0).batch
    assert torch.allclose(steer._change(made, method.params)[:, 0].double(), change.abs(), atol=2e-5)


def naive(batch: RolloutBatch, logprobs: torch.Tensor, mode: str, power: int) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    now, old, entropies = (tokens_of(each, lengths) for each in (logprobs, batch.old_logprobs, batch.entropies))
    advantages = each_token(naive_grpo(rewards_of(batch)), lengths)
    sizes = []
    for n, row in enumerate(now):
        sizes.append([])
        for t, value in enumerate(row):
            p = math.exp(value)
            omega = advantages[n][t] / math.exp(old[n][t]) * p**power * (1 - p) * (value + entropies[n][t])
            sizes[n].append(abs(omega))
    least, most = min(min(row) for row in sizes if row), max(max(row) for row in sizes if row)
    for n, row in enumerate(sizes):
        for t, size in enumerate(row):
            if mode == "exp":
                weight = max(0.8, 0.8 ** (size / max(most, 0.02)))
            else:
                weight = 1.0 if most == least else 1.2 - 0.4 * (size - least) / (most - least)
            advantages[n][t] *= weight
    return naive_loss(now, old, advantages, token_mean(lengths, [True] * len(lengths)), clipped(0.8, 1.28))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("mode", ["exp", "linear"])
def test_it_is_the_formula_as_loops(mode: str, power: int, seeds: range) -> None:
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        found = take_step(load("steer", mode=mode, power=power), batch, logprobs)
        assert_same_step(found, *naive(batch, logprobs, mode, power), batch.mask)


def test_pools_have_their_own_extremes() -> None:
    batch = batch_of([[1.0, 0.0]], [[0.5], [0.25]], entropies=columns([[1.0], [0.5]]))
    parts = [torch.tensor([0]), torch.tensor([1])]
    found = take_step(load("steer", eps=0.0, preset="released"), batch, batch.old_logprobs, parts=parts)
    assert found.gradient.flatten().tolist() == pytest.approx([-0.8 * A / 2, 0.8 * A / 2], abs=1e-6)


def test_weights_of_1_are_dapo_s_surrogate() -> None:
    batch = random_batch(3)
    logprobs = drifted(batch, 3, 0.3)
    one = take_step(load("steer", weight_min=1.0), batch, logprobs)
    other = take_step(load("grpo", aggregate="token", clip_high=0.28), batch, logprobs)
    assert torch.equal(one.gradient, other.gradient)


def test_settings() -> None:
    with pytest.raises(ConfigError, match=r"weight_max=0\.5 is below weight_min=0\.8"):
        load("steer", mode="linear", weight_max=0.5)
    assert load("steer", preset="linear").params.mode == "linear"
