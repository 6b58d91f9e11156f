import math

import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from stand_ins.batch_steps import (
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
from stand_ins.naive_methods import TokenObjective, each_token, group_token_mean, naive_grpo, naive_loss


def load(**settings: object) -> Method:
    return methods.load(Choice(name="cispo", **settings))


def test_by_hand() -> None:
    # A = 0.70711, -0.70711; three tokens in the group. Ratios 4 (taken as 2), 1; 1/2.
    # J = 0.70711 / 3 * (2 log 0.8 + log 0.5 - 0.5 log 0.25) = 0.70711 / 3 * 2 log 0.8
    batch = batch_of([[1.0, 0.0]], [[0.2, 0.5], [0.5]])
    found = take_step(load(eps=0.0, clip_high=1.0), batch, columns([[0.8, 0.5], [0.25, 1.0]]).log())
    assert found.loss == pytest.approx(0.70711 / 3 * 2 * 0.2231436, abs=1e-5)
    # no token loses its gradient; the ratio is a constant
    expected = [[-2 * 0.70711 / 3, -0.70711 / 3], [0.5 * 0.70711 / 3, 0.0]]
    assert torch.allclose(found.gradient, torch.tensor(expected), atol=1e-5)


def weighted(low: float, high: float) -> TokenObjective:
    def token(now: float, old: float, advantage: float) -> tuple[float, float]:
        constant = min(max(math.exp(now - old), low), high) * advantage
        return constant * now, constant

    return token


@pytest.mark.parametrize(("settings", "low", "high"), [({}, 0.0, 5.0), ({"clip_low": 0.3, "clip_high": 0.2}, 0.7, 1.2)])
def test_it_is_the_formula_as_loops(settings: dict[str, float], low: float, high: float) -> None:
    method = load(**settings)
    for seed in range(30):
        batch = random_batch(seed)
        logprobs, lengths = drifted(batch, seed, 1.0), lengths_of(batch)
        now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
        advantages = each_token(naive_grpo(rewards_of(batch)), lengths)
        expected = naive_loss(now, old, advantages, group_token_mean(lengths, 3), weighted(low, high))
        assert_same_step(take_step(method, batch, logprobs), *expected, batch.mask)


def test_in_the_first_step_of_a_rollout_its_gradient_is_grpo_s_with_that_mean() -> None:
    grpo = methods.load(Choice(name="grpo", aggregate="group_token"))
    for seed in range(10):
        batch = random_batch(seed)
        one, other = (take_step(method, batch, batch.old_logprobs) for method in (load(), grpo))
        assert torch.allclose(one.gradient, other.gradient, atol=1e-7)
