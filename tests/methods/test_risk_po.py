import math
from dataclasses import replace

import pytest
import torch

from progrpo.errors import ConfigError
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
from stand_ins.naive_methods import clipped, each_token, naive_loss, token_mean

PLAIN = {"scale": "none", "credit": "uniform", "eps": 0.0}


def tracked(rewards: Table, quantiles: list[float] | None = None, **settings: object):
    batch = batch_of(rewards, [[0.5]] * sum(map(len, rewards)))
    state = {} if quantiles is None else {"quantiles": quantiles}
    return load("risk_po", **{"bundle": 2, **settings}).advantages(replace(batch, state=state))


def test_by_hand() -> None:
    # two problems, papers of 2, 1 and 0. Levels 0.25 and 0.75, quantiles 0.5 and 1.5, w = 1.
    # S = 2: RVaR (1.5 - 0.5 - 1)/0.5 = 0, CVaR 0; S = 1: (0.5 - 0 - 1)/0.5 = -1, 0; S = 0: -1/0.5 = -2, -0.5/0.25 = -2.
    made = tracked([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [0.5, 1.5], level_low=0.25, level_high=0.75, omega=1.0, **PLAIN)
    assert made.values.tolist() == [[pytest.approx(value, abs=1e-6) for value in (0.0, -0.5, -2.0)]] * 2
    # papers 2 1 0: a third lies below 0.5, two thirds below 1.5: q + 0.1 (level - share)
    assert made.state["quantiles"] == pytest.approx([0.5 + 0.1 * (0.25 - 1 / 3), 1.5 + 0.1 * (0.75 - 2 / 3)])


def test_credit_by_hand() -> None:
    # rewards of the third paper 0 and 0: apart from their means 2/3 and 1/3 by -2/3 and -1/3: shares 2/3 and 1/3 of -2
    settings = {"level_low": 0.25, "level_high": 0.75, "omega": 1.0, "scale": "none", "eps": 0.0}
    rewards = [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    shared = tracked(rewards, [0.5, 1.5], credit="sum_mean", **settings).values
    assert shared[:, 2].tolist() == pytest.approx([-4 / 3, -2 / 3], abs=1e-6)
    # 1/3 - 1/3 = 0: halves
    assert shared[:, 1].tolist() == pytest.approx([-0.25, -0.25], abs=1e-6)
    # both problems have a deviation of 0.57735
    divided = tracked(rewards, [0.5, 1.5], credit="std", **settings).values
    assert divided[:, 2].tolist() == pytest.approx([-2 / 0.57735] * 2, abs=1e-4)


def test_the_first_rollout_is_held_against_its_own_quantiles() -> None:
    # papers 2 1 0: quantiles of 0.25 and 0.75 are 0.5 and 1.5
    settings = {"level_low": 0.25, "level_high": 0.75, "omega": 1.0, **PLAIN}
    rewards = [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    made = tracked(rewards, **settings)
    assert torch.equal(made.values, tracked(rewards, [0.5, 1.5], **settings).values)
    assert made.state["quantiles"] == pytest.approx([0.5, 1.5])


def naive(batch: RolloutBatch, quantiles: list[float], settings: dict) -> Table:
    rewards, group = rewards_of(batch), batch.rewards.shape[1]
    filled = []
    for row in rewards:
        known = [r for r in row if not math.isnan(r)]
        filled.append([(sum(known) / len(known) if known else 0.0) if math.isnan(r) else r for r in row])

    def deviation(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))

    low, high = quantiles
    made = [[0.0] * group for _ in rewards]
    for first in range(0, len(rewards), 2):
        own = filled[first : first + 2]
        papers = [sum(row[g] for row in own) for g in range(group)]
        for g, score in enumerate(papers):
            rvar = (max(score - low, 0) - max(score - high, 0) + low - high) / (0.9 - 0.2 + 1e-6)
            cvar = -max(low - score, 0) / (0.2 + 1e-6)
            paper = (1.5 * cvar + rvar) / 2.5
            if settings.get("scale", "std") == "std":
                paper /= (apart_by if (apart_by := deviation(papers)) >= 1e-3 else 1.0) + 1e-6
            apart = [row[g] - sum(row) / group for row in own]
            for b, row in enumerate(own):
                spread = deviation(row)
                share = {
                    "uniform": 1.0,
                    "std": 1 / ((spread if spread > 1e-3 else 1.0) + 1e-6),
                    "sum_mean": apart[b] / sum(apart) if abs(sum(apart)) > 1e-6 else 1 / len(own),
                }[settings["credit"]]
                if not math.isnan(rewards[first + b][g]):
                    made[first + b][g] = paper * share
    return made


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    "settings", [{"credit": "std"}, {"credit": "sum_mean", "scale": "none"}, {"credit": "uniform"}]
)
def test_it_is_the_formula_as_loops(settings: dict, seeds: range) -> None:
    for seed in seeds:
        draw = torch.Generator().manual_seed(seed)
        batch = random_batch(seed)
        # no two papers alike: their deviation is divided by
        batch = replace(
            batch,
            rewards=batch.rewards + torch.rand(batch.rewards.shape, generator=draw),
            state={"quantiles": [0.4, 1.6]},
        )
        logprobs, lengths = drifted(batch, seed, 0.3), lengths_of(batch)
        expected = naive_loss(
            tokens_of(logprobs, lengths),
            tokens_of(batch.old_logprobs, lengths),
            each_token(naive(batch, [0.4, 1.6], settings), lengths),
            token_mean(lengths, [True] * len(lengths)),
            clipped(0.8, 1.2),
        )
        found = take_step(load("risk_po", bundle=2, **settings), batch, logprobs)
        assert_same_step(found, *expected, batch.mask)


def test_settings() -> None:
    with pytest.raises(ConfigError, match=r"level_low=0\.9 is not below level_high=0\.9"):
        load("risk_po", level_low=0.9)


def test_papers_that_are_all_alike_are_not_scaled() -> None:
    # Both problems unsolved: papers of 0. Levels 0.25 and 0.75, quantiles 0.5 and 1.5 of earlier rollouts, w = 1: -2 as in
    # the first test, and there is no deviation to divide by.
    settings = {"level_low": 0.25, "level_high": 0.75, "omega": 1.0, "eps": 1e-6}
    for credit in ("std", "uniform"):
        made = tracked([[0.0] * 3] * 2, [0.5, 1.5], credit=credit, **settings)
        assert made.values.flatten().tolist() == pytest.approx([-2.0] * 6, abs=1e-4)
    # One problem solved and one not: papers of 1, -0.5.
    made = tracked([[1.0] * 3, [0.0] * 3], [0.5, 1.5], **settings)
    assert made.values.flatten().tolist() == pytest.approx([-0.5] * 6, abs=1e-4)
    # The released code divides by 0 + eps, which earlier quantiles would show; it holds papers against their own: 0/(0 + eps).
    made = tracked([[0.0] * 3] * 2, [0.5, 1.5], preset="released", track="track", **settings)
    assert made.values.flatten().tolist() == pytest.approx([-2e6] * 6, rel=1e-3)
    made = tracked([[0.0] * 3] * 2, [0.5, 1.5], preset="released", **settings)
    assert made.values.flatten().tolist() == [0.0] * 6
