import math
from dataclasses import replace

import pytest
import torch

from progrpo.types import RolloutBatch, Status
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
from stand_ins.naive_methods import clipped, each_token, naive_loss, token_mean
from stand_ins.sampling import ScriptedGenerate, ScriptedProblems


def test_by_hand() -> None:
    # Rewards 1 0, two tokens and one: centred 1/2 -1/2; mean over tokens 1/6, variance (2 (1/3)^2 + (2/3)^2)/2 = 1/3:
    # 1/3 / 0.57735 and -2/3 / 0.57735, and 0.1 more for the right one
    batch = batch_of([[1.0, 0.0]], [[0.5, 0.5], [0.5]])
    made = load("dler").advantages(batch).values[0].tolist()
    assert made == pytest.approx([0.577350 + 0.1, -1.154701], abs=1e-5)


def test_what_is_cut_is_worth_a_tenth_and_earns_the_bonus_all_the_same() -> None:
    batch = batch_of([[1.0, 0.0]], [[0.5], [0.5]])
    cut = replace(batch, truncated=torch.tensor([[True, False]]))
    # 0.1 and 0: centred and whitened they are what 1 and 0 are, 1/2 / 0.70711 and the negative; the bonus goes by the 1
    for one in (batch, cut):
        assert load("dler").advantages(one).values[0].tolist() == pytest.approx([0.8071068, -0.7071068], abs=1e-4)
    # beside one that was not cut it is the worse one: 0.1 and 1, and the bonus for both
    cut = replace(batch_of([[1.0, 1.0]], [[0.5], [0.5]]), truncated=torch.tensor([[True, False]]))
    assert load("dler").advantages(cut).values[0].tolist() == pytest.approx([-0.6071068, 0.8071068], abs=1e-4)


def test_dynamic_sampling_wants_groups_whose_rewards_differ() -> None:
    batch = batch_of([[1.0, 0.0], [1.0, 1.0]], [[0.5]] * 4)
    assert load("dler").advantages(batch).keep.all()
    kept = load("dler", max_rounds=3)
    assert kept.advantages(batch).keep.tolist() == [[True, True], [False, False]]
    assert kept.rounds == 3
    # two right ones do not differ for one of them being cut
    cut = replace(batch, truncated=torch.tensor([[False, False], [True, False]]))
    assert kept.advantages(cut).keep.tolist() == [[True, True], [False, False]]
    # and what only fills up the batch is in no mean: the first group by itself, 1/2 / 0.70711 and the negative
    for one in (batch, cut):
        assert kept.advantages(one).values[0].tolist() == pytest.approx([0.8071068, -0.7071068], abs=1e-4)


@pytest.mark.parametrize(("failed", "rounds"), [("neutral", 2), ("wrong", 1)])
def test_dynamic_sampling_takes_a_failed_verdict_for_what_training_does(failed: str, rounds: int) -> None:
    def made(problem: str, number: int, prefix: list[int]) -> tuple[list[int], list[float], Status]:
        return [1], [1.0], "timeout" if number else "correct"

    generate = ScriptedGenerate(made, group=2)
    generate.failed = failed
    sampled = load("dler", max_rounds=2).sample(ScriptedProblems(1), generate)
    assert sampled.stats["rollout/rounds"].total == rounds


def naive(batch: RolloutBatch) -> Table:
    lengths, group = lengths_of(batch), batch.rewards.shape[1]
    cut = batch.truncated.tolist()
    rows, weighed = [], []
    for p, row in enumerate(rewards_of(batch)):
        shaped = [0.1 * r if cut[p][g] else r for g, r in enumerate(row)]
        known = [r for r in shaped if not math.isnan(r)]
        mean = sum(known) / len(known) if known else 0.0
        rows.append([(r, s - mean) for r, s in zip(row, shaped, strict=True)])
        weighed += [(r - mean, lengths[p * group + g]) for g, r in enumerate(shaped) if not math.isnan(r)]
    tokens = sum(length for _, length in weighed)
    mean = sum(a * length for a, length in weighed) / tokens
    variance = sum(length * (a - mean) ** 2 for a, length in weighed) / (tokens - 1)
    return [
        [0.0 if math.isnan(r) else (a - mean) / math.sqrt(variance + 1e-8) + 0.1 * (r >= 1) for r, a in row]
        for row in rows
    ]


@pytest.mark.parametrize("seeds", SEEDS)
def test_it_is_the_formula_as_loops(seeds: range) -> None:
    for seed in seeds:
        batch = random_batch(seed)
        batch = replace(batch, truncated=batch.lengths == batch.mask.shape[1])
        logprobs, lengths = drifted(batch, seed, 0.3), lengths_of(batch)
        expected = naive_loss(
            tokens_of(logprobs, lengths),
            tokens_of(batch.old_logprobs, lengths),
            each_token(naive(batch), lengths),
            token_mean(lengths, [True] * len(lengths)),
            clipped(0.8, 1.28),
        )
        assert_same_step(take_step(load("dler"), batch, logprobs), *expected, batch.mask)


def test_what_is_cut_and_wrong_gets_no_more_than_what_is_wrong() -> None:
    batch = batch_of([[-1.0, -1.0]], [[0.5], [0.5]])
    cut = replace(batch, truncated=torch.tensor([[True, False]]))
    assert load("dler").advantages(cut).values.tolist() == [[0.0, 0.0]]
    # 1 is cut to 0.1, -1 stays: rewards that differ as 1 and -1 do, and the bonus of the 1
    cut = replace(batch_of([[1.0, -1.0]], [[0.5], [0.5]]), truncated=torch.tensor([[True, True]]))
    assert load("dler").advantages(cut).values[0].tolist() == pytest.approx([0.8071068, -0.7071068], abs=1e-4)
