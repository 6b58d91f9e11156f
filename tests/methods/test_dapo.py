import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins.method_steps import make_case, random_case, require_close, require_same, split, take_step
from stand_ins.naive_methods import for_all_tokens, group_relative, overlong, surrogate_loss

Make = Callable[..., RolloutBatch]


def test_clip_higher_and_group_tokens(rollout_batch: Make) -> None:
    method = methods.load(Choice(name="dapo"))
    assert (method.params.clip_low, method.params.clip_high) == (0.2, 0.28)
    # groups of 3 and 9 tokens, P = 2: 1/(2*3) and 1/(2*9)
    weights = method.weights(torch.tensor([[1, 2], [4, 5]]), 10)
    assert weights.flatten().tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 18, 1 / 18])
    batch = rollout_batch()
    grpo = methods.load(Choice(name="grpo"))
    assert torch.equal(method.advantages(batch).values, grpo.advantages(batch).values)


def test_the_loss_by_hand() -> None:
    # One group, one right and one wrong: A = +-0.5/sqrt(0.5) = +-0.7071 (up to eps); 3 tokens, so 1/3 each.
    # Ratios 1.25 (within 1.28), 1.5 (clipped to 1.28) for A > 0; 0.5 (clipped to 0.8) for A < 0:
    #   J = 0.7071/3 (1.25 + 1.28 - 0.8) = 0.7071 * 0.57667;   slope of the first token: 0.7071 * 1.25/3, else 0
    old = [[-1.0, -2.0], [-1.5]]
    now = [[-1.0 + math.log(1.25), -2.0 + math.log(1.5)], [-1.5 + math.log(0.5)]]
    taken = take_step(methods.load(Choice(name="dapo", eps=0.0)), make_case(2, [1.0, 0.0], old, now=now))
    assert taken.loss == pytest.approx(-math.sqrt(0.5) * (1.25 + 1.28 - 0.8) / 3)
    require_close(taken.gradient, [[-math.sqrt(0.5) * 1.25 / 3, 0.0], [0.0]])


def test_the_overlong_penalty_by_hand(rollout_batch: Make) -> None:
    # limit 10, buffer 4: nothing up to 6 tokens, then a quarter more for each, the whole from the limit on
    method = methods.load(Choice(name="dapo", limit_tokens=10, buffer_tokens=4, scale="none"))
    batch = replace(
        rollout_batch(),
        lengths=torch.tensor([[1, 6, 7], [9, 10, 11]]),
        rewards=torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]),
    )
    shaped = method.module.shape_reward(batch, method.params)
    assert shaped.flatten().tolist() == [1.0, 1.0, 0.75, -0.75, 0.0, 0.0]
    assert batch.rewards.flatten().tolist() == [1.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    # the advantages are centred on the mean of what the penalty leaves: 2.75/3 and -0.25
    made = method.advantages(batch).values
    assert made[0].tolist() == pytest.approx([0.25 / 3, 0.25 / 3, -0.5 / 3])
    assert made[1].tolist() == pytest.approx([-0.5, 0.25, 0.25])


def test_the_penalty_is_eq_13_as_three_cases(rollout_batch: Make) -> None:
    for limit, buffer in ((10, 4), (7, 7), (5, 1), (20480, 4096)):
        method = methods.load(Choice(name="dapo", limit_tokens=limit, buffer_tokens=buffer))
        lengths = torch.tensor([[limit - buffer, limit - buffer + 1, limit - 1], [limit, limit + 1, 3 * limit]])
        batch = replace(rollout_batch(), lengths=lengths)
        shaped = method.module.shape_reward(batch, method.params) - batch.rewards
        expected = [overlong(length, limit=limit, buffer=buffer) for length in lengths.flatten().tolist()]
        assert shaped.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_a_completion_without_a_verdict_keeps_none(rollout_batch: Make) -> None:
    method = methods.load(Choice(name="dapo", limit_tokens=2, buffer_tokens=1))
    batch = rollout_batch(rewards=torch.tensor([[1.0, float("nan"), 0.0], [1.0, 1.0, 1.0]]))
    assert method.module.shape_reward(batch, method.params)[0, 1].isnan()
    assert method.advantages(batch).values[0, 1] == 0.0


def test_with_dynamic_sampling_groups_that_fill_up_are_not_trained_on(rollout_batch: Make) -> None:
    # The second group is all correct: by the penalty of its second completion it has advantages, but no part in the loss.
    settings = {"limit_tokens": 10, "buffer_tokens": 4, "aggregate": "group_token"}
    batch = replace(
        rollout_batch(rewards=torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])),
        lengths=torch.tensor([[1, 1, 1], [1, 10, 1]]),
    )
    assert batch.correct.tolist() == [[True, False, False], [True, True, True]]
    once = methods.load(Choice(name="dapo", **settings)).advantages(batch)
    assert bool(once.values[1].abs().min() > 0.1)
    assert bool(once.keep.all())
    method = methods.load(Choice(name="dapo", max_rounds=3, **settings))
    made = method.advantages(batch)
    assert made.keep.tolist() == [[True] * 3, [False] * 3]
    assert torch.equal(made.values[0], once.values[0])
    assert made.values[1].tolist() == [0.0, 0.0, 0.0]
    # One group is left: 1/(1 * 3), not 1/(2 * 3).
    assert method.weights(batch.lengths, 10, made.keep).flatten().tolist() == pytest.approx([1 / 3] * 3 + [0.0] * 3)


def test_without_a_limit_there_is_no_penalty(rollout_batch: Make) -> None:
    batch = rollout_batch(lengths=torch.full((2, 3), 10**6))
    method = methods.load(Choice(name="dapo"))
    assert torch.equal(method.module.shape_reward(batch, method.params), batch.rewards)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit_tokens": 10}, "give both or neither"),
        ({"buffer_tokens": 10}, "give both or neither"),
        ({"limit_tokens": 10, "buffer_tokens": 11}, "buffer_tokens=11 exceeds limit_tokens=10"),
        ({"limit_tokens": 0, "buffer_tokens": 0}, "limit_tokens"),
        ({"max_rounds": 0}, "max_rounds"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        methods.load(Choice(name="dapo", **given))


@pytest.mark.parametrize("penalty", [{}, {"limit_tokens": 4, "buffer_tokens": 3}])
def test_it_is_eq_8_written_as_loops(penalty: dict[str, int]) -> None:
    method = methods.load(Choice(name="dapo", **penalty))
    for seed in range(30):
        case = random_case(seed)
        rewards = list(case.rewards)
        if penalty:
            rewards = [
                # as the trainer has it: a reward is a float32 number
                float(torch.tensor(reward) + overlong(len(row), limit=4, buffer=3))
                for reward, row in zip(rewards, case.now, strict=True)
            ]
        advantages = for_all_tokens(case, group_relative(rewards, case.group))
        taken = take_step(method, case)
        require_same(taken, surrogate_loss(case, advantages, low=0.2, high=0.28, how="group_token"), case)
        require_close(take_step(method, case, parts=split(case)).gradient, taken.gradient)


def test_with_grpo_s_settings_it_is_grpo() -> None:
    own = methods.load(Choice(name="dapo", clip_high=0.2, aggregate="sequence"))
    grpo = methods.load(Choice(name="grpo"))
    for seed in range(10):
        case = random_case(seed)
        one, other = take_step(own, case), take_step(grpo, case)
        assert one.loss == other.loss
        assert one.gradient == other.gradient
