import math
from dataclasses import replace

import pytest
import torch

from progrpo.errors import ConfigError
from progrpo.types import RolloutBatch, Verdict
from stand_ins.batch_steps import (
    NAN,
    Table,
    assert_same_step,
    batch_of,
    drifted,
    lengths_of,
    random_batch,
    rewards_of,
    take_step,
    tokens_of,
    verdicts_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, each_token, naive_grpo, naive_loss, sequence_mean


def named(rewards: Table, solutions: list[list[str | None]]) -> RolloutBatch:
    batch = batch_of(rewards, [[0.5]] * sum(map(len, rewards)))
    return replace(batch, verdicts=verdicts_of(batch.rewards, solutions))


def test_by_hand() -> None:
    # 4 of 6 right: A = 0.57735 and -1.15470 at a sample deviation of 0.57735 (1/3 and -2/3). Solution a three times, b once;
    # a wrong one without a solution, and one that says b, too: f = 3 3 3 2 1 2
    batch = named([[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]], [["a", "a", "a", "b", None, "b"]])
    plain = load("grpo", eps=0.0).advantages(batch).values[0]
    found = load("uniqueness", alpha=1.0, eps=0.0).advantages(batch)
    assert (plain / found.values[0]).tolist() == pytest.approx([3, 3, 3, 2, 1, 2])
    root = load("uniqueness", alpha=0.5, eps=0.0).advantages(batch).values[0]
    assert (plain / root).tolist() == pytest.approx([math.sqrt(f) for f in (3, 3, 3, 2, 1, 2)])
    right = load("uniqueness", alpha=1.0, eps=0.0, apply_to="correct").advantages(batch).values[0]
    assert (plain / right).tolist() == pytest.approx([3, 3, 3, 2, 1, 1])
    solutions = found.stats["uniqueness/solutions"]
    assert (solutions.total, solutions.count) == (2, 1)


def test_completions_without_a_verdict_do_not_count() -> None:
    # 3 of 4 judged, one right, with a solution that the failed one names, too
    batch = named([[1.0, 0.0, 0.0, NAN]], [["a", "b", None, "a"]])
    assert torch.equal(load("uniqueness").advantages(batch).values, load("grpo").advantages(batch).values)


def test_solutions_of_other_problems_do_not_count() -> None:
    batch = named([[1.0, 0.0], [1.0, 0.0]], [["a", "b"], ["a", "b"]])
    assert torch.equal(load("uniqueness").advantages(batch).values, load("grpo").advantages(batch).values)


def test_answers_or_canonical_forms() -> None:
    verdicts = tuple(
        Verdict(status="correct" if reward else "wrong", reward=reward, canonical=canonical, extracted=answer)
        for reward, canonical, answer in ((1.0, "a", "7"), (1.0, "b", "7"), (0.0, None, "8"), (0.0, None, "8"))
    )
    batch = replace(batch_of([[1.0, 1.0, 0.0, 0.0]], [[0.5]] * 4), verdicts=(verdicts,))
    plain = load("grpo").advantages(batch).values[0]
    by_form, by_answer = (
        (plain / load("uniqueness", solution=solution).advantages(batch).values[0]).tolist()
        for solution in ("canonical", "answer")
    )
    assert by_form == pytest.approx([1, 1, 1, 1])
    assert by_answer == pytest.approx([2, 2, 2, 2])


@pytest.mark.parametrize("solution", ["canonical", "answer"])
def test_a_verifier_that_names_no_solutions_is_refused(solution: str) -> None:
    batch = named([[1.0, 0.0]], [[None, "b"]])
    with pytest.raises(ConfigError, match=f"solution={solution}: this run's verifier gives a correct completion none"):
        load("uniqueness", solution=solution).advantages(batch)
    # a wrong one may have none
    load("uniqueness", solution=solution).advantages(named([[1.0, 0.0]], [["a", None]]))


def test_a_rollout_without_verdicts_is_refused() -> None:
    with pytest.raises(ValueError, match="verdicts: expected those of 3 groups, got 0"):
        load("uniqueness").advantages(replace(random_batch(0), verdicts=()))


@pytest.mark.parametrize("settings", [{"alpha": 1.0}, {"alpha": 0.3}, {"alpha": 2.0, "apply_to": "correct"}])
def test_it_is_the_formula_as_loops(settings: dict) -> None:
    for seed in range(30):
        batch = random_batch(seed, group=5)
        made = []
        for row, own, verdicts in zip(rewards_of(batch), naive_grpo(rewards_of(batch)), batch.verdicts, strict=True):
            names = [verdict.canonical for verdict in verdicts]
            counted = [name for name, reward in zip(names, row, strict=True) if not math.isnan(reward)]
            made.append(
                [
                    a / counted.count(name) ** settings["alpha"]
                    if not math.isnan(r) and (r == 1 or settings.get("apply_to") != "correct")
                    else a
                    for r, a, name in zip(row, own, names, strict=True)
                ]
            )
        logprobs, lengths = drifted(batch, seed, 0.3), lengths_of(batch)
        now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
        expected = naive_loss(now, old, each_token(made, lengths), sequence_mean(lengths), clipped(0.8, 1.2))
        assert_same_step(take_step(load("uniqueness", **settings), batch, logprobs), *expected, batch.mask)


def test_at_alpha_1_each_solution_of_a_group_counts_once() -> None:
    # the advantages of the completions that share a solution and a verdict add up to that of one
    batch = named([[1.0] * 5 + [0.0, NAN]], [["a", "a", "b", "c", "c", None, "a"]])
    plain = load("grpo").advantages(batch).values[0]
    found = load("uniqueness", alpha=1.0).advantages(batch).values[0]
    # the one without a verdict has a solution and no advantage, and is not counted
    assert found[:2].sum().item() == pytest.approx(plain[0].item())
    assert found[2].item() == pytest.approx(plain[2].item())
    assert found[3:5].sum().item() == pytest.approx(plain[3].item())


def test_alpha_zero_is_grpo_and_it_can_be_added_to_others() -> None:
    batch = random_batch(3)
    assert torch.equal(load("uniqueness", alpha=0.0).advantages(batch).values, load("grpo").advantages(batch).values)
    added = load("dapo", add={"name": "uniqueness", "alpha": 1.0})
    assert "verdicts" in added.needs
    assert torch.equal(added.advantages(batch).values, load("uniqueness", alpha=1.0).advantages(batch).values)
