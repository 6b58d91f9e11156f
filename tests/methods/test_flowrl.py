import math

import pytest
import torch

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.settings import Choice
from stand_ins.method_steps import Case, make_case, random_case, require_close, require_same, split, take_step
from stand_ins.naive_methods import flowrl

# One right and one wrong completion, so A = +-sqrt(1/2) without eps. The first has log-probs -1 and -3 (mean -2), before
# training -1 and -2 (mean -1.5); the second -1, before training -2.
OLD = [[-1.0, -3.0], [-1.0]]
REF = [[-1.0, -2.0], [-2.0]]
A = math.sqrt(0.5)


def column(states: torch.Tensor) -> torch.Tensor:
    """A net that gives its input: log Z is what the test writes down."""
    return states[:, 0]


def log_z_of(case: Case) -> torch.Tensor:
    problems = len(case.now) // case.group
    return torch.linspace(-1.5, 2.0, problems)[:, None].clone().requires_grad_()


def test_by_hand() -> None:
    # log Z = 0.5, beta = 2:  D1 = 0.5 - 2 - 2A + 1.5 = -2A,  D2 = 0.5 - 1 + 2A + 2 = 1.5 + 2A;  w = 1 (nothing moved)
    #   L = 1/2 (D1^2 + D2^2);  dL/dlogp = D1/2 for each of two tokens, D2;  dL/dlog Z = D1 + D2 = 1.5
    method = methods.load(Choice(name="flowrl", beta=2.0, eps=0.0))
    log_z = torch.tensor([[0.5]], requires_grad=True)
    taken = take_step(method, make_case(2, [1.0, 0.0], OLD, ref=REF), net=column, prompt_states=log_z)
    first, second = -2 * A, 1.5 + 2 * A
    assert taken.loss == pytest.approx((first**2 + second**2) / 2)
    assert taken.objective == taken.loss
    require_close(taken.gradient, [[first / 2, first / 2], [second]])
    assert float(log_z.grad) == pytest.approx(1.5, abs=1e-5)


@pytest.mark.parametrize(
    ("importance", "weights"),
    [("ppo", (1.2, 0.8)), ("none", (math.exp(3), math.exp(-1))), ("max10", (10, math.exp(-1)))],
)
def test_the_three_importance_weights_by_hand(importance: str, weights: tuple[float, float]) -> None:
    # The first completion became e^3 times as likely, the second e^-1 times; clipped to [0.8, 1.2], or at most 10. The
    # weight is a constant of the update: the slope is 2 w D / N over the tokens of the completion.
    now = [[0.0, -1.0], [-2.0]]
    method = methods.load(Choice(name="flowrl", beta=2.0, eps=0.0, importance=importance))
    case = make_case(2, [1.0, 0.0], OLD, ref=REF, now=now)
    taken = take_step(method, case, net=column, prompt_states=torch.tensor([[0.5]]))
    first, second = 0.5 - 0.5 - 2 * A + 1.5, 0.5 - 2 + 2 * A + 2
    assert taken.loss == pytest.approx((weights[0] * first**2 + weights[1] * second**2) / 2)
    require_close(taken.gradient, [[weights[0] * first / 2] * 2, [weights[1] * second]])


def test_the_clip_range_of_the_weight_is_set_by_clip_low_and_clip_high() -> None:
    now = [[0.0, -1.0], [-2.0]]
    case = make_case(2, [1.0, 0.0], OLD, ref=REF, now=now)
    method = methods.load(Choice(name="flowrl", beta=2.0, eps=0.0, clip_low=0.5, clip_high=4.0))
    taken = take_step(method, case, net=column, prompt_states=torch.tensor([[0.5]]))
    first, second = 1.5 - 2 * A, 0.5 + 2 * A
    assert taken.loss == pytest.approx((5 * first**2 + 0.5 * second**2) / 2)


@pytest.mark.parametrize("importance", ["ppo", "none", "max10"])
def test_it_is_the_formula_written_as_loops(importance: str) -> None:
    method = methods.load(Choice(name="flowrl", importance=importance))
    for seed in range(30):
        # a completion may become 10 times as likely
        case = random_case(seed, drift=0.3 if seed % 2 else 1.0)
        log_z = log_z_of(case)
        taken = take_step(method, case, net=column, prompt_states=log_z)
        known = [float(log_z.detach()[n // case.group]) for n in range(len(case.now))]
        require_same(taken, flowrl(case, known, beta=15.0, importance=importance), case)
        whole, log_z.grad = log_z.grad, None
        parts = take_step(method, case, parts=split(case), net=column, prompt_states=log_z)
        require_close(parts.gradient, taken.gradient)
        require_close(log_z.grad.tolist(), whole.tolist())


def test_the_gradient_of_log_z_reaches_the_prompt_and_the_net() -> None:
    # dL/dlog Z[p] = sum of 2 w D / N over the problem's completions; through the net it reaches the prompt's state
    method = methods.load(Choice(name="flowrl", dropout=0.0))
    torch.manual_seed(1)
    net = method.make_net(4)
    case = random_case(3, unjudged=0.0, empty=0.0)
    states = torch.randn(len(case.now) // case.group, 4, requires_grad=True)
    taken = take_step(method, case, net=net, prompt_states=states)
    log_z = net(states).detach()
    known = [float(log_z[n // case.group]) for n in range(len(case.now))]
    assert taken.loss == pytest.approx(flowrl(case, known, beta=15.0, importance="ppo")(case.now), rel=1e-4)

    def loss_at(row: int, column: int, by: float) -> float:
        moved = states.detach().double()
        moved[row, column] += by
        values = net.double()(moved).detach()
        return flowrl(
            case, [float(values[n // case.group]) for n in range(len(case.now))], beta=15.0, importance="ppo"
        )(case.now)

    for row in range(len(states)):
        expected = [(loss_at(row, place, 1e-5) - loss_at(row, place, -1e-5)) / 2e-5 for place in range(4)]
        assert states.grad[row].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert states.grad.abs().max() > 1e-3
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_net_is_three_layers_of_the_model_s_width() -> None:
    net = methods.load(Choice(name="flowrl", dropout=0.25)).make_net(6)
    kinds = [type(layer).__name__ for layer in net]
    assert kinds == ["Linear", "GELU", "LayerNorm", "Dropout"] * 2 + ["Linear", "Flatten"]
    assert [tuple(layer.weight.shape) for layer in net if type(layer).__name__ == "Linear"] == [(6, 6), (6, 6), (1, 6)]
    assert net[3].p == 0.25
    assert net(torch.zeros(3, 6)).shape == (3,)


def test_an_empty_completion_counts_for_nothing() -> None:
    method = methods.load(Choice(name="flowrl", beta=2.0, eps=0.0))
    log_z = torch.tensor([[0.5]])
    case = make_case(3, [1.0, 0.0, math.nan], [*OLD, []], ref=[*REF, []])
    taken = take_step(method, case, net=column, prompt_states=log_z)
    both = take_step(method, make_case(2, [1.0, 0.0], OLD, ref=REF), net=column, prompt_states=log_z)
    assert taken.loss == pytest.approx(both.loss)


def test_presets_and_needs() -> None:
    assert methods.load(Choice(name="flowrl")).params.importance == "ppo"
    assert methods.load(Choice(name="flowrl")).params.beta == 15.0
    assert methods.load(Choice(name="flowrl", preset="released")).params.importance == "none"
    assert methods.load(Choice(name="flowrl", preset="port")).params.importance == "max10"
    assert methods.load(Choice(name="flowrl")).needs == {"ref_logprobs", "prompt_states"}
    assert not methods.load(Choice(name="flowrl")).may_skip_zero
    with pytest.raises(ConfigError, match="dropout"):
        methods.load(Choice(name="flowrl", dropout=1.0))
