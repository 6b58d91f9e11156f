"""Countdown, procedural and offline: reach a target from a few numbers with + - * /; many right answers per problem.

The rules of the television game: each number at most once, every intermediate result a positive whole number.

A problem is its sorted numbers and its target; its split is a hash of exactly that.
"""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, combinations_with_replacement, islice, product
from typing import Literal

from pydantic import Field, model_validator

from progrpo.errors import ConfigError
from progrpo.rewards.expression import Form, apply, combine, number
from progrpo.settings import Settings
from progrpo.tasks import _procedural
from progrpo.types import Problem

__all__ = ["compact_prompt", "enumerate_split", "generate", "solutions", "split_of"]

REWARD = "expression"
ENDLESS = True
MAX_NEW_TOKENS = 1024

_WORDS = (
    "Using {rule} of the numbers {numbers}, each at most once, with + - * / and parentheses, write an expression that "
    "equals {target}; every intermediate result must be a positive whole number. Think first, then give the expression "
    "alone between <answer> and </answer>."
)


class Params(Settings):
    """The defaults are the game that the embedded model plays."""

    numbers: int = Field(4, ge=2, le=5)
    """How many numbers a problem gives."""
    max_number: int = Field(8, ge=2, le=100)
    """Numbers are drawn from 1 to this, with repetition."""
    min_used: int | None = Field(3, ge=2)
    """A solution uses at least this many of the numbers, each at most once; None: all of them."""
    max_target: int = Field(24, ge=1, le=10_000)
    """Targets lie in 1 to this."""
    min_solutions: int = Field(4, ge=1)
    """Keep problems with at least this many distinct (canonical) solutions."""
    max_solutions: int | None = None
    """Keep problems with at most this many; None sets no limit."""
    train_size: int = Field(1000, ge=1)
    """Problems to train on, all different."""
    test_size: int = Field(256, ge=1)
    """Held-out problems, none of which is among those of training."""
    seed: int = 0
    """Of the draw of problems; the splits stay disjoint across seeds."""
    style: Literal["compact", "words"] = "compact"
    """`compact`: prompt "3 5 7 8=24:", answer "8-5=3,3*7=21,21+3=24", for the embedded model. `words`: a prompt in
    English, answer an expression between <answer> tags (give reward.tag=answer)."""

    @model_validator(mode="after")
    def _ordered(self) -> "Params":
        if self.min_used is not None and self.min_used > self.numbers:
            raise ValueError(f"min_used {self.min_used} exceeds numbers {self.numbers}; null asks for all of them")
        if self.max_solutions is not None and self.max_solutions < self.min_solutions:
            raise ValueError(f"max_solutions {self.max_solutions} is below min_solutions {self.min_solutions}")
        return self


def load(split: str, params: Params) -> list[Problem]:
    """The first `train_size` or `test_size` distinct problems of a split ("pretrain" takes train_size too)."""
    size = params.test_size if split == "test" else params.train_size
    return list(islice(generate(split, params), size))


def generate(split: str, params: Params) -> Iterator[Problem]:
    """Yield distinct problems of one split without end.

    Raises:
        ConfigError: unknown split, or 20,000 draws in a row gave nothing new (the setting admits too few problems).
    """
    _procedural.check_split("countdown", split)

    def draw(rng: random.Random) -> tuple[tuple[int, ...], int] | None:
        numbers = tuple(sorted(rng.randint(1, params.max_number) for _ in range(params.numbers)))
        target = _draw_target(numbers, rng, params)
        return None if target is None or split_of(numbers, target) != split else (numbers, target)

    produced = 0
    for numbers, target in _procedural.draw_distinct(split, params.seed, draw):
        produced += 1
        yield _problem(numbers, target, params)
    raise ConfigError(
        f"countdown: only {produced} problems of split {split!r} exist or can be found with {params.numbers} numbers "
        f"up to {params.max_number} and targets up to {params.max_target}; raise one of these or ask for fewer problems"
    )


def enumerate_split(split: str, params: Params) -> Iterator[Problem]:
    """Yield every problem of a split, in the order of its numbers: for small settings, to train on all of them."""
    for numbers in combinations_with_replacement(range(1, params.max_number + 1), params.numbers):
        for target in _targets(numbers, params):
            if split_of(numbers, target) == split:
                yield _problem(numbers, target, params)


def split_of(numbers: Sequence[int], target: int) -> str:
    """The one split a problem belongs to: a hash of its sorted numbers and target against the split shares."""
    return _procedural.split_by_hash("countdown", ",".join(map(str, sorted(numbers))), target)


def solutions(numbers: Sequence[int], params: Params) -> dict[int, frozenset[str]]:
    """Map every reachable target in 1..max_target to the canonical forms that reach it, under `params`' rules."""
    return _solutions(tuple(sorted(numbers)), params.min_used or params.numbers, params.max_target)


@lru_cache(maxsize=100_000)
def _solutions(numbers: tuple[int, ...], min_used: int, max_target: int) -> dict[int, frozenset[str]]:
    """By dynamic programming over sub-multisets of the sorted `numbers`: well under 1 ms for 3 numbers, 5 ms for 4."""
    solutions: dict[int, set[str]] = {}
    for used in range(min_used, len(numbers) + 1):
        for part in sorted(set(combinations(numbers, used))):
            for form in _reach(part):
                if form.value <= max_target:
                    solutions.setdefault(form.value, set()).add(form.text)
    return {target: frozenset(forms) for target, forms in solutions.items()}


@lru_cache(maxsize=100_000)
def _reach(numbers: tuple[int, ...]) -> frozenset[Form]:
    """The canonical forms of all expressions that use each of the sorted `numbers` once."""
    if len(numbers) == 1:
        return frozenset({number(numbers[0])})
    reached = set()
    for mask in range(1, 2 ** (len(numbers) - 1)):
        inside = tuple(value for i, value in enumerate(numbers) if mask >> i & 1)
        outside = tuple(value for i, value in enumerate(numbers) if not mask >> i & 1)
        for left, right in product(_reach(inside), _reach(outside)):
            reached |= {
                combine(operator, one, other)
                for operator, one, other in (
                    *((op, left, right) for op in "+-*/"),
                    ("-", right, left),
                    ("/", right, left),
                )
                if apply(operator, one.value, other.value) is not None
            }
    return frozenset(reached)


def _draw_target(numbers: tuple[int, ...], rng: random.Random, params: Params) -> int | None:
    targets = _targets(numbers, params)
    return rng.choice(targets) if targets else None


def _targets(numbers: tuple[int, ...], params: Params) -> list[int]:
    """The targets these numbers reach in an admitted number of ways, ascending."""
    most = params.max_solutions
    return sorted(
        target
        for target, forms in solutions(numbers, params).items()
        if len(forms) >= params.min_solutions and (most is None or len(forms) <= most)
    )


def compact_prompt(numbers: Sequence[int], target: int) -> str:
    """The prompt of the embedded model, for instance "3 5 7 8=24:"."""
    return f"{' '.join(map(str, numbers))}={target}:"


def _problem(numbers: Sequence[int], target: int, params: Params) -> Problem:
    prompt = compact_prompt(numbers, target)
    if params.style == "words":
        rule = "all" if params.min_used is None else f"at least {params.min_used}"
        prompt = _WORDS.format(rule=rule, numbers=", ".join(map(str, numbers)), target=target)
    key = f"{'-'.join(map(str, sorted(numbers)))}={target}"
    grammar = "steps" if params.style == "compact" else "expression"
    info = {"numbers": list(numbers), "min_used": params.min_used or params.numbers, "grammar": grammar}
    facts = {"solutions": len(solutions(numbers, params)[target])}
    return Problem(id=key, prompt=prompt, answer=str(target), info=info, facts=facts)
