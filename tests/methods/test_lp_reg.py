import math

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    SEEDS,
    Table,
    assert_same_step,
    batch_of,
    columns,
    drifted,
    lengths_of,
    random_batch,
    rewards_of,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, token_mean

A = 0.7071068
NEVER = -math.inf


def proxies(rows: Table) -> torch.Tensor:
    return columns(rows)


def test_by_hand() -> None:
    # Wrong: 0.1 0.2 0.3 0.6. Half of 4 are the two rarest; the second of them is none of the proxy's. The first has p~ = 0.2:
    # p~/p = 2, k3 = 2 - log 2 - 1 = 0.306853, its slope by log p is 1 - p~/p = -1. Ratios 1, 5 tokens.
    batch = batch_of(
        [[1.0, 0.0]],
        [[0.5], [0.1, 0.2, 0.3, 0.6]],
        proxy_logprobs=proxies([[math.log(0.9)], [math.log(0.2), NEVER, math.log(0.5), math.log(0.9)]]),
    )
    found = take_step(load("lp_reg", eps=0.0, share=0.5, beta=0.4), batch, batch.old_logprobs)
    assert found.loss == pytest.approx((-A + 4 * A + 0.4 * 0.306853) / 5, abs=1e-6)
    expected = torch.tensor([[-A, 0.0, 0.0, 0.0], [A - 0.4, A, A, A]]) / 5
    assert torch.allclose(found.gradient, expected, atol=1e-6)


def test_a_single_token_is_left_to_the_clip() -> None:
    batch = batch_of([[1.0, 0.0]], [[0.5], [0.1, 0.2, 0.3, 0.6]], proxy_logprobs=proxies([[0.0], [0.0, 0.0, 0.0, 0.0]]))
    one = take_step(load("lp_reg", share=0.49), batch, batch.old_logprobs)
    none = take_step(load("lp_reg", share=0.0), batch, batch.old_logprobs)
    assert torch.equal(one.gradient, none.gradient)


def test_the_chosen_tokens_are_not_clipped_and_the_penalty_is_bounded() -> None:
    # all wrong tokens are 20 times likelier than when sampled; elsewhere a ratio above 10 is clipped for A > 0 alone
    batch = batch_of([[1.0, 0.0]], [[0.04, 0.04], [0.04, 0.04]], proxy_logprobs=proxies([[0.0, 0.0], [-0.1, -0.1]]))
    found = take_step(load("lp_reg", eps=0.0, share=1.0, beta=0.0), batch, columns([[0.8] * 2, [0.8] * 2]).log())
    assert torch.allclose(found.gradient, torch.tensor([[0.0, 0.0], [20 * A / 4, 20 * A / 4]]), atol=1e-5)
    # p~/p = e^4: k3 = 54.6 - 4 - 1 is taken as 10, without a gradient
    low = columns([[0.04] * 2, [0.9 * math.exp(-4)] * 2]).log()
    far = take_step(load("lp_reg", eps=0.0, share=1.0), batch, low)
    assert float(far.gradient[1, 0]) == pytest.approx(0.9 * math.exp(-4) / 0.04 * A / 4, abs=1e-5)


def naive(batch: RolloutBatch, logprobs: torch.Tensor, share: float, beta: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    now, old, proxy = (tokens_of(each, lengths) for each in (logprobs, batch.old_logprobs, batch.proxy_logprobs))
    advantages = each_token(naive_grpo(rewards_of(batch)), lengths)
    falling = sorted((value, n, t) for n, row in enumerate(now) for t, value in enumerate(row) if advantages[n][t] < 0)
    count = math.floor(round(share * len(falling), 9))
    chosen = {(n, t) for value, n, t in falling[:count] if value < proxy[n][t]} if count > 1 else set()
    weights = token_mean(lengths, [True] * len(lengths))
    kept = [[0.0 if (n, t) in chosen else a for t, a in enumerate(row)] for n, row in enumerate(advantages)]
    loss, gradient = naive_loss(now, old, kept, weights, clipped(0.0, 10.0))
    for n, t in chosen:
        ratio, far = math.exp(now[n][t] - old[n][t]), proxy[n][t] - now[n][t]
        k3 = math.exp(far) - far - 1
        loss -= weights[n] * (ratio * advantages[n][t] - beta * min(k3, 10.0))
        slope = (1 - math.exp(far)) if k3 < 10 else 0.0
        gradient[n][t] = -weights[n] * (ratio * advantages[n][t] - beta * slope)
    return loss, gradient


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("share", "beta"), [(0.5, 1.0), (1.0, 0.3)])
def test_it_is_the_formula_as_loops(share: float, beta: float, seeds: range) -> None:
    acted = 0
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.5)
        found = take_step(load("lp_reg", share=share, beta=beta), batch, logprobs)
        expected = naive(batch, logprobs, share, beta)
        assert_same_step(found, *expected, batch.mask)
        none = take_step(load("lp_reg", share=0.0), batch, logprobs)
        acted += not torch.equal(found.gradient, none.gradient)
    assert acted > len(seeds) / 2


def test_needs_and_presets() -> None:
    method = load("lp_reg", preset="32b", min_p=0.3)
    assert method.params.share == 0.005
    assert method.further.proxy_logprobs == 0.3
    assert not method.further.with_gradient
