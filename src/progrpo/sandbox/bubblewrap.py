"""The command line that puts up the walls, and the user without rights who starts it."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from progrpo.sandbox import Box, Limits

WORK = "/tmp"
_NOBODY = "65534"
_LAUNCHER = Path(__file__).with_name("_launcher.py").read_text("utf-8")
_PYTHON = ("-s", "-S", "-B", "-X", "utf8")
"""No user or installed packages, no bytecode written, UTF-8 whatever the locale."""
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"}
"""All a program sees. The order of a set of strings is thereby the same in every run, and so is the verdict."""
_STACK_BYTES = 112 * 2**20
"""Deep recursion through C (functools.cache) needs more than the usual 8 MiB; Linux leaves room for 128 MiB."""
_FAR, _NEAR, _MANY = (1_000_000_000, 1_000_000), (60_000, 5_000), 2**32 - 1


def first_to_go(command: list[str], environment: Mapping[str, str]) -> list[str]:
    """The command, with this environment alone, as the first to be killed should the machine run out of memory, and all
    that it starts with it. Said out here, before the walls: inside it cannot be unsaid."""
    # env, because a shell adds variables of its own
    script = '{ echo 1000 > /proc/self/oom_score_adj; } 2> /dev/null; exec /usr/bin/env -i "$@"'
    return ["/bin/sh", "-c", script, "sh", *(f"{name}={value}" for name, value in environment.items()), *command]


def user() -> int | None:
    """A user id without rights, drawn anew for each program; None where this process has no rights to drop.

    The process limit does not bind root, whatever bubblewrap's --uid says, so the real id is dropped before. Before
    Linux 5.14 the limit counts all processes of an id: no two programs share one.
    """
    if os.geteuid() != 0:
        return None
    ranges = [[int(number) for number in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    for first, count in (_FAR, _NEAR):
        if any(inside <= first and first + count <= inside + size for inside, _, size in ranges):
            return first + secrets.randbelow(count)
    return (
        None  # root of a namespace with few ids is no root to the kernel; the self-test decides whether that is enough
    )


def walls(box: Box, limits: Limits, seccomp: int | None) -> list[str]:
    """bubblewrap's arguments, without the command to run.

    Args:
        seccomp: descriptor from which bubblewrap reads the filter.
    """
    args = ["--unshare-all", "--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY, "--hostname", "sandbox"]
    args += ["--disable-userns"] if box.can_disable_namespaces else []
    args += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        args += ["--setenv", name, value]
    # Before the folders below, which may lie in it.
    args += ["--proc", "/proc", "--dev", "/dev", "--perms", "0700", "--size", str(limits.disk_bytes), "--tmpfs", WORK]
    for folder in box.interpreter.folders:
        args += ["--ro-bind", folder, folder]
    for folder in ("/lib", "/lib32", "/lib64"):
        if os.path.islink(folder):
            args += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            args += ["--ro-bind", folder, folder]
    for folder in box.interpreter.hidden:
        args += ["--tmpfs", folder, "--remount-ro", folder]
    for folder in box.interpreter.packages:
        args += ["--ro-bind", folder, folder]
    # bubblewrap's own root and /dev are file systems in memory without a limit, and writable unless said otherwise. In /proc a
    # program could write into process 1, which belongs to the same user (/proc/1/mem), and take back `first_to_go`.
    args += ["--chdir", WORK, "--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]
    return args + (["--seccomp", str(seccomp)] if seccomp is not None else [])


def program(box: Box, limits: Limits, source: int, channel: int, payload: int | None) -> list[str]:
    """The command inside: the launcher with its limits. The three numbers are descriptors."""
    rlimits = {
        "CPU": limits.cpu_s,
        "AS": limits.memory_bytes,
        "NPROC": limits.processes + _others(box),
        "FSIZE": limits.file_bytes,
        "NOFILE": limits.open_files,
        "STACK": min(_STACK_BYTES, limits.memory_bytes // 2),
        "CORE": 0,
        "MEMLOCK": 0,
        "MSGQUEUE": 0,
    }
    command = [box.interpreter.path, *_PYTHON, "-c", _LAUNCHER, str(source), str(channel)]
    command += ["-" if payload is None else str(payload), ":".join(box.interpreter.packages)]
    # bubblewrap's own process inside belongs to the same user. Should a program take it over all the same, it has the same
    # filter; with the same limits too there is nothing to gain.
    command.append("0,1" if box.bubblewrap else "0")
    return command + [f"{name}={value}" for name, value in rlimits.items()]


def _others(box: Box) -> int:
    """Tasks the process limit counts although they are not the program's: bubblewrap's own inside; and where the limit
    is not counted by namespace (no walls, or before Linux 5.14) and the id is shared, this user's outside as well."""
    shared = os.geteuid() != 0 and (box.bubblewrap is None or _release() < (5, 14))
    return 1 + (_tasks_of(os.geteuid()) if shared else 0)


def _release() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(character for character in minor if character.isdigit()) or 0)


def _tasks_of(owner: int) -> int:
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            count += len(os.listdir(process / "task")) if process.stat().st_uid == owner else 0
        except OSError:
            continue  # ended meanwhile
    return count
