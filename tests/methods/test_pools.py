"""Statistics over the tokens of a pool, and which tokens are one."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.methods import StepBatch
from progrpo.methods._pools import covariance, top_share
from progrpo.settings import Choice
from stand_ins.method_steps import make_case, random_case, split, take_step

MASK = torch.tensor([[True, True, True], [True, False, False]])
ADVANTAGES = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
LOGPROBS = torch.tensor([[-1.0, -2.0, -3.0], [-6.0, float("nan"), float("inf")]])


def test_covariance_by_hand() -> None:
    # mean A = (3 - 1)/4 = 0.5, mean log-prob = -12/4 = -3:  0.5 * (2, 1, 0) and -1.5 * -3
    made = covariance(ADVANTAGES, LOGPROBS, MASK)
    assert made.tolist() == [[1.0, 0.5, 0.0], [4.5, 0.0, 0.0]]


def test_covariance_has_no_gradient_and_bears_an_empty_pool() -> None:
    logprobs = LOGPROBS.clone().requires_grad_()
    assert not covariance(ADVANTAGES, logprobs, MASK).requires_grad
    assert not covariance(ADVANTAGES, LOGPROBS, torch.zeros_like(MASK)).any()


def test_its_mean_is_the_covariance() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 5, generator=draw), torch.randn(4, 5, generator=draw)
    mask = torch.rand(4, 5, generator=draw) > 0.3
    expected = torch.cov(torch.stack([a[mask], b[mask]]), correction=0)[0, 1]
    assert float(covariance(a, b, mask)[mask].mean()) == pytest.approx(float(expected), abs=1e-6)


VALUES = torch.tensor([[3.0, 1.0, 3.0], [2.0, 9.0, 9.0]])
# in order: (0, 0) and (0, 2) with 3, (1, 0) with 2, (0, 1) with 1; the nines are masked


@pytest.mark.parametrize(
    ("share", "at_least", "rounding", "expected"),
    [
        (0.25, 0, "floor", {(0, 0)}),  # 1 of 4, the earlier of the equal ones
        (0.5, 0, "floor", {(0, 0), (0, 2)}),
        (0.74, 0, "floor", {(0, 0), (0, 2)}),  # 2.96
        (0.74, 0, "ceil", {(0, 0), (0, 2), (1, 0)}),
        (0.26, 0, "ceil", {(0, 0), (0, 2)}),  # 1.04
        (0.0, 0, "ceil", set()),
        (0.0, 1, "floor", {(0, 0)}),
        (0.2, 1, "floor", {(0, 0)}),  # 0.8
        (0.0, 9, "floor", {(0, 0), (0, 1), (0, 2), (1, 0)}),  # never more than there are
        (1.0, 0, "floor", {(0, 0), (0, 1), (0, 2), (1, 0)}),
    ],
)
def test_top_share_by_hand(share: float, at_least: int, rounding: str, expected: set[tuple[int, int]]) -> None:
    made = top_share(VALUES, MASK, share, at_least=at_least, rounding=rounding)
    assert {tuple(place) for place in made.nonzero().tolist()} == expected


@example(part=29, tokens=100, rounding="floor")
@example(part=7, tokens=25, rounding="ceil")
@given(part=st.integers(0, 40), tokens=st.integers(1, 40), rounding=st.sampled_from(["ceil", "floor"]))
def test_a_share_that_is_a_whole_number_of_tokens_is_that_number(part: int, tokens: int, rounding: str) -> None:
    # 0.29 * 100 is 28.999999999999996, and 0.28 * 25 is 7.000000000000001
    part = min(part, tokens)
    values, mask = torch.arange(float(tokens))[None], torch.ones(1, tokens, dtype=torch.bool)
    assert int(top_share(values, mask, part / tokens, at_least=0, rounding=rounding).sum()) == part


@given(seed=st.integers(0, 2**32), share=st.floats(0, 1), at_least=st.integers(0, 2))
def test_no_token_left_out_is_above_one_that_was_chosen(seed: int, share: float, at_least: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    values = torch.randint(-3, 4, (3, 4), generator=draw).float()
    mask = torch.rand(3, 4, generator=draw) > 0.4
    made = top_share(values, mask, share, at_least=at_least, rounding="floor")
    tokens = int(mask.sum())
    assert not (made & ~mask).any()
    assert int(made.sum()) == min(tokens, max(at_least, math.floor(share * tokens + 1e-9)))
    if made.any() and (mask & ~made).any():
        assert values[made].min() >= values[mask & ~made].max()


def test_more_padding_changes_nothing() -> None:
    wide = torch.cat([VALUES, torch.full((2, 2), 99.0)], dim=1)
    mask = torch.cat([MASK, torch.zeros(2, 2, dtype=torch.bool)], dim=1)
    made = top_share(wide, mask, 0.5, at_least=0, rounding="floor")
    assert torch.equal(made[:, :3], top_share(VALUES, MASK, 0.5, at_least=0, rounding="floor"))
    assert not made[:, 3:].any()


def test_per_pool_sees_each_pool_alone_and_puts_the_rows_back(step_batch: Callable[..., StepBatch]) -> None:
    step = step_batch(pool=torch.tensor([2, 0, 2, 0, 5, 5]))
    seen: list[int] = []

    def tokens(mask: torch.Tensor) -> torch.Tensor:
        seen.append(int(mask.sum()))
        return torch.full(mask.shape, seen[-1])

    # lengths 2, 1, 3, 1, 2, 2: pool 0 has 1 + 1 tokens, pool 2 has 2 + 3, pool 5 has 2 + 2
    made = step.per_pool(tokens)
    assert seen == [2, 5, 4]
    assert made[:, 0].tolist() == [5, 2, 5, 2, 4, 4]


POOLED = {"kl_cov": {"ratio": 0.3}, "clip_cov": {"ratio": 0.3, "cov_low": 0.0}, "high_entropy": {"fraction": 0.4}}


@pytest.mark.parametrize("name", POOLED)
def test_a_pool_of_the_step_does_not_depend_on_the_cut_and_one_of_the_micro_batch_does(name: str) -> None:
    step = methods.load(Choice(name=name, **POOLED[name]))
    micro = methods.load(Choice(name=name, pool="micro", **POOLED[name]))
    assert step.params.pool == "step"
    differ = 0
    for seed in range(12):
        case = random_case(seed)
        whole, cut = take_step(step, case), take_step(step, case, parts=split(case))
        assert decided(whole.made).equal(decided(cut.made))
        # a micro-batch that is the whole step is the step's pool
        assert decided(take_step(micro, case).made).equal(decided(whole.made))
        differ += not decided(take_step(micro, case, parts=split(case)).made).equal(decided(whole.made))
    assert differ > 4


@pytest.mark.parametrize("name", POOLED)
def test_the_pool_of_a_micro_batch_is_a_step_of_its_own(name: str) -> None:
    # Two problems in a micro-batch each: what is decided for a problem is what its own step would decide.
    method = methods.load(Choice(name=name, pool="micro", **POOLED[name]))
    old = [[-0.2, -1.5, -0.7], [-2.0, -0.3], [-0.4, -1.1], [-0.9, -2.2, -0.1, -1.3]]
    entropies = [[0.3, 1.2, 0.8], [2.0, 0.1], [0.5, 0.6], [1.9, 1.8, 1.7, 0.2]]
    now = [[value - 0.1 for value in row] for row in old]
    case = make_case(2, [1.0, 0.0, 0.0, 1.0], old, now=now, entropies=entropies)
    both = decided(take_step(method, case, parts=[[0, 1], [2, 3]]).made)
    alone = make_case(2, [1.0, 0.0], old[:2], now=now[:2], entropies=entropies[:2])
    assert both[:2, :3].equal(decided(take_step(method, alone).made))
    assert both[:2, :3].any()


def decided(made: methods.Reweighted) -> torch.Tensor:
    """The marks, weights or tokens kept: whichever the method decides."""
    (found,) = [values for values in (made.marks, made.weights, made.keep) if values is not None]
    return found


@pytest.mark.parametrize("name", POOLED)
def test_a_pool_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="pool"):
        methods.load(Choice(name=name, pool="rollout"))
