"""docs/method.md, statement by statement, on a softmax over eight answers whose expected gradients are exact.

The package's own advantages are taken of every group that can be drawn (scripts/tabular.py); what they should sum to is
worked out here from the probabilities alone.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from progrpo import methods
from progrpo.algo.reweight import confidence_shift
from progrpo.settings import Choice

SCRIPT = Path(__file__).parents[2] / "scripts" / "tabular.py"
G = 4
AMONG_CORRECT = {"baseline": "correct_mean", "apply_to": "correct", "skip": "all_wrong"}


@pytest.fixture(scope="module")
def tabular() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tabular", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tabular"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def start(tabular: ModuleType) -> Tensor:
    return torch.tensor(tabular.START, dtype=torch.float64)


@pytest.fixture(scope="module")
def correct(tabular: ModuleType) -> Tensor:
    return torch.arange(len(tabular.START)) < tabular.CORRECT


def gradient(tabular: ModuleType, start: Tensor, correct: Tensor, *, group: int = G, **choice: Any) -> Tensor:
    method = methods.load(Choice(**choice))
    return tabular.expected_gradient(method, start.log(), correct, tabular.all_groups(len(start), group))


def shift_gradient(tabular: ModuleType, start: Tensor, correct: Tensor, *, group: int = G, **settings: Any) -> Tensor:
    """Of the shift alone: that of ProGRPO less that of GRPO, at alpha 1."""
    shifted = gradient(tabular, start, correct, group=group, name="progrpo", alpha=1.0, **settings)
    return shifted - gradient(tabular, start, correct, group=group, name="grpo")


def entropy_gradient(start: Tensor, among: Tensor) -> Tensor:
    """[K] gradient of the entropy of the distribution over the answers `among`, by autograd."""
    logits = start.log().requires_grad_()
    share = logits[among].softmax(dim=0)
    torch.special.entr(share).sum().backward()
    assert logits.grad is not None
    return logits.grad


def test_what_a_whole_group_shares_has_no_gradient(tabular: ModuleType, start: Tensor, correct: Tensor) -> None:
    one, none, prompt = (
        shift_gradient(tabular, start, correct, baseline=name, skip="never") for name in ("one", "none", "prompt")
    )
    assert torch.allclose(one, none, atol=1e-6)
    assert torch.allclose(prompt, none, atol=1e-6)
    assert none.abs().max() > 1e-2


def test_but_algorithm_1_s_skip_rule_makes_it_a_push_on_mixed_groups(
    tabular: ModuleType, start: Tensor, correct: Tensor
) -> None:
    # The same constant in mixed groups alone: its expected gradient is 1/G times that of P(mixed) = 1 - p^G - (1 - p)^G,
    # and dp/dtheta_k = pi_k (1[k correct] - p)
    one, none = (shift_gradient(tabular, start, correct, baseline=name) for name in ("one", "none"))
    p = float(start[correct].sum())
    slope = -G * p ** (G - 1) + G * (1 - p) ** (G - 1)
    assert torch.allclose(one - none, slope / G * start * (correct.double() - p), atol=1e-6)


@pytest.mark.parametrize("group", [2, 4, 6])
def test_log_prob_against_the_group_mean_is_an_entropy_bonus(
    tabular: ModuleType, start: Tensor, correct: Tensor, group: int
) -> None:
    found = shift_gradient(tabular, start, correct, group=group, score="log_prob", baseline="group_mean", skip="never")
    expected = (group - 1) / group * entropy_gradient(start, torch.ones_like(correct))
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("group", [2, 4, 6])
def test_among_the_correct_it_is_the_entropy_of_the_correct(
    tabular: ModuleType, start: Tensor, correct: Tensor, group: int
) -> None:
    # n correct of G make n - 1 free deviations: E[max(n - 1, 0)]/G = (G p - 1 + (1 - p)^G)/G
    p = float(start[correct].sum())
    free = (group * p - 1 + (1 - p) ** group) / group
    found = shift_gradient(tabular, start, correct, group=group, score="log_prob", **AMONG_CORRECT)
    assert torch.allclose(found, free * entropy_gradient(start, correct), atol=1e-6)
    assert found[~correct].abs().max() < 1e-6  # the incorrect answers' odds among each other stay


def test_what_it_costs_in_accuracy_to_first_order(tabular: ModuleType, start: Tensor, correct: Tensor) -> None:
    # dp along it: -p (1 - p) Cov_q(q, log q) per free deviation; 0 where the correct are equally likely
    def cost(policy: Tensor) -> tuple[float, float]:
        p = float(policy[correct].sum())
        q = policy[correct] / p
        free = (G * p - 1 + (1 - p) ** G) / G
        covariance = float((q * q * (q.log() + torch.special.entr(q).sum())).sum())
        found = shift_gradient(tabular, policy, correct, score="log_prob", **AMONG_CORRECT)
        along = float((policy * (correct.double() - p) * found).sum())
        return along, -free * p * (1 - p) * covariance

    found, expected = cost(start)
    assert found == pytest.approx(expected, abs=1e-6)
    assert found < -1e-3
    assert cost(torch.tensor([0.1] * 4 + [0.3, 0.15, 0.1, 0.05], dtype=torch.float64)) == pytest.approx(
        (0, 0), abs=1e-6
    )


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo"])
def test_grpo_lets_the_likelier_of_two_correct_answers_win(
    tabular: ModuleType, start: Tensor, correct: Tensor, name: str
) -> None:
    # every correct draw has the same expected advantage a: the gradient is pi_k a, so log odds move by (pi_i - pi_j) a
    found = gradient(tabular, start, correct, name=name)
    rates = (found / start)[correct]
    assert torch.allclose(rates, rates[:1].expand(4), atol=1e-6)
    assert rates[0] > 0.1


def test_the_shift_moves_odds_the_other_way(tabular: ModuleType, start: Tensor, correct: Tensor) -> None:
    for settings in ({"score": "c"}, {"score": "log_c"}, {"score": "log_c", "spread": "group_std"}):
        found = shift_gradient(tabular, start, correct, **settings, **AMONG_CORRECT)
        rates = (found / start)[correct]  # START falls from answer to answer
        assert (rates[1:] > rates[:-1]).all(), settings


@pytest.mark.parametrize("settings", [{}, {"spread": "group_std"}], ids=["", "group_std"])
def test_equally_likely_correct_answers_are_a_fixed_point(
    tabular: ModuleType, correct: Tensor, settings: dict[str, str]
) -> None:
    policy = torch.tensor([0.1] * 4 + [0.3, 0.15, 0.1, 0.05], dtype=torch.float64)
    found = shift_gradient(tabular, policy, correct, score="log_c", **settings, **AMONG_CORRECT)
    assert found.abs().max() < 1e-6


@pytest.mark.parametrize(("alpha", "stable"), [(0.5, False), (1.5, True)])
def test_without_a_scale_it_is_stable_where_alpha_exceeds_the_advantage_of_a_correct_answer(
    tabular: ModuleType, correct: Tensor, alpha: float, stable: bool
) -> None:
    # Near it, with pi_i = u (1 + d_i), the log odds of two correct answers move by u (d_i - d_j) (a - alpha f), a the
    # expected advantage of a correct draw and f = E[(n - 1)+]/(G p) the share of the shift that a group's mean leaves.
    policy = torch.tensor([0.151, 0.149, 0.15, 0.15, 0.2, 0.1, 0.07, 0.03], dtype=torch.float64)
    p = float(policy[correct].sum())
    found = gradient(tabular, policy, correct, name="progrpo", score="log_prob", alpha=alpha, **AMONG_CORRECT)
    plain = gradient(tabular, policy, correct, name="grpo")
    a, f = float(plain[2]) / 0.15, (G * p - 1 + (1 - p) ** G) / (G * p)
    assert float(found[0] - found[1]) == pytest.approx(0.002 * (a - alpha * f), rel=2e-2)
    assert bool(found[0] < found[1]) is stable
    assert 0.5 * f < a < 1.5 * f


@pytest.mark.slow
def test_a_thousand_steps(tabular: ModuleType) -> None:
    path = {
        name: tabular.train(choice)
        for name, choice in tabular.VARIANTS.items()
        if name in ("GRPO", "ProGRPO, paper's default", "balanced")
    }
    alive = {name: tabular.effective_answers(one) for name, one in path.items()}
    # GRPO ends with one of four answers; the default with the same one, never far from GRPO
    assert alive["GRPO"][-1] < 1.1
    distance = (path["GRPO"] - path["ProGRPO, paper's default"]).abs().sum(dim=1) / 2
    assert distance.max() < 0.1
    assert distance[-1] < 0.01
    # the balanced form with all four, nearly equally likely, at the same accuracy
    share = path["balanced"][-1, :4] / path["balanced"][-1, :4].sum()
    assert (share - 0.25).abs().max() < 0.02
    assert alive["balanced"][0] < 3.2 < 3.99 < alive["balanced"][-1]
    for one in path.values():
        assert one[-1, :4].sum() > 0.99


def test_of_one_correct_answer_nothing_can_be_compared(tabular: ModuleType, start: Tensor) -> None:
    lone = torch.arange(8) == 2
    assert shift_gradient(tabular, start, lone, score="log_c", spread="group_std", **AMONG_CORRECT).abs().max() < 1e-6
    # ... nor can it where a correct answer is drawn once a group: the smaller p, the less is left, as p^2
    rare = torch.tensor([0.004, 0.003, 0.002, 0.001, 0.5, 0.3, 0.1, 0.09], dtype=torch.float64)
    common = torch.tensor([0.04, 0.03, 0.02, 0.01, 0.45, 0.27, 0.1, 0.08], dtype=torch.float64)
    one, ten = (
        shift_gradient(tabular, policy, torch.arange(8) < 4, score="log_prob", **AMONG_CORRECT).norm()
        for policy in (rare, common)
    )
    assert 80 < ten / one < 101


def test_noise_in_the_score_takes_its_share_of_the_shift() -> None:
    # Scores of variance 1 with noise of variance 3: in standard deviations of the sum, a unit of the score is half as much
    # (1/sqrt(1 + 3)). Same completions with noise alone: standard scores of noise, which sum to 0 and so push nowhere.
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, 16, generator=draw)
    correct = torch.ones(4000, 16, dtype=torch.bool)

    def slope(noise: float) -> float:
        noisy = scores + noise * torch.randn(4000, 16, generator=draw)
        found = confidence_shift(correct, torch.zeros(4000), noisy, **AMONG_CORRECT, spread="group_std")
        return float(-(found * scores).mean())

    assert slope(3**0.5) / slope(0.0) == pytest.approx(0.5, abs=0.02)
    same = torch.full((4000, 16), -0.7) + 1e-6 * torch.randn(4000, 16, generator=draw)
    found = confidence_shift(correct, torch.zeros(4000), same, **AMONG_CORRECT, spread="group_std")
    assert found.abs().mean() > 0.5
    assert found.sum(dim=1).abs().max() < 1e-4


def test_on_long_paths_the_choice_that_matters_drowns_in_the_others() -> None:
    # A path is one choice between two strategies (0.9 and 0.1: the log-probs differ by 2.197) and L words of 0.9 and 0.1.
    # Var of a word's log-prob: 0.09 * 2.197^2, the same as the choice's: their correlation is 1/sqrt(1 + L).
    draw = torch.Generator().manual_seed(0)
    for words, expected in ((0, 1.0), (3, 0.5), (99, 0.1)):
        likely = torch.rand(200_000, words + 1, generator=draw) < 0.9
        logprobs = torch.where(likely, 0.9, 0.1).log()
        found = torch.corrcoef(torch.stack([logprobs[:, 0], logprobs.sum(dim=1)]))[0, 1]
        assert float(found) == pytest.approx(expected, abs=0.01)
