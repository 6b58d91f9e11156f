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
    rewards_of,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, naive_grpo, naive_loss, sequence_mean


@pytest.mark.parametrize(
    ("step", "drifts"),
    [
        # log-ratios 1 2 3 4 5: sums from each token on 15 14 12 9 5
        (1, [15, 14, 12, 9, 5]),
        # steps of two end at the second, fourth and last token
        (2, [14, 14, 9, 9, 5]),
        (3, [12, 12, 12, 5, 5]),
        (9, [5, 5, 5, 5, 5]),
    ],
)
def test_by_hand(step: int, drifts: list[int]) -> None:
    batch = batch_of([[1.0, 0.0]], [[0.5] * 5, [0.5]])
    ref = torch.where(batch.mask, batch.old_logprobs - columns([[1.0, 2, 3, 4, 5], [0.0]]), 0.0)
    made = load("prl", eta=10.0, step_tokens=step, eps=0.0).advantages(
        RolloutBatch(**{n: getattr(batch, n) for n in batch.__dataclass_fields__} | {"ref_logprobs": ref})
    )
    expected = [0.7071068 - drift / 10 for drift in drifts]
    assert made.tokens[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert made.tokens[1].tolist() == pytest.approx([-0.7071068, 0, 0, 0, 0], abs=1e-5)


def test_steps_that_are_lines_by_hand() -> None:
    # sums from each token on 15 14 12 9 5; lines end with the second and the fourth token, which is blank
    batch = batch_of([[1.0, 0.0]], [[0.5] * 5, [0.5]])
    ref = torch.where(batch.mask, batch.old_logprobs - columns([[1.0, 2, 3, 4, 5], [0.0]]), 0.0)
    batch = replace(batch, ref_logprobs=ref, token_texts=(("a", "b\n", "c\n", "\n", "d"), ("a",)))
    made = load("prl", eta=10.0, steps="lines", eps=0.0).advantages(batch)
    expected = [0.7071068 - drift / 10 for drift in (14, 14, 9, 9, 5)]
    assert made.tokens[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert load("prl").needs == {"ref_logprobs"}


def naive(batch: RolloutBatch, logprobs: torch.Tensor, eta: float, step: int) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    now, old, ref = (tokens_of(each, lengths) for each in (logprobs, batch.old_logprobs, batch.ref_logprobs))
    flat = [a for row in naive_grpo(rewards_of(batch)) for a in row]
    judged = batch.judged.flatten().tolist()
    advantages = []
    for n, row in enumerate(old):
        made = []
        for t in range(len(row)):
            end = min((t // step + 1) * step, len(row)) - 1
            drift = sum(row[s] - ref[n][s] for s in range(end, len(row)))
            made.append(flat[n] - drift / eta if judged[n] else 0.0)
        advantages.append(made)
    return naive_loss(now, old, advantages, sequence_mean(lengths), clipped(0.8, 1.2))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("eta", "step"), [(3.0, 1), (10.0, 2)])
def test_it_is_the_formula_as_loops(eta: float, step: int, seeds: range) -> None:
    assert_formula(load("prl", eta=eta, step_tokens=step), partial(naive, eta=eta, step=step), seeds)
