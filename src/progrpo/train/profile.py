"""Traces of a few rollouts and their updates, for a standard viewer: https://ui.perfetto.dev or chrome://tracing.

A trace names the phases of `progrpo.train.clock`, and `judge` where verdicts are made. It holds every operation, but
neither stacks nor shapes: a step of a few hundred tokens is a million events already.
"""

import gzip
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from progrpo.files import make_folder, storing
from progrpo.train.trainer import Listener


class Profiler:
    """Counts the rollouts of this process and traces those of `rollouts`, into `folder`/profiles/step-NNNNNN.json.gz."""

    def __init__(self, folder: Path, rollouts: Collection[int], listen: Listener) -> None:
        self._folder = folder / "profiles"
        self._rollouts = rollouts
        self._listen = listen
        self._count = 0

    @contextmanager
    def rollout(self, step: int) -> Iterator[None]:
        """Trace what is done within, if it is this rollout's turn; `step` is the first optimiser step it feeds."""
        self._count += 1
        if self._count not in self._rollouts:
            yield
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities, experimental_config=_config()) as trace:
            yield
        make_folder(self._folder)
        path = self._folder / f"step-{step:06d}.json.gz"
        plain, aside = (path.with_name(f".writing-{name}") for name in (path.stem, path.name))
        with storing(path):
            trace.export_chrome_trace(str(plain))
            # Torch would pack it, too, at the strongest level: six times as long for a sixth less.
            with plain.open("rb") as unpacked, gzip.open(aside, "wb", compresslevel=3) as packed:
                shutil.copyfileobj(unpacked, packed, 1 << 20)
            plain.unlink()
            os.replace(aside, path)
        self._listen("profile", {"step": step, "path": str(path)})


def _config() -> _ExperimentalConfig | None:
    """All threads, since verdicts are made in another; and no list of events in Python, which can take minutes to build.

    A torch that does not know these shows the main thread, and takes longer.
    """
    try:
        return _ExperimentalConfig(profile_all_threads=True, trace_only=True)
    except TypeError:
        return None
