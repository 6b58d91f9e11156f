import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
    SEEDS,
    Table,
    batch_of,
    columns,
    drifted,
    lengths_of,
    random_batch,
    take_step,
    tokens_of,
    verdicts_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, naive_grpo


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["a", "b", "b", None], [0, 1, 1, 0]),
        (["b", "a", "a", "b"], [1, 0, 0, 1]),  # as often: the first
        ([None, None, None, None], [0, 0, 0, 0]),
    ],
)
def test_the_vote_by_hand(answers: list[str | None], expected: list[int]) -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    batch = batch_of(rewards.tolist(), [[0.5]] * 4, verdicts=verdicts_of(rewards, [answers]))
    method = load("spine")
    assert method.module.shape_reward(batch, method.params)[0].tolist() == expected


def test_what_was_not_judged_has_no_vote() -> None:
    rewards = torch.tensor([[NAN, NAN, 0.0]])
    batch = batch_of(rewards.tolist(), [[0.5]] * 3, verdicts=verdicts_of(rewards, [["a", "a", "b"]]))
    method = load("spine")
    assert method.module.shape_reward(batch, method.params)[0].tolist() == pytest.approx([NAN, NAN, 1.0], nan_ok=True)


def test_band_and_anchor_by_hand() -> None:
    # all five tokens train: entropies 1 2 3 4 5, Q10 of them 1.4, Q50 3; the first is 0.4 below, the last two 1 and 2 above
    # log-ratios to the reference 1 0 0 0 0: k3 exp(-1) - (-1) - 1 = exp(-1). All rewards alike: nothing else is learned.
    rewards = torch.tensor([[0.0, 0.0]])
    batch = batch_of(rewards.tolist(), [[0.5] * 3, [0.5] * 2], verdicts=verdicts_of(rewards, [["a", "a"]]))
    batch = replace(batch, entropies=columns([[1.0, 2.0, 3.0], [4.0, 5.0]]), ref_logprobs=batch.old_logprobs.clone())
    batch.ref_logprobs[0, 0] -= 1
    found = take_step(load("spine", fraction=1.0, band_coef=0.5, anchor_coef=0.1), batch, batch.old_logprobs)
    assert found.loss == pytest.approx((0.5 * (0.4 + 1 + 2) + 0.1 * math.exp(-1)) / 5, abs=1e-6)
    slopes = columns([[-0.1, 0.0, 0.0], [0.1, 0.1]])
    assert torch.allclose(found.gradients["entropies"], slopes, atol=1e-6)
    # d k3 = 1 - exp(-1)
    assert found.gradient[0, 0] == pytest.approx(0.1 * (1 - math.exp(-1)) / 5, abs=1e-6)
    assert not found.gradient[0, 1:].any()


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def naive(batch: RolloutBatch, logprobs: torch.Tensor) -> tuple[float, Table, Table, tuple[float, float]]:
    """Loss, its derivatives by log-probs and by entropies, and the band."""
    lengths = lengths_of(batch)
    fields = (logprobs, batch.old_logprobs, batch.ref_logprobs, batch.entropies)
    now, old, ref, entropies = (tokens_of(each, lengths) for each in fields)
    rewards = []
    for verdicts in batch.verdicts:
        votes = Counter(v.extracted for v in verdicts if not v.failed)
        best = max(votes.values(), default=0)
        winner = next((v.extracted for v in verdicts if not v.failed and votes[v.extracted] == best), None)
        rewards.append([math.nan if v.failed else float(v.extracted == winner) for v in verdicts])
    flat = [a for row in naive_grpo(rewards) for a in row]
    places = sorted(((-h, n, t) for n, row in enumerate(entropies) for t, h in enumerate(row)))
    kept = [(n, t) for _, n, t in places[: math.ceil(0.4 * len(places) - 1e-9)]]
    known = [entropies[n][t] for n, t in kept]
    low, high = quantile(known, 0.1), quantile(known, 0.5)
    loss = 0.0
    by_logprob, by_entropy = ([[0.0] * length for length in lengths] for _ in range(2))
    for n, t in kept:
        objective, slope = clipped(0.8, 1.2)(now[n][t], old[n][t], flat[n])
        h, d = entropies[n][t], ref[n][t] - now[n][t]
        loss += (-objective + 0.3 * (max(h - high, 0) + max(low - h, 0)) + 0.2 * (math.exp(d) - d - 1)) / len(kept)
        by_logprob[n][t] = (-slope + 0.2 * (1 - math.exp(d))) / len(kept)
        by_entropy[n][t] = 0.3 * ((h > high) - (h < low)) / len(kept)
    return loss, by_logprob, by_entropy, (low, high)


@pytest.mark.parametrize("seeds", SEEDS)
def test_it_is_the_formula_as_loops(seeds: range) -> None:
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        method = load("spine", fraction=0.4, band_coef=0.3, anchor_coef=0.2)
        found = take_step(method, batch, logprobs)
        loss, by_logprob, by_entropy, band = naive(batch, logprobs)
        width = [0.0] * batch.mask.shape[1]
        assert found.loss == pytest.approx(loss, rel=1e-4, abs=1e-5)
        assert torch.allclose(found.gradient, columns([*by_logprob, width])[:-1], rtol=2e-4, atol=1e-6)
        # a token that a quantile falls on may be a rounding to either side of it
        at_edge = torch.stack([(batch.entropies - edge).abs() < 1e-5 for edge in band]).any(dim=0)
        apart = (found.gradients["entropies"] - columns([*by_entropy, width])[:-1]).abs() > 1e-6
        assert not bool((apart & ~at_edge).any())
