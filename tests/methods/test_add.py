"""`method.add`: the shift of ProGRPO on top of any method whose advantages are of whole sequences."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from progrpo import methods, plugins
from progrpo.errors import ConfigError
from progrpo.methods import Method
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins import every_method
from stand_ins.batch_steps import Table, drifted, lengths_of, random_batch, rewards_of, take_step, tokens_of

MakeModule = Callable[[str], str]

TOKEN_LEVEL = ("deepsearch", "empg", "entropy_advantage", "ppo", "prl", "ucas")
FROM_VERDICTS = ("pacs", "real")
OTHERS = [name for name in plugins.names("methods") if name not in (*TOKEN_LEVEL, *FROM_VERDICTS, "progrpo")]


def load(name: str, add: object = None, **settings: object) -> Method:
    return every_method.load(name, **settings, **({} if add is None else {"add": add}))


def confidence(logprobs: list[float]) -> float:
    lowest = sorted(logprobs)[: math.ceil(len(logprobs) / 5)]
    return math.exp(sum(lowest) / len(lowest))


def naive_shift(batch: RolloutBatch) -> Table:
    """c(q) - c(o) in mixed groups, 0 in the others, for empty completions and without a verdict."""
    lengths, group = lengths_of(batch), batch.rewards.shape[1]
    completions = tokens_of(batch.old_logprobs, lengths)
    made = []
    for p, row in enumerate(rewards_of(batch)):
        prompt = confidence(batch.prompt_logprobs[p][batch.prompt_mask[p]].tolist())
        known = [reward for reward in row if not math.isnan(reward)]
        mixed = 0.0 in known and 1.0 in known
        made.append(
            [
                prompt - confidence(completions[p * group + g])
                if mixed and not math.isnan(reward) and completions[p * group + g]
                else 0.0
                for g, reward in enumerate(row)
            ]
        )
    return made


@pytest.mark.parametrize("name", OTHERS)
def test_the_shift_follows_the_method_s_own_advantages(name: str) -> None:
    seen = 0
    for seed in range(6):
        batch = random_batch(seed, failed=0.15)
        plain = load(name).advantages(batch)
        # a method with a memory must meet each batch once
        made = load(name, {"name": "progrpo", "alpha": 0.7}).advantages(replace(batch, state={}))
        shift = torch.tensor(naive_shift(batch))
        kept = torch.ones_like(shift, dtype=torch.bool) if plain.keep is None else plain.keep
        assert torch.allclose(made.values, torch.where(kept, plain.values + 0.7 * shift, 0.0), atol=1e-5)
        assert torch.allclose(made.columns["shift"], shift, atol=1e-5)
        assert set(made.stats) >= {*plain.stats, "progrpo/shift", "progrpo/sign_flips"}
        assert (made.keep is None) == (plain.keep is None)
        seen += int((shift * kept != 0).sum())
    assert seen > 10


@pytest.mark.parametrize("name", OTHERS)
def test_alpha_zero_changes_no_bit(name: str) -> None:
    for seed in range(4):
        batch = random_batch(seed, failed=0.15)
        logprobs = drifted(batch, seed, 0.3)
        plain, zero = load(name), load(name, {"name": "progrpo", "alpha": 0.0})
        one = plain.advantages(replace(batch, state={}))
        other = zero.advantages(replace(batch, state={}))
        assert torch.equal(one.values, other.values)
        if name == "flowrl":  # its loss reads no more than the advantages
            continue
        entropies = {"entropies": batch.entropies} if "entropy_grad" in plain.needs else {}
        first = take_step(plain, replace(batch, state={}), logprobs, **entropies)
        second = take_step(zero, replace(batch, state={}), logprobs, **entropies)
        assert first.loss == second.loss
        assert torch.equal(first.gradient, second.gradient)


def test_its_needs_are_the_needs_of_both() -> None:
    assert load("rent", "progrpo").needs == {"entropies", "ref_logprobs", "prompt_logprobs"}
    current = {"name": "progrpo", "logprobs_from": "current"}
    assert load("grpo", current).needs == {"prompt_logprobs", "refresh_advantages"}
    assert load("kl_cov", current).needs == {"prompt_logprobs", "refresh_advantages", "refresh"}
    assert load("kl_cov", current).own_needs == {"refresh"}


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "flowrl"])  # whose loss needs its net
def test_what_is_added_reaches_the_gradient(name: str) -> None:
    reached = 0
    for seed in range(4):
        batch = random_batch(seed, failed=0.0)
        logprobs = drifted(batch, seed, 0.1)
        plain, shifted = (
            take_step(load(name, {"name": "progrpo", "alpha": alpha}), replace(batch, state={}), logprobs).gradient
            for alpha in (0.0, 0.7)
        )
        reached += not torch.allclose(plain, shifted, atol=1e-6)
    assert reached >= 2


def moved(batch: RolloutBatch) -> RolloutBatch:
    """The same rollout under a policy that has gone on."""
    return replace(
        batch,
        old_logprobs=torch.where(batch.mask, batch.old_logprobs - 0.4, 0.0),
        entropies=batch.entropies + torch.rand(batch.entropies.shape, generator=torch.Generator().manual_seed(0)),
        prompt_logprobs=torch.where(batch.prompt_mask, batch.prompt_logprobs - 0.2, 0.0),
    )


@pytest.mark.parametrize("name", ["kl_cov", "clip_cov", "high_entropy"])
def test_a_method_that_reads_the_policy_anew_leaves_the_shift_as_it_was(name: str) -> None:
    batch = random_batch(1, failed=0.0)
    method = load(name, {"name": "progrpo", "alpha": 0.7})
    own = method.advantages(batch)
    assert torch.equal(method.renewed_advantages(own, batch, moved(batch)).values, own.values)


@pytest.mark.parametrize("name", ["grpo", "rent", "reinforce", "kl_cov", "nsr"])
def test_a_renewed_shift_leaves_the_method_s_own_advantages_as_they_were(name: str) -> None:
    batch = random_batch(1, failed=0.1)
    method = load(name, {"name": "progrpo", "alpha": 0.7, "logprobs_from": "current"})
    own, now = method.advantages(batch), moved(batch)
    renewed = method.renewed_advantages(own, batch, now)
    kept = torch.ones_like(own.values, dtype=torch.bool) if own.keep is None else own.keep
    expected = torch.where(kept, load(name).advantages(batch).values + 0.7 * torch.tensor(naive_shift(now)), 0.0)
    assert torch.allclose(renewed.values, expected, atol=1e-5)
    assert not torch.allclose(renewed.values, own.values, atol=1e-3)


def test_its_warning_is_heard() -> None:
    (warning,) = load("grpo", "progrpo").check(32)
    assert warning in methods.load(Choice(name="progrpo")).check(32)
    # By the population's deviation the smallest advantage of a group of 32 is sqrt(1/31), by the sample's a little less.
    (other,) = load("grpo", "progrpo", ddof=0).check(32)
    assert "mixed group, 0.18;" in other
    assert load("reinforce", "progrpo").check(32) == []  # its own advantages, of which the theorem does not speak


@pytest.mark.parametrize("key", ["kl_coef", "aggregate", "ddof"])
def test_settings_that_nobody_would_read_are_refused(key: str) -> None:
    value = {"kl_coef": 0.1, "aggregate": "token", "ddof": 0}[key]
    with pytest.raises(ConfigError, match=f"method grpo: add.{key}: .* set method.{key}"):
        load("grpo", {"name": "progrpo", key: value})


def test_its_presets_and_settings() -> None:
    assert load("dapo", {"name": "progrpo", "preset": "equilibrium"}).added.params.baseline == "group_mean"
    with pytest.raises(ConfigError, match="method progrpo: unknown key 'alhpa'; did you mean 'alpha'"):
        load("dapo", {"name": "progrpo", "alhpa": 1})


@pytest.mark.parametrize("name", TOKEN_LEVEL)
def test_a_method_of_single_tokens_refuses(name: str) -> None:
    with pytest.raises(ConfigError, match=f"method {name}: add needs advantages of whole sequences, and this method"):
        load(name, "progrpo").advantages(random_batch(0))


def test_only_a_method_with_add_to_and_never_itself() -> None:
    with pytest.raises(ConfigError, match="method grpo: add=dapo: that method defines no add_to; progrpo, f_grpo and"):
        load("grpo", "dapo")
    with pytest.raises(ConfigError, match="method progrpo: add=progrpo: it would be added to itself"):
        load("progrpo", "progrpo")
    with pytest.raises(ConfigError, match="method dapo: add=grpo: that method defines no add_to"):
        load("dapo", {"name": "grpo"})


def test_shaping_then_advantages_then_what_is_added_then_keep(make_module: MakeModule) -> None:
    own = make_module(
        '''
"""Each hook changes the numbers in a way that any other order would show."""
import torch
from progrpo import methods
def shape_reward(batch, params):
    return 2 * batch.rewards + 1
def advantages(batch, params):
    return methods.Advantages(values=10 * batch.rewards)
def sequence_keep(batch, params):
    return batch.rewards > 2
'''
    )
    added = make_module(
        '''
"""Three times what it is given, and the reward."""
from progrpo import methods
def add_to(advantages, batch, params):
    return methods.Advantages(values=3 * advantages + batch.rewards)
'''
    )
    batch = random_batch(0, failed=0.0)
    batch = replace(batch, rewards=torch.tensor([[1.0, 0.0, 1.0]] * 3))
    # rewards 1 0 1 are shaped to 3 1 3; advantages 30 10 30; with the verifier's rewards 91 30 91; the second is dropped
    made = load(own, added).advantages(batch)
    assert made.values.tolist() == [[91.0, 0.0, 91.0]] * 3
    assert made.keep.tolist() == [[True, False, True]] * 3
    assert load(own).advantages(batch).values.tolist() == [[30.0, 0.0, 30.0]] * 3


def test_a_method_renewed_leaves_an_old_shift_as_it_was(make_module: MakeModule) -> None:
    own = make_module(
        '''
"""The log-prob of a completion as its advantage, before each optimiser step."""
from progrpo import methods
NEEDS = frozenset({"refresh_advantages"})
def advantages(batch, params):
    return methods.Advantages(values=batch.old_logprobs.sum(dim=1).view(batch.rewards.shape))
'''
    )
    batch = random_batch(1, failed=0.0)
    method, now = load(own, {"name": "progrpo", "alpha": 0.7}), moved(batch)
    renewed = method.renewed_advantages(method.advantages(batch), batch, now)
    expected = now.old_logprobs.sum(dim=1).view(batch.rewards.shape) + 0.7 * torch.tensor(naive_shift(batch))
    assert torch.allclose(renewed.values, expected, atol=1e-5)
