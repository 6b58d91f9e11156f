"""The estimates themselves, and what a method's settings `kl_coef`, `kl` and `entropy_coef` make of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo import methods
from progrpo.algo.divergence import Divergence, kl_estimate
from progrpo.algo.surrogate import MAX_LOG_RATIO
from progrpo.errors import ShapeError
from progrpo.settings import Choice
from stand_ins.method_steps import Case, Ragged, make_case, random_case, require_close, slopes, split, take_step
from stand_ins.naive_methods import sequence_factors

KINDS = ("k1", "k2", "k3")
P = torch.tensor([0.5, 0.3, 0.15, 0.05])
REFERENCE = torch.tensor([0.25, 0.25, 0.25, 0.25])
KL = float((P * (P / REFERENCE).log()).sum())
# Of probabilities 0.5 now and 0.25 before: d = log(1/2) = -0.6931.
#   k1 = 0.6931,  k2 = 0.6931^2 / 2 = 0.2402,  k3 = 1/2 + 0.6931 - 1 = 0.1931
HALVED = {"k1": math.log(2), "k2": math.log(2) ** 2 / 2, "k3": math.log(2) - 0.5}
# Of 0.25 now and 0.5 before: d = 0.6931, so -0.6931, the same square, and 2 - 0.6931 - 1.
DOUBLED = {"k1": -math.log(2), "k2": math.log(2) ** 2 / 2, "k3": 1 - math.log(2)}
NAIVE = {"k1": lambda d: -d, "k2": lambda d: d * d / 2, "k3": lambda d: math.exp(d) - d - 1}


@pytest.mark.parametrize("kind", KINDS)
def test_by_hand(kind: Divergence) -> None:
    now, before = torch.tensor([[0.5, 0.25, 0.4]]).log(), torch.tensor([[0.25, 0.5, 0.4]]).log()
    made = kl_estimate(now, before, kind=kind)
    assert made[0].tolist() == pytest.approx([HALVED[kind], DOUBLED[kind], 0.0], abs=1e-7)


def sampled_gradient(kind: Divergence) -> tuple[float, torch.Tensor]:
    """Over all tokens of the vocabulary, weighted as the policy would sample them: the estimate's expectation, and that of
    its gradient with respect to the logits."""
    logits = P.log().clone().requires_grad_()
    estimate = kl_estimate(logits.log_softmax(dim=0)[None], REFERENCE.log()[None], kind=kind)[0]
    expected = (P * estimate).sum()
    expected.backward()
    return float(expected.detach()), logits.grad


def exact_gradient() -> torch.Tensor:
    logits = P.log().clone().requires_grad_()
    probabilities = logits.softmax(dim=0)
    (probabilities * (probabilities / REFERENCE).log()).sum().backward()
    return logits.grad


def test_k1_and_k3_have_the_divergence_as_their_expectation() -> None:
    assert sampled_gradient("k1")[0] == pytest.approx(KL)
    assert sampled_gradient("k3")[0] == pytest.approx(KL)
    assert sampled_gradient("k2")[0] != pytest.approx(KL, rel=0.01)


def test_the_gradient_of_k2_is_that_of_the_divergence_and_of_k1_nothing() -> None:
    assert sampled_gradient("k2")[1].tolist() == pytest.approx(exact_gradient().tolist(), abs=1e-6)
    assert sampled_gradient("k1")[1].tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    assert exact_gradient().abs().max() > 0.1


def test_the_gradient_of_k3_is_that_of_the_other_divergence() -> None:
    logits = torch.tensor([0.3, -0.2, 0.9, 0.0], requires_grad=True)
    logprobs, reference = logits.log_softmax(dim=0), REFERENCE.log()
    estimate = kl_estimate(logprobs[None], reference[None])[0]
    (expected_gradient,) = torch.autograd.grad((logprobs.exp().detach() * estimate).sum(), logits, retain_graph=True)
    (reverse,) = torch.autograd.grad((REFERENCE * (reference - logprobs)).sum(), logits)  # KL(ref || pi)
    assert torch.allclose(expected_gradient, reverse, atol=1e-6)


@given(now=st.floats(-15, 0), before=st.floats(-15, 0))
def test_k2_and_k3_are_never_negative_and_zero_where_equal(now: float, before: float) -> None:
    one, other = torch.tensor([[now]]), torch.tensor([[before]])
    for kind in ("k2", "k3"):
        assert float(kl_estimate(one, other, kind=kind)) >= 0.0
        assert float(kl_estimate(one, one, kind=kind)) == 0.0


def test_k3_keeps_its_digits_where_the_models_are_close() -> None:
    # d^2 / 2 for small d: 5e-9 for 1e-4, which exp(d) - 1 - d would lose to the rounding of 1
    made = kl_estimate(torch.tensor([[-1e-4]]), torch.tensor([[0.0]]))
    assert float(made) == pytest.approx(5e-9, rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_difference_is_limited_and_has_no_gradient_beyond(kind: Divergence) -> None:
    now = torch.tensor([[-1.0, -60.0, -1.0]], requires_grad=True)
    before = torch.tensor([[-60.0, -1.0, -1.5]], requires_grad=True)
    made = kl_estimate(now, before, kind=kind)
    limited = [NAIVE[kind](d) for d in (-MAX_LOG_RATIO, MAX_LOG_RATIO, -0.5)]
    assert made[0].tolist() == pytest.approx(limited)
    made.sum().backward()
    assert now.grad[0, :2].tolist() == [0.0, 0.0]
    assert now.grad[0, 2] != 0
    assert before.grad is None


def test_float32_and_shapes() -> None:
    half = torch.tensor([[-1.0, -2.0]]).bfloat16()
    assert kl_estimate(half, half).dtype == torch.float32
    with pytest.raises(ShapeError, match="^ref_logprobs:"):
        kl_estimate.__wrapped__(torch.zeros(1, 2), torch.zeros(1, 1))


def hand_case(**others: Ragged) -> Case:
    """Right and wrong, of two tokens and of one: GRPO's weights are 1/(2*2) and 1/(2*1)."""
    old = [[math.log(0.5), math.log(0.25)], [math.log(0.4)]]
    return make_case(2, [1.0, 0.0], old, **others)


@pytest.mark.parametrize("kind", KINDS)
def test_the_penalty_by_hand(kind: Divergence) -> None:
    # Before training the tokens had 0.25, 0.5 and 0.4, so the estimates are halved, doubled and 0, and
    # KL = (halved + doubled) / 4; the loss is larger by kl_coef times that, the logged objective is what it was.
    case = hand_case(ref=[[math.log(0.25), math.log(0.5)], [math.log(0.4)]])
    plain = take_step(methods.load(Choice(name="grpo")), case)
    taken = take_step(methods.load(Choice(name="grpo", kl_coef=0.1, kl=kind)), case)
    assert taken.loss - plain.loss == pytest.approx(0.1 * (HALVED[kind] + DOUBLED[kind]) / 4, abs=1e-6)
    assert taken.objective == plain.objective


def test_the_bonus_by_hand() -> None:
    # entropies 1 and 0.5, and 2: H = (1 + 0.5)/4 + 2/2 = 1.375; the loss is smaller by 0.2 times that, and its slope
    # is -0.2 times the weights
    case = hand_case(entropies=[[1.0, 0.5], [2.0]])
    plain = take_step(methods.load(Choice(name="grpo")), case)
    taken = take_step(methods.load(Choice(name="grpo", entropy_coef=0.2)), case)
    assert taken.loss - plain.loss == pytest.approx(-0.2 * 1.375, abs=1e-6)
    assert taken.objective == plain.objective
    assert taken.gradient == plain.gradient
    require_close(taken.entropy_gradient, [[-0.05, -0.05], [-0.1]])


def test_only_what_has_a_weight_is_computed() -> None:
    assert methods.load(Choice(name="grpo")).needs == frozenset()
    assert methods.load(Choice(name="grpo", kl_coef=0.1)).needs == {"ref_logprobs"}
    assert methods.load(Choice(name="grpo", entropy_coef=0.1)).needs == {"entropy_grad"}
    # with a penalty a group that is all correct has a gradient
    assert not methods.load(Choice(name="grpo", kl_coef=0.1)).may_skip_zero
    assert not methods.load(Choice(name="grpo", entropy_coef=0.1)).may_skip_zero
    assert methods.load(Choice(name="grpo")).may_skip_zero


NAMES = ("grpo", "dr_grpo", "dapo", "reinforce", "kl_cov", "clip_cov", "gspo", "cispo", "flowrl", "high_entropy")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_with_any_method_the_penalty_is_added_as_the_objective_is_averaged(name: str, kind: Divergence) -> None:
    for seed in range(3):
        case = random_case(seed, unjudged=0.0)  # what FlowRL drops has no place in its mean
        net = (lambda states: states[:, 0]) if name == "flowrl" else None
        states = {"net": net, "prompt_states": torch.zeros(len(case.now) // case.group, 1)} if net else {}
        method = methods.load(Choice(name=name, kl_coef=0.3, kl=kind, entropy_coef=0.2))
        plain = take_step(methods.load(Choice(name=name)), case, **states)
        taken = take_step(method, case, parts=split(case), **states)
        lengths = [len(row) for row in case.now]
        fixed = method.params.fixed_length or 9
        factors = sequence_factors(lengths, case.group, method.params.aggregate, fixed)

        def penalty(now: Ragged, case: Case = case, factors: list[float] = factors, kind: Divergence = kind) -> float:
            return 0.3 * sum(factors[n] * NAIVE[kind](case.ref[n][t] - now[n][t]) for n, t in case.tokens)

        bonus = 0.2 * sum(factors[n] * case.entropies[n][t] for n, t in case.tokens)
        assert taken.loss - plain.loss == pytest.approx(penalty(case.now) - bonus, rel=1e-4, abs=1e-4)
        more = slopes(penalty, case.now)
        require_close(
            taken.gradient,
            [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(plain.gradient, more, strict=True)],
        )
        require_close(taken.entropy_gradient, [[-0.2 * factor] * n for factor, n in zip(factors, lengths, strict=True)])


def test_a_token_that_neither_policy_gives_is_no_divergence() -> None:
    never = torch.full((1, 1), -math.inf)
    for kind in KINDS:
        assert kl_estimate(never, never, kind=kind).item() == 0.0
