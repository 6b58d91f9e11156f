import math

import pytest
import torch

from progrpo import methods
from progrpo.errors import PluginError
from progrpo.settings import Choice
from stand_ins.batch_steps import (
    Outcome,
    Table,
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

A = 0.7071068


def likeliest(rows: list[list[list[float]]]) -> torch.Tensor:
    """Probabilities of the two likeliest tokens in each place as log-probs [N, S, 2]."""
    return torch.tensor(rows).log()


def test_by_hand() -> None:
    # Entropies 1 2 3 and 3 2 1, quantile 0.4: place 0.8 of 2 steps: 1.8; tokens 2 3 and 1 2 are uncertain. All ratios are 1,
    # six tokens: A w = 0.70711 / 6. Right: own 1 at the first, 0.9 at the others, whose two likeliest get 0.05 each.
    # Wrong: 1.1 A where the likeliest was sampled: at the first, which is uncertain; not at the third, which is not.
    batch = batch_of(
        [[1.0, 0.0]], [[0.5, 0.2, 0.4], [0.6, 0.1, 0.7]], entropies=columns([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    )
    top = likeliest([[[0.5, 0.3], [0.6, 0.2], [0.4, 0.4]], [[0.6, 0.2], [0.5, 0.4], [0.7, 0.2]]])
    method = load("simko", eps=0.0, alpha=0.1, k=2, quantile=0.4)
    found = take_step(method, batch, batch.old_logprobs, top_logprobs=top)
    w = A / 6
    assert found.loss == pytest.approx(-(3 - 1.1 - 1 - 1) * w, abs=1e-6)
    expected = torch.tensor([[-w, -0.9 * w, -0.9 * w], [1.1 * w, w, w]])
    assert torch.allclose(found.gradient, expected, atol=1e-6)
    share = found.gradients["top_logprobs"]
    assert torch.allclose(share[0], torch.tensor([[0.0, 0.0], [-0.05 * w] * 2, [-0.05 * w] * 2]), atol=1e-7)
    assert not share[1].any()


def test_nothing_goes_to_the_likeliest_beyond_the_clip() -> None:
    # a ratio of 1.5 is clipped at 1.2, and with it the whole of the mixture
    batch = batch_of([[1.0, 0.0]], [[0.2], [0.5]], entropies=columns([[1.0], [1.0]]))
    top = likeliest([[[0.5, 0.3]], [[0.5, 0.3]]])
    # one token: its entropy is the quantile, not above it
    one = take_step(load("simko", k=2), batch, batch.old_logprobs, top_logprobs=top)
    assert not one.gradients["top_logprobs"].any()
    batch = batch_of([[1.0, 0.0]], [[0.2, 0.2], [0.5]], entropies=columns([[1.0, 2.0], [1.0]]))
    top = torch.cat([top, top], dim=1)
    for probability, shared in ((0.22, True), (0.3, False)):
        now = columns([[0.2, probability], [0.5]]).clamp(min=0.1).log()
        found = take_step(load("simko", k=2), batch, now, top_logprobs=top)
        assert bool(found.gradients["top_logprobs"].any()) is shared
        assert bool(found.gradient[0, 1]) is shared


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place + 1e-9)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def naive(batch, logprobs, top, *, alpha: float, k: int, q: float, penalty: float) -> tuple[float, Table, list]:
    """The ratios of the formula, written out, and their derivatives by each log-prob."""
    lengths = lengths_of(batch)
    now, old, entropies = (tokens_of(each, lengths) for each in (logprobs, batch.old_logprobs, batch.entropies))
    advantages = each_token(naive_grpo(rewards_of(batch)), lengths)
    right = [bool(c) for c in batch.correct.flatten()]
    weights = token_mean(lengths, [True] * len(lengths))
    loss, gradient, of_top = 0.0, [], []
    for n, row in enumerate(now):
        gradient.append([0.0] * len(row))
        of_top.append([[0.0] * k for _ in row])
        for t, value in enumerate(row):
            uncertain = entropies[n][t] > quantile(entropies[n], q)
            a, ratio = advantages[n][t], math.exp(value - old[n][t])
            best = top[n, t].tolist()
            if uncertain and a < 0 and value >= best[0]:
                a *= penalty
            mixed = uncertain and right[n]
            # rho' is rho in value, whatever the likeliest tokens' ratios: each is divided by itself
            inside = min(max(ratio, 0.8), 1.2)
            if ratio * a <= inside * a:
                loss -= weights[n] * ratio * a
                gradient[n][t] = -weights[n] * a * ratio * (1 - alpha if mixed else 1)
                of_top[n][t] = [-weights[n] * a * ratio * alpha / k if mixed else 0.0] * k
            else:
                loss -= weights[n] * inside * a
    return loss, gradient, of_top


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 0.01, "k": 3, "q": 0.8, "penalty": 1.1},
        {"alpha": 0.5, "k": 1, "q": 0.0, "penalty": 2.0},
        {"alpha": 1.0, "k": 2, "q": 0.5, "penalty": 1.0},
    ],
)
def test_it_is_the_formula_as_loops(settings: dict) -> None:
    own = {key: value for key, value in settings.items() if key != "q"}
    method, likely = load("simko", quantile=settings["q"], **own), 0
    for seed in range(30):
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.2)
        draw = torch.Generator().manual_seed(seed)
        rest = -0.1 - 3 * torch.rand(*batch.mask.shape, settings["k"], generator=draw)
        top = rest.sort(dim=-1, descending=True).values
        sampled = torch.rand(batch.mask.shape, generator=draw) < 0.5
        top[..., 0] = torch.where(sampled, logprobs, top[..., 0])  # some of the sampled tokens are the likeliest
        found: Outcome = take_step(method, batch, logprobs, top_logprobs=top)
        loss, gradient, of_top = naive(batch, logprobs, top, **settings)
        assert found.loss == pytest.approx(loss, rel=1e-4, abs=1e-5)
        assert torch.allclose(found.gradient, columns([*gradient, [0.0] * 6])[:-1], rtol=2e-4, atol=1e-6)
        for n, row in enumerate(of_top):
            assert torch.allclose(
                found.gradients["top_logprobs"][n, : len(row)], torch.tensor(row).view(-1, settings["k"]), atol=1e-6
            )
        likely += int((found.gradients["top_logprobs"] != 0).any())
    assert likely > 15


def test_without_a_share_and_a_penalty_it_is_grpo_with_the_same_mean() -> None:
    for seed in range(10):
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        top = torch.zeros(*batch.mask.shape, 3)
        one = take_step(load("simko", alpha=0.0, penalty=1.0), batch, logprobs, top_logprobs=top)
        other = take_step(load("grpo", aggregate="token"), batch, logprobs)
        assert one.loss == other.loss
        assert torch.equal(one.gradient, other.gradient)


def test_it_asks_for_as_many_tokens_as_it_reads() -> None:
    assert load("simko", k=5).top_tokens == 5
    assert load("grpo").top_tokens == 0
    assert load("simko").needs == {"entropies", "refresh", "top_logprobs"}


def test_a_method_that_reads_them_says_how_many(make_module) -> None:
    name = make_module("'''Made up.'''\nNEEDS = frozenset({'top_logprobs'})")
    with pytest.raises(PluginError, match=r"wants top_tokens\(params\)"):
        methods.load(Choice(name=name))
