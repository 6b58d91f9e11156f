"""Proves that this machine can isolate, before any untrusted program runs; refuses where it cannot."""

import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from progrpo.errors import SandboxError
from progrpo.sandbox import Box, Ended, Limits, bubblewrap, interpreter, seccomp
from progrpo.sandbox.run import run

logger = logging.getLogger(__name__)

_PROBE = Path(__file__).with_name("_probe.py").read_bytes()
_LIMITS = Limits(cpu_s=1, wall_s=30.0, memory_bytes=2**29, processes=12, disk_bytes=2**20, output_bytes=2**18)
_DAEMON = """
import ctypes, os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, NAME.encode(), 0, 0, 0)  # PR_SET_NAME
        os.write(int(sys.argv[2]), b"alive")
        time.sleep(15)
    os._exit(0)
time.sleep(15)
"""
_REMEDY = """To isolate, this machine needs
  bubblewrap:                    apt-get install bubblewrap (0.8 or newer is best)
  unprivileged user namespaces:  sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000
                                 on Ubuntu 24.04 also kernel.apparmor_restrict_unprivileged_userns=0
  in a container:                docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
--security-opt systempaths=unconfined
  programs are refused until then; `unsafe: true` in the reward's settings runs them without walls, under limits only."""
_warned = threading.Event()


@lru_cache(maxsize=8)
def require_isolation(python: str | None = None, packages: tuple[str, ...] = (), *, unsafe: bool = False) -> Box:
    """A box on this machine, proved by trying to get out of it; the proof is made once per process and takes two seconds.

    Args:
        python: interpreter of the programs; None: the running one if a user without rights can start it, else the
            system's. packages: folders of installed packages that programs may import from; default: none.
        unsafe: no walls and no proof, only limits on time, memory, files and output. Programs can then read and write
            whatever this user can, use the network, and leave processes behind.

    Raises:
        SandboxError: what could not be isolated, and how to enable it.
    """
    if not hasattr(os, "memfd_create"):
        raise SandboxError(f"programs run on Linux only, this is {sys.platform}")
    if unsafe:
        if not _warned.is_set():
            _warned.set()
            logger.warning(
                "unsafe=true: model-written programs run WITHOUT isolation, as user %s, with your files and network",
                os.geteuid(),
            )
        return Box(interpreter.find(python, packages, user=None), bubblewrap=None)
    path = shutil.which("bwrap")
    if path is None:
        raise SandboxError(f"no bubblewrap (bwrap) on the PATH. {_REMEDY}")
    options = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=30, check=False).stdout
    if not re.search(r"--size\b", options):
        raise SandboxError(f"{path} is too old: it has no --size (0.7 or newer is needed). {_REMEDY}")
    if seccomp.build() is None:
        logger.warning("no seccomp filter for the processor %s: the sandbox works without one", os.uname().machine)
    box = Box(
        interpreter.find(python, packages, bubblewrap.user()), path, "--disable-userns" in options, seccomp.build()
    )
    faults = self_test(box)
    if faults:
        raise SandboxError(f"this machine does not isolate programs: {'; '.join(faults)}. {_REMEDY}")
    return box


def self_test(box: Box) -> list[str]:
    """What a program in the box could do that it must not; empty if the box holds."""
    hello = run(box, b"print('hello')", limits=_LIMITS)
    if hello.stdout != b"hello\n":
        words = hello.stderr.decode("utf-8", "replace").strip()[-300:]
        return [f"a first program did not run ({hello.ending}): {words or f'exit code {hello.exit_code}'}"]
    tests: tuple[Callable[[Box], list[str]], ...] = (_walls, _cpu, _daemon, _output, _memory)
    with ThreadPoolExecutor(len(tests)) as pool:
        return [fault for faults in pool.map(lambda test: test(box), tests) for fault in faults]


def _walls(box: Box) -> list[str]:
    """The probe looks for a file, a listener and a variable that are there outside."""
    with (
        tempfile.TemporaryDirectory(prefix="progrpo-canary-") as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        os.chmod(folder, 0o777)  # the walls must stop the program, not the permissions
        canary = Path(folder, "canary")
        canary.write_text("outside")
        canary.chmod(0o666)
        job = {
            "canary": str(canary),
            "folder": folder,
            "port": server.getsockname()[1],
            "environment": [*bubblewrap.ENVIRONMENT, "PWD", "LC_CTYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"],
            "disk_bytes": _LIMITS.disk_bytes,
            "processes": _LIMITS.processes,
            "seccomp": box.seccomp is not None,
        }
        ended = run(box, _PROBE, payload=repr(job).encode(), limits=_LIMITS)
        if canary.read_text() != "outside" or os.listdir(folder) != ["canary"]:
            return ["writing: a file outside was changed"]
    *faults, last = ended.channel.decode("utf-8", "replace").splitlines() or [""]
    return (
        faults if last == "done" else [*faults, f"the probe ended early ({ended.ending}): {ended.last_words or last}"]
    )


def _cpu(box: Box) -> list[str]:
    return _expect("cpu", run(box, b"while True: pass", limits=_LIMITS))


def _output(box: Box) -> list[str]:
    return _expect("output", run(box, b"while True: print('x' * 1000)", limits=_LIMITS))


def _memory(box: Box) -> list[str]:
    return _expect("memory", run(box, b"x = bytearray(2**30)", limits=_LIMITS))


def _daemon(box: Box) -> list[str]:
    """A grandchild in a session of its own is gone when the program has been stopped for its time."""
    name = f"p{secrets.token_hex(6)}"
    limits = Limits(wall_s=20.0, silent_s=1.0)
    ended = run(box, _DAEMON.replace("NAME", repr(name)).encode(), payload=b"", limits=limits)
    if ended.channel != b"alive":
        return [f"the grandchild did not start ({ended.ending}): {ended.last_words}"]
    until = time.monotonic() + 2.0
    while _runs(name):
        if time.monotonic() > until:
            return ["ending: a grandchild outlived its program"]
        time.sleep(0.05)
    return _expect("wall", ended)


def _runs(name: str) -> bool:
    """Whether any process on this machine has this name."""
    for process in Path("/proc").glob("[0-9]*/comm"):
        try:
            if process.read_text().strip() == name:
                return True
        except OSError:
            continue  # ended meanwhile
    return False


def _expect(ending: str, ended: Ended) -> list[str]:
    return (
        []
        if ended.ending == ending
        else [f"the {ending} limit: the program ended with {ended.ending} {ended.last_words}"]
    )


def describe(box: Box) -> Sequence[str]:
    """The box in words, for `progrpo doctor` and the record of a run."""
    if box.bubblewrap is None:
        return (f"Python {box.interpreter.version}", "NO isolation (unsafe): limits only")
    return (
        f"Python {box.interpreter.version} ({box.interpreter.path})",
        f"bubblewrap {box.bubblewrap}",
        "seccomp filter on" if box.seccomp else "seccomp filter off: none is written for this processor",
        "nested namespaces disabled" if box.can_disable_namespaces else "nested namespaces refused by the filter only",
    )
