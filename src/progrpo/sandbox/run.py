"""Runs one program in a box and watches it to its end."""

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from progrpo.sandbox import Box, Ended, Ending, Limits, bubblewrap

_TICK_S = 0.1
"""Seconds between two looks at memory and time."""
_LAST_WORDS_BYTES = 2**16
_GRACE_S = 5.0
"""Seconds a killed tree may take to vanish; on a healthy machine it takes milliseconds."""
_CHUNK_BYTES = 2**16
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_READY = b"ready\n"
_END = "end"


def run(
    box: Box,
    source: bytes,
    *,
    limits: Limits,
    stdin: bytes = b"",
    payload: bytes | None = None,
    handed: Sequence[int] = (),
    over: Callable[[], bool] | None = None,
) -> Ended:
    """Run a Python program as `__main__`, with nothing of it left afterwards.

    Args:
        handed: descriptors the program finds under their own numbers; closed here once it has them.
        over: asked ten times a second; once true, the program is ended as if at its wall limit.

    The program finds `stdin` as a file in memory (as with `< file`: no writer can block, and `open("/dev/stdin")`
    works). With a payload it has two descriptors as its arguments, one to read it from and one to write to, the channel;
    without a payload there is no channel.

    Returns:
        How it ended; never raises for anything the program does. A sandbox that fails is `not_started`.
    """
    started = time.monotonic()
    try:
        with _started(box, source, limits, stdin, payload, handed) as (process, pipes):
            watch = _Watch(process, pipes, limits, started, walled=box.bubblewrap is not None, over=over)
            cause = watch.follow()
    except OSError as error:  # no process, memory or descriptors left on this machine
        return Ended(ending="not_started", stderr=str(error).encode(), seconds=time.monotonic() - started)
    return watch.ended(cause)


class _Watch:
    """Reads a program's pipes until it has ended or has to be."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        pipes: dict[str, int],
        limits: Limits,
        started: float,
        *,
        walled: bool,
        over: Callable[[], bool] | None = None,
    ) -> None:
        self._process = process
        self._over = over
        self._limits = limits
        self._started = started
        self._walled = walled
        self._read = {name: bytearray() for name in pipes}
        self._lengths = dict.fromkeys(pipes, 0)
        self._last_word = started
        self._selector = selectors.DefaultSelector()
        for name, pipe in pipes.items():
            os.set_blocking(pipe, False)
            self._selector.register(pipe, selectors.EVENT_READ, name)
        self._end = os.pidfd_open(process.pid)  # readable once the process has ended
        self._selector.register(self._end, selectors.EVENT_READ, _END)

    def follow(self) -> Ending | None:
        """The limit for which the program was killed; None where it ended by itself."""
        try:
            cause = self._until_end()
        finally:  # whatever interrupts (Ctrl-C above all), nothing stays
            self._kill()
            self._drain()
            self._selector.close()
            os.close(self._end)
        return cause

    def ended(self, cause: Ending | None) -> Ended:
        code = self._process.returncode
        code = 128 - code if code < 0 else code
        channel = bytes(self._read["channel"])
        ended = Ended(
            ending=cause or ("ok" if code == 0 else "error"),
            exit_code=None if cause else code,
            stdout=bytes(self._read["stdout"]),
            stderr=bytes(self._read["stderr"]),
            channel=channel.removeprefix(_READY),
            seconds=time.monotonic() - self._started,
        )
        return _with_ending(ended, self._cause(ended, began=channel.startswith(_READY)))

    def _cause(self, ended: Ended, *, began: bool) -> Ending:
        if not began:
            return "not_started"
        if ended.ending != "error":
            return ended.ending
        killed = ended.exit_code == 128 + signal.SIGKILL and ended.seconds >= self._limits.cpu_s
        if killed or ended.exit_code == 128 + signal.SIGXCPU:
            return "cpu"
        return "memory" if ended.last_words.startswith("MemoryError") else "error"

    def _until_end(self) -> Ending | None:
        while self._selector.get_map():
            self._receive(_TICK_S)
            now = time.monotonic()
            if any(length > self._limits.output_bytes for length in self._lengths.values()):
                return "output"
            if now - self._started > self._limits.wall_s:
                return "wall"
            if self._silent(now) or (self._over is not None and self._over()):
                return "wall"
            if _resident_bytes(self._process.pid) > self._limits.memory_bytes:
                return "memory"
            if not self._walled and self._process.poll() is not None:
                return None  # without walls a child that stays behind may hold the pipes open
        return None

    def _silent(self, now: float) -> bool:
        """Whether the program, once it runs, has kept silent for too long."""
        limit = self._limits.silent_s
        return limit is not None and bool(self._read["channel"]) and now - self._last_word > limit

    def _receive(self, patience_s: float) -> None:
        """Read what there is, for at most one tick."""
        until = time.monotonic() + patience_s
        while (left := until - time.monotonic()) > 0:
            if not self._selector.get_map():
                return
            for key, _ in self._selector.select(left):
                if key.data == _END:
                    self._selector.unregister(key.fd)
                    continue
                try:
                    data = os.read(key.fd, _CHUNK_BYTES)
                except BlockingIOError:
                    continue
                if not data:
                    self._selector.unregister(key.fd)
                    continue
                self._keep(key.data, data)
                if self._lengths[key.data] > self._limits.output_bytes:
                    return

    def _keep(self, name: str, data: bytes) -> None:
        self._lengths[name] += len(data)
        kept = self._read[name]
        kept += data
        if name == "channel":
            self._last_word = time.monotonic()
        if name == "stderr":
            del kept[:-_LAST_WORDS_BYTES]
        else:
            del kept[self._limits.output_bytes :]

    def _kill(self) -> None:
        """With walls the first process inside takes all others with it (bubblewrap's --die-with-parent would kill it,
        too, but is a request that it could undo); without them only the program's process group goes."""
        if self._walled:
            for child in _children(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_GRACE_S)

    def _drain(self) -> None:
        """Wait until nobody holds the pipes any more: then the tree is gone."""
        until = time.monotonic() + (_GRACE_S if self._walled else 0.0)
        while self._selector.get_map() and time.monotonic() < until:
            self._receive(_TICK_S)


def _with_ending(ended: Ended, ending: Ending) -> Ended:
    return Ended(
        ending=ending,
        exit_code=ended.exit_code,
        stdout=ended.stdout,
        stderr=ended.stderr,
        channel=ended.channel,
        seconds=ended.seconds,
    )


@contextlib.contextmanager
def _started(
    box: Box, source: bytes, limits: Limits, stdin: bytes, payload: bytes | None, handed: Sequence[int]
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
    """The process and the descriptors to read from, by name; all descriptors are closed afterwards."""
    user = bubblewrap.user() if box.bubblewrap else None
    with contextlib.ExitStack() as stack:
        reading: dict[str, int] = {}
        with contextlib.ExitStack() as inside:  # what only the program keeps
            for descriptor in handed:
                inside.callback(os.close, descriptor)
            inputs = [_memory_file(stack, data) for data in (source, stdin)]
            inside_payload = None if payload is None else _memory_file(stack, payload)
            seccomp = None if box.seccomp is None else _memory_file(stack, box.seccomp)
            writing = {}
            for name in ("stdout", "stderr", "channel"):
                reading[name], writing[name] = os.pipe2(os.O_CLOEXEC)
                stack.callback(os.close, reading[name])
                inside.callback(os.close, writing[name])
                if user is not None:
                    os.fchown(writing[name], user, user)  # so that the program can open /dev/stdout
            command = bubblewrap.program(box, limits, inputs[0], writing["channel"], inside_payload)
            folder = "/"
            if box.bubblewrap:
                command = [box.bubblewrap, *bubblewrap.walls(box, limits, seccomp), "--", *command]
            else:
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="progrpo-unsafe-", ignore_cleanup_errors=True)
                )
            passed = [inputs[0], writing["channel"], *(one for one in (inside_payload, seccomp) if one is not None)]
            process = subprocess.Popen(
                # bubblewrap's first process keeps its own environment, which the program can read in /proc/1/environ.
                bubblewrap.first_to_go(command, {} if box.bubblewrap else bubblewrap.ENVIRONMENT),
                stdin=inputs[1],
                stdout=writing["stdout"],
                stderr=writing["stderr"],
                pass_fds=[*passed, *handed],
                env={},
                cwd=folder,
                start_new_session=not box.bubblewrap,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        yield process, reading


def _memory_file(stack: contextlib.ExitStack, data: bytes) -> int:
    """A descriptor at the start of a file in memory that nobody can change any more."""
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, descriptor)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    fcntl.fcntl(
        descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    )
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _resident_bytes(process: int) -> int:
    """Memory of a process and all that descend from it; 0 where Linux was built without the list of children."""
    total, left = 0, [str(process)]
    while left:
        one = left.pop()
        try:
            with open(f"/proc/{one}/statm") as file:
                total += int(file.read().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            continue  # ended meanwhile
        left += _children(one)
    return total


def _children(process: int | str) -> list[str]:
    children: list[str] = []
    try:
        for task in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{task}/children") as file:
                children += file.read().split()
    except OSError:
        pass  # ended meanwhile
    return children
