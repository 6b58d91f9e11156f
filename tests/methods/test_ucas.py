import math

import pytest
import torch

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
from stand_ins.naive_methods import clipped, naive_grpo, naive_loss, standardised, token_mean

A = 0.7071068


def test_by_hand() -> None:
    # Certainties 1 + 2 = 3 and 1: mean 2, deviation sqrt 2: +-0.70711. Logits 0 1 | 2: n = 0 1/2 1.
    # A e^(-0.25 0.70711) = 0.70711 0.837961 = 0.592530, then less 0 and 0.025; -A e^(-0.35 0.70711) = -0.552081, less 0.05
    batch = batch_of(
        [[1.0, 0.0]],
        [[0.5, 0.5], [0.5]],
        certainties=columns([[1.0, 2.0], [1.0]]),
        raw_logits=columns([[0.0, 1.0], [2.0]]),
    )
    tokens = load("ucas", eps=0.0).advantages(batch).tokens
    assert tokens.tolist()[0] == pytest.approx([0.592530, 0.567530], abs=1e-5)
    assert float(tokens[1, 0]) == pytest.approx(-0.602081, abs=1e-5)
    # the mean of the first is 1.5, of the second 1: the same signs, the same standard scores
    assert torch.equal(load("ucas", eps=0.0, certainty="mean").advantages(batch).tokens[0] > 0.5, tokens[0] > 0.5)


def test_certainty_is_standardised_whatever_the_rewards_are() -> None:
    # centred rewards 0.5 and -0.5; certainties 1000 and 0, standardised +-0.70711 all the same, not +-500
    batch = batch_of([[1.0, 0.0]], [[0.5], [0.5]], certainties=columns([[1000.0], [0.0]]))
    found = load("ucas", eps=0.0, scale="none").advantages(batch).values[0].tolist()
    assert found == pytest.approx([0.5 * math.exp(-0.25 * A), -0.5 * math.exp(-0.35 * A)], abs=1e-6)


def test_a_right_completion_is_pushed_down_nowhere() -> None:
    batch = batch_of(
        [[1.0, 0.0]],
        [[0.5, 0.5], [0.5]],
        certainties=columns([[1.0, 1.0], [2.0]]),
        raw_logits=columns([[0.0, 2.0], [2.0]]),
    )
    tokens = load("ucas", eps=0.0, gamma=3.0).advantages(batch).tokens
    assert tokens[0].tolist() == pytest.approx([A, 0.0], abs=1e-6)
    assert float(tokens[1, 0]) == pytest.approx(-A - 3)


def test_groups_without_an_advantage_are_pushed_down_unless_they_are_skipped() -> None:
    batch = batch_of(
        [[1.0, 1.0]],
        [[0.5], [0.5]],
        certainties=columns([[1.0], [2.0]]),
        raw_logits=columns([[0.0], [4.0]]),
    )
    tokens = load("ucas").advantages(batch).tokens
    assert tokens.flatten().tolist() == pytest.approx([0.0, -0.05], abs=1e-6)
    assert not load("ucas", skip="degenerate").advantages(batch).tokens.any()


def naive(batch: RolloutBatch, logprobs: torch.Tensor, certainty: str, skip: str) -> tuple[float, Table]:
    lengths, group = lengths_of(batch), batch.rewards.shape[1]
    now, old, each, logits = (
        tokens_of(values, lengths) for values in (logprobs, batch.old_logprobs, batch.certainties, batch.raw_logits)
    )
    flat = [value for row in logits for value in row]
    least, most = min(flat), max(flat)
    advantages: Table = []
    for p, (row, values) in enumerate(zip(rewards_of(batch), naive_grpo(rewards_of(batch)), strict=True)):
        totals = []
        for g, reward in enumerate(row):
            own = each[p * group + g]
            total = sum(own) / (len(own) if certainty == "mean" and own else 1)
            totals.append(math.nan if math.isnan(reward) or not own else total)
        scores = standardised(totals, totals)
        for g, (plain, score) in enumerate(zip(values, scores, strict=True)):
            n = p * group + g
            a = plain * (math.exp(-0.25 * score) if plain > 0 else math.exp(0.35 * score))
            acting = not math.isnan(row[g]) and (skip == "never" or any(values))
            made = []
            for value in logits[n]:
                held = a - 0.05 * (value - least) / (most - least + 1e-6)
                made.append((max(held, 0.0) if a > 0 else held) if acting else a)
            advantages.append(made)
    weights = token_mean(lengths, [True] * len(lengths))
    return naive_loss(now, old, advantages, weights, clipped(0.8, 1.2))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("certainty", "skip"), [("sum", "never"), ("mean", "degenerate")])
def test_it_is_the_formula_as_loops(certainty: str, skip: str, seeds: range) -> None:
    method = load("ucas", certainty=certainty, skip=skip)
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        assert_same_step(take_step(method, batch, logprobs), *naive(batch, logprobs, certainty, skip), batch.mask)
