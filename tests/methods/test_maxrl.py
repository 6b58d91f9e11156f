import math

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
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
from stand_ins.naive_methods import clipped, each_token, naive_loss, sequence_mean


def values(rewards: Table, **settings: object) -> Table:
    batch = batch_of(rewards, [[0.5]] * sum(map(len, rewards)))
    return load("maxrl", **{"eps": 0.0, **settings}).advantages(batch).values.tolist()


def test_by_hand() -> None:
    # one of 8: 8 - 1 = 7; seven of 8: 8/7 - 1 = 1/7; a wrong one of a mixed group -1; unmixed groups 0
    one, seven, none, every = values([[1.0, *[0.0] * 7], [*[1.0] * 7, 0.0], [0.0] * 8, [1.0] * 8])
    assert one == pytest.approx([7.0, *[-1.0] * 7])
    assert seven == pytest.approx([*[1 / 7] * 7, -1.0])
    assert none == every == [0.0] * 8


def test_eps_and_completions_without_a_verdict() -> None:
    # mean 1/3 of the three that are judged: (2/3) / (1/3 + 1/6) and (-1/3) / (1/2)
    found = values([[1.0, 0.0, NAN, 0.0]], eps=1 / 6)[0]
    assert found == pytest.approx([4 / 3, -2 / 3, 0.0, -2 / 3])


def test_only_the_verdicts_count() -> None:
    # with rewards of 2 and -1 the mean of a half right group would be 1/2, and with 1 and -1 it would be 0
    batch = batch_of([[2.0, -1.0, 2.0, -1.0]], [[0.5]] * 4)
    assert load("maxrl").advantages(batch).values[0].tolist() == pytest.approx([1.0, -1.0, 1.0, -1.0], abs=1e-5)


def test_its_expected_gradient_is_the_series_of_log_pass_at_1() -> None:
    # Two answers, right with p = sigmoid(x): d log pi = 1 - p of a right draw, -p of a wrong one, and
    # d Pass@k = k (1-p)^(k-1) p (1-p); sum of the first G - 1 terms of 1/k of it
    for p, group in ((0.1, 4), (0.5, 3), (0.8, 6)):
        found = 0.0
        for right in range(group + 1):
            advantages = values([[1.0] * right + [0.0] * (group - right)])[0]
            slopes = [1 - p] * right + [-p] * (group - right)
            chance = math.comb(group, right) * p**right * (1 - p) ** (group - right)
            found += chance * sum(a * s for a, s in zip(advantages, slopes, strict=True)) / group
        expected = sum((1 - p) ** (k - 1) * p * (1 - p) for k in range(1, group))
        assert found == pytest.approx(expected, rel=1e-5)


def naive(batch: RolloutBatch, logprobs: torch.Tensor) -> tuple[float, Table]:
    made = []
    for row in rewards_of(batch):
        known = [r for r in row if not math.isnan(r)]
        mean = sum(known) / len(known) if known else 0.0
        mixed = 0 < mean < 1
        made.append([(r - mean) / (mean + 1e-6) if mixed and not math.isnan(r) else 0.0 for r in row])
    lengths = lengths_of(batch)
    now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
    return naive_loss(now, old, each_token(made, lengths), sequence_mean(lengths), clipped(0.8, 1.2))


def test_it_is_the_formula_as_loops() -> None:
    for seed in range(30):
        batch = random_batch(seed, group=4)
        logprobs = drifted(batch, seed, 0.3)
        assert_same_step(take_step(load("maxrl"), batch, logprobs), *naive(batch, logprobs), batch.mask)
