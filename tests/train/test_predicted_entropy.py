"""policy/predicted_entropy_change: the slope of each token's entropy, and what an update makes of it."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from progrpo import methods
from progrpo.algo.distributions import Further
from progrpo.algo.logprobs import NOTHING
from progrpo.engines import Sampling
from progrpo.engines.hf.sampling import sample
from progrpo.methods import Advantages
from progrpo.model import LanguageModel
from progrpo.processes import ALONE
from progrpo.settings import Choice
from progrpo.train.micro_batch import MicroBatch, micro_batches
from progrpo.train.minibatch import make_minibatch
from progrpo.train.passes import SharedMicroBatch
from progrpo.train.policy import Policy
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.train.rows import TokenRows, make_rows
from progrpo.train.scorer import Forwarded
from progrpo.train.settings import OptimSettings
from progrpo.train.update import update
from progrpo.types import Group, RolloutBatch


def entropy(logits: Tensor) -> Tensor:
    logp = logits.log_softmax(dim=-1)
    return -(logp.exp() * logp).sum(dim=-1)


@pytest.mark.parametrize("scale", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.6}, {"top_p": 0.7}, {"temperature": 1.7, "top_k": 5}])
def test_the_slope_is_the_finite_difference_of_the_entropy(scale: float, settings: dict[str, float]) -> None:
    draw = torch.Generator().manual_seed(int(scale))
    logits = scale * torch.randn(500, 40, generator=draw, dtype=torch.float64)
    uniform = torch.rand(500, generator=draw, dtype=torch.float64)
    sampling = Sampling(max_new_tokens=1, **({"temperature": 1.0} | settings))
    token, values = sample(logits.float(), uniform, sampling)
    # d log p_a / dz = e_a - p, on the logits at the sampling temperature
    scaled = logits / sampling.temperature
    direction = torch.nn.functional.one_hot(token, 40).double() - scaled.softmax(dim=-1)
    step = 1e-5
    expected = (entropy(scaled + step * direction) - entropy(scaled - step * direction)) / (2 * step)
    assert expected.abs().max() > 0.1
    assert torch.allclose(values[2].double(), expected, rtol=1e-3, atol=2e-5)


def test_a_slope_by_hand() -> None:
    # p = 1/4, 3/4; H = 0.562335. Token 0: -1/4 (log 1/4 + H) = 0.205990;
    # sum p^2 (log p + H) = 1/16 (-0.823959) + 9/16 (0.274653) = 0.102995. Pushing the rarer token up raises H.
    logits = torch.tensor([[0.25, 0.75]]).log()
    _, values = sample(logits, torch.tensor([0.1], dtype=torch.float64), Sampling(max_new_tokens=1, temperature=1.0))
    assert values[2].item() == pytest.approx(0.205990 + 0.102995, abs=1e-5)
    _, values = sample(logits, torch.tensor([0.9], dtype=torch.float64), Sampling(max_new_tokens=1, temperature=1.0))
    assert values[2].item() == pytest.approx(-0.75 * 0.274653 + 0.102995, abs=1e-5)


def test_a_token_that_cannot_be_drawn_adds_nothing() -> None:
    logits = torch.tensor([[0.25, 0.75]]).log()
    wider = torch.cat([logits, torch.full((1, 1), -torch.inf)], dim=1)
    at, sampling = torch.tensor([0.1], dtype=torch.float64), Sampling(max_new_tokens=1, temperature=1.0)
    assert torch.allclose(sample(wider, at, sampling)[1], sample(logits, at, sampling)[1])


class Table:
    """A policy of one-token completions: the logits [P, V] of each problem, and plain gradient steps on them."""

    net = None
    processes = ALONE

    def __init__(self, logits: Tensor, lr: float) -> None:
        self.logits, self.lr = logits.clone().requires_grad_(), lr

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def shared_micro_batches(
        self, rows: TokenRows, index: Tensor, columns: int, budget: int, *, keep_groups_together: bool = False
    ) -> Iterator[SharedMicroBatch]:
        device = torch.device("cpu")
        for micro in micro_batches(
            rows,
            index,
            columns=columns,
            budget=budget,
            pad_id=0,
            device=device,
            share=False,
            keep_groups_together=keep_groups_together,
        ):
            yield SharedMicroBatch(micro, counts=True, last=True)

    def forward(
        self, micro: MicroBatch, *, entropy_grad: bool = False, top: int = 0, further: Further = NOTHING
    ) -> Forwarded:
        logp = self.logits.log_softmax(dim=-1)[micro.index // 6]  # [B, V]
        return Forwarded(logprobs=logp.gather(1, micro.tokens), entropies=None, states=torch.zeros(1, 1, 1))

    def zero_grad(self) -> None:
        self.logits.grad = torch.zeros_like(self.logits)

    def clip_gradient(self) -> float:
        return float(self.logits.grad.norm())

    def step(self) -> None:
        with torch.no_grad():
            self.logits -= self.lr * self.logits.grad


def table_batch(logits: Tensor, seed: int) -> tuple[TokenRows, RolloutBatch]:
    """Six completions of one token for each problem, drawn as the engine draws."""
    draw = torch.Generator().manual_seed(seed)
    problems = len(logits)
    each = logits.repeat_interleave(6, dim=0)
    uniform = torch.rand(len(each), generator=draw, dtype=torch.float64)
    token, values = sample(each.float(), uniform, Sampling(max_new_tokens=1, temperature=1.0))
    correct = torch.rand(problems, 6, generator=draw) < 0.5
    rows = TokenRows(prompts=(torch.tensor([0]),) * len(each), completions=tuple(token[:, None]), group=6)
    return rows, RolloutBatch(
        rewards=correct.float(),
        correct=correct,
        truncated=torch.zeros_like(correct),
        lengths=torch.ones(problems, 6, dtype=torch.long),
        mask=torch.ones(len(each), 1, dtype=torch.bool),
        old_logprobs=values[0][:, None],
        entropy_gradients=values[2][:, None],
        prompt_logprobs=torch.full((problems, 2), -1.0),
        prompt_mask=torch.tensor([[False, True]]).expand(problems, 2),
    )


@pytest.mark.parametrize("name", ["grpo", "progrpo", "w_reinforce", "nsr", "cispo", "rlsc", "reinforce"])
def test_it_is_the_change_of_a_table_s_entropy_to_first_order(name: str) -> None:
    method, lr = methods.load(Choice(name=name)), 1e-5
    for seed in range(10):
        logits = 2 * torch.randn(4, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        rows, batch = table_batch(logits, seed)
        policy: Any = Table(logits, lr)
        made = make_minibatch(rows, batch, method.advantages(batch), slice(0, 4), seed=0)
        stats = update(policy, method, made, longest=1, budget=20, skip_zero=True, dump=lambda _: "")
        change = float((entropy(policy.logits.detach()) - entropy(logits)).sum())
        assert abs(change) > 1e-9
        assert stats["policy/predicted_entropy_change"].value * lr == pytest.approx(change, rel=2e-3)


ADVANTAGES = torch.tensor([[1.5, -0.5, -1.0], [0.0, 0.0, 0.0], [0.7, 0.0, -0.7], [0.2, -0.4, 0.9]])


@pytest.mark.parametrize("budget", [30, 10_000])
def test_it_is_the_gradient_times_the_slope_of_each_token(
    groups: tuple[Group, ...], tiny_model: LanguageModel, budget: int
) -> None:
    draw = torch.Generator().manual_seed(5)
    batch = make_rollout_batch(groups, frozenset())
    slopes = torch.randn(batch.mask.shape, generator=draw)
    old = batch.old_logprobs + 0.3 * torch.randn(batch.mask.shape, generator=draw)
    moved = replace(batch, old_logprobs=old, entropy_gradients=slopes)
    keep = torch.ones(4, 3, dtype=torch.bool)
    keep[0, 1] = False
    made = make_minibatch(make_rows(groups), moved, Advantages(values=ADVANTAGES, keep=keep), slice(0, 4), seed=0)
    policy = Policy(tiny_model, OptimSettings(lr=1e-9), steps=1, temperature=1.5)
    method = methods.load(Choice(name="grpo", aggregate="token"))
    stats = update(policy, method, made, longest=9, budget=budget, skip_zero=True, dump=lambda _: "")
    tokens = int(batch.lengths[keep].sum())
    expected = 0.0
    for n, length in enumerate(batch.lengths.flatten().tolist()):
        advantage = float(ADVANTAGES.flatten()[n])
        for t in range(length if keep.flatten()[n] else 0):
            ratio = math.exp(float(batch.old_logprobs[n, t] - old[n, t]))
            bounded = min(max(ratio, 0.8), 1.2) * advantage < ratio * advantage
            expected += 0.0 if bounded else ratio * advantage / tokens * float(slopes[n, t])
    assert abs(expected) > 1e-3
    assert stats["policy/predicted_entropy_change"].value == pytest.approx(expected, rel=1e-3)


def test_the_engine_s_slopes_reach_it(groups: tuple[Group, ...], tiny_model: LanguageModel) -> None:
    batch = make_rollout_batch(groups, frozenset())
    assert batch.entropy_gradients is not None
    for n, completion in enumerate(one for group in groups for one in group.completions):
        assert torch.equal(batch.entropy_gradients[n, : len(completion.token_ids)], completion.entropy_gradients)
    policy = Policy(tiny_model, OptimSettings(lr=1e-9), steps=1, temperature=1.5)

    def predicted(batch: RolloutBatch) -> float | None:
        made = make_minibatch(make_rows(groups), batch, Advantages(values=ADVANTAGES), slice(0, 4), seed=0)
        method = methods.load(Choice(name="grpo"))
        return update(policy, method, made, longest=9, budget=99, skip_zero=True, dump=lambda _: "")[
            "policy/predicted_entropy_change"
        ].value

    # on-policy: J's derivative is A / (N len)
    share = ADVANTAGES.flatten() / (12 * batch.lengths.flatten())
    expected = float((share[:, None] * batch.entropy_gradients).sum())
    assert predicted(batch) == pytest.approx(expected, rel=1e-3)
    assert predicted(replace(batch, entropy_gradients=None)) is None
