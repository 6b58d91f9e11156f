import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from progrpo.methods import Method, SampledGroups
from progrpo.methods._replay import entry_of, group_of
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
from stand_ins.naive_methods import clipped, each_token, naive_loss
from stand_ins.sampling import ScriptedGenerate, ScriptedProblems


def first_is_right(problem: str, number: int, prefix: list[int]) -> tuple[list[int], list[float], Status]:
    return [int(problem), number], [1.0, 1.0], "correct" if number == 0 else "wrong"


class Rollouts:
    """Rollouts of some problems, four completions each, one after another."""

    def __init__(self, method: Method, make: Any = first_is_right, *, size: int = 2) -> None:
        self.problems, self.generate = ScriptedProblems(size), ScriptedGenerate(make, group=4)
        self._method = method

    def next(self) -> SampledGroups:
        made = self._method.sample(self.problems, self.generate)
        self.generate.state = {**self.generate.state, **made.state}
        return made

    @property
    def replay(self) -> dict[str, float] | None:
        return self.generate.state["spear/replay"]


def trained(made: SampledGroups) -> list[tuple[str, int]]:
    """Problem and seed of the completions of which a token is trained on."""
    return [
        (group.problem.id, completion.seed)
        for group in made.groups
        for completion in group.completions
        if completion.trained is None or completion.trained.any()
    ]


def test_what_went_well_is_learnt_from_again_once_there_is_enough_of_it() -> None:
    # Each group has one right completion of four: mean 0.25, the median, too. Two rollouts leave four, more than 1.5 * 2; of
    # the four two are drawn, for the buffer holds two. Its weight after two of 300 rollouts: (1 - cos(2 pi/300))/2.
    rollouts = Rollouts(load("spear", buffer=2))
    for number in (1, 2):
        made = rollouts.next()
        assert len(trained(made)) == 8
        assert made.stats["rollout/replayed"].total == 0
        assert made.stats["spear/buffer"].total == 2 * number
        assert rollouts.replay is None
    made = rollouts.next()
    assert len(rollouts.generate.calls) == 2  # nothing is sampled
    assert made.stats["rollout/replayed"].total == 1
    assert made.stats["spear/buffer"].total == 0
    assert len(set(trained(made))) == 2
    assert set(trained(made)) <= {(problem, 0) for problem in "0123"}
    assert rollouts.replay == {
        "mean": 0.25,
        "spread": pytest.approx(math.sqrt(3) / 4),
        "weight": pytest.approx((1 - math.cos(math.pi / 150)) / 2),
    }
    for group in made.groups:
        assert len(group.completions) == len(group.verdicts) == 4
        (kept,) = (one for one in group.completions if one.trained is None)
        assert kept.token_ids.tolist() == [int(group.problem.id), 0]
        assert kept.sampler_logprobs.tolist() == [-1.0, -1.0]
    assert trained(rollouts.next())[0] == ("4", 0)  # and on with the problems


def test_problems_of_a_replay_keep_what_metrics_tell_them_apart_by() -> None:
    rollouts = Rollouts(load("spear", buffer=1))
    (group, *_) = rollouts.next().groups
    kept = group_of([entry_of(replace(group, problem=replace(group.problem, facts={"source": "sums"})), 0)], 4)
    assert kept.problem.facts == {"source": "sums"}
    assert kept.problem.id == group.problem.id


def test_what_a_replay_has_is_spread_over_its_optimiser_steps() -> None:
    # One right completion of each problem: two of four slots, not side by side
    rollouts = Rollouts(load("spear", buffer=2), size=4)
    rollouts.next()
    made = rollouts.next()
    there = [any(one.trained is None for one in group.completions) for group in made.groups]
    assert there == [True, False, True, False]


def test_a_replay_of_one_problem_is_filled_up() -> None:
    rollouts = Rollouts(load("spear", buffer=1))
    rollouts.next()
    made = rollouts.next()
    assert len(trained(made)) == 1
    assert [len(group.completions) for group in made.groups] == [4, 4]


def test_completions_of_a_problem_stay_together_and_the_rest_waits() -> None:
    # Two of four are right: four good ones a rollout.
    def two_right(problem: str, number: int, prefix: list[int]) -> tuple[list[int], list[float], Status]:
        return [int(problem), number], [1.0, 1.0], "correct" if number < 2 else "wrong"

    rollouts = Rollouts(load("spear", buffer=8), two_right)
    for _ in range(4):  # 16 > 12: eight are drawn, of four to eight problems, two a rollout
        rollouts.next()
    seen, problems = [], []
    for _ in range(9):
        made = rollouts.next()
        if not rollouts.replay:
            break
        for group in made.groups:
            replayed = [one.seed for one in group.completions if one.trained is None]
            assert replayed == sorted(replayed)
            seen += [(group.problem.id, seed) for seed in replayed]
            problems += [group.problem.id] if replayed else []
    assert len(seen) == len(set(seen)) == 8
    assert len(problems) == len(set(problems)) < 8


def test_old_ones_leave_and_groups_that_are_all_right_give_nothing() -> None:
    rollouts = Rollouts(load("spear", buffer=100, tolerated_rollouts=1))
    sizes = [rollouts.next().stats["spear/buffer"].total for _ in range(5)]
    # What is older than the latest in the buffer by more than one leaves before the next is added: three rollouts at most.
    assert sizes == [2, 4, 6, 6, 6]

    def all_right(problem: str, number: int, prefix: list[int]) -> tuple[list[int], list[float], Status]:
        return [1], [1.0], "correct"

    assert Rollouts(load("spear"), all_right).next().stats["spear/buffer"].total == 0


def test_the_weight_rises_by_a_cosine() -> None:
    # 150 of 300: a half; at 300 and beyond the whole
    weights = {}
    for count in (0, 150, 300, 301):
        rollouts = Rollouts(load("spear", buffer=1, replay_coef=2.0))
        rollouts.next()
        rollouts.generate.state["spear/rollouts"] = count
        rollouts.next()
        assert rollouts.replay
        weights[count] = rollouts.replay["weight"]
    assert weights == pytest.approx({0: 0.0, 150: 1.0, 300: 2.0, 301: 2.0})


def replayed(batch: RolloutBatch, seed: int, weight: float) -> RolloutBatch:
    """The batch as one of a replay, some of its sequences filling it up."""
    fills = torch.rand(len(batch.mask), generator=torch.Generator().manual_seed(seed)) < 0.3
    fills[0] = False
    mask = batch.mask & ~fills[:, None]
    state = {"spear/replay": {"mean": 0.3, "spread": 0.5, "weight": weight}}
    return replace(batch, mask=mask, old_logprobs=batch.old_logprobs * mask, state=state)


def naive(batch: RolloutBatch, now: Table, longest: int, weight: float) -> tuple[float, Table]:
    """A = r - 0.3; weight / (sequences that are trained * longest) * the sum of the clipped surrogate, as loops."""
    kept, lengths = batch.mask.any(dim=1).tolist(), lengths_of(batch)
    centred = [[0.0 if math.isnan(reward) else reward - 0.3 for reward in row] for row in rewards_of(batch)]
    factors = [weight / (sum(kept) * longest) if trains else 0.0 for trains in kept]
    old = tokens_of(batch.old_logprobs, lengths)
    return naive_loss(now, old, each_token(centred, lengths), factors, clipped(0.8, 1.28))


@pytest.mark.parametrize("seeds", SEEDS)
def test_a_replay_is_its_formula_written_as_loops(seeds: range) -> None:
    method = load("spear", replay_ratio=0.0)
    for seed in seeds:
        batch = replayed(random_batch(seed), seed, weight=0.4)
        now = drifted(random_batch(seed), seed, 0.3)
        loss, gradient = naive(batch, tokens_of(now, lengths_of(batch)), 16, 0.4)
        found = take_step(method, batch, now)
        assert_same_step(found, loss, gradient, batch.mask)
        parts = torch.randperm(9, generator=torch.Generator().manual_seed(seed)).split([2, 1, 6])
        assert torch.allclose(take_step(method, batch, now, parts=parts).gradient, found.gradient)


def test_outside_replays_it_is_centred_grpo_with_clip_cov() -> None:
    batch = random_batch(5)
    now = drifted(batch, 5, 0.3)
    own = take_step(load("spear", ratio=0.3, cov_low=-9.0, cov_high=9.0), batch, now)
    settings = {"scale": "none", "aggregate": "fixed", "clip_low": 0.2, "clip_high": 0.28}
    other = take_step(load("clip_cov", ratio=0.3, cov_low=-9.0, cov_high=9.0, **settings), batch, now)
    assert own.loss == other.loss
    assert torch.equal(own.gradient, other.gradient)
    plain = take_step(load("spear", ratio=0.0), batch, now)
    assert not torch.equal(own.gradient, plain.gradient)


def test_replays_have_their_own_clip_cov() -> None:
    # All tokens are candidates, and all lose their gradient, but those that the ratio clips already.
    batch = replayed(random_batch(7), 7, weight=1.0)
    everything = {"replay_ratio": 1.0, "replay_cov_low": -99.0, "replay_cov_high": 99.0}
    found = take_step(load("spear", **everything), batch, batch.old_logprobs)
    assert not found.gradient.any()
    assert take_step(load("spear", ratio=1.0, cov_low=-99.0, cov_high=99.0), batch, batch.old_logprobs).gradient.any()


def test_with_scale_std_the_median_of_the_spreads_divides() -> None:
    batch = replayed(random_batch(3, failed=0.0), 3, weight=1.0)
    values = load("spear", scale="std", eps=0.0).advantages(batch)
    assert torch.allclose(values.values[values.keep], ((batch.rewards - 0.3) / 0.5)[values.keep])


def test_where_most_groups_agreed_nothing_is_divided_by() -> None:
    batch = replayed(random_batch(3, failed=0.0), 3, weight=1.0)
    state = {key: dict(value, spread=0.0) if key.endswith("replay") else value for key, value in batch.state.items()}
    plain = load("spear", scale="none").advantages(batch).values
    assert torch.allclose(load("spear", scale="std").advantages(replace(batch, state=state)).values, plain, atol=1e-5)
