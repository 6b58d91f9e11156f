"""verl's keys, columns and settings as the methods see them; verl itself is not needed."""

import logging
from typing import Any

import pytest
import torch

from progrpo.adapters.verl import rollout, settings
from progrpo.adapters.verl.rollout import VerlRollout
from progrpo.errors import ConfigError
from stand_ins import host_rollouts
from stand_ins.host_rollouts import batch


def test_keys() -> None:
    """A uid may have underscores of its own; the last two parts are the session and the trajectory."""
    assert rollout.split_key("a_b_2_0") == rollout.Key(prompt="a_b", session="2", index=0)
    with pytest.raises(ConfigError, match="expected uid_session_index"):
        rollout.split_key("abc")


def test_the_last_trajectory_of_a_session_counts_and_the_first_has_the_prompt() -> None:
    keys = ["p_0_1", "q_0_0", "p_0_0", "p_1_0", "p_0_2"]
    finals, owner = rollout.final_rows(keys)
    assert finals == [4, 1, 3]
    assert owner.tolist() == [0, 1, 0, 2, 0]
    assert rollout.first_rows(keys) == [1, 2]


def test_the_prompts_part_of_a_sequence() -> None:
    """Entry t is of token t + 1: of 4 prompt tokens a, b, c, d and 2 of the response, entries 0, 1, 2 are of b, c, d."""
    values, mask = rollout.prompt_part([torch.tensor([-1.0, -2, -3, -4, -5, -9]), torch.tensor([-6.0, -7, -9])], [2, 1])
    assert values.tolist() == [[0.0, -1.0, -2.0, -3.0], [0.0, -6.0, 0.0, 0.0]]
    assert mask.tolist() == [[False, True, True, True], [False, True, False, False]]


def recorded(order: list[int], **more: Any) -> VerlRollout:
    """The recorded rollout as verl's columns, one trajectory of each session."""
    found = batch()
    assert found.prompt_logprobs is not None
    assert found.prompt_mask is not None
    assert found.entropies is not None
    keys = [f"{found.problems[n // 4]}_{n % 4}_0" for n in order]
    prompts, mask = (
        torch.zeros(len(order), found.prompt_logprobs.shape[1]),
        torch.zeros(len(order), found.prompt_logprobs.shape[1], dtype=torch.bool),
    )
    for row in rollout.first_rows(keys):
        prompts[row], mask[row] = found.prompt_logprobs[order[row] // 4], found.prompt_mask[order[row] // 4]
    values: dict[str, Any] = {
        "keys": keys,
        "scores": found.rewards.flatten()[order],
        "padding": torch.zeros(len(order), dtype=torch.bool),
        "mask": found.mask[order],
        "logprobs": found.old_logprobs[order],
        "entropies": found.entropies[order],
        "prompt_logprobs": prompts,
        "prompt_mask": mask,
    }
    return VerlRollout(**(values | more))


@pytest.mark.parametrize("spec", [*host_rollouts.CASES, {"name": "nsr"}], ids=str)
def test_advantages_are_our_trainers(spec: dict[str, Any]) -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2)).tolist()
    seen = recorded(order)
    found = rollout.method_advantages(host_rollouts.load(spec), seen, seen.scores, above=0.0)
    torch.testing.assert_close(found.values, host_rollouts.advantages(spec)[order], rtol=0, atol=1e-6)
    if spec["name"] == "nsr":  # it trains on what is incorrect alone
        assert torch.equal(found.kept, ~batch().correct.flatten()[order])


def test_rows_made_up_to_fill_a_batch_are_nobodys() -> None:
    """A group of its own, without a verdict: no advantage, and no part in anything."""
    order = [*range(16), 3]
    spec = host_rollouts.CASES[1]
    seen = recorded(order, padding=torch.tensor([False] * 16 + [True]))
    seen.keys[-1] = "pad1_0_0"  # type: ignore[index]
    seen.mask[-1] = False
    found = rollout.method_advantages(host_rollouts.load(spec), seen, seen.scores, above=0.0)
    torch.testing.assert_close(found.values[:16], host_rollouts.advantages(spec), rtol=0, atol=1e-6)
    assert not found.values[16].any()


def test_what_is_correct_the_raw_scores_say() -> None:
    """Rewards less a KL penalty: a correct completion may be below 0 then, and is correct all the same."""
    spec = host_rollouts.CASES[1]
    seen = recorded(list(range(16)))
    method = host_rollouts.load(spec)
    shifted = rollout.method_advantages(method, seen, seen.scores - 5.0, above=0.0)
    torch.testing.assert_close(shifted.values, host_rollouts.advantages(spec), rtol=0, atol=1e-5)


def test_an_agents_trajectories_share_the_last_ones_advantage() -> None:
    """Of session 0 of the first prompt there is an earlier trajectory, whose reward and confidence count for nothing."""
    spec = host_rollouts.CASES[0]
    seen = recorded([*range(16), 5])
    seen.keys[0], seen.keys[-1] = f"{batch().problems[0]}_0_1", f"{batch().problems[0]}_0_0"  # type: ignore[index]
    assert batch().prompt_logprobs is not None
    assert batch().prompt_mask is not None
    assert seen.prompt_logprobs is not None
    assert seen.prompt_mask is not None
    seen.prompt_logprobs[1], seen.prompt_mask[1] = batch().prompt_logprobs[0], batch().prompt_mask[0]
    seen.prompt_mask[0] = False  # the later trajectory begins with more than the question
    found = rollout.method_advantages(host_rollouts.load(spec), seen, seen.scores, above=0.0)
    expected = host_rollouts.advantages(spec)
    torch.testing.assert_close(found.values[:16], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.values[16], expected[0, 0] * batch().mask[5], rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="entropy_advantage gives each token"):
        rollout.method_advantages(host_rollouts.load({"name": "entropy_advantage"}), seen, seen.scores, above=0.0)


# --- settings ---


def config(algorithm: dict[str, Any] | None = None, actor: dict[str, Any] | None = None) -> dict[str, Any]:
    """verl's own defaults, for what is read."""
    return {
        "algorithm": {"adv_estimator": "progrpo", "norm_adv_by_std_in_grpo": True, **(algorithm or {})},
        "actor_rollout_ref": {
            "actor": {
                "clip_ratio": 0.2,
                "clip_ratio_low": 0.2,
                "clip_ratio_high": 0.2,
                "clip_ratio_c": 3.0,
                "loss_agg_mode": "token-mean",
                "use_kl_loss": False,
                "entropy_coeff": 0,
                "policy_loss": {"loss_mode": "vanilla"},
                **(actor or {}),
            }
        },
    }


def test_the_loss_is_verls(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="progrpo"):
        chosen = settings.from_trainer(config({"progrpo": {"alpha": 0.7, "correct_above": 0.5}}))
    assert (chosen.method.name, chosen.method.params.alpha, chosen.above) == ("progrpo", 0.7, 0.5)
    assert "clip_high: 0.2 (actor_rollout_ref.actor.clip_ratio_high) where the method has 0.28" in caplog.text
    assert "dual_clip: 3.0 (actor_rollout_ref.actor.clip_ratio_c) where the method has None" in caplog.text
    caplog.clear()
    same = {"preset": "verl", "clip_low": 0.2}
    settings.from_trainer(config({"progrpo": same}, {"clip_ratio_high": 0.28}))
    assert not caplog.text
    for name, how in (("seq-mean-token-mean", "sequence"), ("seq-mean-token-sum-norm", "fixed")):
        settings.from_trainer(config({"progrpo": {"aggregate": how}}, {"loss_agg_mode": name}))
    kl = {"use_kl_loss": True, "kl_loss_coef": 0.01, "kl_loss_type": "low_var_kl"}
    settings.from_trainer(config({"progrpo": {"kl_coef": 0.01, "kl": "k3"}}, kl))


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"adv_estimator": "grpo"}, {}, "adv_estimator=grpo: the trainer mode is progrpo's"),
    ({"progrpo": {"clip_high": 0.28}}, {}, r"clip_high=0.28, and verl's loss has 0.2 .*clip_ratio_high"),
    ({"progrpo": {"preset": "paper"}}, {}, "aggregate='group_token', and verl's loss has 'token'"),
    ({"progrpo": {"preset": "verl"}}, {"clip_ratio_c": 10.0}, "dual_clip=3.0, and verl's loss has 10.0"),
    ({"progrpo": {"kl_coef": 0.1}}, {}, "kl_coef=0.1, and verl's loss has 0.0"),
    ({"progrpo": {"name": "nsr"}}, {"loss_agg_mode": "seq-mean-token-mean"}, "nsr changes more .*sequence_keep"),
    ({"progrpo": {"name": "kl_cov"}}, {}, "kl_cov changes more .*reweight"),
    ({"progrpo": {"name": "ppo"}}, {}, "ppo changes more"),
    ({"progrpo": {"name": "cispo"}}, {}, "cispo has a loss of its own: set .*loss_mode=progrpo_cispo .now vanilla"),
    (
        {"progrpo": {"name": "grpo"}},
        {"policy_loss": {"loss_mode": "progrpo_gspo"}},
        "the loss of another method than grpo",
    ),
    (
        {"progrpo": {"name": "dppo", "divergence": "kl"}},
        {"policy_loss": {"loss_mode": "progrpo_dppo"}},
        "dppo: divergence: verl hands a policy loss its own settings alone",
    ),
    ({"norm_adv_by_std_in_grpo": False}, {}, "scale=none"),
    (
        {"rollout_correction": {"bypass_mode": True}},
        {},
        "needs prompt_logprobs .*verl with rollout_correction.bypass_mode",
    ),
]


@pytest.mark.parametrize(("algorithm", "actor", "message"), REFUSED)
def test_what_verl_cannot_honour_is_refused_by_name(
    algorithm: dict[str, Any], actor: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        settings.from_trainer(config(algorithm, actor))


def test_methods_with_a_loss_of_their_own_have_verls_clip_range() -> None:
    chosen = settings.from_trainer(
        config(
            {"progrpo": {"name": "cispo"}},
            {"policy_loss": {"loss_mode": "progrpo_cispo"}, "clip_ratio_low": 1.0, "clip_ratio_high": 4.0},
        )
    )
    assert (chosen.method.params.clip_low, chosen.method.params.clip_high) == (1.0, 4.0)


def test_in_verls_own_trainer_there_are_rewards_and_no_more() -> None:
    assert settings.from_estimator({"progrpo": {"name": "maxrl"}}).method.name == "maxrl"
    for algorithm, message in (
        ({}, "progrpo needs prompt_logprobs .*trainer.v1.trainer_mode=progrpo"),
        ({"progrpo": {"name": "unlikeliness"}}, "log-probs of completions.*trainer.v1.trainer_mode=progrpo"),
        ({"progrpo": {"name": "gspo"}}, "gspo has a loss of its own"),
        ({"progrpo": {"name": "nsr"}}, "sequence_keep"),
        ({"progrpo": {"name": "grpo"}, "use_kl_in_reward": True}, "use_kl_in_reward"),
    ):
        with pytest.raises(ConfigError, match=message):
            settings.from_estimator(algorithm)
