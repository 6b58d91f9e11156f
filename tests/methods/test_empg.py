import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
    SEEDS,
    Table,
    assert_formula,
    batch_of,
    columns,
    lengths_of,
    rewards_of,
    tokens_of,
)
from stand_ins.every_method import load
from stand_ins.naive_methods import clipped, naive_grpo, naive_loss, sequence_mean


def two_completions() -> RolloutBatch:
    """Right: steps of entropies (1, 3) and (4); wrong: one step of entropy 0."""
    batch = batch_of([[1.0, 0.0]], [[0.5] * 3, [0.5]])
    return replace(batch, entropies=columns([[1.0, 3.0, 4.0], [0.0]]), token_texts=(("a", "b\n", "c"), ("a",)))


def test_by_hand() -> None:
    # means 2, 4, 0; heights 0.5, 1, 0; exp(-k height) with k = ln 4: 0.5, 0.25, 1; mean 7/12; g = 6/7, 3/7, 12/7
    # f with k' = ln 2: the second step's 0.5 falls to the first: 0.1 * 0.5; no other has one after it
    # A = 0.70711 and -0.70711: 0.60609 + 0.05, 0.30305, -1.21218; their mean -0.08435
    method = load("empg", k=math.log(4), k_next=math.log(2), zeta=0.1, eps=0.0)
    made = method.advantages(two_completions())
    assert made.tokens[0].tolist() == pytest.approx([0.740437, 0.740437, 0.387393], abs=1e-5)
    assert made.tokens[1].tolist() == pytest.approx([-1.127830, 0, 0], abs=1e-5)
    assert made.stats["empg/steps"].value == 1.5


def test_without_its_three_numbers_it_is_grpo_less_the_mean_over_steps() -> None:
    made = load("empg", k=0.0, k_next=0.0, zeta=0.0, eps=0.0).advantages(two_completions())
    # two steps of 0.70711 and one of -0.70711: mean 0.23570
    assert made.tokens[0].tolist() == pytest.approx([0.471405] * 3, abs=1e-5)
    assert made.tokens[1, 0].item() == pytest.approx(-0.942809, abs=1e-5)


def test_what_has_no_verdict_counts_nowhere() -> None:
    batch = batch_of([[1.0, 0.0, NAN]], [[0.5] * 3, [0.5], [0.5, 0.5]])
    texts = (("a", "b\n", "c"), ("a",), ("a\n", "b"))
    lost = replace(batch, entropies=columns([[1.0, 3.0, 4.0], [0.0], [50.0, 60.0]]), token_texts=texts)
    made, alone = load("empg").advantages(lost), load("empg").advantages(two_completions())
    assert torch.equal(made.tokens[:2], alone.tokens)
    assert not made.tokens[2].any()


def naive(batch: RolloutBatch, logprobs: torch.Tensor, k: float, after: float, zeta: float) -> tuple[float, Table]:
    lengths = lengths_of(batch)
    now, old, entropies = (tokens_of(each, lengths) for each in (logprobs, batch.old_logprobs, batch.entropies))
    flat = [a for row in naive_grpo(rewards_of(batch)) for a in row]
    judged = batch.judged.flatten().tolist()
    steps: list[tuple[int, list[int]]] = []  # completion, its places
    for n, texts in enumerate(batch.token_texts):
        if not judged[n]:
            continue
        ended = True
        for t, text in enumerate(texts):
            if ended and (text.strip() or t == 0):
                steps.append((n, []))
                ended = False
            steps[-1][1].append(t)
            ended = ended or "\n" in text
    means = [sum(entropies[n][t] for t in places) / len(places) for n, places in steps]
    heights = [(mean - min(means)) / (max(means) - min(means) + 1e-8) for mean in means]
    scales = [math.exp(-k * height) for height in heights]
    usual = sum(scales) / len(scales) + 1e-8
    earned = []
    for s, (n, _) in enumerate(steps):
        more = zeta * math.exp(-after * heights[s + 1]) if s + 1 < len(steps) and steps[s + 1][0] == n else 0.0
        earned.append(flat[n] * scales[s] / usual + more)
    centre = sum(earned) / len(earned)
    advantages = [[0.0] * length for length in lengths]
    for (n, places), each in zip(steps, earned, strict=True):
        for t in places:
            advantages[n][t] = each - centre
    return naive_loss(now, old, advantages, sequence_mean(lengths), clipped(0.8, 1.2))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("k", "after", "zeta"), [(1.0, 1.0, 0.1), (3.0, 0.5, 1.0)])
def test_it_is_the_formula_as_loops(k: float, after: float, zeta: float, seeds: range) -> None:
    assert_formula(load("empg", k=k, k_next=after, zeta=zeta), partial(naive, k=k, after=after, zeta=zeta), seeds)
