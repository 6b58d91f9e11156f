"""Settings that all methods share: the dual clip, and completions cut at the limit."""

import math
from dataclasses import replace

import pytest
import torch

from progrpo import plugins
from progrpo.errors import ConfigError
from progrpo.methods import Method, Params
from progrpo.methods.step import part_of, part_of_batch
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    assert_same_step,
    batch_of,
    columns,
    drifted,
    lengths_of,
    random_batch,
    rewards_of,
    take_step,
    tokens_of,
)
from stand_ins.every_method import load_for_three as load
from stand_ins.naive_methods import each_token, naive_grpo, naive_loss, sequence_mean

NAMES = plugins.names("methods")
SEED = 29
"""Of a rollout whose groups have one right completion each; of the cut ones below one is right and one is wrong."""
A = 0.7071068
DUAL = (
    {
        "maxrl": ("released", 3.0),
        "rent": ("released", 3.0),
        "ppo": ("verl", 3.0),
        "risk_po": ("released", 3.0),
        "siren": ("released", 3.0),
        "progrpo": ("verl", 3.0),
    }
    | dict.fromkeys(("clip_b", "clip_v", "epo", "ucas", "ucpo"), ("released", 3.0))
    | dict.fromkeys(("dapo", "high_entropy", "steer", "hapo", "dler"), ("released", 10.0))
)
WITHOUT_SURROGATE = ("cispo", "dppo", "flowrl", "gspo", "kl_cov", "pacs", "real", "reinforce", "rlsc")
COMPARED = ("pacs", "real")
"""Each completion's loss is made of all that are left of its group."""


# --- dual_clip ---


def test_a_negative_advantage_counts_at_most_so_many_times_by_hand() -> None:
    # A = 0.70711 and -0.70711, a token each, both five times likelier: the first is clipped at 1.2, the second counts five
    # times without the dual clip, and three times with one of 3, where its gradient is 0
    batch = batch_of([[1.0, 0.0]], [[0.1], [0.1]])
    now = columns([[0.5], [0.5]]).log()
    plain, bounded = (take_step(load("grpo", eps=0.0, dual_clip=c), batch, now) for c in (None, 3.0))
    assert plain.loss == pytest.approx(-(1.2 * A - 5 * A) / 2, abs=1e-5)
    assert plain.gradient.flatten().tolist() == pytest.approx([0.0, 5 * A / 2], abs=1e-5)
    assert bounded.loss == pytest.approx(-(1.2 * A - 3 * A) / 2, abs=1e-5)
    assert bounded.gradient.flatten().tolist() == [0.0, 0.0]


def dual(c: float):
    def token(now: float, old: float, advantage: float) -> tuple[float, float]:
        ratio = math.exp(now - old)
        if advantage < 0 and ratio > c:
            return c * advantage, 0.0
        if (advantage > 0 and ratio > 1.2) or (advantage < 0 and ratio < 0.8):
            return min(max(ratio, 0.8), 1.2) * advantage, 0.0
        return ratio * advantage, ratio * advantage

    return token


@pytest.mark.parametrize("c", [1.05, 3.0])
def test_it_is_the_formula_as_loops(c: float) -> None:
    for seed in range(100):
        batch = random_batch(seed)
        logprobs, lengths = drifted(batch, seed, 1.0), lengths_of(batch)
        advantages = each_token(naive_grpo(rewards_of(batch)), lengths)
        now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
        expected = naive_loss(now, old, advantages, sequence_mean(lengths), dual(c))
        assert_same_step(take_step(load("grpo", dual_clip=c), batch, logprobs), *expected, batch.mask)


@pytest.mark.parametrize("name", NAMES)
def test_with_any_method_a_large_ratio_counts_as_that_of_the_bound_or_it_is_refused(name: str) -> None:
    # Every token e^5 times as likely, with a dual clip of 2, is every token twice as likely without one: negative advantages
    # count 2 A in both, positive ones are clipped below 2 (DCPO's bound for a probability of 0.3 is 1.46).
    batch = random_batch(7, failed=0.0, lowest=-1.2)
    if name in WITHOUT_SURROGATE:
        with pytest.raises(ConfigError, match="which this method does not use"):
            load(name, dual_clip=2.0)
        return
    own = {
        "rent": {"kl_coef": 0.0},
        "ppo": {"value_coef": 0.0},
        "clip_cov": {"ratio": 0.0},
        "simko": {"penalty": 1.0},
        "steer": {"weight_min": 1.0},
        "hapo": {"adaptive_advantage": False},
        "lp_reg": {"share": 0.0, "clip_low": 0.2, "clip_high": 0.2},
        "epo": {"bonus": 0.0},
    }
    own = own.get(name, {})
    bounded, free = load(name, dual_clip=2.0, **own), load(name, dual_clip=None, **own)
    states = torch.zeros(9, batch.mask.shape[1], 4)

    def loss(method: Method, by: float) -> float:
        return take_step(method, batch, batch.old_logprobs + by, net=method.make_net(4), states=states).own

    assert loss(bounded, 5.0) == pytest.approx(loss(free, math.log(2.0)), abs=1e-5)
    if name != "psr":  # it has no negative advantage
        assert loss(free, 5.0) > loss(bounded, 5.0) + 1


@pytest.mark.parametrize("name", DUAL)
def test_presets_of_released_code_have_it(name: str) -> None:
    preset, c = DUAL[name]
    assert load(name, preset=preset).params.dual_clip == c
    assert load(name).params.dual_clip is None


def test_it_is_above_1() -> None:
    with pytest.raises(ConfigError, match="dual_clip"):
        load("grpo", dual_clip=1.0)


# --- truncated ---


def cut(batch: RolloutBatch, *places: tuple[int, int]) -> RolloutBatch:
    truncated = torch.zeros_like(batch.correct)
    for p, g in places:
        truncated[p, g] = True
    return replace(batch, truncated=truncated)


@pytest.mark.parametrize(
    ("aggregate", "weights"),
    [
        # tokens 2, 1, 3 and 1, 1, 1, of which the 3 of the third and all of the second group are cut:
        # 1/(6 len); 1/(6 * 16); the 3 tokens left; 1/(2 problems * 3 tokens left of the first)
        ("sequence", (1 / 12, 1 / 6)),
        ("fixed", (1 / 96, 1 / 96)),
        ("token", (1 / 3, 1 / 3)),
        ("group_token", (1 / 6, 1 / 6)),
    ],
)
def test_cut_completions_leave_the_tokens_and_stay_in_the_counts(aggregate: str, weights: tuple[float, float]) -> None:
    # A = 1.15470 -0.57735 -0.57735 with the third in the mean and in the standard deviation 0.57735
    rows = [[0.5, 0.5], [0.4], [0.4, 0.5, 0.6], [0.5], [0.5], [0.5]]
    batch = cut(batch_of([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], rows), (0, 2), (1, 0), (1, 1), (1, 2))
    method = load("grpo", eps=0.0, aggregate=aggregate, truncated="drop")
    found = take_step(method, batch, batch.old_logprobs)
    expected = torch.zeros(6, 3)
    expected[0, :2] = -1.15470 * weights[0]
    expected[1, 0] = 0.57735 * weights[1]
    assert torch.allclose(found.gradient, expected, atol=1e-5)
    assert torch.equal(method.advantages(batch).values, load("grpo", eps=0.0).advantages(batch).values)
    share = method.advantages(batch).stats["rollout/left_out"]
    assert (share.total, share.count) == (4, 6)
    assert "rollout/left_out" not in load("grpo").advantages(batch).stats


@pytest.mark.parametrize("settings", [{}, {"kl_coef": 0.1, "entropy_coef": 0.1}], ids=["", "regularised"])
@pytest.mark.parametrize("name", NAMES)
def test_with_any_method_they_have_no_gradient_and_the_others_keep_theirs(name: str, settings: dict) -> None:
    # aggregate=fixed: the weights of the others do not change. Nothing is dropped by the methods themselves: all are judged
    # and both kinds are there. A net without random numbers.
    own = {
        "flowrl": {"dropout": 0.0},
        "clip_cov": {"ratio": 0.0},
        "kl_cov": {"ratio": 0.0},
        "high_entropy": {"fraction": 1.0},
        "steer": {"weight_min": 1.0},
        "hapo": {"adaptive_advantage": False, "adaptive_clip": False},
        "lp_reg": {"share": 0.0},
        "siren": {"beta": 0.0},
    }.get(name, {})
    batch = cut(random_batch(SEED, failed=0.0), (0, 1), (2, 0))
    logprobs = drifted(batch, SEED, 0.1)
    outcome = {}
    for truncated in ("keep", "drop"):
        method = load(name, aggregate="fixed", fixed_length=6, truncated=truncated, **own, **settings)
        torch.manual_seed(0)
        net = method.make_net(4)
        states = torch.ones(9, batch.mask.shape[1], 4)
        outcome[truncated] = take_step(
            method,
            batch,
            logprobs,
            net=net,
            entropies=batch.entropies,
            states=states,
            prompt_states=states[:, 0],
            top_logprobs=-states,
        )
    gone = batch.truncated.flatten()
    for of in ("logprobs", "entropies"):
        kept, dropped = outcome["keep"].gradients[of], outcome["drop"].gradients[of]
        assert not dropped[gone].any(), of
        factor = (
            9 / 7 if name == "flowrl" and of == "logprobs" and not settings else 1.0
        )  # its mean is over what is trained
        if (name == "flowrl" and settings) or name in COMPARED:
            continue
        assert torch.allclose(dropped[~gone], factor * kept[~gone], rtol=1e-4, atol=1e-7), of
    assert outcome["keep"].gradient[gone].any()


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "grpo", "add": {"name": "progrpo", "logprobs_from": "current"}},
        {"name": "progrpo", "logprobs_from": "current"},
    ],
)
def test_they_stay_out_of_every_step_of_a_rollout(settings: dict) -> None:
    batch = cut(random_batch(SEED, failed=0.0), (1, 1))
    method = load(**settings, truncated="drop")
    own = part_of(method.advantages(batch), slice(1, 2), 3)
    assert own.left_out.tolist() == [[False, True, False]]
    now = part_of_batch(batch, slice(1, 2))
    assert method.renewed_advantages(own, now, now).left_out.tolist() == own.left_out.tolist()


def test_nothing_is_left_out_by_default() -> None:
    batch = cut(random_batch(4), (0, 1))
    assert load("grpo").advantages(batch).left_out is None


@pytest.mark.parametrize("name", ["siren", "epo"])
def test_levels_of_entropy_are_those_of_the_completions_that_are_trained(name: str) -> None:
    # the level that the first rollout sets, and what the step is held to by it: neither knows the entropies of cut completions
    batch = replace(cut(random_batch(4), (0, 1), (2, 0)), state={})
    gone = batch.mask & batch.truncated.flatten()[:, None]
    other = replace(
        batch,
        entropies=torch.where(gone, 9.0, batch.entropies),
        nucleus_entropies=torch.where(gone, 9.0, batch.nucleus_entropies),
    )
    for setting, same in (("drop", True), ("keep", False)):
        method = load(name, truncated=setting)
        one, two = (method.advantages(seen) for seen in (batch, other))
        assert (one.state == two.state) is same
        assert all(torch.equal(one.carried[key], two.carried[key]) is same for key in one.carried if key != "weight")
    held = take_step(load("siren", truncated="drop"), batch, batch.old_logprobs)
    assert float(held.gradients["nucleus_entropies"].abs().max()) < 1e-9


# --- one step per rollout ---


@pytest.mark.parametrize("name", NAMES)
def test_methods_without_an_importance_ratio_warn_of_several_steps(name: str) -> None:
    method = load(name)
    more = [line for line in method.check(8, 4) if line not in method.check(8)]
    assert more == [line for line in more if line.startswith("4 optimiser steps per rollout")]
    assert bool(more) == (name in ("reinforce", "rlsc"))


ACT_OTHERWISE = {
    "grpo": "is what is compared with",
    "dr_grpo": "has settings of GRPO's alone",
    "dapo": "has another clip range, and samples otherwise",
    "clip_b": "no token of so few is that far out",
    "clip_v": "no token of so few is that far out",
    "lp_reg": "a hundredth of so few tokens is none",
    "dcpo": "remembers rewards of earlier rollouts",
    "epo": "acts through the entropies",
    "siren": "acts through the entropies, against those of an earlier rollout",
}
"""Methods with GRPO's gradient of log-probs in one step on a small first rollout, which do something in training."""


@pytest.mark.parametrize(
    "name", [name for name in NAMES if load(name).samples is None and load(name).make_net(4) is None]
)
def test_methods_that_do_nothing_in_a_single_step_say_so(name: str) -> None:
    # on the policy that sampled, against GRPO with the same scale, aggregation and further settings that all methods have
    method = load(name)
    own = {
        key: getattr(method.params, key) for key in Params.model_fields if key not in ("clip_low", "clip_high", "add")
    }
    batches = [random_batch(seed) for seed in range(4)]
    steps = [[take_step(one, batch, batch.old_logprobs) for batch in batches] for one in (method, load("grpo", **own))]
    idle = all(torch.allclose(one.gradient, other.gradient, atol=1e-6) for one, other in zip(*steps, strict=True))
    said = [line for line in method.check(8, 1) if line.startswith("1 optimiser step per rollout")]
    assert bool(said) == (idle and name not in ACT_OTHERWISE)
    # not where a second step follows, where the rollout is of an older policy, or where nothing is trained
    quiet = [*method.check(8, 2), *method.check(8, 1, ahead=True), *method.check(8)]
    assert not any(line in quiet for line in said)
