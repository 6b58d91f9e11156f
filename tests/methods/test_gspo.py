import math

import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
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
from stand_ins.naive_methods import naive_grpo


def load(**settings: object) -> Method:
    return methods.load(Choice(name="gspo", **settings))


def test_by_hand() -> None:
    # A = 0.70711, -0.70711. Ratios 2 and 1/2: s = sqrt(2 * 1/2) = 1, though both tokens are outside the clip;
    # 1.5 and 1.5: s = 1.5, A < 0: min(-1.06066, -1.2 * 0.70711) = -1.06066. J = (0.70711 - 1.06066) / 2
    batch = batch_of([[1.0, 0.0]], [[0.4, 0.8], [0.2, 0.4]])
    now = columns([[0.8, 0.4], [0.3, 0.6]]).log()
    found = take_step(load(eps=0.0, clip_low=0.2, clip_high=0.2), batch, now)
    assert found.loss == pytest.approx(0.353553 / 2, abs=1e-5)
    # dJ/dlog p = s A / (N len)
    expected = [[-0.70711 / 4, -0.70711 / 4], [1.06066 / 4, 1.06066 / 4]]
    assert torch.allclose(found.gradient, torch.tensor(expected), atol=1e-5)


def test_a_clipped_completion_has_no_gradient() -> None:
    # s = 1.5 > 1.0004 with A > 0: J = 1.0004 * 0.70711; the other has s = 1
    batch = batch_of([[1.0, 0.0]], [[0.2], [0.4]])
    found = take_step(load(eps=0.0), batch, columns([[0.3], [0.4]]).log())
    assert found.loss == pytest.approx(-0.0004 * 0.70711 / 2, abs=1e-6)
    assert found.gradient.tolist() == [[0.0], [pytest.approx(0.70711 / 2, abs=1e-5)]]


def naive(batch: RolloutBatch, logprobs: torch.Tensor, low: float, high: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
    advantages = [a for row in naive_grpo(rewards_of(batch)) for a in row]
    loss, gradient = 0.0, []
    for n, length in enumerate(lengths):
        if not length:
            gradient.append([])
            continue
        ratio = math.exp(sum(a - b for a, b in zip(now[n], old[n], strict=True)) / length)
        plain, inside = ratio * advantages[n], min(max(ratio, 1 - low), 1 + high) * advantages[n]
        loss -= min(plain, inside) / len(lengths)
        slope = plain / length if plain <= inside else 0.0
        gradient.append([-slope / len(lengths)] * length)
    return loss, gradient


@pytest.mark.parametrize(("low", "high", "drift"), [(3e-4, 4e-4, 1e-3), (0.2, 0.28, 0.5)])
def test_it_is_the_formula_as_loops(low: float, high: float, drift: float) -> None:
    method = load(clip_low=low, clip_high=high)
    for seed in range(30):
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, drift)
        assert_same_step(take_step(method, batch, logprobs), *naive(batch, logprobs, low, high), batch.mask)


def test_in_the_first_step_of_a_rollout_its_gradient_is_grpo_s() -> None:
    grpo = methods.load(Choice(name="grpo"))
    for seed in range(10):
        batch = random_batch(seed)
        one, other = (take_step(method, batch, batch.old_logprobs) for method in (load(), grpo))
        assert torch.allclose(one.gradient, other.gradient, atol=1e-7)
