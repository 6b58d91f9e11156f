from dataclasses import replace
from functools import partial

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
    SEEDS,
    Table,
    assert_formula,
    batch_of,
    columns,
    lengths_of,
    rewards_of,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, naive_grpo, naive_loss, sequence_mean


def rewards(batch: RolloutBatch, **settings: object) -> list[float]:
    method = load("pear", **settings)
    return method.module.shape_reward(batch, method.params)[0].tolist()


def marked() -> RolloutBatch:
    """Right with a mark over two tokens; right without one; right with a surer thinking than answer; wrong; lost."""
    texts = (("a", "b", "</th", "ink>", "c"), ("a", "b"), ("a", "</think>", "b"), ("a", "</think>"), ("a",))
    entropies = [[0.6, 0.2, 9.0, 9.0, 0.1], [0.3, 0.5], [0.1, 9.0, 0.4], [0.9, 9.0], [0.7]]
    batch = batch_of([[1.0, 1.0, 1.0, 0.0, NAN]], [[0.5] * len(row) for row in texts])
    return replace(batch, entropies=columns(entropies), token_texts=texts)


def test_by_hand() -> None:
    # 0.4 - 0.1; 0.4 - 0; 0.1 - 0.4, which is no bonus; the mark's own entropies count nowhere
    assert rewards(marked()) == pytest.approx([0.7, 0.6, 1.0, 0.0, NAN], nan_ok=True)
    # 0.4 - 2 * 0.1
    assert rewards(marked(), alpha=2.0)[0] == pytest.approx(0.8)
    assert rewards(marked(), alpha=0.0)[:3] == pytest.approx([0.6, 0.6, 0.9])
    # "b" ends the thinking: 0.6 against the mean of 9, 9, 0.1
    assert rewards(marked(), mark="b", alpha=0.01)[0] == pytest.approx(1 - (0.6 - 0.01 * 18.1 / 3))
    made = load("pear").advantages(marked())
    assert made.stats["pear/penalty"].value == pytest.approx(0.7 / 3)


def test_a_reward_is_at_most_one_and_a_wrong_one_is_left_alone() -> None:
    batch = marked()
    batch = replace(batch, rewards=torch.tensor([[1.5, 1.5, 1.5, 0.2, NAN]]))
    assert rewards(batch) == pytest.approx([1.0, 1.0, 1.0, 0.2, NAN], nan_ok=True)


def naive(batch: RolloutBatch, logprobs: torch.Tensor, alpha: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    now, old, entropies = (tokens_of(each, lengths) for each in (logprobs, batch.old_logprobs, batch.entropies))
    right = (batch.correct & batch.judged).flatten().tolist()
    shaped = [r for row in rewards_of(batch) for r in row]
    for n, texts in enumerate(batch.token_texts):
        if not right[n]:
            continue
        thinking, answer, spelled = list(entropies[n]), [], ""
        for t, text in enumerate(texts):
            spelled += text
            if text == "</think>":  # in these batches a token of its own
                thinking, answer = entropies[n][:t], entropies[n][t + 1 :]
                break
        mean = [sum(part) / len(part) if part else 0.0 for part in (thinking, answer)]
        shaped[n] = min(1.0, shaped[n] - max(0.0, mean[0] - alpha * mean[1]))
    group = batch.rewards.shape[1]
    table = [shaped[first : first + group] for first in range(0, len(shaped), group)]
    advantages = [
        [a] * length for a, length in zip([a for row in naive_grpo(table) for a in row], lengths, strict=True)
    ]
    return naive_loss(now, old, advantages, sequence_mean(lengths), clipped(0.8, 1.2))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_it_is_the_formula_as_loops(alpha: float, seeds: range) -> None:
    assert_formula(load("pear", alpha=alpha), partial(naive, alpha=alpha), seeds)
