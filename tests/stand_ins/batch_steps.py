"""One optimiser step of a method on made-up log-probs, without a model: what `train/update.py` does around `Method.loss`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from progrpo.methods import Advantages, Method
from progrpo.methods.step import Decided, decide, make_step, micro_loss, micro_view, part_of
from progrpo.types import RolloutBatch, Status, Verdict

Table = list[list[float]]
"""A number for each token of each sequence, or for each completion of each problem."""

NAN = float("nan")

SEEDS = [pytest.param(range(8), id="8"), pytest.param(range(8, 100), id="100", marks=pytest.mark.slow)]
"""Of the random batches on which a method is compared with its formula as loops."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outcome:
    """The loss of a step, its part that is the objective's, and the gradient of the loss by each input and the net."""

    loss: float
    own: float
    gradients: dict[str, Tensor]

    @property
    def gradient(self) -> Tensor:
        """[N, S] by the log-probs."""
        return self.gradients["logprobs"]


def batch_of(rewards: Table, probabilities: Table, **more: Any) -> RolloutBatch:
    """A rollout from the probabilities of its tokens, row by row; a completion is correct where its reward is above 0."""
    values = torch.tensor(rewards)
    lengths = torch.tensor([len(row) for row in probabilities]).view(values.shape)
    fields = {
        "rewards": values,
        "correct": values > 0,
        "truncated": torch.zeros(values.shape, dtype=torch.bool),
        "lengths": lengths,
        "mask": torch.arange(int(lengths.max()))[None, :] < lengths.flatten()[:, None],
        "old_logprobs": columns(probabilities).clamp(min=1e-30).log() * (columns(probabilities) > 0),
    }
    return RolloutBatch(**(fields | more))


def verdicts_of(rewards: Tensor, solutions: Sequence[Sequence[str | None]]) -> tuple[tuple[Verdict, ...], ...]:
    """Verdicts with these solutions, as canonical forms and as answers; correct where the reward is above 0, and failed where
    it is nan."""

    def verdict(reward: float, solution: str | None) -> Verdict:
        status: Status = "timeout" if math.isnan(reward) else "correct" if reward > 0 else "wrong"
        return Verdict(status=status, reward=reward, canonical=solution, extracted=solution)

    return tuple(
        tuple(verdict(float(reward), solution) for reward, solution in zip(row, names, strict=True))
        for row, names in zip(rewards, solutions, strict=True)
    )


def columns(rows: Table) -> Tensor:
    """Rows of unequal length as a rectangle [N, S], 0 on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows])


def random_batch(
    seed: int, *, problems: int = 3, group: int = 3, width: int = 6, failed: float = 0.15, lowest: float = -4.0
) -> RolloutBatch:
    """Ragged completions, some empty, some without a verdict; every tensor that a method can ask for."""
    draw = torch.Generator().manual_seed(seed)
    correct, lost, empty = (torch.rand(problems, group, generator=draw) < share for share in (0.5, failed, 0.1))
    lengths = torch.randint(1, width + 1, (problems, group), generator=draw).masked_fill(empty, 0)
    lengths[0, 0] = width
    mask = torch.arange(width)[None, :] < lengths.flatten()[:, None]
    prompt_mask = torch.arange(5)[None, :] < torch.randint(2, 6, (problems, 1), generator=draw)
    prompt_mask[:, 0] = False

    def logprobs() -> Tensor:
        return lowest * torch.rand(mask.shape, generator=draw) * mask

    right = correct & ~lost
    rewards = correct.float().masked_fill(lost, NAN)
    # Drawn apart, so that all else is what it was before there were any.
    names = torch.randint(0, 3, (problems, group), generator=torch.Generator().manual_seed(seed + 20_000)).tolist()
    solutions = [["abc"[n] for n in row] for row in names]
    return RolloutBatch(
        rewards=rewards,
        verdicts=verdicts_of(rewards, solutions),
        correct=right | (lost & ((right | lost).all(dim=1) & right.any(dim=1))[:, None]),
        truncated=torch.zeros_like(correct),
        lengths=lengths,
        mask=mask,
        old_logprobs=logprobs(),
        entropies=2 * torch.rand(mask.shape, generator=draw) * mask,
        prompt_logprobs=lowest * torch.rand(prompt_mask.shape, generator=draw) * prompt_mask,
        prompt_mask=prompt_mask,
        ref_logprobs=logprobs(),
        values=torch.randn(mask.shape, generator=draw) * mask,
        problems=tuple(f"problem {p}" for p in range(problems)),
        **_further(mask, seed),
    )


def _further(mask: Tensor, seed: int) -> dict[str, Any]:
    """What else a pass gives of each token's distribution; every third token is none of the proxy's."""
    draw = torch.Generator().manual_seed(seed + 30_000)
    proxy = -2 * torch.rand(mask.shape, generator=draw)
    proxy = proxy.masked_fill(torch.rand(mask.shape, generator=draw) < 1 / 3, -torch.inf)
    return {
        "entropy_gradients": torch.randn(mask.shape, generator=draw) * mask,
        "certainties": (1 + 4 * torch.rand(mask.shape, generator=draw)) * mask,
        "raw_logits": 10 * torch.randn(mask.shape, generator=draw) * mask,
        "nucleus_entropies": 1.5 * torch.rand(mask.shape, generator=draw) * mask,
        "proxy_logprobs": torch.where(mask, proxy, 0.0),
        **_texts_and_answers(mask, seed),
    }


def _texts_and_answers(mask: Tensor, seed: int) -> dict[str, Any]:
    """What the tokens spell, marks and line breaks among it; and answers of one to four tokens."""
    draw = torch.Generator().manual_seed(seed + 40_000)
    words = ("a", " b", "\n", "c\n", "</think>", "<answer>", "<ans", "wer>")
    chosen = torch.randint(0, len(words), mask.shape, generator=draw).tolist()
    lengths = torch.randint(1, 5, (len(mask), 1), generator=draw)
    known = torch.arange(4)[None, :] < lengths
    return {
        "token_texts": tuple(
            tuple(words[n] for n in row[:length]) for row, length in zip(chosen, mask.sum(dim=1).tolist(), strict=True)
        ),
        "answer_logprobs": -3 * torch.rand(known.shape, generator=draw) * known,
        "answer_mask": known,
    }


def drifted(batch: RolloutBatch, seed: int, scale: float) -> Tensor:
    """Log-probs of a policy some way from the one that sampled."""
    noise = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(seed + 10_000))
    return (batch.old_logprobs + scale * noise).clamp(max=-1e-3) * batch.mask


def descend(
    method: Method,
    batch: RolloutBatch,
    advantages: Advantages,
    logprobs: Tensor,
    rows: Callable[[Tensor], dict[str, Any]],
    *,
    parts: Sequence[Tensor] | None = None,
    seed: int = 0,
    longest: int = 16,
) -> tuple[float, float, Decided]:
    """What training does with a mini-batch that is the whole rollout, the forward pass apart; gradients stay in the leaves.

    Args:
        logprobs: [N, S] now, a leaf. rows: what else `micro_view` is given of the sequences of a micro-batch.
        parts: the sequences of each micro-batch; None for one of all. They are the pools where the method says so.
    Returns:
        Loss of the whole step, its part that is the objective's, and what was decided for the whole of it.
    """
    parts = [torch.arange(len(batch.mask))] if parts is None else parts
    now = replace(batch, old_logprobs=logprobs.detach()) if "refresh" in method.needs else None
    step = make_step(batch, advantages, slice(0, len(batch.rewards)), seed=seed, now=now)
    pool = None
    if method.pool == "micro":
        pool = torch.empty(len(batch.mask), dtype=torch.long)
        for number, place in enumerate(parts):
            pool[place] = number
    decided = decide(method, step, longest=longest, skip_zero=False, pool=pool)
    loss = objective = 0.0
    for place in parts:
        view = micro_view(
            step,
            decided,
            place,
            logprobs=logprobs[place],
            as_columns=lambda values, own=batch.mask[place]: torch.zeros(own.shape, dtype=values.dtype).masked_scatter(
                own, values
            ),
            **rows(place),
        )
        total, own = micro_loss(method, view, decided, place)
        if total.requires_grad:  # not so in a micro-batch without a token that is trained
            total.backward()
        loss, objective = loss + float(total.detach()), objective + float(own.detach())
    return loss, objective, decided


def take_step(
    method: Method,
    batch: RolloutBatch,
    logprobs: Tensor,
    *,
    parts: Sequence[Tensor] | None = None,
    net: Any = None,
    **inputs: Tensor,
) -> Outcome:
    """What training does with a mini-batch, the forward pass apart.

    Args:
        logprobs: [N, S] now. parts: sequences of each micro-batch; None for one of all.
        inputs: entropies and nucleus_entropies [N, S], states [N, S, D], prompt_states [N, D] and top_logprobs [N, S, K] of the
            forward pass, where the method reads them; where nobody says, the likeliest tokens are certain, and the entropies
            those of the rollout.
    """
    if method.top_tokens:
        inputs = {"top_logprobs": torch.zeros(*logprobs.shape, method.top_tokens), **inputs}
    if "entropy_grad" in method.needs:
        assert batch.entropies is not None
        inputs = {"entropies": batch.entropies, **inputs}
    if "nucleus_entropies" in method.needs:
        assert batch.nucleus_entropies is not None
        inputs = {"nucleus_entropies": batch.nucleus_entropies, **inputs}
        batch = replace(batch, nucleus_entropies=inputs["nucleus_entropies"])
    problems, group = batch.rewards.shape
    whole = method.advantages(batch)
    method.remember(whole)
    advantages = part_of(whole, slice(0, problems), group)
    live = {name: value.clone().requires_grad_() for name, value in ({"logprobs": logprobs} | inputs).items()}

    def rows(index: Tensor) -> dict[str, Any]:
        named = {name: live[name][index] for name in ("entropies", "prompt_states", "top_logprobs") if name in live}
        states = {"token_states": live["states"][index][batch.mask[index]]} if "states" in live else {}
        further = {name: live[name][index] for name in ("nucleus_entropies",) if name in live}
        return named | states | {"net": net, "further": further}

    loss, own, _ = descend(method, batch, advantages, live["logprobs"], rows, parts=parts)
    gradients = {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in live.items()}
    if net is not None:
        gradients["net"] = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        net.zero_grad()
    return Outcome(loss=loss, own=own, gradients=gradients)


def assert_same_step(found: Outcome, loss: float, gradient: Table, rows: Tensor) -> None:
    """Loss and gradient are those of the loops, and the gradient is 0 outside the completions, `rows` [N, S]."""
    expected = columns([*gradient, [0.0] * rows.shape[1]])[:-1].double()
    assert math.isclose(found.loss, loss, rel_tol=1e-4, abs_tol=1e-5)
    assert torch.allclose(found.gradient.double(), expected, rtol=2e-4, atol=1e-6)
    assert not found.gradient[~rows].any()


def assert_formula(method: Method, naive: Callable[[RolloutBatch, Tensor], tuple[float, Table]], seeds: range) -> None:
    """A step of the method on random batches, from a policy some way from the one that sampled, is that of the loops.

    Args:
        naive: of a batch and the log-probs now, the loss and its gradient by them.
    """
    for seed in seeds:
        batch = random_batch(seed)
        logprobs = drifted(batch, seed, 0.3)
        assert_same_step(take_step(method, batch, logprobs), *naive(batch, logprobs), batch.mask)


def lengths_of(batch: RolloutBatch) -> list[int]:
    return [int(length) for length in batch.lengths.flatten()]


def rewards_of(batch: RolloutBatch) -> Table:
    return [[float(reward) for reward in row] for row in batch.rewards]


def tokens_of(values: Tensor, lengths: Sequence[int]) -> Table:
    return [[float(value) for value in row[:length]] for row, length in zip(values, lengths, strict=True)]


OLD = [[0.2, 0.8], [0.2], [0.8, 0.5, 0.5], [0.5]]
NOW = [[0.3, 0.4], [0.3], [0.4, 0.5, 0.5], [0.9]]
"""Probabilities of the tokens of four completions, when sampled and now; see `right_wrong_wrong_lost`."""


def right_wrong_wrong_lost() -> RolloutBatch:
    """Right, wrong, wrong, and one without a verdict."""
    return batch_of([[1.0, 0.0, 0.0, NAN]], OLD)
