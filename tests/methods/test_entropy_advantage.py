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
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_mean


def load(**settings: object) -> Method:
    return methods.load(Choice(name="entropy_advantage", **settings))


@pytest.fixture
def batch() -> RolloutBatch:
    return batch_of([[1.0, 0.0]], [[0.5, 0.5], [0.4]], entropies=columns([[0.5, 2.0], [1.0]]))


def test_by_hand(batch: RolloutBatch) -> None:
    # GRPO: rewards 1 0, sample std 0.70711: A = 0.70711, -0.70711. Bonus min(0.4 H, 0.70711 / 2):
    # 0.2 and 0.35355 (not 0.8); 0.35355 (not 0.4). At ratio 1: J = 1/2 (mean(0.90711, 1.06066) - 0.35355)
    found = take_step(load(eps=0.0), batch, batch.old_logprobs)
    assert found.loss == pytest.approx(-(1.96777 / 4 - 0.35355 / 2), abs=1e-5)
    assert found.gradient.flatten().tolist() == pytest.approx([-0.90711 / 4, -1.06066 / 4, 0.35355 / 2, 0.0], abs=1e-5)
    made = load(eps=0.0).advantages(batch)
    assert made.values.tolist() == [pytest.approx([0.70711, -0.70711], abs=1e-5)]
    # over three tokens: 0.2 + 0.35355 + 0.35355
    assert made.stats["entropy_advantage/bonus"].value == pytest.approx(0.90711 / 3, abs=1e-5)


def naive(batch: RolloutBatch, logprobs: torch.Tensor, *, alpha: float, kappa: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    base = each_token(naive_grpo(rewards_of(batch)), lengths)
    entropies = tokens_of(batch.entropies, lengths)
    shaped = [
        [a + min(alpha * h, abs(a) / kappa) for a, h in zip(row, own, strict=True)]
        for row, own in zip(base, entropies, strict=True)
    ]
    now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
    return naive_loss(now, old, shaped, sequence_mean(lengths), clipped(0.8, 1.2))


@pytest.mark.parametrize("settings", [{"alpha": 0.4, "kappa": 2.0}, {"alpha": 0.7, "kappa": 1.0}])
def test_it_is_the_formula_as_loops(settings: dict[str, float]) -> None:
    method = load(**settings)
    for seed in range(30):
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        assert_same_step(take_step(method, batch, logprobs), *naive(batch, logprobs, **settings), batch.mask)


def test_no_advantage_turns_its_sign() -> None:
    for seed in range(10):
        batch = random_batch(seed)
        made = load(alpha=100.0).advantages(batch)
        base = made.values.flatten()[:, None].expand(batch.mask.shape)
        assert torch.equal(made.tokens.sign()[batch.mask], base.sign()[batch.mask])


def test_alpha_zero_is_grpo() -> None:
    grpo = methods.load(Choice(name="grpo"))
    for seed in range(10):
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        one, other = take_step(load(alpha=0.0), batch, logprobs), take_step(grpo, batch, logprobs)
        assert one.loss == other.loss
        assert torch.equal(one.gradient, other.gradient)
