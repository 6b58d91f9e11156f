import math

import pytest
import torch

from progrpo import methods
from progrpo.settings import Choice
from stand_ins.method_steps import make_case, random_case, require_close, require_same, split, take_step
from stand_ins.naive_methods import reinforce

# Two problems of two completions. The sums of their log-probs are ln(1/2 * 1/4) = -ln 8, -ln 2, -ln 4 and -ln 2.
HALF, QUARTER = math.log(0.5), math.log(0.25)
OLD = [[HALF, QUARTER], [HALF], [QUARTER], [HALF]]
REWARDS = [1.0, 0.0, 1.0, -2.0]


def test_by_hand() -> None:
    # J = 1/4 (1 * -ln 8 + 0 + 1 * -ln 4 + -2 * -ln 2) = 1/4 (-3 - 2 + 2) ln 2 = -3/4 ln 2; dJ/dlogp = R/4
    taken = take_step(methods.load(Choice(name="reinforce")), make_case(2, REWARDS, OLD))
    assert taken.loss == pytest.approx(0.75 * math.log(2))
    assert taken.objective == taken.loss
    require_close(taken.gradient, [[-0.25, -0.25], [0.0], [-0.25], [0.5]])


def test_the_mean_baseline_by_hand() -> None:
    # the mean reward is 0: nothing changes; with a reward of 2 instead of -2 it is 1, so 0, -1, 0 and 1:
    # J = 1/4 (ln 2 - ln 2) = 0
    method = methods.load(Choice(name="reinforce", baseline="mean"))
    assert take_step(method, make_case(2, REWARDS, OLD)).loss == pytest.approx(0.75 * math.log(2))
    taken = take_step(method, make_case(2, [1.0, 0.0, 1.0, 2.0], OLD))
    assert taken.loss == pytest.approx(0.0, abs=1e-7)
    require_close(taken.gradient, [[0.0, 0.0], [0.25], [0.0], [-0.25]])


def test_there_is_no_ratio_and_no_clip() -> None:
    # a policy far from the one that sampled has the same gradient
    near, far = make_case(2, REWARDS, OLD), make_case(2, REWARDS, OLD, now=[[-9.0, -9.0], [-9.0], [-9.0], [-9.0]])
    method = methods.load(Choice(name="reinforce"))
    assert take_step(method, near).gradient == take_step(method, far).gradient


def test_a_completion_without_a_verdict_has_no_gradient_and_no_part_in_the_baseline() -> None:
    # judged are 1, 1 and 4, of mean 2: advantages -1, -1 and 2, each over 4 completions
    rewards = [1.0, math.nan, 1.0, 4.0]
    taken = take_step(methods.load(Choice(name="reinforce", baseline="mean")), make_case(2, rewards, OLD))
    require_close(taken.gradient, [[0.25, 0.25], [0.0], [0.25], [-0.5]])
    nothing = take_step(methods.load(Choice(name="reinforce", baseline="mean")), make_case(2, [math.nan] * 4, OLD))
    assert nothing.gradient == [[0.0, 0.0], [0.0], [0.0], [0.0]]


@pytest.mark.parametrize(
    ("baseline", "how"), [("none", "fixed"), ("mean", "fixed"), ("none", "sequence"), ("mean", "group_token")]
)
def test_it_is_eq_1_written_as_loops(baseline: str, how: str) -> None:
    method = methods.load(Choice(name="reinforce", baseline=baseline, aggregate=how))
    for seed in range(30):
        case = random_case(seed)
        taken = take_step(method, case)
        require_same(taken, reinforce(case, baseline=baseline, how=how), case)
        require_close(take_step(method, case, parts=split(case)).gradient, taken.gradient)


def test_on_the_policy_that_sampled_one_group_has_the_gradient_of_grpo_without_scaling() -> None:
    # The ratio is 1 and unclipped there, and its slope that of log pi; the mean of the step is that of the group.
    own = methods.load(Choice(name="reinforce", baseline="mean"))
    grpo = methods.load(Choice(name="grpo", scale="none", aggregate="fixed", fixed_length=1))
    compared = 0
    for seed in range(30):
        case = random_case(seed, drift=0.0)
        if len(case.rewards) == case.group:
            require_close(take_step(own, case).gradient, take_step(grpo, case).gradient)
            compared += 1
    assert compared > 5


def test_it_warns_of_a_mean_over_tokens() -> None:
    assert methods.load(Choice(name="reinforce")).check(4) == []
    (warning,) = methods.load(Choice(name="reinforce", aggregate="sequence")).check(4)
    assert "Eq. 1 sums it" in warning
    assert len(methods.load(Choice(name="reinforce", fixed_length=100)).check(4)) == 1


def test_a_reward_of_zero_may_not_be_left_out() -> None:
    # The objective is no surrogate, so the loop asks nothing of the advantages.
    assert not methods.load(Choice(name="reinforce")).may_skip_zero
    assert torch.equal(
        methods.load(Choice(name="reinforce")).advantages(make_case(2, REWARDS, OLD).rollout()).values,
        torch.tensor([[1.0, 0.0], [1.0, -2.0]]),
    )
