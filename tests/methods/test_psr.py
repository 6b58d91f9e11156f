import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
    NOW,
    assert_same_step,
    batch_of,
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


@pytest.fixture
def method() -> Method:
    return methods.load(Choice(name="psr"))


@pytest.fixture
def batch() -> RolloutBatch:
    return right_wrong_wrong_lost()


def test_by_hand(method: Method, batch: RolloutBatch) -> None:
    # The right completion has 2 tokens: w = 1/2. Ratios 1.5 and 0.5 with A = 1 and the clip [0.8, 1.2]:
    # J = 1.2 (clipped, no gradient) and 0.5 (not bounded from above): loss -1.7 / 2
    found = take_step(method, batch, columns(NOW).clamp(min=1e-30).log() * batch.mask)
    assert found.loss == pytest.approx(-1.7 / 2, abs=1e-5)
    expected = [[0, -0.5 / 2, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert torch.allclose(found.gradient, torch.tensor(expected), atol=1e-5)


def test_only_right_completions_stay(method: Method, batch: RolloutBatch) -> None:
    made = method.advantages(batch)
    assert made.keep.tolist() == [[True, False, False, False]]
    assert made.values.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_a_completion_without_a_verdict_in_an_all_correct_group_leaves(method: Method) -> None:
    # `correct` says True for it, so that the group does not look mixed
    batch = batch_of([[1.0, NAN]], [[0.5], [0.2]], correct=torch.tensor([[True, True]]))
    assert method.advantages(batch).keep.tolist() == [[True, False]]


def test_it_is_the_formula_as_loops(method: Method) -> None:
    for seed in range(30):
        batch = random_batch(seed)
        logprobs, lengths = drifted(batch, seed, 0.3), lengths_of(batch)
        rewards = rewards_of(batch)
        right = [reward == 1 for row in rewards for reward in row]
        now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
        plus = each_token([[1.0] * len(row) for row in rewards], lengths)
        expected = naive_loss(now, old, plus, token_mean(lengths, right), clipped(0.8, 1.2))
        assert_same_step(take_step(method, batch, logprobs), *expected, batch.mask)


def test_without_a_right_completion_there_is_nothing_to_learn(method: Method) -> None:
    batch = batch_of([[0.0, 0.0]], [[0.5], [0.2, 0.3]])
    found = take_step(method, batch, batch.old_logprobs)
    assert found.loss == 0
    assert not found.gradient.any()
