"""The run directory as the processes see it that do not write it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from progrpo.errors import ProcessError
from progrpo.files import make_folder, storing
from progrpo.processes import Processes
from progrpo.train.record import RunDirectory, as_row
from progrpo.train.settings import RunSettings
from progrpo.types import WeightedMean


def open_run(processes: Processes, make: Callable[[], RunDirectory], path: Path) -> RunDirectory:
    """The run directory that `make` opens in the main process; a follower in the others. What `make` raises, all raise."""
    opened: list[RunDirectory] = []
    processes.same(lambda: opened.append(make()))
    return opened[0] if processes.main else FollowedRun(path, processes.rank)


def require_shared(processes: Processes, path: Path) -> None:
    """Check that all processes see the files that the main process writes: checkpoints are read by each of them.

    Args:
        path: the run directory; a file is made and removed in the closest folder above it that exists.

    Raises:
        ProcessError: one of them does not.
    """
    if processes.count == 1:
        return
    name = processes.same(lambda: f".shared-{uuid4().hex}")
    probe = path.absolute().parent / name

    def write() -> None:
        make_folder(probe.parent)
        with storing(probe):
            probe.touch()

    processes.same(write)
    blind = [rank for rank, sees in enumerate(processes.gather(probe.exists())) if not sees]
    if processes.main:
        probe.unlink()
    if blind:
        raise ProcessError(
            f"processes {', '.join(map(str, blind))} do not see what the main process writes to {probe.parent}. All nodes need "
            "the run directory on a file system that they share: set out= to one"
        )


class FollowedRun(RunDirectory):
    """Takes what the main process writes, and writes nothing."""

    def __init__(self, path: Path, rank: int) -> None:  # the directory is neither locked nor touched
        self.path = path
        self._rank = rank

    def resume(self, settings: RunSettings, step: int | None) -> None:
        """Nothing: the main process does it."""

    def complete_metrics(self, step: int, metrics: Mapping[str, WeightedMean | float]) -> dict[str, Any]:
        """What is added, as the main process writes it."""
        return as_row(step, metrics)

    def write_metrics(self, step: int, metrics: Mapping[str, WeightedMean | float]) -> dict[str, Any]:
        """The row as the main process writes it."""
        return as_row(step, metrics)

    def write_alarms(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Nothing: the main process does it."""

    def track_samples(self, step: int, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        """Nothing: the main process does it."""

    def write_rows(self, folder: str, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Where the main process writes them."""
        return self.path / folder / f"step-{step:06d}.jsonl"

    def write_bundle(self, step: int, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Nothing: the main process does it."""

    def remove_bundle(self, step: int) -> None:
        """Nothing: the main process does it."""

    def dump(self, step: int, tensors: Mapping[str, Any]) -> str:
        """Write the tensors of a batch that went wrong: it may be this process's alone."""
        path = self.path / f"nonfinite-step-{step:06d}-process-{self._rank}.pt"
        with storing(path):
            torch.save(dict(tensors), path)
        return str(path)

    def close(self) -> None:
        """Nothing is held."""

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        return None
