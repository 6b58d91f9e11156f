"""SkyRL's trainer with a method: its left-padded tensors and settings as the methods see them. The last test needs SkyRL."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from progrpo.adapters._rows import advantages_of
from progrpo.adapters.skyrl.rollout import WidePass, method_of, rows_of, taken_apart
from progrpo.errors import ConfigError
from stand_ins import host_rollouts
from stand_ins.host_rollouts import batch, groups

HONOURED = [
    spec
    for spec in host_rollouts.CASES
    if spec["name"] not in ("entropy_advantage", "rent") and spec.get("low_by") != "entropy"
]
PROMPT, WIDTH = max(len(group.prompt_ids) for group in groups()), 16


def algorithm(**more: Any) -> SimpleNamespace:
    """SkyRL's defaults, for what is read, without its KL loss."""
    values: dict[str, Any] = {
        "advantage_estimator": "progrpo",
        "advantage_batch_normalize": False,
        "policy_loss_type": "regular",
        "loss_reduction": "token_mean",
        "eps_clip_low": 0.2,
        "eps_clip_high": 0.2,
        "clip_ratio_c": 3.0,
        "use_kl_loss": False,
        "kl_loss_coef": 0.001,
        "use_entropy_loss": False,
        "entropy_loss_coef": 0.01,
        "grpo_norm_by_std": True,
        "zero_variance_filter": False,
    }
    return SimpleNamespace(**(values | more))


def padded() -> tuple[Tensor, Tensor, Tensor]:
    """The recorded rollout as one left-padded block: log-probs of all tokens but the first [16, L - 1], nonsense on padding;
    attention mask [16, L]; response mask [16, S]."""
    total = PROMPT + WIDTH
    logprobs, attention = torch.full((16, total), -5.0), torch.zeros(16, total, dtype=torch.int64)
    response = torch.zeros(16, WIDTH, dtype=torch.int64)
    for row in range(16):
        group, completion = groups()[row // 4], groups()[row // 4].completions[row % 4]
        assert group.prompt_logprobs is not None
        count, length = len(group.prompt_ids), len(completion.token_ids)
        start = total - count - length
        logprobs[row, start + 1 : start + count] = group.prompt_logprobs[1:]
        logprobs[row, start + count :] = completion.sampler_logprobs
        attention[row, start:] = 1
        response[row, WIDTH - length :] = 1
    return logprobs[:, 1:], attention, response


def right_aligned(values: Tensor) -> Tensor:
    """[16, S] of ours, which begin in the first column, as SkyRL has them, which end in the last."""
    found = torch.zeros_like(values)
    for row, length in enumerate(batch().lengths.flatten().tolist()):
        found[row, WIDTH - length :] = values[row, :length]
    return found


def rows(wide: WidePass, mask: Tensor, **more: Any) -> Any:
    scores = batch().rewards.flatten()
    named: dict[str, Any] = {"padding": 0, "above": 0.0, "logprobs": wide.logprobs, "prompts": wide}
    uids = [group.problem.id for group in groups() for _ in range(4)]
    return rows_of(uids, scores, scores, mask.float(), **(named | more))


@pytest.mark.parametrize("spec", HONOURED, ids=str)
def test_advantages_are_our_trainers(spec: dict[str, Any]) -> None:
    method, above = method_of(spec, algorithm(), step_wise=False, scored=True)
    logprobs, attention, response = padded()
    wide = taken_apart(logprobs, attention, response)
    found = advantages_of(method, rows(wide, response, above=above))
    torch.testing.assert_close(found.values, right_aligned(host_rollouts.advantages(spec)), rtol=0, atol=1e-6)


def test_the_prompts_own_tokens() -> None:
    """Of each prompt all but the first, whose condition is padding or nothing."""
    wide = taken_apart(*padded())
    assert wide.prompt_mask.sum(dim=1).tolist() == [len(groups()[row // 4].prompt_ids) - 1 for row in range(16)]
    assert (wide.prompt_logprobs[wide.prompt_mask] > -5).all()


def test_sequences_that_fill_a_batch_are_nobodys() -> None:
    """The last one is: a copy of another, so that its uid is a real one's."""
    logprobs, attention, response = padded()
    wide = taken_apart(logprobs, attention, response)
    found = rows(wide, response, padding=1)
    assert found.groups[-1] == "padding 15"
    assert found.rewards[-1].isnan()
    assert not advantages_of(host_rollouts.load({"name": "grpo"}), found).values[-1].any()


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"advantage_estimator": "grpo"}, "advantage_estimator=grpo: the method would be asked by nobody"),
    ({}, {"advantage_batch_normalize": True}, "advantage_batch_normalize"),
    ({"clip_high": 0.28}, {}, "clip_high=0.28, and SkyRL's loss has 0.2 .*eps_clip_high"),
    ({"preset": "paper"}, {}, "aggregate='group_token', and SkyRL's loss has 'token' .*loss_reduction"),
    ({"dual_clip": 3.0}, {}, "dual_clip=3.0, and SkyRL's loss has None"),
    ({"kl_coef": 0.1}, {"use_kl_loss": True}, "kl_coef=0.1, and SkyRL's loss has 0.001"),
    ({}, {"grpo_norm_by_std": False}, "scale='none'"),
    ({"skip": "all_wrong"}, {"zero_variance_filter": True}, "zero_variance_filter masks groups of equal rewards"),
    (
        {"skip": "never", "apply_to": "incorrect"},  # groups that are all wrong
        {"zero_variance_filter": True},
        "zero_variance_filter masks groups of equal rewards",
    ),
    ({"name": "rent"}, {}, "rent needs entropies"),
    ({"name": "nsr"}, {}, "nsr changes more"),
]


@pytest.mark.parametrize(("spec", "more", "message"), REFUSED)
def test_what_skyrl_cannot_honour_is_refused_by_name(spec: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method_of(spec, algorithm(**more), step_wise=False, scored=True)


def test_more_refusals() -> None:
    with pytest.raises(ConfigError, match="step_wise_trajectories"):
        method_of({}, algorithm(), step_wise=True, scored=True)
    with pytest.raises(ConfigError, match="SkyRL with trainer.algorithm.policy_loss_type=dppo"):
        method_of({}, algorithm(policy_loss_type="dppo"), step_wise=False, scored=False)
    method_of({"name": "maxrl"}, algorithm(policy_loss_type="dppo"), step_wise=False, scored=False)
    method_of(
        {"preset": "paper"}, algorithm(loss_reduction="prompt_mean", eps_clip_high=0.28), step_wise=False, scored=True
    )
    method_of({"skip": "degenerate"}, algorithm(zero_variance_filter=True), step_wise=False, scored=True)


class Workers:
    """In place of SkyRL's workers: what they send back for the recorded rollout, as many columns as are asked for."""

    asked: int

    def forward(self, model: str, data: Any) -> Any:
        assert model == "policy"
        self.asked = int(data.metadata["response_length"])
        logprobs, _, _ = padded()
        return SimpleNamespace(loss_fn_outputs=[{"logprobs": row[-self.asked :].tolist()} for row in logprobs])

    def empty_cache(self, model: str | None = None) -> None:
        """Nothing is cached."""


@pytest.mark.parametrize(
    "spec", [{"name": "progrpo"}, {"name": "progrpo", "baseline": "group_mean"}, {"name": "grpo"}], ids=str
)
def test_skyrls_own_trainer(spec: dict[str, Any]) -> None:
    """Its pass for log-probs and its advantages, on its own batch and with its own settings."""
    pytest.importorskip("skyrl", reason="SkyRL is missing: pip install skyrl==0.4.0 (Python 3.12)")
    from skyrl.backends.skyrl_train.training_batch import TrainingInputBatch
    from skyrl.train.config import SkyRLTrainConfig

    from progrpo.adapters.skyrl.trainer import ProGRPORayTrainer

    settings = SkyRLTrainConfig()
    settings.trainer.algorithm.advantage_estimator = "progrpo"
    settings.trainer.algorithm.use_kl_loss = False
    settings.trainer.enable_ray_gpu_monitor = settings.generator.inference_engine.enable_ray_prometheus_stats = False
    trainer = ProGRPORayTrainer(settings, None, None, None, None, None, method=spec)
    trainer.dispatch = workers = Workers()
    logprobs, attention, response = padded()
    scores = batch().rewards.flatten()
    rewards = torch.zeros(16, WIDTH)
    rewards[:, -1] = scores
    data = TrainingInputBatch(
        {
            "sequences": attention * 7,
            "attention_mask": attention,
            "response_mask": response,
            "loss_mask": response.float(),
            "rewards": rewards,
            "rollout_logprobs": logprobs[:, -WIDTH:] * response,
        }
    )
    data.metadata = {
        "uids": [group.problem.id for group in groups() for _ in range(4)],
        "response_length": WIDTH,
        "avg_response_length": float(response.sum(dim=1).float().mean()),
    }
    data = trainer.fwd_logprobs_values_reward(data)
    assert workers.asked == (WIDTH if spec == {"name": "grpo"} else PROMPT + WIDTH - 1)
    assert torch.equal(data["action_log_probs"], logprobs[:, -WIDTH:])
    done = trainer.compute_advantages_and_returns(data)
    torch.testing.assert_close(done["advantages"], right_aligned(host_rollouts.advantages(spec)), rtol=0, atol=1e-6)
    assert ("progrpo/shift_abs" in trainer.all_metrics) == (spec["name"] == "progrpo")
