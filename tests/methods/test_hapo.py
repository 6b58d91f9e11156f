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
from stand_ins.naive_methods import each_token, naive_grpo, token_mean
from stand_ins.sampling import ScriptedGenerate, ScriptedProblems

E = math.e
ONE = {"token_average": False, "adaptive_advantage": False, "adaptive_clip": False}


def test_the_average_over_tokens_by_hand() -> None:
    # one token is right and three are wrong: mean 1/4, deviation sqrt(3)/4; 3/4 / 0.433013 and -1/4 / 0.433013
    batch = batch_of([[1.0, 0.0]], [[0.5], [0.5, 0.5, 0.5]], entropies=columns([[1.0], [1.0, 1.0, 1.0]]))
    made = load("hapo", eps=0.0).advantages(batch).values[0].tolist()
    assert made == pytest.approx([1.732051, -0.577350], abs=1e-5)
    assert load("hapo", scale="none").advantages(batch).values[0].tolist() == pytest.approx([0.75, -0.25])
    assert made[0] + 3 * made[1] == pytest.approx(0.0, abs=1e-5)


def test_an_average_that_goes_too_far_gives_way() -> None:
    # 1 token of 30 is right: (29/30) / sqrt(29/900) = 5.39; GRPO has 0.70711
    rows = [[0.5], [0.5] * 29]
    batch = batch_of([[1.0, 0.0]], rows, entropies=columns([[1.0], [1.0] * 29]))
    assert load("hapo", eps=0.0).advantages(batch).values[0].tolist() == pytest.approx([0.7071068, -0.7071068])
    batch = batch_of([[1.0, 0.0]], [[0.5], [0.5] * 20], entropies=columns([[1.0], [1.0] * 20]))
    assert load("hapo", eps=0.0).advantages(batch).values[0, 0] == pytest.approx(math.sqrt(20))


def entropies_of_e(logs: list[list[float]]) -> torch.Tensor:
    return columns([[E**value for value in row] for row in logs])


def test_advantages_and_ranges_by_hand() -> None:
    # log H = 0 1 2 | 4 6, the nearest to the 0.5-quantile 2: h = -2 -1 0 | 2 4, h~ = -1 -1/2 0 | 1/2 1.
    # A = +-0.70711, ratios 1, that is inside: the first completion's A (1 + h~) = 0, A/2, A; the second keeps -A.
    batch = batch_of([[1.0, 0.0]], [[0.5] * 3, [0.5] * 2], entropies=entropies_of_e([[0, 1, 2], [4, 6]]))
    method = load("hapo", eps=0.0, token_average=False, quantile=0.5)
    found = take_step(method, batch, batch.old_logprobs)
    w = 0.7071068 / 5
    assert torch.allclose(found.gradient, columns([[0.0, -w / 2, -w], [w, w]]), atol=1e-6)
    # Ratio 1.3 everywhere. Ranges: low 0.4 0.3 0.2 | 0.2 0.2, high 0.28 0.28 0.28 | 0.42 0.56.
    # 1.3 is above 1 + half of 0.28, 0.42 and 0.56: outside. First: h~ <= 0, so A stays; clipped at 1.28 for A > 0.
    # Second: -A (1 + h~) = -3/2 A and -2 A, unclipped below: slopes 1.3 times these.
    found = take_step(method, batch, (batch.old_logprobs + math.log(1.3)) * batch.mask)
    assert torch.allclose(found.gradient, columns([[0.0, 0.0, 0.0], [1.3 * 1.5 * w, 1.3 * 2 * w]]), atol=1e-6)
    assert found.loss == pytest.approx(-w * (3 * 1.28 - 1.3 * 3.5), abs=1e-5)


def test_the_released_sign_lifts_the_certain_tokens() -> None:
    batch = batch_of([[1.0, 0.0]], [[0.5] * 3, [0.5] * 2], entropies=entropies_of_e([[0, 1, 2], [4, 6]]))
    method = load("hapo", preset="released", eps=0.0, token_average=False, quantile=0.5)
    found = take_step(method, batch, batch.old_logprobs)
    # h~ = 1 1/2 0 | 1/2 1, all of which count as high now; inside, where high ones keep A
    w = 0.7071068 / 5
    assert torch.allclose(found.gradient, columns([[-w, -w, -w], [w, w]]), atol=1e-6)
    assert method.params.clip_high == 0.2


def naive(batch: RolloutBatch, logprobs: torch.Tensor, parts: str) -> tuple[float, Table]:
    lengths, group = lengths_of(batch), batch.rewards.shape[1]
    now, old, entropies = (tokens_of(each, lengths) for each in (logprobs, batch.old_logprobs, batch.entropies))
    rows = naive_grpo(rewards_of(batch))
    if "B" in parts:
        for p, rewards in enumerate(rewards_of(batch)):
            pairs = [
                (r, lengths[p * group + g])
                for g, r in enumerate(rewards)
                if not math.isnan(r) and lengths[p * group + g]
            ]
            if len({r for r, _ in pairs}) < 2:
                rows[p] = [0.0] * group
                continue
            tokens = sum(length for _, length in pairs)
            mean = sum(r * length for r, length in pairs) / tokens
            spread = math.sqrt(sum(length * (r - mean) ** 2 for r, length in pairs) / tokens)
            if all(abs(r - mean) / (spread + 1e-6) < 5 for r, _ in pairs):
                rows[p] = [0.0 if math.isnan(r) else (r - mean) / (spread + 1e-6) for r in rewards]
    advantages = each_token(rows, lengths)
    logs = sorted(math.log(max(value, 1e-8)) for row in entropies for value in row)
    pivot = logs[round(0.8 * (len(logs) - 1))]
    highest, lowest = max(logs) - pivot, pivot - min(logs)
    loss, gradient = 0.0, []
    for n, row in enumerate(now):
        gradient.append([0.0] * len(row))
        for t, value in enumerate(row):
            h = math.log(max(entropies[n][t], 1e-8)) - pivot
            h = h / max(highest, 1e-8) if h > 0 else h / max(lowest, 1e-8)
            low, high, a = 0.2, 0.28, advantages[n][t]
            if "D" in parts:
                low, high = (low * (1 - h), high) if h <= 0 else (low, high * (1 + h))
            ratio = math.exp(value - old[n][t])
            inside = 1 - low / 2 < ratio < 1 + high / 2
            if "C" in parts and inside == (h <= 0):
                a *= 1 + h
            weight = token_mean(lengths, [True] * len(lengths))[n]
            bounded = min(max(ratio, 1 - low), 1 + high)
            loss -= weight * min(ratio * a, bounded * a)
            if ratio * a <= bounded * a:
                gradient[n][t] = -weight * ratio * a
    return loss, gradient


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("parts", ["", "B", "C", "D", "BCD"])
def test_it_is_the_formula_as_loops(parts: str, seeds: range) -> None:
    settings = {name: letter in parts for name, letter in zip(ONE, "BCD", strict=True)}
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.2)
        found = take_step(load("hapo", **settings), batch, logprobs)
        assert_same_step(found, *naive(batch, logprobs, parts), batch.mask)


def test_without_its_parts_it_is_dapo_s_surrogate() -> None:
    batch = random_batch(5)
    logprobs = drifted(batch, 5, 0.3)
    one = take_step(load("hapo", **ONE), batch, logprobs)
    other = take_step(load("grpo", aggregate="token", clip_high=0.28), batch, logprobs)
    assert torch.equal(one.gradient, other.gradient)


def test_the_next_rollout_is_drawn_by_this_one_s_entropies() -> None:
    # log H of 0, 1, 2, 3, 4 and -2: the 0.8-quantile is number round(0.8 * 5) = 4 of the six in order, 3; above it 1, below 5
    entropies = columns([[E**0, E**1, E**2], [E**3, E**4, E**-2]])
    batch = batch_of([[1.0, 0.0]], [[0.5] * 3, [0.5] * 3], entropies=entropies)
    method = load("hapo", temperature_tau=0.1)
    assert "token_temperatures" in method.needs
    generate = ScriptedGenerate(lambda *_: ([1], [1.0], "correct"), group=2)
    method.sample(ScriptedProblems(1), generate)
    generate.state = dict(method.advantages(batch).state or {})
    method.sample(ScriptedProblems(1), generate)
    load("hapo", temperature_tau=0.1, low_sign=-1).sample(ScriptedProblems(1), generate)
    first, second, turned = generate.temperatures
    assert first is None
    assert second is not None
    assert (second.strength, second.centre) == (0.1, pytest.approx(3.0))
    assert (second.above, second.below) == pytest.approx((1.0, 5.0))
    assert turned is not None
    assert turned.below == pytest.approx(-5.0)


def test_without_a_tau_it_samples_and_remembers_as_grpo_does() -> None:
    method = load("hapo")
    assert method.samples is None
    assert "token_temperatures" not in method.needs
    assert method.advantages(random_batch(1)).state is None
    assert load("hapo", preset="paper").params.temperature_tau == 0.1
