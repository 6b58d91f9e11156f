"""The order of the problems: a function of the seed and of how many were taken, so that it needs no state to resume."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from progrpo.errors import ConfigError
from progrpo.seeds import derive_seed
from progrpo.types import Problem

SOURCE = "source"
"""The fact of a problem that names the part of a mixture it is of."""


class ProblemStream:
    """Endless problems, epoch after epoch.

    With `weights`, each rollout takes its problems from several sources by stratified draws, each source in epochs of its own:
    of a share w of P problems, floor(P * w) or that plus 1, and P * w on average.

    Args:
        weights: of each source (the fact "source" of its problems) against the others, > 0; {} takes all problems as one list.
        ease: of each problem, by its id: every epoch begins with the highest, equal ones in the order they would have; None
            leaves the order alone.

    Raises:
        ConfigError: a rollout would need the same problem twice, or a source has no problem.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        *,
        seed: int,
        shuffle: bool,
        per_rollout: int,
        weights: Mapping[str, float] | None = None,
        ease: Mapping[str, float] | None = None,
    ) -> None:
        if per_rollout > len(problems):
            raise ConfigError(
                f"batch.prompts={per_rollout} exceeds the {len(problems)} training problems; a rollout holds a problem "
                "once, so lower batch.prompts or bring more problems"
            )
        self._problems = problems
        self._shares = Shares(weights, seed=seed, per_rollout=per_rollout) if weights else None
        names = list(weights or {})
        places: list[list[int]] = [[] for _ in names] or [list(range(len(problems)))]
        if names:
            for place, problem in enumerate(problems):
                places[names.index(str(problem.facts[SOURCE]))].append(place)
            _require_enough(dict(zip(names, map(len, places), strict=True)), weights or {}, per_rollout)
        easy = None if ease is None else np.array([ease[problem.id] for problem in problems])
        # A problem's part does not enter the seed where all are one list.
        self._orders = [
            Order(np.array(part), seeds=(seed, "order", *names[index : index + 1]), shuffle=shuffle, ease=easy)
            for index, part in enumerate(places)
        ]

    def take(self, start: int, count: int) -> list[tuple[int, Problem]]:
        """The problems `start` to `start + count` of the stream, each with the epoch (of its source) it belongs to."""
        taken = []
        for position in range(start, start + count):
            source, place = self._shares.at(position) if self._shares else (0, position)
            epoch, index = self._orders[source].at(place)
            taken.append((epoch, self._problems[index]))
        return taken


class Order:
    """Some problems, over and over.

    Args:
        places: [N] where they stand. seeds: what the order of an epoch is drawn from, with its number.
        ease: of the problem at each place; see `ProblemStream`.
    """

    def __init__(
        self, places: np.ndarray, *, seeds: tuple[int | str, ...], shuffle: bool, ease: np.ndarray | None
    ) -> None:
        self._places, self._seeds, self._shuffle, self._ease = places, seeds, shuffle, ease
        self._epoch = lru_cache(maxsize=2)(self._in_order)

    def at(self, position: int) -> tuple[int, int]:
        """The epoch of a position, and the place of the problem there."""
        epoch, offset = divmod(position, len(self._places))
        return epoch, int(self._epoch(epoch)[offset])

    def _in_order(self, epoch: int) -> np.ndarray:
        order = self._drawn(epoch)
        return order if self._ease is None else order[np.argsort(-self._ease[order], kind="stable")]

    def _drawn(self, epoch: int) -> np.ndarray:
        if not self._shuffle:
            return self._places
        generator = np.random.Generator(np.random.Philox(key=derive_seed(*self._seeds, epoch)))
        return self._places[generator.permutation(len(self._places))]


class Shares:
    """Which source each position of the stream is of.

    A block of P positions is a rollout. Its sources are read off at the P points (j + u) / P of the cumulated shares, with one
    u in [0, 1) drawn for each block, and then permuted.
    """

    def __init__(self, weights: Mapping[str, float], *, seed: int, per_rollout: int) -> None:
        total = sum(weights.values())
        self._bounds = np.cumsum([weight / total for weight in weights.values()])
        self._seed, self._size = seed, per_rollout
        self._before = [np.zeros(len(weights), dtype=np.int64)]
        """Of each block: how many problems of each source the blocks before it hold."""
        self._block = lru_cache(maxsize=2)(self._permuted)

    def at(self, position: int) -> tuple[int, int]:
        """The source of a position, and how many of that source come before it."""
        number, offset = divmod(position, self._size)
        while len(self._before) <= number:
            counts = np.bincount(self._sources(len(self._before) - 1), minlength=len(self._bounds))
            self._before.append(self._before[-1] + counts)
        block = self._block(number)
        source = int(block[offset])
        return source, int(self._before[number][source] + (block[:offset] == source).sum())

    def _sources(self, number: int) -> np.ndarray:
        shift = derive_seed(self._seed, "mixture", number) / 2**63
        points = (np.arange(self._size) + shift) / self._size
        return np.searchsorted(self._bounds[:-1], points, side="right")

    def _permuted(self, number: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=derive_seed(self._seed, "mixture order", number)))
        return generator.permutation(self._sources(number))


def _require_enough(sizes: Mapping[str, int], weights: Mapping[str, float], per_rollout: int) -> None:
    total = sum(weights.values())
    for name, size in sizes.items():
        wanted = math.ceil(per_rollout * weights[name] / total - 1e-9)
        if wanted > size:
            raise ConfigError(
                f"source {name!r} of the mixture has {size} training problems, and its weight takes up to {wanted} of the "
                f"{per_rollout} of a rollout (batch.prompts); a rollout holds a problem once: lower one of them"
            )
