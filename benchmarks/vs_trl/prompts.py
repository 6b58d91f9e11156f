"""Prompts of random words, each of exactly so many tokens, numbered by their first word (see coin.py)."""

import random
from collections.abc import Sequence

from pydantic import Field

from progrpo.seeds import derive_seed
from progrpo.settings import Settings
from progrpo.types import Problem

REWARD = "vs_trl.coin"


class Params(Settings):
    tokens: int = Field(gt=0)
    """Words of a prompt; the tokenizer of a random model makes one token of each."""
    vocabulary: int = Field(gt=0, multiple_of=4)
    """Words come from the upper half of t0 ... t(vocabulary - 1), clear of the ids that end a completion."""
    zero_std: bool
    """Number the problems 0, 1, 2, ... (every other one with a group of equal rewards) or 1, 3, 5, ... (none)."""
    count: int = Field(gt=0)


def load(split: str, params: Params) -> Sequence[Problem]:
    half = params.vocabulary // 2
    problems = []
    for index in range(params.count):
        number = index if params.zero_std else 2 * index + 1
        rng = random.Random(derive_seed("vs_trl", split, index))
        rest = (half + rng.randrange(half) for _ in range(params.tokens - 1))
        words = (f"t{word}" for word in (half + number % half, *rest))
        problems.append(Problem(id=str(index), prompt=" ".join(words)))
    return problems
