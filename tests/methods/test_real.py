import math

import pytest
import torch

from progrpo.errors import ConfigError
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import SEEDS, batch_of, columns, drifted, lengths_of, random_batch, take_step, tokens_of
from stand_ins.every_method import load
from stand_ins.method_steps import Ragged, require_close, slopes


def test_by_hand() -> None:
    # tau 0.5, on the policy that sampled: s = 0, so log(1 + 1) + log(1 + 2) = 1.791759, halved: the second problem is all
    # right. Slopes: -2 1/2 1/2 of the right one, 2 1/3 1/2 of each wrong one, over their tokens.
    batch = batch_of([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [[0.5, 0.5], [0.5], [0.5, 0.5, 0.5], [0.5], [0.5], [0.5]])
    found = take_step(load("real"), batch, batch.old_logprobs)
    assert found.loss == pytest.approx(1.791759 / 2, abs=1e-6)
    expected = columns([[-0.25, -0.25], [1 / 3], [1 / 9] * 3, [0.0], [0.0], [0.0]])
    assert torch.allclose(found.gradient, expected, atol=1e-6)


def test_the_pull_fades_as_a_completion_is_classified() -> None:
    batch = batch_of([[1.0, 0.0]], [[0.2], [0.2]])
    pulls = [
        float(take_step(load("real"), batch, columns([[p], [0.2]]).log()).gradient[0, 0].abs())
        for p in (0.1, 0.2, 0.4, 0.8)
    ]
    assert pulls == sorted(pulls, reverse=True)
    assert pulls[0] < 2  # 1/tau


def naive(batch: RolloutBatch, logprobs: torch.Tensor, tau: float):
    lengths, group = lengths_of(batch), batch.rewards.shape[1]
    old = tokens_of(batch.old_logprobs, lengths)
    judged = batch.judged.flatten().tolist()
    right = batch.correct.flatten().tolist()
    present = [bool(length and known) for length, known in zip(lengths, judged, strict=True)]
    problems = len({n // group for n, there in enumerate(present) if there})

    def loss(now: Ragged) -> float:
        total = 0.0
        for p in range(len(batch.rewards)):
            scores: dict[bool, list[float]] = {True: [], False: []}
            for n in range(p * group, (p + 1) * group):
                if present[n]:
                    scores[right[n]].append(sum(a - b for a, b in zip(now[n], old[n], strict=True)) / lengths[n] / tau)
            if scores[True] and scores[False]:
                total += math.log(1 + sum(math.exp(-s) for s in scores[True]))
                total += math.log(1 + sum(math.exp(s) for s in scores[False]))
        return total / problems

    return loss, tokens_of(logprobs, lengths)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_it_is_the_formula_as_loops(tau: float, seeds: range) -> None:
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        loss, now = naive(batch, logprobs, tau)
        found = take_step(load("real", tau=tau), batch, logprobs)
        assert found.loss == pytest.approx(loss(now), rel=1e-4, abs=1e-5)
        require_close(tokens_of(found.gradient, lengths_of(batch)), slopes(loss, now))


@pytest.mark.parametrize("name", ["real", "pacs"])
def test_nothing_is_added_to_advantages_that_nobody_reads(name: str) -> None:
    with pytest.raises(ConfigError, match="its loss reads the verdicts and no advantages"):
        load(name, add="progrpo")
