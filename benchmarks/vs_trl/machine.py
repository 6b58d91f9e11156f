"""What the machine can do and what a step took of its memory, measured the same way for both sides."""

import ctypes
import gc
import time
from collections.abc import Callable

import psutil
import torch

from progrpo.train import memory


class PeakMemory:
    """Peak memory between `start` and `stop`.

    CPU (Linux): the high-water mark of the resident set, after giving freed blocks back to the system. CUDA: what the
    allocator had given out. Both count the whole process: see `above` for what a step adds.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._peak = memory.PeakMemory(torch.device(device))
        self.before = 0
        """Bytes in use at `start`."""

    def start(self) -> None:
        self.before = self.now()
        self._peak.reset()

    def stop(self) -> int:
        """The peak since `start`, in bytes."""
        peak = self._peak.gib()
        if peak is None:
            raise OSError("the peak of memory cannot be reset here; it is measured on Linux and on CUDA only")
        return round(peak * 2**30)

    def now(self) -> int:
        """Bytes in use, after a collection."""
        gc.collect()
        if self._device == "cuda":
            torch.cuda.empty_cache()
            return int(torch.cuda.memory_allocated())
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        return psutil.Process().memory_info().rss


def synchronize(device: str) -> None:
    """Wait for the device, so that the clock shows finished work."""
    if device == "cuda":
        torch.cuda.synchronize()


def matmul_peak(device: str, precision: str) -> float:
    """FLOP/s of a large square matrix product in this number format: the best of five."""
    size = 8192 if device == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / _best(lambda: left @ right, device)


def copy_bandwidth(device: str) -> float:
    """Bytes/s of a large copy, read and written bytes both counted: the best of five."""
    source = torch.ones((1 << 30) if device == "cuda" else (1 << 26), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source), device)


def _best(work: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(6):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
