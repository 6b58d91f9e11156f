import math

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import SEEDS, batch_of, columns, drifted, lengths_of, random_batch, take_step, tokens_of
from stand_ins.every_method import load
from stand_ins.method_steps import Ragged, require_close, slopes


def test_by_hand() -> None:
    # On the policy that sampled psi = 0: every cross-entropy is log 2, and its slope by psi 1/2 - label. One of three is
    # right: weights 3/2 and 3/4. By psi: -3/4, 3/8, 3/8; by s_i that less half the others': -3/4 - 3/8, 3/8 + 3/8 - 3/16, ...
    batch = batch_of([[1.0, 0.0, 0.0]], [[0.5, 0.5], [0.5], [0.5]])
    found = take_step(load("pacs"), batch, batch.old_logprobs)
    assert found.loss == pytest.approx(math.log(2), abs=1e-6)
    slope = -3 / 4 - 3 / 8
    expected = columns([[slope / 3] * 2, [9 / 16 / 3], [9 / 16 / 3]])
    assert torch.allclose(found.gradient, expected, atol=1e-6)
    plain = take_step(load("pacs", balance=False), batch, batch.old_logprobs)
    # -1/2 - (1/2 + 1/2)/2 = -1 and 1/2 - (-1/2 + 1/2)/2 = 1/2
    assert torch.allclose(plain.gradient, columns([[-1 / 3] * 2, [1 / 6], [1 / 6]]), atol=1e-6)


def naive(batch: RolloutBatch, logprobs: torch.Tensor, beta: float, score: str, balance: bool):
    lengths, group = lengths_of(batch), batch.rewards.shape[1]
    old = tokens_of(batch.old_logprobs, lengths)
    judged, right = batch.judged.flatten().tolist(), batch.correct.flatten().tolist()
    present = [bool(length and known) for length, known in zip(lengths, judged, strict=True)]

    def loss(now: Ragged) -> float:
        total = 0.0
        for p in range(len(batch.rewards)):
            own = [n for n in range(p * group, (p + 1) * group) if present[n]]
            s = {
                n: beta
                * (
                    sum(a - b for a, b in zip(now[n], old[n], strict=True))
                    if score == "log_ratio"
                    else sum(now[n]) / lengths[n]
                )
                for n in own
            }
            for n in own:
                others = [s[m] for m in own if m != n]
                psi = s[n] - (sum(others) / len(others) if others else 0.0)
                alike = sum(right[m] == right[n] for m in own)
                weight = len(own) / (2 * alike) if balance and alike < len(own) else 1.0
                total += weight * math.log(1 + math.exp(-psi if right[n] else psi))
        return total / sum(present)

    return loss, tokens_of(logprobs, lengths)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    ("beta", "score", "balance"), [(1.0, "log_ratio", True), (2.0, "mean_logprob", True), (0.5, "log_ratio", False)]
)
def test_it_is_the_formula_as_loops(beta: float, score: str, balance: bool, seeds: range) -> None:
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        loss, now = naive(batch, logprobs, beta, score, balance)
        found = take_step(load("pacs", beta=beta, score=score, balance=balance), batch, logprobs)
        assert found.loss == pytest.approx(loss(now), rel=1e-4, abs=1e-5)
        require_close(tokens_of(found.gradient, lengths_of(batch)), slopes(loss, now))
