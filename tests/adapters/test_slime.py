"""slime's reward post-process: its samples as the methods see them. slime itself is needed by the last test alone."""

import importlib.util
import os
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from progrpo.adapters.slime import TESTED, reward_post_process
from progrpo.errors import ConfigError, HostError
from stand_ins import host_rollouts
from stand_ins.host_rollouts import batch, groups

SEQUENCE_LEVEL = [spec for spec in host_rollouts.CASES if spec["name"] not in ("entropy_advantage", "rent")]


class Status(Enum):
    COMPLETED = "completed"
    TRUNCATED = "truncated"


class Sample(SimpleNamespace):
    def get_reward_value(self, args: Any) -> float:
        return float(self.reward if not args.reward_key else self.reward[args.reward_key])


def samples(kind: Any = Sample, status: Any = Status, *, prompts: bool = True) -> list[Any]:
    """The recorded rollout as slime's samples."""
    found = []
    for number, group in enumerate(groups()):
        assert group.prompt_logprobs is not None
        known = {"prompt_logprobs": [None, *group.prompt_logprobs[1:].tolist()]} if prompts else {}
        for place, (completion, verdict) in enumerate(zip(group.completions, group.verdicts, strict=True)):
            found.append(
                kind(
                    group_index=number,
                    index=4 * number + place,
                    rollout_id=None,
                    tokens=[*group.prompt_ids.tolist(), *completion.token_ids.tolist()],
                    response_length=len(completion.token_ids),
                    loss_mask=None,
                    reward=verdict.reward,
                    rollout_log_probs=completion.sampler_logprobs.tolist(),
                    status=status.TRUNCATED if completion.finish == "length" else status.COMPLETED,
                    metadata=known,
                )
            )
    return found


def arguments(spec: dict[str, Any] | None = None, **more: Any) -> SimpleNamespace:
    """slime's defaults, for what is read."""
    values: dict[str, Any] = {
        "advantage_estimator": "grpo",
        "normalize_advantages": False,
        "eps_clip": 0.2,
        "eps_clip_high": None,
        "eps_clip_c": None,
        "calculate_per_token_loss": False,
        "use_kl_loss": False,
        "kl_loss_coef": 0.0,
        "entropy_coef": 0.0,
        "rollout_temperature": 1.0,
        "rollout_top_p": 1.0,
        "reward_key": None,
        "progrpo": spec or {},
    }
    return SimpleNamespace(**(values | more))


@pytest.mark.parametrize("spec", [one for one in SEQUENCE_LEVEL if one.get("low_by") != "entropy"], ids=str)
def test_advantages_are_our_trainers(spec: dict[str, Any]) -> None:
    raw, values = reward_post_process(arguments(spec), samples())
    assert raw == batch().rewards.flatten().tolist()
    torch.testing.assert_close(torch.tensor(values), host_rollouts.advantages(spec)[:, 0], rtol=0, atol=1e-6)


def test_samples_may_come_in_lists_of_groups() -> None:
    flat = samples()
    nested = [flat[start : start + 4] for start in range(0, 16, 4)]
    assert reward_post_process(arguments(), nested) == reward_post_process(arguments(), flat)


def test_a_tools_tokens_are_not_the_models() -> None:
    """Of the first sample the loss mask leaves the second token out: the confidence is that of the others."""
    changed = samples()
    count = changed[0].response_length
    changed[0].loss_mask = [1, 0, *[1] * (count - 2)]
    plain = reward_post_process(arguments({"alpha": 5.0}), samples())[1]
    found = reward_post_process(arguments({"alpha": 5.0}), changed)[1]
    assert found[0] != pytest.approx(plain[0])
    assert found[1:] == pytest.approx(plain[1:])


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"advantage_estimator": "ppo"}, "--advantage-estimator ppo: expected one of grpo"),
    ({}, {"normalize_advantages": True}, "--normalize-advantages"),
    ({"clip_high": 0.28}, {}, r"clip_high=0.28, and slime's loss has 0.2 .--eps-clip-high"),
    ({"aggregate": "token"}, {}, r"aggregate='token', and slime's loss has 'sequence' .--calculate-per-token-loss"),
    ({}, {"rollout_temperature": 0.7}, "--rollout-temperature 0.7"),
    ({"name": "entropy_advantage"}, {}, "entropy"),
    ({"name": "gspo"}, {}, "gspo changes more"),
    ({"name": "rent"}, {}, "rent needs entropies"),
]


@pytest.mark.parametrize(("spec", "more", "message"), REFUSED)
def test_what_slime_cannot_honour_is_refused_by_name(spec: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reward_post_process(arguments(spec, **more), samples())


def test_samples_without_what_the_method_reads() -> None:
    with pytest.raises(ConfigError, match="no log-probs of prompts: take baseline=group_mean"):
        reward_post_process(arguments(), samples(prompts=False))
    reward_post_process(arguments({"baseline": "group_mean"}), samples(prompts=False))
    unscored = samples()
    unscored[3].rollout_log_probs = None
    with pytest.raises(ConfigError, match="computes from log-probs of completions"):
        reward_post_process(arguments({"baseline": "group_mean"}), unscored)
    assert reward_post_process(arguments({"name": "maxrl"}), unscored)
    split = samples()
    split[0].rollout_id = split[1].rollout_id = 7
    with pytest.raises(ConfigError, match="share a rollout_id"):
        reward_post_process(arguments(), split)
    renamed = samples()
    del renamed[0].response_length
    with pytest.raises(HostError, match=rf"response_length.*{TESTED}"):
        reward_post_process(arguments(), renamed)


def test_slimes_own_samples() -> None:
    """With the file slime/utils/types.py of a checkout."""
    folder = os.environ.get("SLIME_CHECKOUT")
    if folder is None:
        pytest.skip(f"slime is missing: SLIME_CHECKOUT=FOLDER with a checkout of THUDM/slime at {TESTED}")
    helpers = ModuleType("slime.utils.misc")
    helpers.decode_int32_meta_array = lambda *_: None  # type: ignore[attr-defined]
    for name in ("slime", "slime.utils"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules["slime.utils.misc"] = helpers
    spec = importlib.util.spec_from_file_location("slime.utils.types", Path(folder) / "slime" / "utils" / "types.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["slime.utils.types"] = module
    spec.loader.exec_module(module)
    found = reward_post_process(arguments(), samples(module.Sample, module.Sample.Status))[1]
    expected = host_rollouts.advantages({"name": "progrpo"})[:, 0]
    torch.testing.assert_close(torch.tensor(found), expected, rtol=0, atol=1e-6)
