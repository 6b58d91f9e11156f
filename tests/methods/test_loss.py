"""How `Method.loss` puts a step together, by hand.

One group of two: A = 0.70711, -0.70711 (sample standard deviation, eps 0), completions of 2 and 1 tokens.
"""

from collections.abc import Callable

import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.methods.step import decide, make_step
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import NAN, batch_of, columns, take_step

MakeModule = Callable[[str], str]
A = 0.7071068


@pytest.fixture
def batch() -> RolloutBatch:
    return batch_of([[1.0, 0.0]], [[0.5, 0.5], [0.4]], entropies=columns([[0.3, 0.7], [0.9]]))


@pytest.fixture
def own(make_module: MakeModule) -> Callable[..., Method]:
    def make(source: str, **settings: object) -> Method:
        name = make_module(f"'''Made up.'''\nimport torch\nfrom progrpo import methods\n{source}")
        return methods.load(Choice(name=name, eps=0.0, **settings))

    return make


def rows(*values: list[float]) -> torch.Tensor:
    return columns(list(values))


def test_dropped_sequences_leave_the_tokens_of_the_mean(own: Callable[..., Method]) -> None:
    source = "def sequence_keep(batch, params):\n    return batch.judged"
    batch = batch_of([[1.0, 0.0, NAN]], [[0.5, 0.5], [0.4], [0.4, 0.5, 0.6]])
    # token: 3 of the 6 tokens are left. A w = 0.70711 / 3 each
    found = take_step(own(source, aggregate="token"), batch, batch.old_logprobs)
    assert torch.allclose(found.gradient, rows([-A / 3, -A / 3], [A / 3], [0.0, 0.0, 0.0]), atol=1e-6)
    # without the hook the third has advantage 0 and stays in the mean
    plain = take_step(own("", aggregate="token"), batch, batch.old_logprobs)
    assert torch.allclose(plain.gradient, rows([-A / 6, -A / 6], [A / 6], [0.0, 0.0, 0.0]), atol=1e-6)
    # likewise the tokens of the group
    found = take_step(own(source, aggregate="group_token"), batch, batch.old_logprobs)
    assert torch.allclose(found.gradient, rows([-A / 3, -A / 3], [A / 3], [0.0, 0.0, 0.0]), atol=1e-6)


def test_dropped_sequences_are_hidden_from_what_is_decided_for_the_step(own: Callable[..., Method]) -> None:
    # reweight counts 3 of the 6 tokens and makes that the advantage: 3 w = 3/3 each
    source = """
def sequence_keep(batch, params):
    return batch.judged
def reweight(step, params):
    return methods.Reweighted(advantages=torch.full_like(step.advantages, float(step.mask.sum())))
"""
    batch = batch_of([[1.0, 0.0, NAN]], [[0.5, 0.5], [0.4], [0.4, 0.5, 0.6]])
    found = take_step(own(source, aggregate="token"), batch, batch.old_logprobs)
    assert torch.allclose(found.gradient, rows([-1.0, -1.0], [-1.0], [0.0, 0.0, 0.0]), atol=1e-6)


KEEP = """
def reweight(step, params):
    keep = torch.tensor([[True, False], [True, True]])
    return methods.Reweighted(keep=keep)
"""


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        # two tokens are left of three; 1/(N len) with a length of 1 each; and a constant
        ("token", [-A / 2, 0.0, A / 2]),
        ("group_token", [-A / 2, 0.0, A / 2]),
        ("sequence", [-A / 2, 0.0, A / 2]),
        ("fixed", [-A / 32, 0.0, A / 32]),
    ],
)
def test_tokens_that_are_not_kept_leave_the_denominators(
    own: Callable[..., Method], batch: RolloutBatch, aggregate: str, expected: list[float]
) -> None:
    found = take_step(own(KEEP, aggregate=aggregate), batch, batch.old_logprobs)
    assert torch.allclose(found.gradient, rows(expected[:2], expected[2:]), atol=1e-6)


WEIGHTS = """
def reweight(step, params):
    return methods.Reweighted(weights=torch.tensor([[0.0, 3.0], [0.5, 9.0]]))
"""


@pytest.mark.parametrize(("aggregate", "share"), [("token", (3, 3)), ("sequence", (4, 2))])
def test_weights_do_not_enter_the_denominators(
    own: Callable[..., Method], batch: RolloutBatch, aggregate: str, share: tuple[int, int]
) -> None:
    # token: 1/3 each; sequence: 1/(2*2) and 1/(2*1); times 0, 3 and 0.5
    found = take_step(own(WEIGHTS, aggregate=aggregate), batch, batch.old_logprobs)
    expected = rows([0.0, -3 * A / share[0]], [0.5 * A / share[1]])
    assert torch.allclose(found.gradient, expected, atol=1e-6)
    assert found.loss == pytest.approx(float(expected.sum()), abs=1e-6)


def test_advantages_of_the_step_take_the_place_of_the_rollout_s(
    own: Callable[..., Method], batch: RolloutBatch
) -> None:
    source = "def reweight(step, params):\n    return methods.Reweighted(advantages=2 * step.advantages)"
    found = take_step(own(source), batch, batch.old_logprobs)
    assert torch.allclose(found.gradient, rows([-2 * A / 4, -2 * A / 4], [2 * A / 2]), atol=1e-6)


def test_token_loss_takes_the_place_of_the_surrogate_and_sees_it(
    own: Callable[..., Method], batch: RolloutBatch
) -> None:
    # J = surrogate + 2 log p: the derivative of each token grows by 2
    source = "def token_loss(micro, surrogate, params):\n    return surrogate + 2 * micro.logprobs"
    found = take_step(own(source), batch, batch.old_logprobs)
    assert torch.allclose(found.gradient, rows([-(A + 2) / 4, -(A + 2) / 4], [-(2 - A) / 2]), atol=1e-6)


def test_token_loss_is_weighted_too(own: Callable[..., Method], batch: RolloutBatch) -> None:
    source = WEIGHTS + "def token_loss(micro, surrogate, params):\n    return 2 * micro.logprobs"
    found = take_step(own(source), batch, batch.old_logprobs)
    assert torch.allclose(found.gradient, rows([0.0, -6 / 4], [-1 / 2]), atol=1e-6)


def test_extra_loss_stands_beside_the_objective(own: Callable[..., Method], batch: RolloutBatch) -> None:
    plain = take_step(own(""), batch, batch.old_logprobs)
    source = "def extra_loss(micro, params):\n    return 5 * micro.logprobs[micro.mask].sum()"
    found = take_step(own(source), batch, batch.old_logprobs)
    assert found.own == plain.own
    assert found.loss == pytest.approx(plain.loss + 5 * float(batch.old_logprobs.sum()))
    assert torch.allclose(found.gradient, plain.gradient + 5 * batch.mask, atol=1e-6)


def test_group_loss_takes_the_place_of_all_but_the_regularisers(
    own: Callable[..., Method], batch: RolloutBatch
) -> None:
    source = "def group_loss(micro, params):\n    return 5 * micro.logprobs[micro.mask].sum()\n"
    unused = "def token_loss(micro, surrogate, params):\n    raise AssertionError('not to be called')"
    found = take_step(own(source + unused), batch, batch.old_logprobs)
    assert found.loss == found.own
    assert torch.equal(found.gradient, 5.0 * batch.mask)
    # the entropy bonus: mean over tokens as the objective, (0.3 + 0.7)/4 + 0.9/2 = 0.7
    bonus = take_step(own(source, entropy_coef=0.1), batch, batch.old_logprobs, entropies=batch.entropies)
    assert bonus.own == found.own
    assert bonus.loss == pytest.approx(found.loss - 0.07, abs=1e-5)
    expected = rows([-0.1 / 4, -0.1 / 4], [-0.1 / 2])
    assert torch.allclose(bonus.gradient, found.gradient)
    assert torch.allclose(bonus.gradients["entropies"], expected, atol=1e-7)


def test_regularisers_act_on_tokens_too_that_are_not_kept(own: Callable[..., Method], batch: RolloutBatch) -> None:
    # all three tokens: 1/(2*2) twice and 1/(2*1); the objective has the two that are kept
    found = take_step(own(KEEP, entropy_coef=0.1), batch, batch.old_logprobs, entropies=batch.entropies)
    assert torch.allclose(found.gradients["entropies"], rows([-0.025, -0.025], [-0.05]), atol=1e-7)
    assert torch.allclose(found.gradient, rows([-A / 2, 0.0], [A / 2]), atol=1e-6)


def test_a_sequence_without_a_kept_token_is_forwarded_where_a_regulariser_acts_on_it(
    own: Callable[..., Method], batch: RolloutBatch
) -> None:
    source = (
        "def reweight(step, params):\n    return methods.Reweighted(keep=torch.tensor([[True, True], [False, False]]))"
    )
    chosen = {}
    for coefficient in (0.0, 0.1):
        method = own(source, entropy_coef=coefficient)
        step = make_step(batch, method.advantages(batch), slice(0, 1), seed=0)
        chosen[coefficient] = decide(method, step, longest=2, skip_zero=True).chosen.tolist()
    assert chosen == {0.0: [0], 0.1: [0, 1]}


@pytest.mark.parametrize(
    ("source", "settings", "may"),
    [
        ("", {}, True),
        (KEEP, {}, True),
        ("", {"kl_coef": 0.1}, False),
        ("", {"entropy_coef": 0.1}, False),
        ("def token_loss(micro, surrogate, params): ...", {}, False),
        ("def extra_loss(micro, params): ...", {}, False),
        ("def group_loss(micro, params): ...", {}, False),
    ],
)
def test_an_advantage_of_zero_may_have_a_gradient(
    own: Callable[..., Method], source: str, settings: dict[str, float], may: bool
) -> None:
    assert own(source, **settings).may_skip_zero is may
