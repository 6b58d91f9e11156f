import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from progrpo import methods
from progrpo.files import read_jsonl
from progrpo.methods import Method, StepBatch
from progrpo.settings import Choice, parse
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import (
    NAN,
    Table,
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
from stand_ins.naive_methods import each_token, naive_grpo, naive_loss, sequence_mean


def load(**settings: object) -> Method:
    return methods.load(Choice(name="dcpo", **settings))


def visit(method: Method, rewards: list[float], name: str = "a") -> list[float]:
    batch = batch_of([rewards], [[0.5]] * len(rewards), problems=(name,), state=method.state)
    made = method.advantages(batch)
    method.remember(made)
    return made.values[0].tolist()


def test_the_clip_range_by_hand(step_batch: Callable[..., StepBatch]) -> None:
    # q = 0.8: 1/2 + 1/2 sqrt(1 - 0.8) = 0.723607 and 1/2 + 1/2 sqrt(2) = 1.207107
    # q = 0.5: 1 - 1.28 < 0: 0.5 and 1/2 + 1/2 sqrt(2.6) = 1.306226;  q = 0.002: 0.5 and 10.51, which is more than 10
    old = torch.tensor([0.8, 0.5, 0.002]).log().expand(6, 3)
    low, high = load().clip_range(step_batch(old_logprobs=old))
    assert (1 - low[0]).tolist() == pytest.approx([0.723607, 0.5, 0.5], abs=1e-6)
    assert (1 + high[0]).tolist() == pytest.approx([1.207107, 1.306226, 10.0], abs=1e-5)


def test_a_step_by_hand() -> None:
    # A = 0.70711, -0.70711; one token each. q = 0.5, ratio 1.4 > 1.306226: clipped, no gradient.
    # Ratio 20 with A < 0: not 20 A but 10 A, no gradient.
    def first_visit() -> RolloutBatch:
        return batch_of([[1.0, 0.0]], [[0.5], [0.04]])

    found = take_step(load(eps=0.0), first_visit(), columns([[0.7], [0.8]]).log())
    assert found.loss == pytest.approx(-0.70711 * (1.306226 - 10) / 2, abs=1e-4)
    assert not found.gradient.any()
    # ratio 9: below the dual clip, and a negative advantage has no upper clip
    found = take_step(load(eps=0.0), first_visit(), columns([[0.5], [0.36]]).log())
    assert found.gradient.flatten().tolist() == pytest.approx([-0.70711 / 2, 9 * 0.70711 / 2], abs=1e-4)


def test_three_visits_by_hand() -> None:
    method = load(scale="none")
    # 1st, rewards 1 0: nothing is known yet
    assert visit(method, [1.0, 0.0]) == [0.5, -0.5]
    # 2nd, rewards 1 1: A_new = 0; over 1 0 1 1 the mean is 3/4, A_tot = 1/4: both blends (0 + 1/4) / 2
    assert visit(method, [1.0, 1.0]) == pytest.approx([0.125, 0.125])
    # 3rd, rewards 0 1: A_new = -1/2, 1/2; over 1 0 1 1 0 1 the mean is 2/3, A_tot = -2/3, 1/3
    # (2 A_new + A_tot)/3 = -5/9, 4/9 and (A_new + 2 A_tot)/3 = -11/18, 7/18: the smaller in size are -5/9 and 7/18
    assert visit(method, [0.0, 1.0]) == pytest.approx([-5 / 9, 7 / 18])
    # another problem is at its first visit
    assert visit(method, [0.0, 1.0], "b") == [-0.5, 0.5]


def test_the_standard_deviation_is_that_of_all_visits() -> None:
    method = load(eps=0.0)
    visit(method, [1.0, 0.0])
    # 1 0 1 1: sample variance (3/16 + 9/16) / 3 = 1/4: A_tot = (1/4) / (1/2), halved
    assert visit(method, [1.0, 1.0]) == pytest.approx([0.25, 0.25])
    method = load(eps=0.0, ddof=0)
    visit(method, [1.0, 0.0])
    # population variance 3/16
    assert visit(method, [1.0, 1.0]) == pytest.approx([0.125 / math.sqrt(3 / 16)] * 2)


def test_a_completion_without_a_verdict_is_not_remembered() -> None:
    method = load(scale="none")
    assert visit(method, [1.0, 0.0, NAN]) == [0.5, -0.5, 0.0]
    # over 1 0 1 1: as above, and nothing for the one that failed
    assert visit(method, [1.0, 1.0, NAN]) == pytest.approx([0.125, 0.125, 0.0])
    # a visit of failures alone
    assert visit(method, [NAN, NAN, NAN]) == [0.0, 0.0, 0.0]


def test_its_memory_survives_a_file() -> None:
    method, other = load(), load()
    for rewards in ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0]):
        visit(method, rewards)
    file = io.BytesIO()
    torch.save(method.state, file)
    file.seek(0)
    other.state.update(torch.load(file, weights_only=True))
    assert visit(other, [0.0, 1.0, 0.0]) == visit(method, [0.0, 1.0, 0.0])
    assert visit(load(), [0.0, 1.0, 0.0]) != visit(method, [0.0, 1.0, 0.0])


def naive_advantages(batch: RolloutBatch, history: dict[str, list[float]], visits: dict[str, int]) -> Table:
    """Every reward of every visit is kept."""
    new, made = naive_grpo(rewards_of(batch)), []
    for name, rewards, own in zip(batch.problems, rewards_of(batch), new, strict=True):
        visits[name] = i = visits.get(name, 0) + 1
        history[name] = history.get(name, []) + [r for r in rewards if not math.isnan(r)]
        everything = naive_grpo([rewards], history=[history[name]])[0]
        if i == 1 or len(set(history[name])) < 2:
            made.append(own)
            continue
        blends = [(((i - 1) * a + b) / i, (a + (i - 1) * b) / i) for a, b in zip(own, everything, strict=True)]
        made.append([min(pair, key=abs) for pair in blends])
    return made


def token(now: float, old: float, advantage: float) -> tuple[float, float]:
    ratio, q = math.exp(now - old), math.exp(old)
    low = 0.5 + 0.5 * math.sqrt(max(1 - 4 * 0.16 / q, 0))
    high = min(0.5 + 0.5 * math.sqrt(1 + 4 * 0.2 / q), 10)
    inside = min(max(ratio, low), high)
    value, slope = ratio * advantage, ratio * advantage
    if inside * advantage < value:
        value, slope = inside * advantage, 0.0
    if advantage < 0 and value < 10 * advantage:
        value, slope = 10 * advantage, 0.0
    return value, slope


def test_it_is_the_formula_as_loops() -> None:
    method, history, visits = load(), {}, {}
    for seed in range(30):
        batch = replace(random_batch(seed), state=dict(method.state))
        logprobs, lengths = drifted(batch, seed, 1.5), lengths_of(batch)
        now, old = tokens_of(logprobs, lengths), tokens_of(batch.old_logprobs, lengths)
        advantages = each_token(naive_advantages(batch, history, visits), lengths)
        expected = naive_loss(now, old, advantages, sequence_mean(lengths), token)
        assert_same_step(take_step(method, batch, logprobs), *expected, batch.mask)


def test_smooth_false_keeps_grpo_s_advantages_and_remembers_nothing() -> None:
    method, grpo = load(smooth=False), methods.load(Choice(name="grpo"))
    for seed in range(5):
        batch = replace(random_batch(seed), state=method.state)
        made = method.advantages(batch)
        method.remember(made)
        assert torch.equal(made.values, grpo.advantages(batch).values)
    assert method.state == {}


@pytest.fixture
def run(tiny_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Two problems that each rollout visits."""
    from progrpo.train.loop import train
    from progrpo.train.settings import RunSettings

    folder = tiny_folder()

    def make(name: str, *, steps: int, resume: bool = False, minibatch: int = 2, **method: Any) -> Path:
        problems = {"numbers": 3, "max_number": 6, "max_target": 20, "min_used": 2, "min_solutions": 1}
        data = {
            "out": str(tmp_path / name),
            "steps": steps,
            "model": {"path": str(folder)},
            "task": {"name": "countdown", "train_size": 2, "test_size": 1, **problems},
            "reward": {"name": "stand_ins.parity"},
            "method": {"name": "dcpo", **method},
            "sampling": {"max_new_tokens": 10},
            "batch": {"prompts": 2, "group": 4, "minibatch_prompts": minibatch, "micro_tokens": 128},
            "optim": {"lr": 1e-3},
            "checkpoint": {"every": 2},
        }
        return train(parse(RunSettings, data, where="test"), resume=resume).path

    return make


def test_a_resumed_run_remembers_the_visits(run: Callable[..., Path]) -> None:
    def left(path: Path) -> tuple[dict[str, torch.Tensor], list[list[float]]]:
        weights = load_file(path / "checkpoints" / "step-000004" / "model.safetensors")
        rollouts = [read_jsonl(path / "rollouts" / f"step-{step:06d}.jsonl") for step in (1, 2, 3, 4)]
        return weights, [[row["advantage"] for row in rows] for rows in rollouts]

    whole, advantages = left(run("whole", steps=4))
    run("stopped", steps=2)
    resumed, again = left(run("stopped", steps=4, resume=True))
    assert advantages == again
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    # and the memory acts: without it the last rollout's advantages are others
    _, plain = left(run("plain", steps=4, smooth=False))
    assert advantages[0] == plain[0]
    assert advantages[1] != plain[1]


def test_a_refresh_within_a_rollout_is_no_further_visit(run: Callable[..., Path]) -> None:
    path = run("fresh", steps=4, minibatch=1, add={"name": "progrpo", "logprobs_from": "current"})
    state = torch.load(path / "checkpoints" / "step-000004" / "trainer_state.pt", weights_only=True)["method"]
    # four steps are two rollouts of two problems, each with a group of four; the second problem's log-probs are
    # recomputed before its step
    assert [(visits, count) for visits, count, *_ in state["seen"].values()] == [(2, 8.0), (2, 8.0)]
