"""What a step cost: seconds per phase, and the peak of memory."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import record_function

from progrpo.train.memory import PeakMemory

PHASES = ("generate", "verify", "gather", "score", "train", "sync", "evaluate", "write")
"""What the loop does one after another; their seconds add up to those of a step, but for a rest."""
BESIDE = ("generate_hidden", "verify_hidden")
"""What went on beside them: no part of that sum."""


class Clock:
    """Adds up seconds per phase between two calls of `take`."""

    def __init__(self, device: torch.device) -> None:
        self._memory = PeakMemory(device)
        self._begin()

    def add(self, phase: str, seconds: float) -> None:
        self._seconds[phase] += seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase; a profiler that is recording shows it by this name."""
        started = time.perf_counter()
        try:
            with record_function(name):
                yield
        finally:
            self.add(name, time.perf_counter() - started)

    def take(self) -> dict[str, float]:
        """Seconds per phase and in all, and the peak of memory, since the last call, as metrics; then start anew."""
        taken = {f"time/{name}_s": seconds for name, seconds in self._seconds.items()}
        taken["time/step_s"] = time.perf_counter() - self._since
        peak = self._memory.gib()
        self._begin()
        return taken if peak is None else taken | {"memory/peak_gib": peak}

    def _begin(self) -> None:
        self._seconds = dict.fromkeys((*PHASES, *BESIDE), 0.0)
        self._since = time.perf_counter()
        self._memory.reset()
