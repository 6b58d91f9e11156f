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
from stand_ins.naive_methods_b import (
    Table,
    drifted,
    lengths_of,
    random_batch,
    rewards_of,
    take_step,
    tokens_of,
)

MakeModule = Callable[[str], str]

TOKEN_LEVEL = ("entropy_advantage", "ppo")
OTHERS = [name for name in plugins.names("methods") if name not in (*TOKEN_LEVEL, "progrpo")]


def load(name: str, add: object = None, **settings: object) -> Method:
    return methods.load(Choice(name=name, **settings, **({} if add is None else {"add": add})))


def batch_for(name: str, seed: int) -> RolloutBatch:
    # RENT gives a completion without a verdict a reward like any other
    return random_batch(seed, failed=0.0 if name == "rent" else 0.15)


def confidence(logprobs: list[float]) -> float:
    lowest = sorted(logprobs)[: math.ceil(len(logprobs) / 5)]
    return math.exp(sum(lowest) / len(lowest))


def naive_shift(batch: RolloutBatch) -> Table:
    """c(q) - c(o) in mixed groups, 0 in the others, for empty completions and without a verdict."""
    lengths, group = lengths_of(batch), batch.rewards.shape[1]
    completions = tokens_of(batch.logprobs, lengths)
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
    for seed in range(20):
        batch = batch_for(name, seed)
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
    for seed in range(10):
        batch = batch_for(name, seed)
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
    assert load("grpo", {"name": "progrpo", "logprobs_from": "current"}).needs == {"prompt_logprobs", "refresh"}


def test_its_presets_and_settings() -> None:
    assert load("dapo", {"name": "progrpo", "preset": "equilibrium"}).added.params.baseline == "group_mean"
    with pytest.raises(ConfigError, match="method progrpo: unknown key 'alhpa'; did you mean 'alpha'"):
        load("dapo", {"name": "progrpo", "alhpa": 1})


@pytest.mark.parametrize("name", TOKEN_LEVEL)
def test_a_method_of_single_tokens_refuses(name: str) -> None:
    with pytest.raises(ConfigError, match=f"method {name}: add needs advantages of whole sequences, and this method"):
        load(name, "progrpo").advantages(random_batch(0))


def test_only_a_method_with_add_to_and_never_itself() -> None:
    with pytest.raises(ConfigError, match="method grpo: add=dapo: that method defines no add_to; progrpo does"):
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
    # rewards 1 0 1 are shaped to 3 1 3; advantages 30 10 30; added: 93 31 93; the second is dropped
    made = load(own, added).advantages(batch)
    assert made.values.tolist() == [[93.0, 0.0, 93.0]] * 3
    assert made.keep.tolist() == [[True, False, True]] * 3
    assert load(own).advantages(batch).values.tolist() == [[30.0, 0.0, 30.0]] * 3
