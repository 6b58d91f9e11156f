"""SPEAR: what went well is learnt from again, against what has become usual meanwhile.

    after each rollout the completions with A > 0 go into a buffer; those older than `tolerated_rollouts` leave it
    m = median of the mean rewards of the last `baseline_groups` groups
    once more than 1.5 `buffer` of its completions have r > m, it is emptied, and of those with r >= m a random part, their
    greatest power of two within `buffer`, is learnt from with  A = r − m  and the weight
    ω = `replay_coef` · (1 − cos(π k/K))/2 after k <= K = `rising_rollouts` rollouts, then `replay_coef`

The ratio is to the policy that sampled them. Rollouts and replays take Clip-Cov with a share and a range each, centred
advantages, and sums over a constant length. As in the code a replay has optimiser steps of its own. Here these are whole
rollouts of which nothing is sampled, P problems each, the completions of a problem together; they count among the run's
`steps`, and what a problem or the last of them lacks is filled up without training on it. The paper's rewards for the use of
tools, and the choice of groups of high spread (Dr.BoT), are not here; its mask of cut completions is `truncated: drop`.

Source: arXiv:2509.22601; TencentYoutuResearch/SPEAR@7e84315 verl-agent ray_trainer_hybrid.py, core_algos.py, dp_actor.py, and
verl/recipe/spear/run_qwen3-32b_spear.sh.
Evidence: code.
Reproduce: the defaults are what its script for mathematics asks for; the code that it runs leaves the share and range for
replays aside and takes the other ones, in each micro-batch: `preset: released`; buffer=32 in its script for Qwen2.5-32B.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.methods._pools import without_covariant
from progrpo.methods._replay import Entry, entry_of, group_of
from progrpo.methods._sampling import plain_groups
from progrpo.types import Group, RolloutBatch, WeightedMean

NEEDS = frozenset({"refresh", "sampled_logprobs"})
PRESETS = {"released": {"pool": "micro", "replay_ratio": 2e-4, "replay_cov_high": 5.0}}
_BUFFER, _QUEUE, _HISTORY, _COUNT, _REPLAY = (
    f"spear/{name}" for name in ("buffer", "queue", "history", "rollouts", "replay")
)


class Params(methods.Params):
    scale: Literal["std", "none"] = "none"
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "fixed"
    buffer: int = Field(2048, ge=1)
    """Completions that a replay learns from at most; one is due once half as many again are in the buffer."""
    tolerated_rollouts: int = Field(5, ge=1)
    """Completions more rollouts older than the latest in the buffer leave it."""
    baseline_groups: int = Field(10240, ge=1)
    """Groups whose mean rewards the median is taken of: rollouts are forgotten while there are more."""
    replay_coef: float = Field(1.0, ge=0)
    """Greatest weight of a replay."""
    rising_rollouts: int = Field(300, ge=1)
    """Rollouts over which the weight rises from 0."""
    ratio: float = Field(2e-4, ge=0, le=1)
    """Clip-Cov's share of tokens that lose their gradient; 0 for none."""
    cov_low: float = 1.0
    """See `cov_high`."""
    cov_high: float = 5.0
    """Only tokens with a covariance between these are candidates."""
    replay_ratio: float = Field(0.02, ge=0, le=1)
    """The same share in replays."""
    replay_cov_low: float = 1.0
    """See `replay_cov_high`."""
    replay_cov_high: float = 40.0
    """The same range in replays."""
    pool: methods.Pool = "step"
    """Over which tokens the statistic is taken: all of the optimiser step, or those of a micro-batch, as some code does."""


def pool(params: Params) -> methods.Pool:
    return params.pool


def samples(params: Params) -> str | None:
    return "it learns from earlier completions again; method.name=clip_cov is without"


def sample(problems: methods.Problems, generate: methods.Generate, params: Params) -> methods.SampledGroups:
    state = generate.state
    buffer: list[Any] = list(state.get(_BUFFER, []))
    queue: list[Any] = list(state.get(_QUEUE, []))
    history: list[Any] = list(state.get(_HISTORY, []))
    count: int = state.get(_COUNT, 0)
    if not queue and _due(buffer, history, params):
        queue, buffer = _drawn(buffer, history, generate, count, params), []
    replay = None
    if queue:
        taken, queue = queue[: problems.size], queue[problems.size :]
        slots: list[list[Entry]] = [[] for _ in range(problems.size)]
        for number, entries in enumerate(
            taken
        ):  # apart, so that as many optimiser steps as may be have something to learn
            slots[number * problems.size // len(taken)] = entries
        groups = tuple(group_of(entries, generate.group, fill=None if entries else taken[0][0]) for entries in slots)
        mean, spread = _usual(history)
        replay = {"mean": mean, "spread": spread, "weight": _weight(count, params)}
    else:
        groups = plain_groups(problems.take(), generate)
        count += 1
        buffer = _younger(buffer, params) + _good(groups, count, generate)
        history = [*_shorter(history, params), [_statistics(_rewards(group, generate)) for group in groups]]
    return methods.SampledGroups(
        groups=groups,
        stats={
            "rollout/replayed": WeightedMean(float(replay is not None), 1),
            "spear/buffer": WeightedMean(sum(len(entries) for _, entries in buffer), 1),
        },
        state={_BUFFER: buffer, _QUEUE: queue, _HISTORY: history, _COUNT: count, _REPLAY: replay},
    )


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    """Of a replay what does not merely fill it up."""
    fills = ~batch.mask.any(dim=1).view(batch.rewards.shape)
    return ~fills if batch.state.get(_REPLAY) else torch.ones_like(fills)


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    replay: Mapping[str, float] | None = batch.state.get(_REPLAY)
    if not replay:
        return methods.Advantages(values=methods.base_advantages(batch, params))
    values = batch.rewards - replay["mean"]
    if params.scale == "std":
        # 0 where more than half of the groups agree.
        values = values / ((replay["spread"] or 1.0) + params.eps)
    values = values.masked_fill(~batch.judged, 0.0)
    return methods.Advantages(values=values, carried={_REPLAY: torch.full(batch.mask.shape, replay["weight"])})


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    weight = step.carried.get(_REPLAY)
    ratio, low, high = (
        (params.ratio, params.cov_low, params.cov_high)
        if weight is None
        else (params.replay_ratio, params.replay_cov_low, params.replay_cov_high)
    )
    spared = without_covariant(
        step, ratio=ratio, cov_low=low, cov_high=high, clip_low=params.clip_low, clip_high=params.clip_high
    )
    return methods.Reweighted(weights=spared if weight is None else spared * weight)


def _weight(count: int, params: Params) -> float:
    """ω after so many rollouts."""
    if count > params.rising_rollouts:
        return params.replay_coef
    return params.replay_coef * (1 - math.cos(math.pi * count / params.rising_rollouts)) / 2


def _rewards(group: Group, generate: methods.Generate) -> list[float]:
    return [verdict.reward for verdict in group.verdicts if generate.judged(verdict)]


def _statistics(rewards: Sequence[float]) -> list[float]:
    """Mean and population standard deviation of a group's rewards; nothing of a group without a verdict."""
    return [statistics.fmean(rewards), statistics.pstdev(rewards)] if rewards else []


def _good(groups: Sequence[Group], count: int, generate: methods.Generate) -> list[Any]:
    """The completions with a positive advantage, by problem: [number of the rollout, completions]."""
    found: list[Any] = []
    for group in groups:
        rewards = _rewards(group, generate)
        if not rewards or min(rewards) == max(rewards):
            continue
        mean = statistics.fmean(rewards)
        good = [n for n, verdict in enumerate(group.verdicts) if generate.judged(verdict) and verdict.reward > mean]
        found.append([count, [entry_of(group, n) for n in good]])
    return found


def _younger(buffer: list[Any], params: Params) -> list[Any]:
    latest = buffer[-1][0] if buffer else 0
    return [one for one in buffer if latest - one[0] <= params.tolerated_rollouts]


def _shorter(history: list[Any], params: Params) -> list[Any]:
    while history and sum(map(len, history)) > params.baseline_groups:
        history = history[1:]
    return history


def _usual(history: list[Any]) -> tuple[float, float]:
    """The medians of the groups' means and standard deviations."""
    known = [one for rollout in history for one in rollout if one]
    return statistics.median(one[0] for one in known), statistics.median(one[1] for one in known)


def _due(buffer: list[Any], history: list[Any], params: Params) -> bool:
    if not buffer:
        return False
    mean, _ = _usual(history)
    above: int = sum(entry["verdict"]["reward"] > mean for _, entries in buffer for entry in entries)
    return above > 1.5 * params.buffer


def _drawn(
    buffer: list[Any], history: list[Any], generate: methods.Generate, count: int, params: Params
) -> list[list[Entry]]:
    """What a replay learns from, the completions of a problem together."""
    mean, _ = _usual(history)
    good = [
        (place, entry)
        for place, (_, entries) in enumerate(buffer)
        for entry in entries
        if entry["verdict"]["reward"] >= mean
    ]
    number = min(1 << (len(good).bit_length() - 1), params.buffer) if len(good) > 1 else 0
    chosen = sorted(generate.random(None, "replay", count).sample(range(len(good)), number))
    by_problem: dict[int, list[Entry]] = {}
    for index in chosen:
        place, entry = good[index]
        by_problem.setdefault(place, []).append(entry)
    return list(by_problem.values())
