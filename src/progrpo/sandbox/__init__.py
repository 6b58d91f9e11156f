"""Runs one untrusted Python program where it can neither see nor change anything, and makes sure that it ends.

`isolation.require_isolation` proves once per process that this machine can isolate and returns a `Box`; `run.run`
runs a program in it. The walls are namespaces, mounts and a seccomp filter put up by bubblewrap; the limits are the
kernel's own, set inside by `_launcher.py` before the program's first line, and those of the process outside.

Not covered: faults of the kernel, of bubblewrap and of the processor; what the kernel tells every process (model of
the machine, load, uptime); kernel memory a program causes without owning it (inodes, pipe buffers), which only its
CPU time limits; another user's processes on a kernel older than 5.14 where not started as root (the process limit
then counts the user's processes outside too, so it is set above their number).
"""

from dataclasses import dataclass, field
from typing import Literal

Ending = Literal["ok", "error", "cpu", "wall", "memory", "output", "not_started"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one program may use.

    Attributes:
        cpu_s: CPU seconds of each process, whole seconds.
        wall_s: seconds from start to end. silent_s: seconds the program may keep silent on its channel; None: all.
        memory_bytes: address space of each process, and resident memory of all of them together.
        processes: processes and threads at a time.
        disk_bytes: the file system in memory at /tmp, the only place to write. file_bytes: one file in it.
        output_bytes: what is read of standard output, of standard error and of the channel, each.
        open_files: file descriptors of each process.
    """

    cpu_s: int = 6
    wall_s: float = 15.0
    silent_s: float | None = None
    memory_bytes: int = 2**30
    processes: int = 16
    disk_bytes: int = 2**25
    file_bytes: int = 2**24
    output_bytes: int = 2**23
    open_files: int = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a program ended.

    Attributes:
        ending: `ok`: exit code 0; `error`: another one; `cpu`, `wall`, `memory`, `output`: the limit it ran into;
            `not_started`: the sandbox failed before the program's first line, the program is not to blame.
        exit_code: 128 + n for signal n; None where it was killed from outside.
        stdout: as written, cut at the limit. stderr: its last 64 KiB. channel: what the program wrote on its channel.
        seconds: wall-clock time.
    """

    ending: Ending
    exit_code: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    channel: bytes = b""
    seconds: float = 0.0

    @property
    def last_words(self) -> str:
        """The last line of standard error: for an exception its type and message."""
        lines = self.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else ""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs programs.

    Attributes:
        path: the real file. version: "3.11.2".
        folders: what it reads, shown read-only. hidden: folders of installed packages among them, shown empty.
        packages: folders of installed packages that programs may import from.
    """

    path: str
    version: str
    folders: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Box:
    """A way to confine programs on this machine.

    Attributes:
        bubblewrap: path of the program; None: no walls at all (`unsafe`), the limits only.
        can_disable_namespaces: bubblewrap 0.8 or newer: `--disable-userns`.
        seccomp: the filter, as the kernel reads it; None where this processor has none.
    """

    interpreter: Interpreter
    bubblewrap: str | None
    can_disable_namespaces: bool = False
    seccomp: bytes | None = field(default=None, repr=False)
