import math

import pytest
import torch

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.methods import Method
from progrpo.settings import Choice
from progrpo.types import WeightedMean
from stand_ins.method_steps import Case, Ragged, make_case, random_case, require_close, slopes, split, take_step
from stand_ins.naive_methods import ppo_advantages, ppo_value_loss, surrogate_loss

# Three tokens and one, values of the rollout and rewards as in tests/algo/test_gae.py: with gamma 0.9 and lambda 0.5 the
# advantages are -0.1265, 0.43, 0.6 and -1.1.
OLD = [[-1.0, -1.0, -1.0], [-2.0]]
VALUES = [[0.5, 0.2, 0.4], [0.1]]
HAND = [-0.1265, 0.43, 0.6, -1.1]


def load(**params: object) -> Method:
    return methods.load(Choice(name="ppo", **params))


def states_of(case: Case, width: int = 2) -> torch.Tensor:
    count = sum(len(row) for row in case.now)
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count)).requires_grad_()


def value_net(method: Method, weight: list[float], bias: float) -> torch.nn.Module:
    net = method.make_net(len(weight))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([weight]))
        net[0].bias.fill_(bias)
    return net


def predicted(case: Case, states: torch.Tensor, weight: list[float], bias: float) -> list[list[float]]:
    rows = iter(states.tolist())
    return [[sum(w * h for w, h in zip(weight, next(rows), strict=True)) + bias for _ in row] for row in case.now]


def test_advantages_by_hand() -> None:
    made = load(gamma=0.9, lam=0.5, whiten=False).advantages(make_case(2, [1.0, -1.0], OLD, values=VALUES).rollout())
    assert made.tokens[0].tolist() == pytest.approx(HAND[:3])
    assert made.tokens[1].tolist() == pytest.approx([HAND[3], 0.0, 0.0])
    # what is shown for a completion is the mean over its tokens: 0.9035/3
    assert made.values.flatten().tolist() == pytest.approx([0.9035 / 3, -1.1])
    # R = A + V
    assert made.carried["returns"][0].tolist() == pytest.approx([0.3735, 0.63, 1.0])
    assert made.carried["returns"][1, 0] == pytest.approx(-1.0)
    assert made.stats["ppo/value"].value == pytest.approx(1.2 / 4)
    assert made.stats["ppo/value"].count == 4


def test_whitening_by_hand() -> None:
    # The mean of the four is -0.1965/4 = -0.049125; the squares of what is left, 0.00599 + 0.22956 + 0.42136 + 1.10434, over
    # 3 are 0.58708, whose root is 0.76621: -0.077375, 0.479125, 0.649125 and -1.050875 over that.
    made = load(gamma=0.9, lam=0.5).advantages(make_case(2, [1.0, -1.0], OLD, values=VALUES).rollout())
    tokens = [*made.tokens[0].tolist(), made.tokens[1, 0].item()]
    assert tokens == pytest.approx([-0.10098, 0.62531, 0.84719, -1.37152], abs=1e-4)
    assert sum(tokens) == pytest.approx(0.0, abs=1e-6)
    assert sum(value**2 for value in tokens) == pytest.approx(3.0)
    # the returns are not whitened
    assert made.carried["returns"][0].tolist() == pytest.approx([0.3735, 0.63, 1.0])


def test_advantages_that_are_all_equal_are_whitened_to_nothing() -> None:
    # The rounding error of a mean over a standard deviation of rounding errors would be of order 1.
    for reward in (0.1, 0.3, 0.7, 1.0):
        old = [[-1.0] * 7, [-1.0] * 6, [-1.0] * 5]
        made = load().advantages(make_case(3, [reward] * 3, old).rollout())
        assert not made.tokens.any()


def test_with_no_value_and_no_discount_each_token_has_its_reward() -> None:
    made = load(whiten=False).advantages(make_case(2, [1.0, -0.5], OLD).rollout())
    assert made.tokens.tolist() == [[1.0, 1.0, 1.0], [-0.5, 0.0, 0.0]]


def test_a_single_token_is_not_whitened() -> None:
    made = load().advantages(make_case(1, [2.0], [[-1.0]]).rollout())
    assert made.tokens.tolist() == [[2.0]]


def test_a_completion_without_a_verdict_is_not_trained_on() -> None:
    case = make_case(2, [1.0, math.nan], OLD, values=VALUES)
    made = load(whiten=False).advantages(case.rollout())
    assert made.keep.tolist() == [[True, False]]
    assert made.tokens[1].tolist() == [0.0, 0.0, 0.0]
    assert made.stats["ppo/value"] == WeightedMean(pytest.approx(1.1), 3)
    taken = take_step(
        load(aggregate="token"), case, net=value_net(load(), [0.0, 0.0], 0.3), token_states=states_of(case)
    )
    assert taken.gradient[1] == [0.0]


def test_the_value_loss_and_its_clip_by_hand() -> None:
    # One token each, rewards 1 and -1, old values 0: the returns are 1 and -1. The head now says 0.8 for both; it may move
    # by 0.5, so near = 0.5.
    #   first:  max((0.8 - 1)^2, (0.5 - 1)^2) / 2 = 0.125, and the gradient stops: the clipped error is the larger
    #   second: max((0.8 + 1)^2, (0.5 + 1)^2) / 2 = 1.62, slope 1.8
    # Mean 0.8725, times the coefficient 0.4: 0.349. The bias gets 0.4 * 1.8/2 = 0.36.
    case = make_case(2, [1.0, -1.0], [[-1.0], [-1.0]])
    states, method = states_of(case), load(value_coef=0.4, whiten=False)
    net = value_net(method, [0.0, 0.0], 0.8)
    taken = take_step(method, case, net=net, token_states=states)
    assert taken.objective == pytest.approx(0.0, abs=1e-7)  # -(1 - 1)/2
    assert taken.loss == pytest.approx(0.349)
    assert float(net[0].bias.grad) == pytest.approx(0.36)
    assert net[0].weight.grad[0].tolist() == pytest.approx((0.36 * states[1]).tolist())


def test_within_the_clip_the_value_loss_is_the_squared_error() -> None:
    # 0.3 from 0 is within 0.5: (0.7^2 + 1.3^2) / 2 / 2 = 0.545;  the bias gets (-0.7 + 1.3)/2 = 0.3
    case = make_case(2, [1.0, -1.0], [[-1.0], [-1.0]])
    method = load(value_coef=1.0, whiten=False)
    net = value_net(method, [0.0, 0.0], 0.3)
    assert take_step(method, case, net=net, token_states=states_of(case)).loss == pytest.approx(0.545)
    assert float(net[0].bias.grad) == pytest.approx(0.3)


@pytest.mark.parametrize("shared", [False, True])
def test_the_value_loss_trains_the_policy_only_where_it_is_shared(shared: bool) -> None:
    case = make_case(2, [1.0, -1.0], OLD, values=VALUES)
    method = load(shared=shared, value_coef=1.0)
    states = states_of(case)
    net = value_net(method, [0.5, -0.25], 0.1)
    take_step(method, case, net=net, token_states=states)
    assert net[0].weight.grad.abs().max() > 0
    if shared:
        assert states.grad.abs().max() > 1e-3
    else:
        assert states.grad is None


@pytest.mark.parametrize(
    ("params", "unjudged"),
    [
        ({"gamma": 0.9, "lam": 0.8, "aggregate": "token"}, 0.15),
        ({"gamma": 0.95, "lam": 0.5, "whiten": False}, 0.0),
        ({"value_clip": 0.2, "value_coef": 1.5}, 0.0),
    ],
)
def test_it_is_the_formula_written_as_loops(params: dict[str, object], unjudged: float) -> None:
    method = load(**params)
    chosen, weight, bias = method.params, [0.4, -0.7], 0.2
    how, clip = chosen.aggregate, chosen.value_clip
    for seed in range(30):
        case = random_case(seed, unjudged=unjudged)
        states, net = states_of(case), value_net(method, weight, bias)
        taken = take_step(method, case, net=net, token_states=states)
        advantages, returns = ppo_advantages(case, gamma=chosen.gamma, lam=chosen.lam, whiten=chosen.whiten)
        kept = {(n, t) for n, t in case.tokens if not math.isnan(case.rewards[n])}
        policy_loss = surrogate_loss(case, advantages, low=0.2, high=0.2, how=how, kept=kept)

        def value_loss(
            values: list[float], case: Case = case, states: torch.Tensor = states, returns: Ragged = returns
        ) -> float:
            now = predicted(case, states.detach(), values[:2], values[2])
            return chosen.value_coef * ppo_value_loss(case, now, returns, clip=clip, how=how)

        head = [*weight, bias]
        assert taken.objective == pytest.approx(policy_loss(case.now), rel=1e-4, abs=1e-5)
        assert taken.loss - taken.objective == pytest.approx(value_loss(head), rel=1e-4, abs=1e-5)
        require_close(taken.gradient, slopes(policy_loss, case.now))
        own = [*net[0].weight.grad[0].tolist(), net[0].bias.grad.item()]
        require_close([own], slopes(lambda rows, f=value_loss: f(rows[0]), [head]))

        net.zero_grad()
        require_close(take_step(method, case, parts=split(case), net=net, token_states=states).gradient, taken.gradient)
        require_close([[*net[0].weight.grad[0].tolist(), net[0].bias.grad.item()]], [own])


def test_the_head_begins_at_zero_and_learns_faster() -> None:
    method = load()
    net = method.make_net(3)
    assert net(torch.randn(5, 3)).tolist() == [0.0] * 5
    assert method.params.net_lr_factor == 10.0
    assert method.needs == {"values", "token_states"}
    assert not method.may_skip_zero


def test_nothing_can_be_added_to_advantages_of_tokens() -> None:
    with pytest.raises(ConfigError, match="method ppo: add needs .* gives each token its own"):
        load(add="progrpo")
