import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    SEEDS,
    Table,
    assert_formula,
    batch_of,
    columns,
    lengths_of,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, naive_loss, sequence_mean


def answered() -> RolloutBatch:
    """The answers have probabilities 0.5 * 0.2, 0.4 and 0.9 * 1; the first completion gives an answer of its own."""
    batch = batch_of([[1.0, 0.0, 0.0]], [[0.5] * 3, [0.5], [0.5]])
    answers = [[0.5, 0.2], [0.4], [0.9, 1.0]]
    known = torch.tensor([[True, True], [True, False], [True, True]])
    return replace(
        batch,
        token_texts=(("so", "<answer>", "4"), ("a",), ("a",)),
        answer_logprobs=columns([[math.log(p) for p in row] for row in answers]),
        answer_mask=known,
    )


@pytest.mark.parametrize(
    ("form", "rewards"),
    [
        ("log_prob", [math.log(0.1), math.log(0.4), math.log(0.9)]),
        ("mean_log_prob", [math.log(0.1) / 2, math.log(0.4), math.log(0.9) / 2]),
        ("prob", [0.1, 0.4, 0.9]),
        ("mean_prob", [0.35, 0.4, 0.95]),
    ],
)
def test_by_hand(form: str, rewards: list[float]) -> None:
    method = load("likelihood", form=form)
    assert method.module.shape_reward(answered(), method.params)[0].tolist() == pytest.approx(rewards, abs=1e-6)
    made = method.advantages(answered())
    expected = [r - (sum(rewards) - r) / 2 for r in rewards]  # against the mean of the two others
    assert made.values[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert made.stats["likelihood/reward"].value == pytest.approx(sum(rewards) / 3)


def test_the_answer_that_the_model_gave_is_not_trained_on() -> None:
    batch = answered()
    found = take_step(load("likelihood"), batch, batch.old_logprobs)
    assert found.gradient[0, :2].all()
    assert not found.gradient[0, 2]
    plain = take_step(load("likelihood", after=None), batch, batch.old_logprobs)
    assert plain.gradient[0].all()


def test_it_asks_for_texts_only_where_it_looks_for_a_mark() -> None:
    assert load("likelihood").needs == {"answer_logprobs", "token_texts"}
    assert load("likelihood", after=None).needs == {"answer_logprobs"}
    assert load("likelihood").answer_after == "<answer>"
    assert load("grpo").answer_after is None


def naive(batch: RolloutBatch, logprobs: torch.Tensor, form: str) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    answers = tokens_of(batch.answer_logprobs, batch.answer_mask.sum(dim=1).tolist())
    rewards = []
    for row in answers:
        if form == "mean_prob":
            rewards.append(sum(math.exp(log) for log in row) / len(row))
        else:
            rewards.append(sum(row) if form == "log_prob" else math.exp(sum(row)))
    group = batch.rewards.shape[1]
    flat = []
    for n, reward in enumerate(rewards):
        first = n // group * group
        others = [rewards[m] for m in range(first, first + group) if m != n]
        flat.append(reward - sum(others) / len(others))
    kept = []
    for texts in batch.token_texts:
        spelled, end = "", len(texts)
        for t, text in enumerate(texts):
            spelled += text
            if "<answer>" in spelled:
                end = t + 1
                break
        kept.append(end)
    now, old = (tokens_of(each, kept) for each in (logprobs, batch.old_logprobs))
    advantages = [[a] * end for a, end in zip(flat, kept, strict=True)]
    loss, gradient = naive_loss(now, old, advantages, sequence_mean(kept), clipped(0.8, 1.2))
    return loss, [[*row, *[0.0] * (length - len(row))] for row, length in zip(gradient, lengths, strict=True)]


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("form", ["log_prob", "prob", "mean_prob"])
def test_it_is_the_formula_as_loops(form: str, seeds: range) -> None:
    assert_formula(load("likelihood", form=form), partial(naive, form=form), seeds)
