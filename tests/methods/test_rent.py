import math

import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
    Table,
    assert_same_step,
    batch_of,
    columns,
    drifted,
    lengths_of,
    random_batch,
    take_step,
    tokens_of,
)
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_mean


def load(**settings: object) -> Method:
    return methods.load(Choice(name="rent", **settings))


def test_by_hand() -> None:
    # Mean entropies (0.5 + 1.5) / 2 = 1 and 2: rewards -1, -2: A = 0.70711, -0.70711, whatever the verdicts say.
    # The reference is twice as sure of each token: d = log 2, k3 = 2 - log 2 - 1 = 0.306853, and its derivative 1 - 2.
    batch = batch_of(
        [[0.0, NAN]],
        [[0.25, 0.5], [0.1]],
        entropies=columns([[0.5, 1.5], [2.0]]),
        ref_logprobs=columns([[0.5, 1.0], [0.2]]).clamp(min=0.2).log() * torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
    )
    found = take_step(load(eps=0.0, kl_coef=0.1), batch, batch.old_logprobs)
    # the advantages cancel at ratio 1; the mean of k3 is that of any token
    assert found.own == pytest.approx(0.0, abs=1e-6)
    assert found.loss == pytest.approx(0.1 * 0.306853, abs=1e-6)
    expected = [[-0.70711 / 4 - 0.1 / 4, -0.70711 / 4 - 0.1 / 4], [0.70711 / 2 - 0.1 / 2, 0.0]]
    assert torch.allclose(found.gradient, torch.tensor(expected), atol=1e-5)


def naive(batch: RolloutBatch, logprobs: torch.Tensor, kl_coef: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    means = [-sum(row) / max(1, len(row)) for row in tokens_of(batch.entropies, lengths)]
    group = batch.rewards.shape[1]
    rewards = [means[start : start + group] for start in range(0, len(means), group)]
    now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
    weights = sequence_mean(lengths)
    loss, gradient = naive_loss(now, old, each_token(naive_grpo(rewards), lengths), weights, clipped(0.8, 1.2))
    for n, row in enumerate(tokens_of(batch.ref_logprobs, lengths)):
        for t, ref in enumerate(row):
            d = ref - now[n][t]
            loss += kl_coef * weights[n] * (math.exp(d) - d - 1)
            gradient[n][t] += kl_coef * weights[n] * (1 - math.exp(d))
    return loss, gradient


@pytest.mark.parametrize("kl_coef", [0.0, 0.001, 0.5])
def test_it_is_the_formula_as_loops(kl_coef: float) -> None:
    for seed in range(30):
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        found = take_step(load(kl_coef=kl_coef), batch, logprobs)
        assert_same_step(found, *naive(batch, logprobs, kl_coef), batch.mask)


def test_it_asks_for_entropies_and_the_reference() -> None:
    assert load().needs == {"entropies", "ref_logprobs"}
    assert load(kl_coef=0).needs == {"entropies"}
