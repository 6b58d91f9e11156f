"""Run a command for as long as the process that asked for it lives: `python _supervise.py PID COMMAND...`.

Started as a file of its own, so that nothing of the package is imported. The command and all it starts form one group of
processes, which is told to end, and after a while made to, when that process is gone (killed with SIGKILL included), when this
one is told to end, or when the command itself has ended.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.3
_GRACE_S = 10.0


def main(parent: int, command: list[str]) -> int:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_in_own_group)  # noqa: PLW1509 - one thread
    while not told and child.poll() is None and os.getppid() == parent:
        time.sleep(_LOOK_S)
    _end(child)
    return child.returncode or 0


def _in_own_group() -> None:
    os.setsid()
    if sys.platform == "linux":  # should this process be killed itself
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(child: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _GRACE_S
    _tell(child.pid, signal.SIGTERM)
    while time.monotonic() < until and _lives(child):
        time.sleep(0.05)
    _tell(child.pid, signal.SIGKILL)
    child.wait()


def _lives(child: "subprocess.Popen[bytes]") -> bool:
    """Whether anything of the group is left."""
    child.poll()
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _tell(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
