"""verl with our methods: its trainer classes, its configuration, its loss and its plug-in entry point."""

import logging
import subprocess
import sys
from typing import Any

import pytest
import torch

pytest.importorskip("verl", reason="verl is missing: make test-adapters")

import verl.trainer.ppo.v1
from tensordict import TensorDict
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.v1 import get_trainer_cls
from verl.utils import tensordict_utils
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.utils.losses import ppo_loss

from progrpo.adapters.verl import trainer as adapter
from progrpo.errors import ConfigError
from stand_ins import host_rollouts
from stand_ins.verl_runs import ORDER, completions, config, nested, rolled_out, sequences


def overrides(spec: dict[str, Any]) -> list[str]:
    """A method as a user writes it on verl's command line."""

    def written(value: Any) -> str:
        return "{" + ",".join(f"{key}:{value[key]}" for key in value) + "}" if isinstance(value, dict) else str(value)

    return [f"+algorithm.progrpo.{key}={written(value)}" for key, value in spec.items()]


def step(trainer: Any, batch: Any, queue: Any) -> tuple[torch.Tensor, dict[str, float]]:
    """verl's two parts of a step that the adapter changes, and a reference's pass between them, which overwrites a column."""
    metrics: dict[str, float] = {}
    batch = trainer._compute_old_log_prob(batch, metrics)
    for row in queue.rows.values():
        row["log_probs"] = torch.full_like(row["log_probs"], -7.0)
    batch = trainer._compute_advantage(batch, metrics)
    values = [queue.rows[key]["advantages"] for key in batch.keys]
    return torch.nn.utils.rnn.pad_sequence(values, batch_first=True), metrics


@pytest.mark.parametrize("spec", host_rollouts.CASES, ids=str)
def test_advantages_are_our_trainers(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, batch, queue = rolled_out(monkeypatch, config(*overrides(spec)))
    values, metrics = step(trainer, batch, queue)
    torch.testing.assert_close(values, host_rollouts.advantages(spec)[ORDER], rtol=0, atol=1e-6)
    assert trainer.actor_rollout_wg.passes == 1  # none is added
    if spec["name"] == "progrpo":
        found = host_rollouts.load(spec).advantages(host_rollouts.batch())
        assert metrics["progrpo/prompt_confidence"] == pytest.approx(found.stats["progrpo/prompt_confidence"].value)


def loss_of(settings: Any, values: torch.Tensor, masks: list[torch.Tensor] | None = None) -> tuple[float, torch.Tensor]:
    """verl's loss of an optimiser step on advantages [16, S] in its order, and its gradient by the log-probs in ours."""
    now = host_rollouts.now()
    lengths = [len(one.token_ids) for one in completions()]
    rows = [now[n, : lengths[n]].clone().requires_grad_() for n in range(16)]
    masks = masks or [torch.ones(lengths[n], dtype=torch.int64) for n in ORDER]
    data = TensorDict(
        {
            "prompts": nested([host_rollouts.groups()[n // 4].prompt_ids for n in ORDER]),
            "responses": nested([completions()[n].token_ids for n in ORDER]),
            "response_mask": nested(masks),
            "old_log_probs": nested([completions()[n].sampler_logprobs for n in ORDER]),
            "advantages": nested([values[place, : lengths[n]] for place, n in enumerate(ORDER)]),
        },
        batch_size=16,
    )
    tokens = int(sum(int(mask.sum()) for mask in masks))
    tensordict_utils.assign_non_tensor(data, dp_size=1, batch_num_tokens=tokens, global_batch_size=16)
    actor = omega_conf_to_dataclass(settings.actor_rollout_ref.actor)
    loss, _ = ppo_loss(actor, {"log_probs": nested(sequences(rows))}, data)
    loss.backward()
    gradient = torch.zeros_like(now)
    for n, row in enumerate(rows):
        assert row.grad is not None
        gradient[n, : lengths[n]] = row.grad
    return loss.item(), gradient


def test_verls_loss_is_our_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset `verl`: mean over all tokens, dual clip of 3, and the clip range that verl is given."""
    settings = config("+algorithm.progrpo.preset=verl", "actor_rollout_ref.actor.clip_ratio_high=0.28")
    values, _ = step(*rolled_out(monkeypatch, settings))
    found, gradient = loss_of(settings, values)
    expected, ours = host_rollouts.loss_and_gradient({"name": "progrpo", "preset": "verl"})
    assert found == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(gradient, ours, rtol=0, atol=1e-7)
    assert expected != pytest.approx(host_rollouts.loss_and_gradient({"name": "progrpo"})[0], abs=1e-3)


@pytest.mark.parametrize("name", ["cispo", "dppo", "gspo", "reinforce", "rlsc"])
def test_policy_losses_are_our_trainers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = {"clip_low": 0.3, "clip_high": 0.5}
    settings = config(
        f"+algorithm.progrpo.name={name}",
        f"actor_rollout_ref.actor.policy_loss.loss_mode=progrpo_{name}",
        *(f"actor_rollout_ref.actor.{key.replace('clip', 'clip_ratio')}={value}" for key, value in clip.items()),
        "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean",
    )
    values, _ = step(*rolled_out(monkeypatch, settings))
    found, gradient = loss_of(settings, values)
    expected, ours = host_rollouts.loss_and_gradient({"name": name, "aggregate": "sequence", **clip})
    assert found == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(gradient, ours, rtol=0, atol=1e-7)


def test_dropped_sequences_leave_loss_and_denominator(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config("+algorithm.progrpo.name=nsr")
    trainer, batch, queue = rolled_out(monkeypatch, settings)
    values, _ = step(trainer, batch, queue)
    wrong = ~host_rollouts.batch().correct.flatten()[ORDER]
    for name in ("response_mask", "loss_mask"):
        assert [bool(queue.rows[key][name].any()) for key in batch.keys] == wrong.tolist()
    found, gradient = loss_of(settings, values, [queue.rows[key]["response_mask"] for key in batch.keys])
    expected, ours = host_rollouts.loss_and_gradient({"name": "nsr", "dual_clip": 3.0})
    assert found == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(gradient, ours, rtol=0, atol=1e-7)


def test_verls_kl_in_the_reward_moves_advantages_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config("algorithm.use_kl_in_reward=True", "+algorithm.progrpo.baseline=group_mean")
    trainer, batch, queue = rolled_out(monkeypatch, settings)
    for place, row in enumerate(queue.rows.values()):  # a penalty of 1 to 3 per token makes every reward negative
        row["ref_log_prob"] = row["rollout_log_probs"] - 1000.0 * (1 + place % 3)
    values, metrics = step(trainer, batch, queue)
    shifted = metrics["progrpo/shift_abs"]
    found = host_rollouts.load({"name": "progrpo", "baseline": "group_mean"}).advantages(host_rollouts.batch())
    assert shifted == pytest.approx(found.stats["progrpo/shift_abs"].value)
    assert (values - host_rollouts.advantages({"name": "progrpo", "baseline": "group_mean"})[ORDER]).abs().max() > 0.1


@pytest.mark.parametrize("mode", ["sync", "colocate_async", "separate_async"])
def test_every_trainer_mode_keeps_verls_own_ways(mode: str) -> None:
    """The replay buffer is that of verl's mode: by any other name verl takes the asynchronous one."""
    ours = "progrpo" if mode == "sync" else f"progrpo_{mode}"
    theirs = get_trainer_cls(mode)
    assert issubclass(get_trainer_cls(ours), theirs)
    apart = [
        "actor_rollout_ref.rollout.nnodes=1",
        "actor_rollout_ref.rollout.n_gpus_per_node=1",
        "actor_rollout_ref.rollout.checkpoint_engine.backend=nccl",
        "actor_rollout_ref.actor.ppo_mini_batch_size=256",
    ]
    more = apart if mode == "separate_async" else []
    found = config(f"trainer.v1.trainer_mode={ours}", *more)
    plain = config(f"trainer.v1.trainer_mode={mode}", "algorithm.adv_estimator=grpo", *more)
    buffers = [get_trainer_cls(one.trainer.v1.trainer_mode)(one).replay_buffer for one in (found, plain)]
    assert type(buffers[0]) is type(buffers[1])
    assert buffers[0].trainer_mode == buffers[1].trainer_mode == mode


def test_verls_own_trainer_shows_rewards_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"name": "maxrl"}
    settings = config("trainer.v1.trainer_mode=sync", *overrides(spec))
    values, _ = step(*rolled_out(monkeypatch, settings))
    torch.testing.assert_close(values, host_rollouts.advantages(spec)[ORDER], rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="trainer.v1.trainer_mode=progrpo"):
        step(*rolled_out(monkeypatch, config("trainer.v1.trainer_mode=sync")))


def test_verls_configuration_is_read() -> None:
    with pytest.raises(ConfigError, match="adv_estimator=gae"):
        get_trainer_cls("progrpo")(config("algorithm.adv_estimator=gae"))
    with pytest.raises(ConfigError, match=r"clip_high=0.28, and verl's loss has 0.2"):
        get_trainer_cls("progrpo")(config("+algorithm.progrpo.clip_high=0.28"))


# --- the plug-in ---


def test_this_version_is_one_that_was_tested(caplog: pytest.LogCaptureFixture) -> None:
    assert verl.__version__ in adapter.TESTED
    assert "tested with" not in caplog.text


def test_importing_verl_is_all() -> None:
    """The entry point of the installed package, in a process of its own."""
    code = (
        "import verl, sys; assert 'progrpo.adapters.verl.trainer' in sys.modules; from verl.trainer.ppo import core_algos as c;"
        "assert 'progrpo' in c.ADV_ESTIMATOR_REGISTRY and 'progrpo_cispo' in c.POLICY_LOSS_REGISTRY"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    assert "progrpo" in core_algos.ADV_ESTIMATOR_REGISTRY


def test_a_plug_in_that_does_not_load_is_loud() -> None:
    code = (
        "import sys; sys.modules['progrpo.adapters._rows'] = None; import verl;"
        "from verl.trainer.ppo.v1 import get_trainer_cls; get_trainer_cls('progrpo')"
    )
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert "progrpo's plug-in for verl did not load" in found.stderr
    assert "progrpo.adapters._rows" in found.stderr
    assert "Unknown trainer 'progrpo'" in found.stderr


def test_workers_of_ray_have_the_losses() -> None:
    import ray

    @ray.remote
    def registered() -> bool:
        import verl  # noqa: F401
        from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

        return "progrpo_gspo" in POLICY_LOSS_REGISTRY

    ray.init(num_cpus=1, include_dashboard=False, logging_level=logging.ERROR)
    try:
        assert ray.get(registered.remote())
    finally:
        ray.shutdown()
