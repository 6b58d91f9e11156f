"""Where the seconds of a step went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("generate", "verify", "score", "train", "evaluate", "write")


class Clock:
    """Adds up seconds per phase between two calls of `take`."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._since = time.perf_counter()

    def add(self, phase: str, seconds: float) -> None:
        self._seconds[phase] += seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def take(self) -> dict[str, float]:
        """Seconds per phase and in all since the last call, as metrics; then start again at 0."""
        now = time.perf_counter()
        taken = {f"time/{name}_s": seconds for name, seconds in self._seconds.items()}
        taken["time/step_s"] = now - self._since
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._since = now
        return taken
