import math

import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from stand_ins.batch_steps import (
    NAN,
    assert_same_step,
    batch_of,
    drifted,
    lengths_of,
    random_batch,
    take_step,
    tokens_of,
)


def load(**settings: object) -> Method:
    return methods.load(Choice(name="rlsc", **settings))


def test_by_hand() -> None:
    # p(o) = 0.5 * 0.5 = 0.25 and 0.2: L = -1/2 (0.35 log 0.25 + 0.3 log 0.2); the probability is a constant
    batch = batch_of([[1.0, NAN]], [[0.5, 0.5], [0.2]])
    found = take_step(load(), batch, batch.old_logprobs)
    assert found.loss == pytest.approx((0.35 * 1.3862944 + 0.3 * 1.6094379) / 2, abs=1e-5)
    assert torch.allclose(found.gradient, torch.tensor([[-0.175, -0.175], [-0.15, 0.0]]), atol=1e-6)


@pytest.mark.parametrize("a", [0.0, 0.1, 0.7])
def test_it_is_the_formula_as_loops(a: float) -> None:
    for seed in range(30):
        batch = random_batch(seed)
        logprobs, lengths = drifted(batch, seed, 0.3), lengths_of(batch)
        loss, gradient = 0.0, []
        for row in tokens_of(logprobs, lengths):
            constant = math.exp(sum(row)) + a
            loss -= constant * sum(row) / len(lengths)
            gradient.append([-constant / len(lengths)] * len(row))
        assert_same_step(take_step(load(a=a), batch, logprobs), loss, gradient, batch.mask)


def test_verdicts_play_no_part() -> None:
    batch = random_batch(3, failed=0.0)
    other = batch_of(
        (1 - batch.rewards).tolist(),
        tokens_of(batch.old_logprobs.exp(), lengths_of(batch)),
    )
    one, two = take_step(load(), batch, batch.old_logprobs), take_step(load(), other, other.old_logprobs)
    assert one.loss == pytest.approx(two.loss)
    assert torch.allclose(one.gradient, two.gradient)
