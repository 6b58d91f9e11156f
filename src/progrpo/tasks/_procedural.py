"""What procedural tasks share: splits by a hash of the problem, and the draw of distinct problems of one split.

The splits are disjoint by construction, whatever the seed; the draw of item i comes from a hash of (seed, split, i), never
from seed + i.
"""

import random
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

from progrpo.errors import ConfigError
from progrpo.seeds import derive_seed

Key = TypeVar("Key", bound=Hashable)
SPLIT_SHARES = {"pretrain": 0.6, "train": 0.3, "test": 0.1}
FRUITLESS = 20_000
"""So many draws in a row without a new problem mean that there are no more to be found."""


def split_by_hash(*key: int | str) -> str:
    """The one split of the problem that `key` (the name of its task first) stands for."""
    position = derive_seed(*key) / 2**63
    for name, share in SPLIT_SHARES.items():
        if position < share:
            return name
        position -= share
    return "test"


def check_split(task: str, split: str) -> None:
    """Raise ConfigError where `split` is none of a procedural task's."""
    if split not in SPLIT_SHARES:
        raise ConfigError(f"{task}: unknown split {split!r}; expected one of {', '.join(SPLIT_SHARES)}")


def draw_distinct(split: str, seed: int, draw: Callable[[random.Random], Key | None]) -> Iterator[Key]:
    """Yield distinct results of `draw`, which gives a problem of `split` or None; end after `FRUITLESS` draws in a row that
    gave nothing new."""
    seen: set[Key] = set()
    fruitless = index = 0
    while fruitless < FRUITLESS:
        key = draw(random.Random(derive_seed(seed, split, index)))
        index += 1
        fruitless += 1
        if key is not None and key not in seen:
            seen.add(key)
            fruitless = 0
            yield key
