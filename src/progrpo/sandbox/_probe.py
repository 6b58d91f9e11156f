"""A program that tries to get out: run in a new box, it reports on its channel every way that stood open.

Handed over as text. Reads from its payload a dict of what to try for; writes lines "CLAIM: what was found", then "done".
"""

import ctypes
import os
import socket
import sys

TYPE_CHECKING = False  # the name is what type checkers look for; importing it takes too long
if TYPE_CHECKING:
    from typing import Any

payload, channel = (int(descriptor) for descriptor in sys.argv[1:])
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_ITS_OWN = tuple(f"/proc/{way}/{name}" for way in ("1", "1/task/1", "self") for name in ("mem", "oom_score_adj"))
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")


def probe(job: "dict[str, Any]") -> None:
    say("reading", [path for path in outside_paths(job["canary"]) if readable(path)])
    say(
        "writing",
        [path for path in ("/", "/dev", "/dev/shm", *sys.path, *outside_paths(job["folder"])) if writable(path)],
    )
    say(
        "writing",
        [f"{path} is a writable mount" for path in writable_mounts() if path not in ("/tmp", "/dev/pts")],
    )
    say("rights", [f"{path} can be written" for path in _ITS_OWN if opens_for_writing(path)])
    size = os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize
    say("writing", [f"/tmp holds {size} bytes"] if not 0 < size <= job["disk_bytes"] else [])
    say(
        "rights",
        ["process 1 has no limits"] if b"Max cpu time              unlimited" in content("/proc/1/limits") else [],
    )
    say("network", [f"127.0.0.1:{job['port']} answered"] if connects(job["port"]) else [])
    say("network", interfaces())
    say("environment", [name for name in os.environ if name not in job["environment"]])
    say("environment", ["of process 1"] if content("/proc/1/environ").strip(b"\0") else [])
    say("processes", [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())])
    status = dict(line.split(":\t", 1) for line in content("/proc/self/status").decode().splitlines() if ":\t" in line)
    say("rights", ["user 0"] if os.getuid() == 0 or os.geteuid() == 0 else [])
    say("rights", [f"{name} {status[name]}" for name in ("CapPrm", "CapEff", "CapBnd") if int(status[name], 16)])
    say("rights", [] if status["NoNewPrivs"].strip() == "1" else ["may gain more"])
    say("system calls", [] if not job["seccomp"] or status["Seccomp"].strip() == "2" else ["no filter"])
    if job["seccomp"]:
        refused = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0) != 0
        say("system calls", [] if refused else ["the program can outlive its judge"])
        say("system calls", [] if b"Seccomp:\t2" in content("/proc/1/status") else ["no filter on process 1"])
    say("namespaces", ["a new one"] if ctypes.CDLL(None).unshare(_CLONE_NEWUSER) == 0 else [])
    forked = fork_until_refused(2 * job["processes"])
    say("process limit", [f"{forked} processes"] if forked > job["processes"] else [])


def say(claim: str, items: "list[Any]") -> None:
    if items:
        os.write(channel, f"{claim}: {', '.join(map(str, items))}\n".encode("utf-8", "replace"))


def outside_paths(path: str) -> list[str]:
    """A path by every way one might come to it."""
    return [path, *(f"/proc/{way}{path}" for way in ("1/root", "self/root", "1/cwd"))]


def content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def readable(path: str) -> bool:
    return os.path.exists(path)


def writable(folder: str) -> bool:
    try:
        with open(os.path.join(folder, "written"), "w") as file:
            file.write("x")
    except OSError:
        return False
    return True


def opens_for_writing(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True


def writable_mounts() -> list[str]:
    """Mount points without the read-only flag, the harmless devices left out."""
    lines = [line.split() for line in content("/proc/self/mountinfo").decode().splitlines()]
    return [line[4] for line in lines if "ro" not in line[5].split(",") and line[4] not in _DEVICES]


def connects(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def interfaces() -> list[str]:
    """Network interfaces other than the box's own loopback."""
    lines = content("/proc/self/net/dev").decode().splitlines()[2:]
    return [name for name in (line.split(":")[0].strip() for line in lines) if name != "lo"]


def fork_until_refused(most: int) -> int:
    reading, writing = os.pipe()
    count = 0
    while count < most:
        try:
            if os.fork() == 0:
                os.close(writing)
                os.read(reading, 1)  # until the parent lets go
                os._exit(0)
        except OSError:
            break
        count += 1
    os.close(writing)
    return count


with open(payload, "rb") as file:
    probe(eval(file.read()))  # written by the self-test; eval because importing json takes longer than all the rest
os.write(channel, b"done\n")
