from dataclasses import replace

import pytest
import torch

from progrpo.algo.distributions import Nucleus
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import SEEDS, batch_of, columns, drifted, lengths_of, random_batch, take_step, tokens_of
from stand_ins.every_method import load


def quantile(values: list[float], q: float) -> float:
    ordered, place = sorted(values), q * (len(values) - 1)
    low = int(place + 1e-9)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(values) - 1)] - ordered[low])


def test_by_hand() -> None:
    # H' = 0 1 2 | 3 1: medians 1 and 2, peaks 2 and 3: H = (2 + 3)/2 = 2.5. The anchor is 2: 0.1 0.5^2 = 0.025,
    # slopes 2 0.1 0.5 1/2 = 0.05 at each peak.
    batch = batch_of([[1.0, 1.0]], [[0.5] * 3, [0.5] * 2], nucleus_entropies=columns([[0.0, 1.0, 2.0], [3.0, 1.0]]))
    batch = replace(batch, state={"anchor": 2.0})
    found = take_step(load("siren", beta=0.1, quantile=0.5), batch, batch.old_logprobs)
    assert found.loss == pytest.approx(0.025, abs=1e-6)
    assert torch.allclose(found.gradients["nucleus_entropies"], columns([[0, 0, 0.05], [0.05, 0]]), atol=1e-7)
    assert not found.gradient.any()


def test_the_anchor_is_that_of_the_first_rollout() -> None:
    method, first = load("siren"), random_batch(0)
    made = method.advantages(first)
    assert made.state["anchor"] == pytest.approx(made.stats["siren/peak_entropy"].total)
    later = replace(random_batch(1), state=dict(made.state))
    assert method.advantages(later).state == made.state
    # where nothing has moved, nothing is pulled
    found = take_step(method, replace(first, state={}), first.old_logprobs)
    assert float(found.gradients["nucleus_entropies"].abs().max()) < 1e-9


def naive(batch: RolloutBatch, q: float) -> tuple[float, list[list[float]]]:
    lengths = lengths_of(batch)
    rows = tokens_of(batch.nucleus_entropies, lengths)
    count, total, shares = sum(length > 0 for length in lengths), 0.0, []
    for row in rows:
        peaks = [value > quantile(row, q) for value in row] if row else []
        shares.append([1 / count / sum(peaks) if peak else 0.0 for peak in peaks])
        total += sum(value * share for value, share in zip(row, shares[-1], strict=True))
    return total, shares


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("q", [0.8, 0.4])
def test_it_is_the_formula_as_loops(q: float, seeds: range) -> None:
    for seed in seeds:
        batch = replace(random_batch(seed), state={"anchor": 0.3})
        logprobs = drifted(batch, seed, 0.3)
        found = take_step(load("siren", quantile=q, beta=0.7), batch, logprobs)
        plain = take_step(load("grpo", scale="none", aggregate="fixed", clip_low=0.28, clip_high=0.28), batch, logprobs)
        level, shares = naive(batch, q)
        assert found.loss - plain.loss == pytest.approx(0.7 * (level - 0.3) ** 2, abs=1e-5)
        assert torch.equal(found.gradient, plain.gradient)
        expected = columns([*shares, [0.0] * batch.mask.shape[1]])[:-1] * 2 * 0.7 * (level - 0.3)
        assert torch.allclose(found.gradients["nucleus_entropies"], expected, atol=1e-6)
        whole = [torch.arange(9)[::2], torch.arange(9)[1::2]]
        again = take_step(load("siren", quantile=q, beta=0.7), batch, logprobs, parts=whole)
        assert again.loss == pytest.approx(found.loss, abs=1e-5)
        assert torch.allclose(again.gradients["nucleus_entropies"], expected, atol=1e-6)


def test_needs_and_presets() -> None:
    assert load("siren").further.with_gradient.nucleus_entropies == Nucleus(mass=0.8)
    released = load("siren", preset="released")
    assert released.further.nucleus_entropies == Nucleus(mass=0.8, crossing=False)
