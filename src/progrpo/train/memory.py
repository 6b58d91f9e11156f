"""The most memory this process held since it last looked: of its GPU, or, without one, of the machine.

Resetting the peak resets it for everyone who asks this process: `torch.cuda.max_memory_allocated`, and on Linux
`getrusage`'s `ru_maxrss`. A peak over a whole run is the largest of its steps' peaks.
"""

import re
from pathlib import Path

import torch

_GIB = 2**30
_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class PeakMemory:
    """The peak since `reset`, on CUDA of what torch allocated on `device`, on CPU of this process's resident memory.

    Worker processes are not counted. Other systems than Linux keep a peak that cannot be reset, which would say nothing
    of a step: there, `gib` is None.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._known = self._cuda is not None
        self.reset()

    def reset(self) -> None:
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
            return
        try:
            _RESET.write_text("5")  # the high-water mark goes down to what is held now (man 5 proc)
        except OSError:
            self._known = False
        else:
            self._known = True

    def gib(self) -> float | None:
        """The peak in GiB; None where it cannot be known."""
        if not self._known:
            return None
        if self._cuda is not None:
            return torch.cuda.max_memory_allocated(self._cuda) / _GIB
        line = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), flags=re.MULTILINE)
        return int(line[1]) * 1024 / _GIB if line else None
