import pytest
import torch

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    SEEDS,
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
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_mean, standardised

A = 0.7071068


def test_by_hand() -> None:
    # log-perplexities log 2 and log 4 (1/2 and, of 1/2 and 1/8, (log 2 + log 8)/2): -+0.70711 standard deviations
    batch = batch_of([[1.0, 0.0]], [[0.5], [0.5, 0.125]])
    made = load("perplexity", alpha=0.4, eps=0.0).advantages(batch).values[0].tolist()
    assert made == pytest.approx([A * (1 + 0.4 * A), -A * (1 - 0.4 * A)], abs=1e-5)


def naive(batch: RolloutBatch, logprobs: torch.Tensor, alpha: float) -> tuple[float, Table]:
    lengths, group = lengths_of(batch), batch.rewards.shape[1]
    now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
    made = []
    for p, (rewards, values) in enumerate(zip(rewards_of(batch), naive_grpo(rewards_of(batch)), strict=True)):
        own = [old[p * group + g] for g in range(group)]
        surprise = [
            float("nan") if reward != reward or not row else -sum(row) / len(row)
            for reward, row in zip(rewards, own, strict=True)
        ]
        scores = standardised(surprise, surprise)
        made.append([a * (1 - alpha * w) for a, w in zip(values, scores, strict=True)])
    return naive_loss(now, old, each_token(made, lengths), sequence_mean(lengths), clipped(0.8, 1.2))


@pytest.mark.parametrize("seeds", SEEDS)
def test_it_is_the_formula_as_loops(seeds: range) -> None:
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        found = take_step(load("perplexity", alpha=0.3), batch, logprobs)
        assert_same_step(found, *naive(batch, logprobs, 0.3), batch.mask)


def test_without_strength_it_is_grpo_and_it_has_no_default() -> None:
    batch = random_batch(1)
    assert torch.equal(load("perplexity", alpha=0.0).advantages(batch).values, load("grpo").advantages(batch).values)
    with pytest.raises(ConfigError, match="alpha"):
        methods.load(Choice(name="perplexity"))
