import pytest
import torch

from progrpo.errors import ConfigError
from progrpo.methods import SampledGroups, Taken
from progrpo.types import Problem, Status
from stand_ins.batch_steps import drifted, random_batch, take_step
from stand_ins.every_method import load
from stand_ins.sampling import ScriptedGenerate


class SameProblems:
    """The problems "a" and "b" in every rollout."""

    size = 2

    def take(self) -> tuple[Taken, ...]:
        return tuple(Taken(0, Problem(id=name, prompt=name)) for name in "ab")


class Rollouts:
    """Rollouts of "a" and "b", three completions each: `kinds[n]` are the verdicts of rollout n, right, wrong or timeout."""

    def __init__(self, *kinds: str, samples: int = 1, **settings: int) -> None:
        self._number = -1
        self._kinds = kinds
        self.generate = ScriptedGenerate(self._make, group=3)
        self._method = load("r3", samples=samples, **settings)

    def _make(self, problem: str, number: int, prefix: list[int]) -> tuple[list[int], list[float], Status]:
        statuses: dict[str, Status] = {"r": "correct", "w": "wrong", "t": "timeout"}
        kind = self._kinds[self._number].split()["ab".index(problem)][number]
        return [self._number, number], [1.0, 1.0], statuses[kind]

    def next(self) -> SampledGroups:
        self._number += 1
        made = self._method.sample(SameProblems(), self.generate)
        self.generate.state = {**self.generate.state, **made.state}
        return made


def tokens(made: SampledGroups) -> list[list[tuple[int, int]]]:
    """Rollout and number of each completion."""
    return [[tuple(one.token_ids.tolist()) for one in group.completions] for group in made.groups]


def test_groups_that_are_all_alike_take_the_other_kind_from_before() -> None:
    rollouts = Rollouts("rww rrr", "www rrr", "rrr www", "www rtt")
    first = rollouts.next()  # nothing is known yet
    assert tokens(first) == [[(0, 0), (0, 1), (0, 2)]] * 2
    assert first.stats["r3/replaced"].value == 0
    second = (
        rollouts.next()
    )  # a: all wrong, and its right one of before comes back; b: all right, and no wrong one is known
    assert tokens(second) == [[(1, 0), (1, 1), (0, 0)], [(1, 0), (1, 1), (1, 2)]]
    assert [verdict.correct for verdict in second.groups[0].verdicts] == [False, False, True]
    assert second.stats["r3/replaced"].value == 1 / 6
    assert second.groups[0].completions[2].sampler_logprobs.tolist() == [-1.0, -1.0]
    third = (
        rollouts.next()
    )  # the latest wrong one of a is its third of the second rollout, though that one was replaced
    assert tokens(third) == [[(2, 0), (2, 1), (1, 2)], [(2, 0), (2, 1), (1, 2)]]
    fourth = rollouts.next()  # what has no verdict makes no group mixed, and is not kept
    assert tokens(fourth) == [[(3, 0), (3, 1), (2, 2)], [(3, 0), (3, 1), (2, 2)]]


def test_so_many_as_are_asked_for_and_known() -> None:
    rollouts = Rollouts("rrw rww", "www rrr", samples=2)
    rollouts.next()
    assert tokens(rollouts.next()) == [[(1, 0), (0, 0), (0, 1)], [(1, 0), (0, 1), (0, 2)]]


def test_mixed_groups_stay_and_problems_met_long_ago_are_forgotten() -> None:
    rollouts = Rollouts("rww rww", "rww rww", "www www", buffer_problems=1)
    rollouts.next()
    assert tokens(rollouts.next()) == [[(1, 0), (1, 1), (1, 2)]] * 2
    assert list(rollouts.generate.state["r3_buffer"]) == ["b"]
    assert tokens(rollouts.next()) == [[(2, 0), (2, 1), (2, 2)], [(2, 0), (2, 1), (1, 0)]]


def test_what_is_remembered_is_not_written_into() -> None:
    rollouts = Rollouts("rww rww", "www www")
    rollouts.next()
    before = rollouts.generate.state["r3_buffer"]
    kept = {name: {kind: list(entries) for kind, entries in known.items()} for name, known in before.items()}
    rollouts.next()
    assert before == kept


def test_its_loss_is_grpo_s_and_a_group_keeps_some_of_its_own() -> None:
    batch = random_batch(4)
    now = drifted(batch, 4, 0.3)
    own, other = (take_step(load(name), batch, now) for name in ("r3", "grpo"))
    assert own.loss == other.loss
    assert torch.equal(own.gradient, other.gradient)
    assert load("r3", samples=2).check(3) == []
    with pytest.raises(
        ConfigError, match="method.samples=3 completions of earlier rollouts would take the place of all"
    ):
        load("r3", samples=3).check(3)
