"""The order of the problems: a function of the seed and of how many were taken, so that it needs no state to resume."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from progrpo.errors import ConfigError
from progrpo.seeds import derive_seed
from progrpo.types import Problem


class ProblemStream:
    """Endless problems, epoch after epoch.

    Raises:
        ConfigError: a rollout would need the same problem twice.
    """

    def __init__(self, problems: Sequence[Problem], *, seed: int, shuffle: bool, per_rollout: int) -> None:
        if per_rollout > len(problems):
            raise ConfigError(
                f"batch.prompts={per_rollout} exceeds the {len(problems)} training problems; a rollout holds a problem "
                "once, so lower batch.prompts or bring more problems"
            )
        self._problems = problems
        self._seed = seed
        self._order = lru_cache(maxsize=2)(self._permutation if shuffle else self._identity)

    def take(self, start: int, count: int) -> list[tuple[int, Problem]]:
        """The problems `start` to `start + count` of the stream, each with the epoch it belongs to."""
        size = len(self._problems)
        places = [divmod(position, size) for position in range(start, start + count)]
        return [(epoch, self._problems[int(self._order(epoch)[offset])]) for epoch, offset in places]

    def _permutation(self, epoch: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=derive_seed(self._seed, "order", epoch)))
        return generator.permutation(len(self._problems))

    def _identity(self, epoch: int) -> np.ndarray:
        return np.arange(len(self._problems))
