"""A host's sequences in groups and back, and what a host with a loss of its own honours; no host is needed."""

import logging
from dataclasses import replace
from types import ModuleType
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch import Tensor

from progrpo import methods, plugins
from progrpo.adapters._hosted import HostLimits, Loss, choose, reads_prompts, token_objective
from progrpo.adapters._rows import HostRows, advantages_of, gathered
from progrpo.adapters._versions import check_host
from progrpo.errors import ConfigError, HostError, ShapeError
from progrpo.methods import Method
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins import host_rollouts
from stand_ins.every_method import REQUIRED

EVERYTHING = HostLimits(name="somewhere", gives=frozenset({"prompt_logprobs", "entropies"}))


def rows_of(batch: RolloutBatch, order: list[int] | None = None, **more: Any) -> HostRows:
    """A rollout as a host might have it, in any order."""
    group, count = batch.rewards.shape[1], len(batch.mask)
    order = list(range(count)) if order is None else order
    assert batch.prompt_logprobs is not None
    assert batch.prompt_mask is not None
    assert batch.entropies is not None
    values: dict[str, Any] = {
        "groups": [f"prompt {n // group}" for n in order],
        "rewards": batch.rewards.flatten()[order],
        "correct": batch.correct.flatten()[order],
        "mask": batch.mask[order],
        "logprobs": batch.old_logprobs[order],
        "entropies": batch.entropies[order],
        "prompt_logprobs": batch.prompt_logprobs.repeat_interleave(group, dim=0)[order],
        "prompt_mask": batch.prompt_mask.repeat_interleave(group, dim=0)[order],
    }
    return HostRows(**(values | more))


@pytest.mark.parametrize("spec", host_rollouts.CASES, ids=str)
def test_the_order_of_a_hosts_rows_is_no_matter(spec: dict[str, Any]) -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(5)).tolist()
    found = advantages_of(host_rollouts.load(spec), rows_of(host_rollouts.batch(), order))
    torch.testing.assert_close(found.values, host_rollouts.advantages(spec)[order], rtol=0, atol=1e-6)
    assert found.kept.all()


@pytest.mark.parametrize("spec", host_rollouts.CASES, ids=str)
def test_a_group_that_lacks_a_completion_has_one_without_verdict(spec: dict[str, Any]) -> None:
    """An incorrect completion of each mixed group never came: as one of no token that nobody judged."""
    batch = host_rollouts.batch()
    lost = [4 * group + batch.correct[group].tolist().index(False) for group in (0, 3)]
    order = [n for n in range(16) if n not in lost]
    rewards = batch.rewards.flatten().index_fill(0, torch.tensor(lost), torch.nan).view(4, 4)
    mask = batch.mask.index_fill(0, torch.tensor(lost), False)
    entropies = None if batch.entropies is None else batch.entropies * mask
    ours = host_rollouts.load(spec).advantages(
        replace(
            batch,
            rewards=rewards,
            mask=mask,
            lengths=mask.sum(dim=1).view(4, 4),
            old_logprobs=batch.old_logprobs * mask,
            entropies=entropies,
        )
    )
    expected = ours.values.flatten()[order][:, None].expand(14, 16) if ours.tokens is None else ours.tokens[order]
    found = advantages_of(host_rollouts.load(spec), rows_of(batch, order))
    torch.testing.assert_close(found.values, expected * batch.mask[order], rtol=0, atol=1e-6)


@hypothesis.given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_each_row_comes_back_to_its_place(groups: list[int]) -> None:
    """Advantages that are the rewards themselves: whatever the groups, row n gets its own."""
    rewards = torch.arange(1.0, len(groups) + 1)
    rows = HostRows(groups=groups, rewards=rewards, mask=torch.ones(len(groups), 2, dtype=torch.bool))
    batch, place = gathered(rows)
    assert torch.equal(batch.rewards.flatten()[place], rewards)
    assert int(batch.judged.sum()) == len(groups)
    assert batch.rewards.shape == (len(set(groups)), max(map(groups.count, groups)))
    found = advantages_of(_identity(), rows)
    assert torch.equal(found.values[:, 0], rewards)
    assert found.per_sequence is not None
    assert torch.equal(found.per_sequence, rewards)


def _identity() -> Method:
    module = ModuleType("identity")
    module.advantages = lambda batch, params: methods.Advantages(values=batch.rewards.nan_to_num())  # type: ignore[attr-defined]
    return replace(methods.load(Choice(name="grpo")), module=module)


def test_rewards_say_what_is_correct_where_no_verdict_does() -> None:
    """Rewards of 1, 0 and unknown: what is unknown is what all others are."""
    rewards = torch.tensor([1.0, torch.nan, 0.2, 0.0])
    mask = torch.ones(4, 1, dtype=torch.bool)
    rows = HostRows(groups=["a", "a", "b", "b"], rewards=rewards, mask=mask)
    assert gathered(rows)[0].correct.tolist() == [[True, True], [True, False]]
    assert gathered(replace(rows, correct_above=0.5))[0].correct.tolist() == [[True, True], [False, False]]
    with pytest.raises(ShapeError, match="rewards"):
        replace(rows, rewards=torch.zeros(3))
    with pytest.raises(ShapeError, match="logprobs"):
        replace(rows, logprobs=torch.zeros(4, 2))


# --- what a host with its own loss honours ---

CLIP = Loss(fields={"clip_low": ("host.low", 0.2), "clip_high": ("host.high", 0.28)})


def test_every_method_is_honoured_or_refused() -> None:
    """docs/adapters.md lists both: those that change advantages alone, and those that do more."""
    honoured = set()
    for name in plugins.names("methods"):
        try:
            choose(EVERYTHING, {"name": name, **REQUIRED.get(name, {})}, CLIP)
        except ConfigError:
            continue
        honoured.add(name)
    assert honoured == {
        "dr_grpo",
        "entropy_advantage",
        "f_grpo",
        "grpo",
        "maxrl",
        "passk",
        "perplexity",
        "progrpo",
        "rent",
        "ucpo",
        "unlikeliness",
    }


REFUSED: list[tuple[HostLimits, dict[str, Any], str]] = [
    (EVERYTHING, {"name": "gspo"}, "gspo changes more than the advantages .token_loss"),
    (EVERYTHING, {"name": "nsr"}, "nsr changes more than the advantages .sequence_keep"),
    (EVERYTHING, {"name": "dcpo"}, "dcpo changes more than the advantages .clip_range"),
    (EVERYTHING, {"name": "uniqueness", "alpha": 1.0}, "uniqueness needs verdicts"),
    (EVERYTHING, {"logprobs_from": "current"}, "progrpo needs refresh_advantages"),
    (EVERYTHING, {"truncated": "drop"}, "truncated='drop': the loss is somewhere's own"),
    (EVERYTHING, {"clip_low": 0.1}, r"clip_low=0.1, and somewhere's loss has 0.2 \(host.low\)"),
    (EVERYTHING, {"preset": "verl"}, "aggregate='token'.*has no such setting"),
    (EVERYTHING, {"name": "nonsense"}, "nonsense"),
    (EVERYTHING, {"alhpa": 1}, "alhpa"),
    (replace(EVERYTHING, per_token=False), {"name": "entropy_advantage"}, "gives each token an advantage of its own"),
    (replace(EVERYTHING, gives=frozenset()), {}, "progrpo needs prompt_logprobs"),
    (HostLimits(name="somewhere", logprobs=False), {"baseline": "group_mean"}, "computes from log-probs"),
]


@pytest.mark.parametrize(("host", "spec", "message"), REFUSED)
def test_what_a_host_cannot_honour_is_refused_by_name(host: HostLimits, spec: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, LookupError), match=message):
        choose(host, spec, CLIP)


def test_prompts_that_are_logged_alone_are_not_needed() -> None:
    """c(q) is a metric under every baseline, and part of the advantage under two."""
    assert reads_prompts(methods.load(Choice(name="progrpo")))
    assert not reads_prompts(methods.load(Choice(name="progrpo", baseline="group_mean")))
    choose(HostLimits(name="somewhere"), {"baseline": "group_mean"}, CLIP)


def test_a_loss_that_is_not_the_methods_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="progrpo"):
        choose(EVERYTHING, {"clip_low": 0.2}, CLIP)
        assert not caplog.text
        other = Loss(fields={"aggregate": ("host.mean", "token"), "clip_high": ("host.high", 0.2)})
        choose(EVERYTHING, {"name": "progrpo"}, other)
    assert "aggregate: 'token' (host.mean) where the method has 'group_token'" in caplog.text
    assert "clip_high: 0.2 (host.high) where the method has 0.28" in caplog.text


@pytest.mark.parametrize("name", ["progrpo", "cispo", "dppo", "gspo", "reinforce", "rlsc"])
def test_a_tokens_objective_is_our_trainers(name: str) -> None:
    """Its weighted sum is the loss, its gradient the loss's: with the mean over tokens, 1 / tokens each."""
    spec = {"name": name, "aggregate": "token", "clip_low": 0.3, "clip_high": 0.6}
    values = host_rollouts.advantages({"name": "grpo"})
    mask, logprobs = host_rollouts.batch().mask, host_rollouts.now().requires_grad_()
    found = token_objective(host_rollouts.load(spec), logprobs, host_rollouts.batch().old_logprobs, values, mask)
    loss = -torch.where(mask, found, 0.0).sum() / mask.sum()
    loss.backward()
    expected, gradient = host_rollouts.loss_and_gradient(spec, values)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert expected != 0
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, gradient, rtol=0, atol=1e-7)


# --- versions ---


def known(function: Any, name: str = "score") -> dict[str, tuple[Any, str, tuple[str, ...]]]:
    owner = type("Owner", (), {"score": staticmethod(function)})
    return {"host.score": (owner, name, ("ids", "mask"))}


def test_a_host_that_has_changed_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    def score(ids: Tensor, mask: Tensor, more: int = 0) -> None: ...
    def renamed(tokens: Tensor) -> None: ...

    check_host("host", "1.2.3", ("1.2.0",), known(score), remedy="pip install host==1.2.0")
    assert not caplog.text
    check_host("host", "1.3.0", ("1.2.0",), known(score), remedy="pip install host==1.2.0")
    assert "host 1.3.0: the adapter was tested with 1.2.0" in caplog.text
    with pytest.raises(
        HostError, match=r"host 9: host.score: expected the parameters ids, mask, got tokens; pip install"
    ):
        check_host("host", "9", ("1.2.0",), known(renamed), remedy="pip install host==1.2.0")
    with pytest.raises(HostError, match=r"host 9: host.score is missing.*pip install host==1.2.0"):
        check_host("host", "9", ("1.2.0",), known(score, "other"), remedy="pip install host==1.2.0")
