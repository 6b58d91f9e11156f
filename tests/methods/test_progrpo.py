"""The numbers of two groups of three, worked out by hand.

Group 1: verdicts right wrong wrong. GRPO with the sample std: mean 1/3, std sqrt(1/3) = 0.57735: 1.15470, -0.57735 twice.
Confidences (one lowest token each, since ceil(0.2 n) = 1 for n <= 5): 0.5, 0.2, 0.6. Prompt: lowest of 0.1 and 0.9: 0.1.
Group 2: all correct, advantages 0. Confidences 0.9, 0.5, 0.3; prompt 0.4.
"""

import math
from collections.abc import Callable

import pytest
import torch

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.methods import progrpo
from progrpo.settings import Choice
from progrpo.types import RolloutBatch

Make = Callable[..., RolloutBatch]

R, W = 1.1547005, -0.5773503


def values(rollout_batch: Make, **settings: object) -> list[float]:
    settings = {"eps": 0.0} | settings
    batch = rollout_batch()
    return methods.load(Choice(name="progrpo", **settings)).advantages(batch).values.flatten().tolist()


def test_default_is_eq_4_with_the_skip_rule_of_algorithm_1(rollout_batch: Make) -> None:
    # 0.3 * (0.1 - c) = -0.12, -0.03, -0.15
    expected = [R - 0.12, W - 0.03, W - 0.15, 0.0, 0.0, 0.0]
    assert values(rollout_batch) == pytest.approx(expected, abs=1e-6)


def test_eq_4_s_own_skip_rule_also_acts_in_all_correct_groups(rollout_batch: Make) -> None:
    # second group: 0.3 * (0.4 - c) = -0.15, -0.03, 0.03
    expected = [R - 0.12, W - 0.03, W - 0.15, -0.15, -0.03, 0.03]
    assert values(rollout_batch, skip="all_wrong") == pytest.approx(expected, abs=1e-6)


def test_equilibrium_sums_to_zero_in_each_group(rollout_batch: Make) -> None:
    # mean c = 1.3/3 and 1.7/3; alpha 1: 0.43333 - c = -0.06667, 0.23333, -0.16667 and 0.56667 - c = -1/3, 1/15, 4/15
    expected = [R - 0.2 / 3, W + 0.7 / 3, W - 0.5 / 3, -1 / 3, 1 / 15, 4 / 15]
    result = values(rollout_batch, preset="equilibrium", alpha=1.0)
    assert result == pytest.approx(expected, abs=1e-6)
    assert sum(result[:3]) == pytest.approx(0.0, abs=1e-6)
    assert sum(result[3:]) == pytest.approx(0.0, abs=1e-6)


def test_paper_preset_has_the_population_standard_deviation(rollout_batch: Make) -> None:
    # std sqrt(2/9): 1.41421, -0.70711
    expected = [1.4142136 - 0.12, -0.7071068 - 0.03, -0.7071068 - 0.15]
    assert values(rollout_batch, preset="paper")[:3] == pytest.approx(expected, abs=1e-6)


def test_theory_preset(rollout_batch: Make) -> None:
    expected = [1.4142136 - 0.02, -0.7071068 + 0.07, -0.7071068 - 0.05, 0.0, 0.0, 0.0]
    assert values(rollout_batch, preset="theory") == pytest.approx(expected, abs=1e-6)


def test_a_completion_without_a_verdict_is_left_alone(rollout_batch: Make) -> None:
    # The third of the first group was not judged: rewards 1 0, mean 1/2, sample std 1/sqrt(2): +-0.70711;
    # group mean of c over 0.5 and 0.2: 0.35, shifts -0.15 and 0.15, alpha 1
    batch = rollout_batch(rewards=torch.tensor([[1.0, 0.0, float("nan")], [1.0, 1.0, 1.0]]))
    method = methods.load(Choice(name="progrpo", preset="equilibrium", alpha=1.0, eps=0.0))
    result = method.advantages(batch).values[0].tolist()
    assert result == pytest.approx([0.70711 - 0.15, -0.70711 + 0.15, 0.0], abs=1e-5)


def test_presets_differ_in_aggregation() -> None:
    assert methods.load(Choice(name="progrpo", preset="verl")).params.aggregate == "token"
    assert methods.load(Choice(name="progrpo", preset="paper")).params.aggregate == "group_token"


def test_alpha_zero_is_grpo_bit_for_bit(rollout_batch: Make) -> None:
    grpo = methods.load(Choice(name="grpo")).advantages(rollout_batch()).values
    zero = methods.load(Choice(name="progrpo", alpha=0)).advantages(rollout_batch()).values
    assert torch.equal(grpo, zero)


def test_low_tokens_by_entropy(rollout_batch: Make) -> None:
    # the fixture's entropies rise along each row, so the last token of each completion counts: 0.8, 0.2, 0.9
    expected = [R + 0.3 * (0.1 - 0.8), W + 0.3 * (0.1 - 0.2), W + 0.3 * (0.1 - 0.9)]
    assert values(rollout_batch, low_by="entropy")[:3] == pytest.approx(expected, abs=1e-6)


def test_stats(rollout_batch: Make) -> None:
    batch = rollout_batch()
    stats = methods.load(Choice(name="progrpo")).advantages(batch).stats
    # c(q) (0.1 + 0.4) / 2; c(o) (0.5 + 0.2 + 0.6 + 0.9 + 0.5 + 0.3) / 6; shift -0.4 -0.1 -0.5 0 0 0
    assert stats["progrpo/prompt_confidence"].value == pytest.approx(0.25)
    assert stats["progrpo/completion_confidence"].value == pytest.approx(0.5)
    assert stats["progrpo/shift"].value == pytest.approx(-1.0 / 6)
    assert stats["progrpo/shift_abs"].value == pytest.approx(1.0 / 6)
    assert stats["progrpo/sign_flips"].value == 0.0


def test_sign_flips_are_counted_among_nonzero_advantages(rollout_batch: Make) -> None:
    batch = rollout_batch()
    # alpha 3, group mean: R - 0.2, W + 0.7 > 0 flips, W - 0.5: one of three
    stats = methods.load(Choice(name="progrpo", preset="equilibrium", alpha=3.0)).advantages(batch).stats
    assert stats["progrpo/sign_flips"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("settings", "group", "warns"),
    [
        ({"alpha": 0.3}, 8, False),  # 0.3 < 1/sqrt(8) = 0.354
        ({"alpha": 0.3}, 16, True),  # 0.3 > 1/sqrt(16) = 0.25
        ({"alpha": 0.3, "ddof": 0}, 12, False),  # 0.3 < 1/sqrt(11) = 0.3015
        ({"alpha": 0.3, "ddof": 1}, 12, True),  # 0.3 > 1/sqrt(12) = 0.2887
        ({"alpha": 0.7}, 8, True),
        ({"alpha": 0.0}, 64, False),
        ({"alpha": 0.4, "baseline": "group_mean"}, 8, False),  # sup of the shift is 7/8: 0.35 < 0.354
    ],
)
def test_warning_when_a_sign_can_flip(settings: dict[str, object], group: int, warns: bool) -> None:
    assert bool(methods.load(Choice(name="progrpo", **settings)).check(group)) is warns


def test_the_alpha_that_the_warning_names_is_safe() -> None:
    method = methods.load(Choice(name="progrpo", alpha=1.0))
    (warning,) = method.check(16)
    safe = float(warning.rsplit("alpha <= ", 1)[1].split(" ")[0])
    assert methods.load(Choice(name="progrpo", alpha=safe)).check(16) == []


def test_needs_follow_the_settings() -> None:
    def needs(**settings: object) -> frozenset[str]:
        return methods.load(Choice(name="progrpo", **settings)).needs

    assert needs() == {"prompt_logprobs"}
    assert needs(low_by="entropy") == {"prompt_logprobs", "entropies"}
    assert needs(logprobs_from="current") == {"prompt_logprobs", "refresh_advantages"}


def test_confidences_without_prompt_logprobs(rollout_batch: Make) -> None:
    batch = rollout_batch(prompt_logprobs=None, prompt_mask=None)
    result = methods.load(Choice(name="progrpo", preset="equilibrium")).advantages(batch)
    assert torch.isfinite(result.values).all()
    assert result.stats["progrpo/prompt_confidence"].value is None


def test_every_variant_of_the_paper_is_a_setting() -> None:
    variants = {"baseline", "skip", "apply_to", "low_by", "fraction", "rounding", "mean", "logprobs_from", "alpha"}
    assert variants <= set(progrpo.Params.model_fields)
    assert set(progrpo.PRESETS) == {"paper", "verl", "theory", "equilibrium", "balanced", "agent"}


# Group 1 has one correct completion: nothing to compare. Group 2 has log c = log 0.9, log 0.5, log 0.3 (mean -0.66749, sample
# std 0.54976): z = -1.02252, 0.04666, 0.97586; 2 tanh(z/2) = -0.94218, 0.04666, 0.90514 less its mean.
BALANCED = [-0.94516, 0.04334, 0.90182]


def test_balanced_compares_the_correct_with_each_other(rollout_batch: Make) -> None:
    assert values(rollout_batch, preset="balanced", alpha=1.0) == pytest.approx([R, W, W, *BALANCED], abs=2e-5)
    assert values(rollout_batch, preset="balanced") == pytest.approx([R, W, W, *(0.6 * x for x in BALANCED)], abs=2e-5)


def test_the_whole_path(rollout_batch: Make) -> None:
    # log p = log 0.9, log 0.35, log 0.12
    found = values(rollout_batch, preset="balanced", score="log_prob", alpha=1.0)
    assert found[3:] == pytest.approx([-0.90430, -0.03869, 0.94299], abs=2e-5)


def test_of_all_tokens_log_c_is_the_mean_log_probability(rollout_batch: Make) -> None:
    # log 0.9, log 0.35 / 2 = -0.52491, log 0.12 / 2 = -1.06013; mean over the three -0.56347, no scale
    found = values(rollout_batch, preset="balanced", fraction=1.0, spread="none", alpha=1.0)
    assert found[3:] == pytest.approx([-0.45811, -0.03856, 0.49667], abs=2e-5)


def test_the_logarithm_against_the_prompt(rollout_batch: Make) -> None:
    # log 0.1 - log c over 0.5 0.2 0.6: log of 0.2, 0.5, 1/6
    found = values(rollout_batch, score="log_c", alpha=0.1)
    expected = [R + 0.1 * math.log(0.2), W + 0.1 * math.log(0.5), W + 0.1 * math.log(1 / 6), 0.0, 0.0, 0.0]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_trend_in_the_length_can_be_left_out(rollout_batch: Make) -> None:
    # lengths 1 2 2, log p -0.10536, -1.04982, -2.12026: the line goes through the first and the mean of the others,
    # residuals 0, 0.53522, -0.53522; std 0.53522: z = 0, -1, 1; 2 tanh(1/2) = 0.92423
    found = values(rollout_batch, preset="balanced", score="log_prob", length_trend="remove", alpha=1.0)
    assert found[3:] == pytest.approx([0.0, -0.92423, 0.92423], abs=2e-5)


def test_stats_of_the_balanced_form(rollout_batch: Make) -> None:
    stats = methods.load(Choice(name="progrpo", preset="balanced", eps=0.0)).advantages(rollout_batch()).stats
    # 0.6 * (0.94516 + 0.04334 + 0.90182) over |A| = 1.15470 + 2 * 0.57735
    assert stats["progrpo/shift_share"].value == pytest.approx(0.49112, abs=2e-5)
    # one of the four correct ones
    assert stats["progrpo/negative_correct"].value == 0.25
    # shifts of the second group against lengths 1 2 2: sum of products 0.94516, over sqrt(1.70846 * 2/3)
    assert stats["progrpo/shift_length_correlation"].value == pytest.approx(0.88562, abs=2e-5)
    assert stats["progrpo/completion_confidence"].value == pytest.approx(0.5)  # c, whatever the score


def test_the_share_of_the_default_leaves_out_what_a_group_shares(rollout_batch: Make) -> None:
    # shifts -0.4 -0.1 -0.5 less their mean -1/3: 0.06667 + 0.23333 + 0.16667, times 0.3; 0 in the second group
    stats = methods.load(Choice(name="progrpo", eps=0.0)).advantages(rollout_batch()).stats
    assert stats["progrpo/shift_share"].value == pytest.approx(0.3 * 0.46667 / 2.30940, abs=1e-5)
    # the all-correct group is left alone; lengths 2 1 3 against the deviations -0.06667, 0.23333, -0.16667
    assert stats["progrpo/shift_length_correlation"].value == pytest.approx(-0.4 / (0.08667 * 2) ** 0.5, abs=1e-3)


@pytest.mark.parametrize("score", ["log_c", "log_prob"])
def test_a_correct_completion_without_a_verdict_is_not_compared(rollout_batch: Make, score: str) -> None:
    batch = rollout_batch(rewards=torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, float("nan")]]))
    method = methods.load(Choice(name="progrpo", preset="balanced", score=score, alpha=1.0, eps=0.0))
    # two are left: z = +-0.70711, 2 tanh(z/2) = 0.67905
    assert method.advantages(batch).values[1].tolist() == pytest.approx([-0.67905, 0.67905, 0.0], abs=2e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spread": "group_std"}, "spread=group_std compares the completions .* needs baseline=group_mean or"),
        ({"length_trend": "remove"}, "length_trend=remove compares"),
        ({"score": "log_prob"}, "score=log_prob cannot be compared with baseline=prompt: expected one of none"),
        ({"score": "log_c", "baseline": "one"}, "score=log_c cannot be compared with baseline=one"),
    ],
)
def test_what_cannot_be_compared_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        methods.load(Choice(name="progrpo", **settings))


@pytest.mark.parametrize(
    ("settings", "warns"),
    [
        ({"preset": "balanced"}, False),
        ({"preset": "balanced", "alpha": 1.0}, False),
        ({"preset": "balanced", "alpha": 1.01}, True),
        ({"score": "log_c", "alpha": 0.01}, True),  # no bound
        ({"score": "log_c", "alpha": 0.0}, False),
        ({"baseline": "correct_mean", "apply_to": "correct", "alpha": 0.4}, False),  # 7/8 of 0.4 is below 0.354
    ],
)
def test_warnings_of_the_other_scores(settings: dict[str, object], warns: bool) -> None:
    assert bool(methods.load(Choice(name="progrpo", **settings)).check(8)) is warns


def test_the_agent_preset_shifts_correct_completions_against_their_mean(rollout_batch: Make) -> None:
    # Centred rewards without a standard deviation. First group: one correct completion, nothing to compare: 2/3 -1/3 -1/3.
    # Second: all correct, c = 0.9 0.5 0.3, mean 0.566667, alpha 0.3 times the differences
    expected = [2 / 3, -1 / 3, -1 / 3, *(0.3 * (1.7 / 3 - c) for c in (0.9, 0.5, 0.3))]
    assert values(rollout_batch, preset="agent") == pytest.approx(expected, abs=1e-6)
    params = methods.load(Choice(name="progrpo", preset="agent")).params
    assert (params.alpha, params.clip_low, params.clip_high, params.aggregate) == (0.3, 0.2, 0.2, "token")
