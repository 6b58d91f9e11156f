import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from progrpo.algo.off_policy import effective_share, importance_weights
from progrpo.errors import ShapeError

# Ratios of the tokens: 2, 1/2, 4 and a masked one | 1/2, 1/4, 1, 1; of the sequences 4 and 1/8.
OLD = torch.tensor([[2.0, 0.5, 4.0, 9.0], [0.5, 0.25, 1.0, 1.0]]).log()
SAMPLER = torch.zeros(2, 4)
MASK = torch.tensor([[True, True, True, False], [True, True, True, True]])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"limit": 3.0}, [[2, 0.5, 3, 0], [0.5, 0.25, 1, 1]]),
        ({"limit": 3.0, "floor": 0.3}, [[2, 0.5, 3, 0], [0.5, 0.3, 1, 1]]),
        ({"limit": 3.0, "mode": "mask"}, [[2, 0.5, 0, 0], [0.5, 0.25, 1, 1]]),
        ({"limit": 3.0, "floor": 0.3, "mode": "mask"}, [[2, 0.5, 0, 0], [0.5, 0, 1, 1]]),
        ({"limit": 9.0, "level": "sequence"}, [[4, 4, 4, 0], [0.125] * 4]),
        ({"limit": 3.0, "level": "sequence"}, [[3, 3, 3, 0], [0.125] * 4]),
        ({"limit": 3.0, "level": "sequence", "mode": "mask"}, [[0, 0, 0, 0], [0.125] * 4]),
        ({"limit": 9.0, "floor": 0.2, "level": "sequence"}, [[4, 4, 4, 0], [0.2] * 4]),
    ],
)
def test_by_hand(settings: dict[str, object], expected: list[list[float]]) -> None:
    assert torch.allclose(importance_weights(OLD, SAMPLER, MASK, **settings), torch.tensor(expected).float())


def test_a_ratio_on_the_limit_is_kept() -> None:
    on_it = importance_weights(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1).bool(), mode="mask", limit=1.0)
    assert float(on_it) == 1.0


@given(st.integers(0, 2**31), st.sampled_from(["token", "sequence"]), st.sampled_from(["clip", "mask"]))
def test_the_forms_of_trl_and_verl(seed: int, level: str, mode: str) -> None:
    """The same numbers by the formulas of trl 1.16 (grpo_trainer.py) and verl 0.9 (rollout_corr_helper.py)."""
    generator = torch.Generator().manual_seed(seed)
    old, sampler = -torch.rand(3, 6, generator=generator), -torch.rand(3, 6, generator=generator)
    mask = torch.rand(3, 6, generator=generator) < 0.8
    ours = importance_weights(old, sampler, mask, level=level, mode=mode, limit=1.5, floor=0.6)
    difference = (old - sampler) * mask
    if level == "sequence":
        difference = difference.sum(dim=-1, keepdim=True)
    ratio = difference.exp()
    outside = (ratio < 0.6) | (ratio > 1.5)
    trl = ratio.clamp(min=0.6, max=1.5) if mode == "clip" else ratio.masked_fill(outside, 0.0)
    assert torch.allclose(ours, trl.expand(3, 6) * mask, atol=1e-6)
    if mode == "clip":
        verl = difference.clamp(-20, 20).exp().clamp(max=1.5).expand(3, 6) * mask
        assert torch.allclose(importance_weights(old, sampler, mask, level=level, limit=1.5), verl, atol=1e-6)


def test_one_policy_weighs_one() -> None:
    assert torch.equal(importance_weights(OLD, OLD, MASK), MASK.float())
    assert torch.equal(importance_weights(OLD, OLD, MASK, level="sequence", mode="mask"), MASK.float())


def test_the_masked_count_for_nothing_and_extremes_stay_finite() -> None:
    old, sampler = OLD.clone(), SAMPLER.clone()
    old[0, 3], sampler[0, 3] = torch.nan, torch.inf
    assert torch.equal(
        importance_weights(old, sampler, MASK, level="sequence"),
        importance_weights(OLD, SAMPLER, MASK, level="sequence"),
    )
    never = torch.full((1, 2), -torch.inf)
    mask = torch.ones(1, 2).bool()
    assert torch.equal(importance_weights(never, never, mask), torch.ones(1, 2))
    huge = importance_weights(torch.zeros(1, 2), torch.full((1, 2), -1e4), mask, level="sequence", limit=1e12)
    assert torch.allclose(huge, torch.full((1, 2), math.exp(20)))
    assert bool(importance_weights(torch.full((1, 2), torch.nan), torch.zeros(1, 2), mask).isnan().all())


def test_no_gradient_flows() -> None:
    old = OLD.clone().requires_grad_()
    assert not importance_weights(old, SAMPLER, MASK).requires_grad


def test_bad_arguments() -> None:
    with pytest.raises((ShapeError, TypeCheckError), match="sampler_logprobs"):
        importance_weights(OLD, SAMPLER[:, :2], MASK)
    for limits in ({"limit": 0.0}, {"limit": 1.0, "floor": 1.0}, {"limit": 1.0, "floor": -0.1}):
        with pytest.raises(ValueError, match="0 <= floor < limit"):
            importance_weights(OLD, SAMPLER, MASK, **limits)


# A tabular policy of two independent tokens, each a or b: the sampler draws a with 1/2, the old policy with 4/5. The value
# estimated is the old policy's probability of "aa", 16/25. Sequence ratios: aa 64/25, ab and ba 16/25, bb 4/25.
RATIOS = {"aa": 64 / 25, "ab": 16 / 25, "ba": 16 / 25, "bb": 4 / 25}


def moments(**settings: object) -> tuple[float, float]:
    """Mean and variance of w(o) 1[o = aa] under the sampler, which draws each of the four with 1/4."""
    logs = {"a": math.log(0.8), "b": math.log(0.2)}
    old = torch.tensor([[logs[letter] for letter in name] for name in RATIOS])
    sampler = torch.full((4, 2), math.log(0.5))
    weights = importance_weights(old, sampler, torch.ones(4, 2).bool(), **settings)
    estimate = torch.tensor([float(weights[0].prod() if settings["level"] == "token" else weights[0, 0]), 0, 0, 0])
    mean = float(estimate.mean())
    return mean, float(estimate.square().mean()) - mean**2


def test_bias_and_variance_on_a_tabular_policy() -> None:
    # Unlimited: 1/4 * 64/25 = 16/25, unbiased; variance 1/4 (64/25)^2 - (16/25)^2 = 1.6384 - 0.4096 = 1.2288.
    assert moments(level="sequence", limit=1e6) == (pytest.approx(0.64), pytest.approx(1.2288, rel=1e-4))
    # Limit 2: mean 1/2, a bias of -(64/25 - 2)/4 = -0.14, the weight lost; variance 1/4 * 4 - 1/4 = 0.75.
    assert moments(level="sequence", limit=2.0) == (pytest.approx(0.5), pytest.approx(0.75, rel=1e-4))
    # Masked above 2: the estimate is 0 always: a bias of -0.64 and no variance.
    assert moments(level="sequence", limit=2.0, mode="mask") == (0.0, 0.0)
    # A limit below every ratio that matters, 64/25: nothing is lost from it on.
    assert moments(level="sequence", limit=2.56001)[0] == pytest.approx(0.64)


def test_token_weights_are_right_on_one_token_and_biased_over_two() -> None:
    """E[w_t A] for the second token where A = 1 on "aa" alone: the prefix keeps the sampler's probability."""
    logs = torch.tensor([[0.8, 0.8], [0.8, 0.2], [0.2, 0.8], [0.2, 0.2]]).log()
    weights = importance_weights(logs, torch.full((4, 2), 0.5).log(), torch.ones(4, 2).bool(), limit=10.0)
    value = torch.tensor([1.0, 0.0, 0.0, 0.0])
    # 1/4 * 0.8/0.5 = 0.4: right would be 0.64, what a sequence weight gives; 1/2 (prefix by the sampler) * 0.8 = 0.4.
    assert float((weights[:, 1] * value).mean()) == pytest.approx(0.4)
    # First token alone, A = 1 where it is a: 1/4 (1.6 + 1.6) = 0.8, its probability under the old policy.
    assert float((weights[:, 0] * torch.tensor([1.0, 1.0, 0.0, 0.0])).mean()) == pytest.approx(0.8)


def test_effective_share() -> None:
    # weights 1 and 3: 16 / (2 * 10) = 0.8
    assert effective_share(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]])) == pytest.approx(0.8)
    assert effective_share(torch.ones(2, 3), torch.ones(2, 3).bool()) == pytest.approx(1.0)
    assert effective_share(torch.zeros(2, 3), torch.ones(2, 3).bool()) == 0.0
