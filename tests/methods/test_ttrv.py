import math
from collections import Counter

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
    SEEDS,
    Table,
    assert_same_step,
    batch_of,
    drifted,
    lengths_of,
    random_batch,
    take_step,
    tokens_of,
    verdicts_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_mean


def test_by_hand() -> None:
    # answers a a b and none of four: shares 1/2 1/2 1/4 0, mean 5/16
    rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    batch = batch_of(rewards.tolist(), [[0.5]] * 4, verdicts=verdicts_of(rewards, [["a", "a", "b", None]]))
    made = load("ttrv", scale="none").advantages(batch).values[0].tolist()
    assert made == pytest.approx([3 / 16, 3 / 16, -1 / 16, -5 / 16])


def test_what_was_not_judged_has_no_vote() -> None:
    rewards = torch.tensor([[0.0, NAN, 1.0]])
    batch = batch_of(rewards.tolist(), [[0.5]] * 3, verdicts=verdicts_of(rewards, [["a", "b", "b"]]))
    made = load("ttrv", scale="none").advantages(batch).values[0].tolist()
    assert made == [0.0, 0.0, 0.0]  # a half each


def naive(batch: RolloutBatch, logprobs: torch.Tensor) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    rows = []
    for verdicts in batch.verdicts:
        votes = Counter(v.extracted for v in verdicts if not v.failed)
        rows.append([math.nan if v.failed else votes[v.extracted] / sum(votes.values()) for v in verdicts])
    now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
    return naive_loss(now, old, each_token(naive_grpo(rows), lengths), sequence_mean(lengths), clipped(0.8, 1.2))


@pytest.mark.parametrize("seeds", SEEDS)
def test_it_is_the_formula_as_loops(seeds: range) -> None:
    for seed in seeds:
        batch = random_batch(seed, group=4)
        logprobs = drifted(batch, seed, 0.3)
        assert_same_step(take_step(load("ttrv"), batch, logprobs), *naive(batch, logprobs), batch.mask)
