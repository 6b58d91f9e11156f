from dataclasses import replace

import pytest
import torch

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.settings import Choice
from progrpo.types import RolloutBatch, Status
from stand_ins.batch_steps import (
    SEEDS,
    Table,
    assert_same_step,
    drifted,
    lengths_of,
    random_batch,
    rewards_of,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss
from stand_ins.sampling import ScriptedGenerate, ScriptedProblems


def six_tokens(problem: str, number: int, prefix: list[int]) -> tuple[list[int], list[float], Status]:
    """Roots of the tokens 10 to 15, the likeliest place to go on from being the token 13; continuations of two tokens."""
    if prefix:
        return [20, 21], [0.1, 0.1], "wrong"
    return [10, 11, 12, 13, 14, 15], [3.0, 0.5, 0.2, 2.0, 1.0, 0.1], "correct" if number == 0 else "wrong"


def test_a_group_is_roots_and_what_goes_on_from_the_uncertain_place_in_each() -> None:
    # Six completions with two continuations each: two roots. Of one place that is the fourth token: the first has a higher
    # entropy, but nothing stands before it.
    method = load("cure", continuations=2, places=1)
    generate = ScriptedGenerate(six_tokens, group=6)
    made = method.sample(ScriptedProblems(2), generate)
    assert generate.calls[0] == [("0", 0, 2, []), ("1", 0, 2, [])]
    prefix = [10, 11, 12]
    assert generate.calls[1] == [("0", 2, 2, prefix), ("0", 4, 2, prefix), ("1", 2, 2, prefix), ("1", 4, 2, prefix)]
    assert made.stats == {}
    for group, name in zip(made.groups, ("0", "1"), strict=True):
        assert group.problem.id == name
        assert [completion.seed for completion in group.completions] == [0, 1, 2, 3, 4, 5]
        assert [completion.token_ids.tolist() for completion in group.completions[2:]] == [[*prefix, 20, 21]] * 4
        assert group.completions[0].trained is None
        assert group.completions[2].trained.tolist() == [False, False, False, True, True]
        assert [verdict.correct for verdict in group.verdicts] == [True, False, False, False, False, False]


@pytest.mark.parametrize(
    ("spell", "least", "allowed"),
    [
        ({}, 2, {1, 3, 4}),  # the three places of highest entropy but the first: 2.0, 1.0 and 0.5
        ({13: "\n7 ", 14: None}, 2, {1, 2, 5}),  # one character, and a special token: the next ones take their places
        ({13: "\n7 ", 14: None}, 1, {1, 2, 3}),
        (dict.fromkeys(range(10, 16)), 2, {0}),  # none at all: from the beginning, which needs no prefix
    ],
)
def test_one_of_the_uncertain_places_is_drawn(spell: dict[int, str | None], least: int, allowed: set[int]) -> None:
    method = load("cure", continuations=1, places=3, least_characters=least)
    generate = ScriptedGenerate(six_tokens, group=16, spell=spell)
    method.sample(ScriptedProblems(6), generate)
    drawn = {len(prefix) for _, _, _, prefix in generate.calls[1]}
    assert drawn == allowed  # 48 draws of at most three
    again = ScriptedGenerate(six_tokens, group=16, spell=spell)
    method.sample(ScriptedProblems(6), again)
    assert again.calls == generate.calls


def test_dynamic_sampling_is_dapo_s() -> None:
    def make(problem: str, number: int, prefix: list[int]) -> tuple[list[int], list[float], Status]:
        right = problem in "02" or (problem == "3" and number < 2)
        return [10, 11], [1.0, 1.0], "correct" if right else "wrong"

    generate = ScriptedGenerate(make, group=4)
    made = load("cure", max_rounds=2, continuations=3).sample(ScriptedProblems(2), generate)
    assert [group.problem.id for group in made.groups] == ["3", "0"]
    assert made.stats["rollout/rounds"].value == 2
    assert made.stats["rollout/mixed_groups"].value == 1 / 4


def test_what_it_is_asked_and_refuses() -> None:
    assert load("cure").check(16) == []
    with pytest.raises(ConfigError, match=r"batch.group=10 is no multiple of 1 \+ method.continuations=3"):
        load("cure").check(10)
    assert "goes on from within" in str(load("cure").samples)
    released = methods.load(Choice(name="cure", preset="released"))
    assert (released.rounds, released.params.dual_clip, released.params.aggregate) == (10, 10.0, "token")
    assert (released.params.clip_low, released.params.clip_high) == (0.2, 0.28)


def with_prefixes(batch: RolloutBatch, seed: int) -> tuple[RolloutBatch, list[int]]:
    """The batch with the first tokens of some sequences fed and not sampled; how many of each."""
    draw = torch.Generator().manual_seed(seed)
    prefixes = [
        int(torch.randint(0, length + 1, (1,), generator=draw)) if length else 0 for length in lengths_of(batch)
    ]
    mask = batch.mask & (torch.arange(batch.mask.shape[1])[None] >= torch.tensor(prefixes)[:, None])
    return replace(batch, mask=mask, old_logprobs=batch.old_logprobs * mask), prefixes


def naive(batch: RolloutBatch, now: Table, prefixes: list[int]) -> tuple[float, Table]:
    """The mean over the tokens that were sampled, of all groups together, of the clipped surrogate, as loops."""
    lengths = lengths_of(batch)
    plain = each_token(naive_grpo(rewards_of(batch)), lengths)
    advantages = [[0.0] * prefix + row[prefix:] for row, prefix in zip(plain, prefixes, strict=True)]
    share = 1 / (sum(lengths) - sum(prefixes))
    old = tokens_of(batch.old_logprobs, lengths)
    return naive_loss(now, old, advantages, [share] * len(now), clipped(0.8, 1.28))


@pytest.mark.parametrize("seeds", SEEDS)
def test_it_is_the_mean_over_sampled_tokens_written_as_loops(seeds: range) -> None:
    method = load("cure")
    for seed in seeds:
        batch, prefixes = with_prefixes(random_batch(seed), seed)
        now = drifted(random_batch(seed), seed, 0.3)  # the model knows the prefix's log-probs; nobody may
        loss, gradient = naive(batch, tokens_of(now, lengths_of(batch)), prefixes)
        found = take_step(method, batch, now)
        assert_same_step(found, loss, gradient, batch.mask)
        order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(take_step(method, batch, now, parts=order.split([2, 1, 6])).gradient, found.gradient)


def test_without_prefixes_its_loss_is_dapo_s() -> None:
    batch = random_batch(3)
    now = drifted(batch, 3, 0.3)
    cure = take_step(load("cure"), batch, now)
    dapo = take_step(load("dapo", aggregate="token"), batch, now)
    assert cure.loss == dapo.loss
    assert torch.equal(cure.gradient, dapo.gradient)
