"""Processes that may be killed: calls that can hang, crash or eat memory run here, and cost their worker at most.

A worker handles one call at a time. Past its deadline it is killed and replaced, and so it is when it dies; the other
calls never notice. Works from any thread, one `run` at a time.
"""

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from progrpo.errors import VerifierError, own_place

Call = tuple[str, tuple[Any, ...]]
"""A method of the object by name, and its arguments."""

_STARTUP_LIMIT_S = 120.0
_STOP_S = 0.1
"""How long a run that may be stopped by another thread goes without looking whether it was."""
_PR_SET_PDEATHSIG = 1
_SAFE_PATH = "PYTHONSAFEPATH"
_starting = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one call.

    Attributes:
        value: what the function returned, if `failure` is None.
        failure: `timeout`: killed at the limit; `crashed`: it raised, or its process died.
        detail: the failure in words. seconds: wall-clock time of the call.
    """

    value: Any = None
    failure: Literal["timeout", "crashed"] | None = None
    detail: str = ""
    seconds: float = 0.0


class Stopped(Exception):  # noqa: N818 - a signal between two threads, not an error
    """`WorkerPool.run` was told to stop before it was done."""


class WorkerPool:
    """Runs methods of an object in worker processes, each of which makes one of its own.

    Args:
        make: called without arguments when a worker starts, and then the object's `warm()`. It is pickled: a function of
            an importable module, or `functools.partial` of one.
        limit_s: wall-clock seconds of one call. workers: processes. memory_bytes: address space of each.
    """

    def __init__(self, make: Callable[[], Any], *, limit_s: float, workers: int, memory_bytes: int) -> None:
        self._make = make
        self._limit_s = limit_s
        self._size = workers
        self._memory_bytes = memory_bytes
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        # Linux ends a worker when the *thread* that started it ends, so one thread that stays starts them all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="progrpo-worker-starter")

    def run(
        self,
        calls: Sequence[Call],
        on_done: Callable[[int], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Outcome]:
        """One outcome per call, in order.

        Args:
            on_done: called with the number of outcomes so far.
            stop: set by another thread to end this run at once, whatever its workers are doing.

        Raises:
            VerifierError: a worker cannot start.
            Stopped: `stop` was set.
        """
        with self._lock:
            done: dict[int, Outcome] = {}
            todo = deque(enumerate(calls))
            while len(self._workers) < min(self._size, len(calls)):
                self._workers.append(self._start())
            try:
                while len(done) < len(calls):
                    if stop is not None and stop.is_set():
                        raise Stopped
                    self._step(todo, done, on_done, _STOP_S if stop is not None else _STARTUP_LIMIT_S)
            except BaseException:
                # Whatever interrupts (Ctrl-C above all), no worker may answer a later run with this one's result.
                self._kill_all()
                raise
            return [done[index] for index in range(len(calls))]

    def close(self) -> None:
        """Kill all workers; the pool cannot be used again."""
        with self._lock:
            self._kill_all()
            self._starter.shutdown(wait=True)

    def _kill_all(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _step(
        self,
        todo: deque[tuple[int, Call]],
        done: dict[int, Outcome],
        on_done: Callable[[int], None] | None,
        longest_s: float,
    ) -> None:
        """Hand out what can be handed out, wait for the next event or `longest_s` seconds, and collect."""
        for position, worker in enumerate(self._workers):
            if not (todo and worker.idle):
                continue
            if worker.send(*todo[0], self._limit_s):
                todo.popleft()
            else:
                self._replace(position)
        waited_for = [worker for worker in self._workers if not worker.idle]
        pause = max(0.0, min((worker.deadline for worker in waited_for), default=0.0) - time.monotonic())
        wait([worker.connection for worker in waited_for], timeout=min(pause, longest_s))
        for position, worker in enumerate(self._workers):
            if worker.idle:
                continue
            index = worker.index
            outcome = worker.collect(self._limit_s)
            if worker.lost:
                self._replace(position)
            if outcome is not None and index is not None:
                done[index] = outcome
                if on_done:
                    on_done(len(done))

    def _replace(self, position: int) -> None:
        self._workers[position].kill()
        self._workers[position] = self._start()

    def _start(self) -> "_Worker":
        return self._starter.submit(_Worker, self._make, self._memory_bytes).result()


class _Worker:
    """One process: starting, then idle or busy with call `index`."""

    def __init__(self, make: Callable[[], Any], memory_bytes: int) -> None:
        # spawn, not fork: a forked child would inherit torch's threads in an unknown state, and its memory.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        with _apart() as before:
            arguments = (theirs, make, memory_bytes, os.getpid(), before)
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            self._process.start()
        theirs.close()
        self._ready = False
        self.lost = False
        self.index: int | None = None
        self._sent_at = 0.0
        self.deadline = time.monotonic() + _STARTUP_LIMIT_S

    @property
    def idle(self) -> bool:
        return self._ready and self.index is None

    def send(self, index: int, call: Call, limit_s: float) -> bool:
        """Hand a call over; False if the worker died while it was idle."""
        try:
            self.connection.send(call)
        except OSError:
            return False
        self.index = index
        self._sent_at = time.monotonic()
        self.deadline = self._sent_at + limit_s
        return True

    def collect(self, limit_s: float) -> Outcome | None:
        """The outcome of the call if there is one by now; `lost` then says whether the worker is of no more use.

        Raises:
            VerifierError: the worker did not start.
        """
        if not self.connection.poll():
            if time.monotonic() < self.deadline:
                return None
            self.lost = True
            self._require_started()
            return Outcome(failure="timeout", detail=f"no verdict in {limit_s:g} s", seconds=limit_s)
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.lost = True
            self._require_started()
            self._process.join(5.0)
            code = self._process.exitcode
            took = time.monotonic() - self._sent_at
            return Outcome(failure="crashed", detail=f"the worker process died, exit code {code}", seconds=took)
        if not self._ready:
            self._ready = True
            return None
        self.index = None
        outcome: Outcome = message
        return outcome

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _require_started(self) -> None:
        if not self._ready:
            self._process.join(1.0)
            raise VerifierError(
                f"a verifier process did not start (exit code {self._process.exitcode}); its error stands above"
            )


def call_here(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """The boundary at which an exception of a verifier becomes a recorded failure, in this process or a worker's."""
    started = time.perf_counter()
    try:
        value = function(*arguments)
    except Exception as error:  # noqa: BLE001 - the named boundary: any fault of a verifier is data, not a crash
        detail = f"{type(error).__name__}: {error}"[:500]
        if place := own_place(error):
            detail += f" ({place})"
        return Outcome(failure="crashed", detail=detail, seconds=time.perf_counter() - started)
    return Outcome(value=value, seconds=time.perf_counter() - started)


@contextmanager
def _apart() -> Iterator[str | None]:
    """Processes started meanwhile do not look for modules in the current folder before they have this process's own path: a
    `math.py` there would be imported in place of Python's. Nor do they run this process's script once more, as "spawn" does to
    find its functions: nothing that they are sent is defined there, and a script that trains would train again. Yields what
    the variable was."""
    with _starting:
        before = os.environ.get(_SAFE_PATH)
        os.environ[_SAFE_PATH] = "1"
        script = vars(sys.modules["__main__"])
        kept: dict[str, Any] = {name: script[name] for name in ("__spec__", "__file__") if name in script}
        script["__spec__"] = None
        script.pop("__file__", None)
        try:
            yield before
        finally:
            script.update(kept)
            _restore(before)


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(_SAFE_PATH, None)
    else:
        os.environ[_SAFE_PATH] = before


def _serve(
    connection: Connection, make: Callable[[], Any], memory_bytes: int, parent: int, safe_path: str | None
) -> None:
    """The worker: answer calls until the parent is gone."""
    _restore(safe_path)
    # Ctrl-C reaches every process of a terminal, Slurm's SIGTERM every process of a step: the parent says when it is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with(parent)
    served = make()
    served.warm()
    _limit_memory(memory_bytes)
    connection.send("ready")
    while True:
        try:
            name, arguments = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(call_here(getattr(served, name), arguments))


def _limit_memory(memory_bytes: int) -> None:
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, also when it hangs in a call then."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
