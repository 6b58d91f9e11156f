import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    SEEDS,
    Table,
    assert_same_step,
    batch_of,
    drifted,
    lengths_of,
    random_batch,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, naive_loss
from stand_ins.sampling import ScriptedGenerate, ScriptedProblems

SMALL = {"depth": 2, "width": 2}


def six_nodes(problem: str, number: int, prefix: list[int]) -> tuple[Any, ...]:
    """Two beginnings that go on; after the first two wrong ends, the surer one first, after the second a right and a wrong."""
    if not prefix:
        return [[[1, 1], [1.0] * 2, "wrong", "length"], [[2, 2], [1.0] * 2, "wrong", "length"]][number % 2]
    if prefix == [1, 1]:
        surer = number % 2 == 0
        return [3 if surer else 4], [1.0], "wrong", "stop", -0.5 if surer else -2.0
    return [5 if number % 2 else 6], [1.0], "correct" if number % 2 else "wrong"


def test_a_small_tree_by_hand() -> None:
    # The first two children have not ended, and of equal scores the first is gone on from. Both of its children end wrong;
    # the surer one is a leaf, [1, 1, 3]: -1 for itself, and -2/3 for the node above (depth 1 of a leaf of depth 2). Then the
    # one node without children is left: its right child is a leaf, [2, 2, 5]: 1, and 2/3 above. Two leaves: done.
    generate = ScriptedGenerate(six_nodes, group=2, longest=4)
    method = load("deepsearch", **SMALL)
    made = method.sample(ScriptedProblems(1), generate)
    calls = [call for (call,) in generate.calls]
    assert calls == [("0", 0, 2, []), ("0", 2, 2, [1, 1]), ("0", 4, 2, [2, 2])]
    assert set(generate.limits) == {2}  # 4 tokens in 2 steps
    (group,) = made.groups
    assert [one.token_ids.tolist() for one in group.completions] == [[1, 1, 3], [2, 2, 5]]
    assert group.completions[0].sampler_logprobs.tolist() == [-1.0, -1.0, -0.5]
    assert [one.trained for one in group.completions] == [None, None]
    assert [verdict.correct for verdict in group.verdicts] == [False, True]
    assert made.stats["deepsearch/nodes"].value == 6
    ways = made.state["deepsearch/nodes"]
    assert ways == [[[0, pytest.approx(-2 / 3)], [2, -1.0]], [[0, pytest.approx(2 / 3)], [2, 1.0]]]
    # The leaves' mean is 0, tanh(2/3) = 0.58278.
    batch = replace(batch_of([[0.0, 1.0]], [[0.5] * 3, [0.5] * 3]), state=dict(made.state))
    found = method.advantages(batch)
    assert found.values[0].tolist() == [-1.0, 1.0]
    assert found.tokens is not None
    assert found.tokens[0].tolist() == pytest.approx([-0.58278, -0.58278, -1.0], abs=1e-5)
    assert found.tokens[1].tolist() == pytest.approx([0.58278, 0.58278, 1.0], abs=1e-5)


def test_where_nothing_is_left_to_go_on_from_the_prompt_has_more_children() -> None:
    generate = ScriptedGenerate(lambda *_: ([9], [1.0], "wrong"), group=3, longest=4)
    made = load("deepsearch", **SMALL).sample(ScriptedProblems(1), generate)
    assert [call for (call,) in generate.calls] == [("0", 0, 2, []), ("0", 2, 2, []), ("0", 4, 2, [])]
    assert [one.seed for one in made.groups[0].completions] == [0, 2, 4]


def test_the_deepest_nodes_end_and_so_do_those_at_the_limit() -> None:
    def never(problem: str, number: int, prefix: list[int]) -> tuple[Any, ...]:
        return [7], [1.0], "wrong", "length"

    generate = ScriptedGenerate(never, group=1, longest=100)
    made = load("deepsearch", depth=3, width=1).sample(ScriptedProblems(1), generate)
    assert made.groups[0].completions[0].token_ids.tolist() == [7, 7, 7]
    generate = ScriptedGenerate(never, group=1, longest=2)
    made = load("deepsearch", depth=50, width=1).sample(ScriptedProblems(1), generate)
    assert made.groups[0].completions[0].token_ids.tolist() == [7, 7]
    assert set(generate.limits) == {1}


def test_values_go_up_the_tree() -> None:
    module = load("deepsearch").module
    root = module._Node()
    middle = module._Node(parent=root, depth=1)

    def end(outcome: float) -> list[float]:
        leaf = module._Node(parent=middle, depth=2, outcome=outcome)
        module._back_up(leaf, 0.5)
        return [leaf.value, middle.value, root.value]

    # weights 1, 2/3 and 1/3, which is raised to 1/2
    assert end(-1.0) == pytest.approx([-1, -2 / 3, -1 / 2])
    assert end(-1.0) == pytest.approx([-1, -4 / 3, -1])  # the same sign adds
    assert end(1.0) == pytest.approx([1, 2 / 3, 1 / 2])  # a right leaf wipes out what is negative
    assert end(-1.0) == pytest.approx([-1, 2 / 3, 1 / 2])  # and a wrong one leaves what is positive
    assert end(1.0) == pytest.approx([1, 4 / 3, 1])
    assert end(0.0) == pytest.approx([0, 4 / 3, 1])  # nothing is known
    assert (middle.met, root.met) == (6, 6)


@pytest.mark.parametrize(("failed", "value"), [("neutral", 0.0), ("wrong", -1.0)])
def test_a_failed_verdict_is_worth_what_training_takes_it_for(failed: str, value: float) -> None:
    def made(problem: str, number: int, prefix: list[int]) -> tuple[Any, ...]:
        return [number], [1.0], "timeout"

    generate = ScriptedGenerate(made, group=2)
    generate.failed = failed
    module = load("deepsearch").module
    tree = module._Tree(ScriptedProblems(1).take()[0], generate, load("deepsearch").params)
    tree.grow(*generate([tree.draw()]))
    assert [leaf.value for leaf in tree.leaves] == [value]


def test_which_node_is_next() -> None:
    module = load("deepsearch").module
    tree = module._Tree(ScriptedProblems(1).take()[0], ScriptedGenerate(six_nodes, group=2), load("deepsearch").params)
    parent = module._Node(met=8)
    # 2 sqrt(ln 8 / n) = 2.884 for n = 1, 1.442 for n = 4: with means 0 and 1 that is 2.884 against 2.442, with 2 against 3.442
    parent.children = [module._Node(parent=parent, met=1), module._Node(parent=parent, met=4, value=4.0)]
    assert tree._child(parent) is parent.children[0]
    parent.children[1].value = 8.0
    assert tree._child(parent) is parent.children[1]
    # Without children: 0.4 tanh of the parent's mean, and 0.01 sqrt(depth/64). A parent of mean 1 makes up for depth.
    good, bad = (
        module._Node(parent=tree.root, depth=1, met=1, value=1.0),
        module._Node(parent=tree.root, depth=1, met=1),
    )
    good.children, bad.children = [module._Node(parent=good, depth=2)], [module._Node(parent=bad, depth=60)]
    tree.root.children = [bad, good]
    assert tree._frontier() is good.children[0]
    good.value = 0.0
    assert tree._frontier() is bad.children[0]
    bad.children[0].ended = good.children[0].ended = True
    assert tree._frontier() is tree.root


def with_ways(batch: RolloutBatch, seed: int) -> RolloutBatch:
    """The batch as leaves of trees: each completion in steps of one or two tokens, with values."""
    draw = torch.Generator().manual_seed(seed)
    ways = []
    for length in lengths_of(batch):
        start, way = 0, []
        while start < length or not way:
            way.append([start, float(2 * torch.rand((), generator=draw) - 1)])
            start += int(torch.randint(1, 3, (), generator=draw))
        ways.append(way)
    return replace(batch, state={"deepsearch/nodes": ways})


def naive(batch: RolloutBatch, now: Table, std: bool) -> tuple[float, Table]:
    """Each token's advantage is its node's score less the leaves' mean; the mean over all tokens, as loops."""
    group, advantages = batch.rewards.shape[1], []
    for n, row in enumerate(now):
        p, g = divmod(n, group)
        known = [k for k in range(group) if batch.judged[p, k]]
        leaves = [1.0 if batch.correct[p, k] else -1.0 for k in known]
        mean = sum(leaves) / len(leaves) if leaves else 0.0
        spread = math.sqrt(sum((leaf - mean) ** 2 for leaf in leaves) / len(leaves)) if leaves else 0.0
        silent = g not in known or (std and spread == 0)
        way = batch.state["deepsearch/nodes"][n]
        scores = [math.tanh(value) for _, value in way[:-1]] + [1.0 if batch.correct[p, g] else -1.0]
        nodes = [max(k for k, (start, _) in enumerate(way) if start <= t) for t in range(len(row))]
        advantages.append([0.0 if silent else (scores[k] - mean) / (spread + 1e-6 if std else 1.0) for k in nodes])
    old = tokens_of(batch.old_logprobs, lengths_of(batch))
    return naive_loss(now, old, advantages, [1 / sum(map(len, now))] * len(now), clipped(0.8, 1.28))


@pytest.mark.parametrize("scale", ["none", "std"])
@pytest.mark.parametrize("seeds", SEEDS)
def test_it_is_its_formula_written_as_loops(seeds: range, scale: str) -> None:
    method = load("deepsearch", scale=scale)
    for seed in seeds:
        batch = with_ways(random_batch(seed), seed)
        now = drifted(batch, seed, 0.3)
        loss, gradient = naive(batch, tokens_of(now, lengths_of(batch)), scale == "std")
        found = take_step(method, batch, now)
        assert_same_step(found, loss, gradient, batch.mask)
        parts = torch.randperm(9, generator=torch.Generator().manual_seed(seed)).split([2, 1, 6])
        assert torch.allclose(take_step(method, batch, now, parts=parts).gradient, found.gradient)
