import math
from collections import Counter

import pytest
import torch

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
    verdicts_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_mean, standardised

A = 0.7071068


def test_by_hand() -> None:
    # Groups of two: a b, half right, one bit apart; a a, all right. lambda = (1 - 1/2)/1 = 1/2: R = 1/2 1/2 = 1/4 and 1:
    # -+0.70711. The first has w = sigmoid(1 - 0.5) = 0.622459, the second 0.
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    batch = batch_of(rewards.tolist(), [[0.5]] * 4, verdicts=verdicts_of(rewards, [["a", "b"], ["a", "a"]]))
    found = take_step(load("copo", eps=0.0), batch, batch.old_logprobs)
    w = 0.622459
    expected = [w * A - (1 - w) * A, -w * A - (1 - w) * A, A, A]
    assert found.gradient.flatten().tolist() == pytest.approx([-value / 4 for value in expected], abs=1e-6)


def naive(batch: RolloutBatch, logprobs: torch.Tensor) -> tuple[float, Table]:
    lengths, group = lengths_of(batch), batch.rewards.shape[1]
    entropies, levels = [], []
    for verdicts, rewards in zip(batch.verdicts, rewards_of(batch), strict=True):
        votes = Counter(v.extracted for v in verdicts if not v.failed)
        total = sum(votes.values())
        entropies.append(-sum(n / total * math.log2(n / total) for n in votes.values()))
        known = [r for r in rewards if not math.isnan(r)]
        slope = (1 - 1 / group) / math.log2(group)
        levels.append(sum(known) / len(known) * (1 - slope * entropies[-1]) if known else math.nan)
    among = standardised(levels, levels)
    local = naive_grpo(rewards_of(batch))
    own = [1 / (1 + math.exp(0.5 - e)) if any(values) else 0.0 for e, values in zip(entropies, local, strict=True)]
    now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
    loss, gradient = 0.0, [[0.0] * length for length in lengths]
    for share, values in (
        (own, local),
        (
            [1 - w for w in own],
            [
                [0.0 if math.isnan(r) else a for r in rewards]
                for a, rewards in zip(among, rewards_of(batch), strict=True)
            ],
        ),
    ):
        scaled = [[w * a for a in row] for w, row in zip(share, values, strict=True)]
        part, slopes = naive_loss(now, old, each_token(scaled, lengths), sequence_mean(lengths), clipped(0.8, 1.2))
        loss += part
        gradient = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(gradient, slopes, strict=True)]
    # (1 - w) A_p also of a completion without a verdict would be a fault: it has neither
    return loss, gradient


@pytest.mark.parametrize("seeds", SEEDS)
def test_it_is_the_formula_as_loops(seeds: range) -> None:
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        assert_same_step(take_step(load("copo"), batch, logprobs), *naive(batch, logprobs), batch.mask)


def test_disagreement_of_wrong_answers_earns_nothing_where_their_reward_is_negative() -> None:
    # Two problems, all wrong: one with two answers, one of one opinion. Both have the mean -1, so that neither stands out.
    rewards = torch.tensor([[-1.0, -1.0], [-1.0, -1.0]])
    batch = batch_of(rewards.tolist(), [[0.5]] * 4, verdicts=verdicts_of(rewards, [["a", "b"], ["a", "a"]]))
    assert not take_step(load("copo"), batch, batch.old_logprobs).gradient.any()
