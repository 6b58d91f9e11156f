"""One recorded rollout, as progrpo's own trainer computes with it: what every adapter must come to from its host's columns.

Recorded with the embedded model (`progrpo train recipes/demo/progrpo.yaml steps=1 batch.group=4 seed=5
sampling.max_new_tokens=16 record.tokens=true`): four problems with 1, 4, 0 and 2 correct of four completions, some of them cut.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progrpo import methods
from progrpo.methods import Method
from progrpo.methods.step import decide, make_step, micro_loss, micro_view
from progrpo.rollout.recorded import read_rollouts
from progrpo.settings import Choice
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.types import Group, RolloutBatch

FILE = Path(__file__).parent.parent / "adapters" / "recorded.jsonl"
LIMIT = 16
"""Longest completion, in tokens."""

CASES: list[dict[str, Any]] = [
    {"name": "progrpo"},
    {"name": "progrpo", "alpha": 2.0, "baseline": "group_mean", "skip": "all_wrong"},
    {"name": "progrpo", "skip": "never", "ddof": 0, "eps": 1e-4, "fraction": 0.5},
    {"name": "progrpo", "score": "log_c", "spread": "group_std", "baseline": "correct_mean", "skip": "all_wrong"},
    {"name": "progrpo", "low_by": "entropy"},
    {"name": "grpo"},
    {"name": "grpo", "scale": "none", "add": {"name": "progrpo", "alpha": 1.0}},
    {"name": "maxrl"},
    {"name": "passk", "k": 2},
    {"name": "f_grpo", "gamma": 1.0},
    {"name": "ucpo"},
    {"name": "rent"},
    {"name": "unlikeliness"},
    {"name": "entropy_advantage"},
]
"""Methods that change advantages alone."""


@cache
def groups() -> tuple[Group, ...]:
    return read_rollouts(FILE).groups


def load(spec: dict[str, Any]) -> Method:
    return methods.load(Choice(**spec))


@cache
def batch() -> RolloutBatch:
    """As the trainer puts it together, with all that a rollout can have."""
    return make_rollout_batch(groups(), frozenset({"prompt_logprobs", "entropies", "verdicts"}))


def now() -> Tensor:
    """[N, S] log-probs of a policy that has moved: ratios between 0.3 and 3.7, some of them clipped."""
    generator = torch.Generator().manual_seed(1)
    old = batch().old_logprobs
    return old + torch.rand(old.shape, generator=generator) * 2.5 - 1.2


def advantages(spec: dict[str, Any]) -> Tensor:
    """[N, S] of our trainer; 0 behind the last token."""
    found = load(spec).advantages(batch())
    values = found.values.flatten()[:, None].expand(batch().mask.shape) if found.tokens is None else found.tokens
    return values.masked_fill(~batch().mask, 0.0)


def loss_and_gradient(spec: dict[str, Any], values: Tensor | None = None) -> tuple[float, Tensor]:
    """Our trainer's loss of one optimiser step over all of it, and its gradient by `now()` [N, S].

    Args:
        values: [N] or [N, S] advantages in place of the method's.
    """
    method, logprobs = load(spec), now().requires_grad_()
    found = method.advantages(batch())
    if values is not None:
        found = replace(found, tokens=values if values.dim() == 2 else values[:, None].expand(batch().mask.shape))
    step = make_step(batch(), found, slice(0, len(groups())), seed=0)
    decided = decide(method, step, longest=LIMIT, skip_zero=False)
    place = torch.arange(len(batch().mask))
    loss, _ = micro_loss(method, micro_view(step, decided, place, logprobs=logprobs), decided, place)
    loss.backward()
    assert logprobs.grad is not None
    return loss.item(), logprobs.grad
