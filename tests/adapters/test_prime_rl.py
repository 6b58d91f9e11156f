"""prime-rl's custom loss: the shift of one sequence. prime-rl itself is needed by the last tests alone."""

import importlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from progrpo.adapters.prime_rl.shift import settings_of, shifted_advantages
from progrpo.errors import ConfigError
from stand_ins import host_rollouts
from stand_ins.host_rollouts import batch, groups

PARAMS: list[dict[str, Any]] = [
    {},
    {"alpha": 2.0, "fraction": 0.5},
    {"baseline": "one_minus_prompt"},
    {"score": "log_c"},
    {"apply_to": "correct"},
]


def sequence(row: int) -> tuple[Tensor, Tensor]:
    """A completion with its prompt, as prime-rl's trainer scores it: the first number is of nobody."""
    group = groups()[row // 4]
    assert group.prompt_logprobs is not None
    completion = group.completions[row % 4]
    prompt = torch.cat([torch.tensor([-3.3]), group.prompt_logprobs[1:]])
    mask = torch.cat([torch.zeros(len(prompt)), torch.ones(len(completion.token_ids))]).bool()
    return torch.cat([prompt, completion.sampler_logprobs]), mask


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_advantages_are_our_trainers(params: dict[str, Any]) -> None:
    """prime-rl centres rewards and divides by nothing: scale=none."""
    plain = host_rollouts.advantages({"name": "grpo", "scale": "none"})[:, 0]
    expected = host_rollouts.advantages({"name": "progrpo", "scale": "none", **params})[:, 0]
    settings = settings_of(True, **params)
    for row in range(16):
        logprobs, mask = sequence(row)
        advantages = torch.where(mask, plain[row], 0.0)
        found = shifted_advantages(logprobs, advantages, mask, settings)
        torch.testing.assert_close(found[mask], expected[row].expand(int(mask.sum())), rtol=0, atol=1e-6)
        assert not found[~mask].any()


def test_an_environments_words_are_neither_prompt_nor_completion() -> None:
    """Two tokens of a tool in the middle, of whatever probability, change nothing."""
    settings = settings_of(True, alpha=2.0)
    logprobs, mask = sequence(0)
    first = int(mask.nonzero()[0])
    cut = first + 3
    with_tool = torch.cat([logprobs[:cut], torch.tensor([-9.0, -8.0]), logprobs[cut:]])
    tool_mask = torch.cat([mask[:cut], torch.tensor([False, False]), mask[cut:]])
    plain = shifted_advantages(logprobs, torch.where(mask, -0.25, 0.0), mask, settings)
    found = shifted_advantages(with_tool, torch.where(tool_mask, -0.25, 0.0), tool_mask, settings)
    torch.testing.assert_close(found[tool_mask], plain[mask])


def test_nothing_to_train_on_or_no_prompt() -> None:
    settings = settings_of(False, skip="never")
    logprobs, mask = sequence(0)
    values = torch.full(mask.shape, 0.5)
    assert torch.equal(shifted_advantages(logprobs, values, torch.zeros_like(mask), settings), values)
    bare = torch.ones_like(mask)
    assert torch.equal(shifted_advantages(logprobs, values, bare, settings), values)  # no c(q): left alone


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"baseline": "group_mean"}, "baseline='group_mean' needs all completions of the group"),
        ({"skip": "all_wrong"}, "cannot tell all wrong from all correct"),
        ({"low_by": "entropy"}, "prime-rl hands its loss no entropies"),
        ({"clip_high": 0.3}, "clip_high: advantages and loss are prime-rl's"),
        ({"two_rewards": False}, "say so with two_rewards=true"),
        ({"two_rewards": False, "skip": "never", "apply_to": "correct"}, "say so with two_rewards=true"),
    ],
)
def test_what_one_sequence_cannot_tell_is_refused_by_name(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(**{"two_rewards": True, **params})


# --- prime-rl's own loss ---


@pytest.fixture
def loss(monkeypatch: pytest.MonkeyPatch) -> Any:
    """progrpo_loss with prime_rl/trainer/rl/loss.py of a checkout, whose other modules need a GPU's packages."""
    folder = os.environ.get("PRIME_RL_CHECKOUT")
    if folder is None:
        pytest.skip(
            "prime-rl is missing: PRIME_RL_CHECKOUT=FOLDER with a checkout of PrimeIntellect-ai/prime-rl at v0.8.0"
        )

    @dataclass
    class Default:
        dppo_mask_low: float = 0.2
        dppo_mask_high: float = 0.2
        adv_tau: float = 1.0
        kl_tau: float = 1e-3

    @dataclass
    class Ipo:
        ipo_threshold: float = 0.1
        adv_tau: float = 1.0
        kl_tau: float = 1e-3

    @dataclass
    class Custom:
        import_path: str
        kwargs: dict[str, Any] = field(default_factory=dict)

    def import_object(path: str) -> Any:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)

    made = {
        "prime_rl": {"__path__": [str(Path(folder) / "src" / "prime_rl")]},
        "prime_rl.configs": {},
        "prime_rl.configs.trainer": {
            "DefaultLossConfig": Default,
            "IPOLossConfig": Ipo,
            "CustomLossConfig": Custom,
            "LossConfig": object,
        },
        "prime_rl.utils": {},
        "prime_rl.utils.utils": {"import_object": import_object},
        "prime_rl.trainer": {"__path__": []},
        "prime_rl.trainer.rl": {"__path__": [str(Path(folder) / "src" / "prime_rl" / "trainer" / "rl")]},
    }
    for name, contents in made.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("prime_rl.trainer.rl.loss", "progrpo.adapters.prime_rl.loss"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("progrpo.adapters.prime_rl.loss")


@pytest.mark.parametrize("base", ["default", "ipo"])
def test_prime_rls_loss_has_shifted_advantages(loss: Any, base: str) -> None:
    """By its own way from the configuration: the loss of prime-rl on the advantages of our trainer."""
    host = loss.host
    trainer = importlib.import_module("prime_rl.configs.trainer")
    kwargs = {"alpha": 2.0, "two_rewards": True, "base": base}
    custom = host.setup_rl_loss_fn(trainer.CustomLossConfig("progrpo.adapters.prime_rl.loss.progrpo_loss", kwargs))
    plain = host.default_loss_fn if base == "default" else host.ipo_loss_fn
    settings = trainer.DefaultLossConfig() if base == "default" else trainer.IPOLossConfig()
    centred = host_rollouts.advantages({"name": "grpo", "scale": "none"})[:, 0]
    shifted = host_rollouts.advantages({"name": "progrpo", "scale": "none", "alpha": 2.0})[:, 0]
    for row in (0, 1, 5, 13):
        logprobs, mask = sequence(row)
        named = {"inference_logprobs": logprobs - 0.05, "ref_logprobs": None, "loss_mask": mask}
        ours, theirs = (logprobs.clone().requires_grad_() for _ in range(2))
        found = custom(host.LossInputs(trainer_logprobs=ours, advantages=torch.where(mask, centred[row], 0.0), **named))
        wanted = plain(
            host.LossInputs(trainer_logprobs=theirs, advantages=torch.where(mask, shifted[row], 0.0), **named), settings
        )
        found.loss.backward()
        wanted.loss.backward()
        assert found.loss.item() == pytest.approx(wanted.loss.item(), abs=1e-6)
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-6)
    assert "progrpo/shift_abs" in found.metrics
    assert batch().correct[0].any()
    with pytest.raises(ConfigError, match="base='other'"):
        loss.progrpo_loss(
            host.LossInputs(trainer_logprobs=logprobs, advantages=logprobs, **named), base="other", skip="never"
        )
