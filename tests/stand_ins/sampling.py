"""A `Generate` and a `Problems` without a model: completions are what a function makes of problem, number and prefix."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from progrpo.methods import Draw, Taken
from progrpo.types import Completion, Finish, Group, Problem, TokenTemperatures, Verdict

Made = Callable[[str, int, list[int]], tuple[Any, ...]]
"""(problem id, number of the completion, prefix) -> the tokens that follow, their entropies, the verdict's status, and where
they are not "stop" and -1 how it ended and the log-prob of each token."""


class ScriptedProblems:
    """Endless problems "0", "1", ..., `size` at a time."""

    def __init__(self, size: int) -> None:
        self.size, self.taken = size, 0

    def take(self) -> tuple[Taken, ...]:
        start, self.taken = self.taken, self.taken + self.size
        return tuple(Taken(0, Problem(id=str(n), prompt="")) for n in range(start, self.taken))


class ScriptedGenerate:
    """Attributes: calls: what was drawn in each, as (problem id, first, count, prefix)."""

    def __init__(
        self, make: Made, *, group: int, spell: Mapping[int, str | None] | None = None, longest: int = 10
    ) -> None:
        self.group, self.longest = group, longest
        self.state: Mapping[str, Any] = {}
        self.failed = "neutral"
        self.limits: list[int | None] = []
        self.temperatures: list[TokenTemperatures | None] = []
        self.calls: list[list[tuple[str, int, int, list[int]]]] = []
        self._make, self._spell = make, spell or {}

    def __call__(self, draws: Sequence[Draw], temperatures: TokenTemperatures | None = None) -> tuple[Group, ...]:
        self.temperatures.append(temperatures)
        calls = []
        groups = []
        for draw in draws:
            prefix = [] if draw.prefix is None else draw.prefix.tolist()
            problem = draw.taken.problem
            self.limits.append(draw.limit)
            calls.append((problem.id, draw.first, draw.count, prefix))
            made = [self._make(problem.id, draw.first + n, prefix) for n in range(draw.count)]
            groups.append(
                Group(
                    problem=problem,
                    prompt_ids=torch.tensor([1]),
                    prompt_logprobs=None,
                    completions=tuple(
                        completion_of(prefix, *one[:2], *one[3:], seed=draw.first + n) for n, one in enumerate(made)
                    ),
                    verdicts=tuple(Verdict(status=one[2], reward=float(one[2] == "correct")) for one in made),
                )
            )
        self.calls.append(calls)
        return tuple(groups)

    def judged(self, verdict: Verdict) -> bool:
        return not verdict.failed or self.failed == "wrong"

    def spelled(self, token: int) -> str | None:
        return self._spell.get(token, f"word{token}")

    def random(self, taken: Taken | None, *parts: int | str) -> random.Random:
        return random.Random(str((None if taken is None else taken.problem.id, *parts)))


def completion_of(
    prefix: list[int],
    tokens: list[int],
    entropies: list[float],
    finish: Finish = "stop",
    logprob: float = -1.0,
    *,
    seed: int = 0,
) -> Completion:
    count = len(prefix) + len(tokens)
    zeros: Tensor = torch.zeros(len(prefix))
    return Completion(
        seed=seed,
        text=" ".join(map(str, [*prefix, *tokens])),
        finish=finish,
        token_ids=torch.tensor([*prefix, *tokens], dtype=torch.long),
        sampler_logprobs=torch.cat([zeros, torch.full((len(tokens),), logprob)]),
        entropies=torch.cat([zeros, torch.tensor(entropies)]),
        trained=torch.arange(count) >= len(prefix) if prefix else None,
    )
