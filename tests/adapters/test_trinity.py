"""Trinity-RFT's advantage function: its experiences as the methods see them. Trinity is needed by the last test alone."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from progrpo.adapters.trinity.rollout import experience_advantages, method_of
from progrpo.errors import ConfigError
from stand_ins import host_rollouts
from stand_ins.host_rollouts import groups

HONOURED = [
    spec
    for spec in host_rollouts.CASES
    if spec.get("baseline") in ("group_mean", "correct_mean")
    or (spec["name"] in ("grpo", "maxrl", "passk", "f_grpo", "ucpo", "unlikeliness") and "add" not in spec)
]
ORDER = torch.randperm(16, generator=torch.Generator().manual_seed(4)).tolist()


def experiences(make: Any = SimpleNamespace, identity: Any = None) -> list[Any]:
    """The recorded rollout as Trinity's experiences, not in the order of their tasks."""

    def plain(batch: int, task: int, run: int) -> Any:
        return SimpleNamespace(tid=f"{batch}/{task}", rid=f"{batch}/{task}/{run}")

    found = []
    for row in ORDER:
        group, completion = groups()[row // 4], groups()[row // 4].completions[row % 4]
        eid = (identity or plain)(batch=0, task=row // 4, run=row % 4)
        found.append(
            make(
                eid=eid,
                tokens=torch.cat([group.prompt_ids, completion.token_ids]),
                prompt_length=len(group.prompt_ids),
                logprobs=completion.sampler_logprobs,
                reward=group.verdicts[row % 4].reward,
                action_mask=torch.ones(len(completion.token_ids), dtype=torch.bool),
            )
        )
    return found


@pytest.mark.parametrize("spec", HONOURED, ids=str)
def test_advantages_are_our_trainers(spec: dict[str, Any]) -> None:
    method, above = method_of(spec)
    found = experience_advantages(method, experiences(), above=above)
    torch.testing.assert_close(found.values, host_rollouts.advantages(spec)[ORDER], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "progrpo needs prompt_logprobs .*Trinity-RFT does not give"),
        ({"name": "entropy_advantage"}, "entropy_advantage needs entropies"),
        ({"baseline": "group_mean", "clip_high": 0.3}, "clip_high=0.3: the loss is Trinity-RFT's own"),
        ({"name": "nsr"}, "nsr changes more than the advantages"),
    ],
)
def test_what_trinity_cannot_honour_is_refused_by_name(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method_of(spec)


def test_experiences_without_what_the_method_reads() -> None:
    method, above = method_of({"baseline": "group_mean"})
    several = experiences()
    several[1].eid = several[0].eid
    with pytest.raises(ConfigError, match="several experiences share a run"):
        experience_advantages(method, several, above=above)
    unscored = experiences()
    unscored[2].logprobs = None
    with pytest.raises(ConfigError, match="no log-probs or no reward"):
        experience_advantages(method, unscored, above=above)


def test_trinitys_own_classes() -> None:
    """By its registry from the dotted path, on its own experiences."""
    pytest.importorskip("trinity", reason="trinity-rft is missing: make test-adapters")
    from trinity.algorithm.advantage_fn import ADVANTAGE_FN, GroupAdvantage
    from trinity.common.experience import EID, Experience

    found = ADVANTAGE_FN.get("progrpo.adapters.trinity.advantage.ProGRPOAdvantage")
    assert issubclass(found, GroupAdvantage)
    assert not found.compute_in_trainer()
    spec = {"name": "progrpo", "baseline": "group_mean", "skip": "all_wrong", "alpha": 2.0}
    done, metrics = found(**spec)(experiences(Experience, EID))
    expected = host_rollouts.advantages(spec)
    for row, experience in zip(ORDER, done, strict=True):
        count = len(experience.tokens) - experience.prompt_length
        torch.testing.assert_close(experience.advantages, expected[row, :count], rtol=0, atol=1e-6)
        assert torch.equal(experience.returns, experience.advantages)
    assert metrics["progrpo/shift_abs"] > 0
    assert found(**found.default_args())([]) == ([], {})
