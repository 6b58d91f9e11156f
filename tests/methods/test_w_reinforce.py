import math

import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NOW,
    Table,
    assert_same_step,
    columns,
    drifted,
    lengths_of,
    random_batch,
    rewards_of,
    right_wrong_wrong_lost,
    take_step,
    tokens_of,
)
from stand_ins.naive_methods import clipped, each_token, naive_loss, token_mean


def load(**settings: object) -> Method:
    return methods.load(Choice(name="w_reinforce", **settings))


@pytest.fixture
def batch() -> RolloutBatch:
    return right_wrong_wrong_lost()


def test_by_hand(batch: RolloutBatch) -> None:
    # Six judged tokens: w = 1/6. Right, A = 0.1, ratios 1.5 and 0.5: 0.12 (clipped) and 0.05.
    # Wrong, A = -1, ratios 1.5; 0.5, 1, 1: -1.5, -0.8 (clipped), -1, -1. Sum 0.17 - 4.3
    found = take_step(load(), batch, columns(NOW).clamp(min=1e-30).log() * batch.mask)
    assert found.loss == pytest.approx(4.13 / 6, abs=1e-5)
    expected = [[0, -0.05 / 6, 0], [1.5 / 6, 0, 0], [0, 1 / 6, 1 / 6], [0, 0, 0]]
    assert torch.allclose(found.gradient, torch.tensor(expected), atol=1e-5)


def naive(batch: RolloutBatch, logprobs: torch.Tensor, lam: float) -> tuple[float, Table]:
    lengths, rewards = lengths_of(batch), rewards_of(batch)
    judged = [not math.isnan(reward) for row in rewards for reward in row]
    signs = each_token([[lam if reward == 1 else -1.0 for reward in row] for row in rewards], lengths)
    now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
    return naive_loss(now, old, signs, token_mean(lengths, judged), clipped(0.8, 1.2))


@pytest.mark.parametrize("lam", [0.0, 0.1, 1.0])
def test_it_is_the_formula_as_loops(lam: float) -> None:
    for seed in range(30):
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        assert_same_step(take_step(load(lam=lam), batch, logprobs), *naive(batch, logprobs, lam), batch.mask)


def test_lambda_zero_is_nsr_with_the_correct_completions_in_the_mean(batch: RolloutBatch) -> None:
    # 4 of the 6 judged tokens are of wrong completions
    nsr = take_step(methods.load(Choice(name="nsr")), batch, batch.old_logprobs)
    zero = take_step(load(lam=0.0), batch, batch.old_logprobs)
    assert torch.allclose(zero.gradient, nsr.gradient * 4 / 6)
    assert zero.loss == pytest.approx(nsr.loss * 4 / 6)
