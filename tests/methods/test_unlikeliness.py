import math

import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from stand_ins.batch_steps import (
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
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_mean


def load(**settings: object) -> Method:
    return methods.load(Choice(name="unlikeliness", **settings))


def test_by_hand() -> None:
    # Mean log-probs -0.2 -0.9 -0.1 -0.5: ranks 2 0 3 1 of G = 4; rewards 1 1 0 1 become 1 - 0.25 * 2/4 = 0.875, 1, 0,
    # 1 - 0.25/4 = 0.9375; mean 0.70313, sample std 0.47152
    batch = batch_of(
        [[1.0, 1.0, 0.0, 1.0]],
        [[math.exp(-0.2)], [math.exp(-1.0), math.exp(-0.8)], [math.exp(-0.1)], [math.exp(-0.5)]],
    )
    found = load(eps=0.0).advantages(batch).values[0].tolist()
    assert found == pytest.approx([0.36451, 0.62961, -1.49119, 0.49706], abs=1e-5)


def test_equally_likely_completions_have_the_mean_of_their_ranks() -> None:
    # ranks 0.5 0.5 2: rewards 1 - 0.3 * 0.5/3 = 0.95 twice and 0.8
    batch = batch_of([[1.0, 1.0, 1.0]], [[0.2], [0.2], [0.9]])
    found = load(beta=0.3, scale="none").advantages(batch).values[0].tolist()
    assert found == pytest.approx([0.05, 0.05, -0.1], abs=1e-6)


def test_a_group_of_correct_completions_trains_at_full_strength() -> None:
    # ranks 2 1 0 whatever beta: three equal distances, over their sample std: -1 0 1
    batch = batch_of([[1.0, 1.0, 1.0]], [[0.9], [0.5], [0.2]])
    for beta in (0.01, 0.25, 1.0):
        assert load(beta=beta, eps=0.0).advantages(batch).values[0].tolist() == pytest.approx([-1, 0, 1], abs=1e-4)


def test_groups_of_one_kind_are_left_alone_as_released() -> None:
    # the same group, and one with a wrong completion as likely as the second: ranks 2, 0.5, 0.5 of the likeliest first, the
    # reward of 1 less 0.5 * 2/3
    batch = batch_of([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], [[0.9], [0.5], [0.2], [0.9], [0.5], [0.5]])
    released = load(beta=0.5, skip="degenerate", scale="none")
    assert released.advantages(batch).values.flatten().tolist() == pytest.approx([0, 0, 0, 4 / 9, -2 / 9, -2 / 9])
    always = load(beta=0.5, scale="none").advantages(batch).values
    assert torch.equal(always[1], released.advantages(batch).values[1])
    assert always[0].tolist() == pytest.approx([-1 / 6, 0, 1 / 6])
    # a completion without a verdict is of neither kind
    lost = batch_of([[1.0, 1.0, math.nan]], [[0.9], [0.5], [0.2]])
    assert released.advantages(lost).values[0].tolist() == [0, 0, 0]
    assert load(preset="released").params.skip == "degenerate"


def naive(batch, logprobs, *, beta: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    group, old = batch.rewards.shape[1], tokens_of(batch.old_logprobs, lengths)
    shaped = []
    for p, row in enumerate(rewards_of(batch)):
        means = {
            g: sum(old[p * group + g]) / len(old[p * group + g])
            for g, reward in enumerate(row)
            if not math.isnan(reward) and old[p * group + g]
        }
        shaped.append(
            [
                reward * (1 - beta * sum(other < means[g] for other in means.values()) / group)
                if g in means
                else reward
                for g, reward in enumerate(row)
            ]
        )
    acting = each_token(naive_grpo(shaped), lengths)
    return naive_loss(tokens_of(logprobs, lengths), old, acting, sequence_mean(lengths), clipped(0.8, 1.2))


@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_it_is_the_formula_as_loops(beta: float) -> None:
    for seed in range(30):
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        assert_same_step(take_step(load(beta=beta), batch, logprobs), *naive(batch, logprobs, beta=beta), batch.mask)


def test_beta_zero_is_grpo() -> None:
    for seed in range(10):
        batch = random_batch(seed)
        grpo = methods.load(Choice(name="grpo")).advantages(batch).values
        assert torch.equal(load(beta=0.0).advantages(batch).values, grpo)


def test_wrong_answers_are_not_ranked_where_their_reward_is_negative() -> None:
    # All wrong, however likely: nothing to learn. With the factor on -1 the likeliest would have the most.
    batch = batch_of([[-1.0, -1.0, -1.0]], [[0.9], [0.5], [0.2]])
    assert load(beta=1.0).advantages(batch).values.tolist() == [[0.0] * 3]
    # One right of rank 2: 1 - 2/3 = 1/3; mean of 1/3 -1 -1: -5/9
    batch = batch_of([[1.0, -1.0, -1.0]], [[0.9], [0.5], [0.2]])
    found = load(beta=1.0, scale="none").advantages(batch).values[0].tolist()
    assert found == pytest.approx([8 / 9, -4 / 9, -4 / 9], abs=1e-6)
