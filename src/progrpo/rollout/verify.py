"""Verdicts that cannot hang a run: slow verifiers work in processes that are killed at the time limit."""

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import ModuleType, TracebackType
from typing import Any, Self

from pydantic import Field

from progrpo import rewards
from progrpo.errors import VerifierError
from progrpo.settings import Choice, Settings
from progrpo.types import Problem, Verdict

Item = tuple[str, Problem]
Progress = Callable[[int], None]

_STARTUP_LIMIT_S = 120.0


class VerifySettings(Settings):
    limit_s: float = Field(10.0, gt=0)
    """Wall-clock seconds for one verdict; then the worker is killed and the verdict is `timeout`."""
    workers: int = Field(2, ge=1, le=256)
    """Processes for a slow verifier. A fast one runs in this process and needs none."""
    max_failed_share: float = Field(0.2, ge=0, le=1)
    """A step with a larger share of `timeout` and `crashed` verdicts stops the run: its rewards are not the model's."""


class Verifier:
    """Judges completions in order. Use as a context manager: leaving it ends the workers."""

    def __init__(self, reward: Choice, settings: VerifySettings) -> None:
        self._module, self._params = rewards.load(reward)
        self._settings = settings
        self._slow = bool(getattr(self._module, "SLOW", False))
        self._workers: list[_Worker] = []
        self.name = reward.name

    def judge(self, items: Sequence[Item], on_progress: Progress | None = None) -> list[Verdict]:
        """One verdict per item, in order. A verifier's own failure is `crashed` or `timeout`, with the cause."""
        if self._slow:
            return self._judge_in_workers(items, on_progress)
        verdicts = []
        for text, problem in items:
            verdicts.append(judge_one(self._module, self._params, text, problem))
            if on_progress:
                on_progress(len(verdicts))
        return verdicts

    def require_trustworthy(self, verdicts: Sequence[Verdict]) -> None:
        """Raises VerifierError if too many verdicts failed for the rewards to mean anything."""
        failed = [verdict for verdict in verdicts if verdict.status in ("timeout", "crashed")]
        if len(failed) > self._settings.max_failed_share * len(verdicts):
            raise VerifierError(
                f"reward {self.name!r}: {len(failed)} of {len(verdicts)} verdicts were timeout or crashed, more than "
                f"verify.max_failed_share={self._settings.max_failed_share}; the last: {failed[-1].detail}"
            )

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _judge_in_workers(self, items: Sequence[Item], on_progress: Progress | None) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        todo = deque(enumerate(items))
        while len(self._workers) < min(self._settings.workers, max(1, len(items))):
            self._workers.append(_Worker(self._module.__name__, self._params))
        while len(verdicts) < len(items):
            for position, worker in enumerate(self._workers):
                if worker.task is None and todo:
                    self._workers[position] = self._assign(worker, *todo.popleft())
            busy = [worker for worker in self._workers if worker.task is not None]
            pause = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
            wait([worker.connection for worker in busy], timeout=pause)
            for position, worker in enumerate(self._workers):
                outcome = None if worker.task is None else worker.collect(self._settings.limit_s, self._params)
                if outcome is None:
                    continue
                verdicts[outcome.index] = outcome.verdict
                if outcome.worker_lost:
                    self._workers[position] = _Worker(self._module.__name__, self._params)
                if on_progress:
                    on_progress(len(verdicts))
        return [verdicts[index] for index in range(len(items))]

    def _assign(self, worker: "_Worker", index: int, item: Item) -> "_Worker":
        """Hand an item over; a worker that died while idle is replaced first."""
        try:
            worker.send(index, item, self._settings.limit_s)
        except OSError:
            worker.kill()
            worker = _Worker(self._module.__name__, self._params)
            worker.send(index, item, self._settings.limit_s)
        return worker


def judge_one(module: ModuleType, params: Any, text: str, problem: Problem) -> Verdict:
    """The boundary at which an exception of a verifier becomes a recorded `crashed`, in this process or a worker's."""
    try:
        verdict: Verdict = module.score(text, problem, params)
    except Exception as error:  # noqa: BLE001 - the named boundary: any fault of a verifier is data, not a crash
        return _failed("crashed", params, f"{type(error).__name__}: {error}"[:500])
    return verdict


@dataclass(frozen=True, slots=True)
class _Outcome:
    index: int
    verdict: Verdict
    worker_lost: bool


class _Worker:
    """One process, one item at a time."""

    def __init__(self, module_name: str, params: Any) -> None:
        # spawn, not fork: a forked child would inherit torch's threads in an unknown state, and its memory.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, module_name, params, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self._ready = False
        self.task: int | None = None
        self.deadline = 0.0

    def send(self, index: int, item: Item, limit_s: float) -> None:
        if not self._ready:
            self._await_start()
        self.connection.send(item)
        self.task = index
        self.deadline = time.monotonic() + limit_s

    def collect(self, limit_s: float, params: Any) -> _Outcome | None:
        """The verdict if there is one, `timeout` past the deadline, `crashed` if the process died; else None."""
        index = self.task
        assert index is not None
        if self.connection.poll():
            try:
                verdict: Verdict = self.connection.recv()
            except (EOFError, OSError):
                self.kill()
                code = self._process.exitcode
                return _Outcome(index, _failed("crashed", params, f"the worker process died, exit code {code}"), True)
            self.task = None
            return _Outcome(index, verdict, False)
        if time.monotonic() >= self.deadline:
            self.kill()
            return _Outcome(index, _failed("timeout", params, f"no verdict in {limit_s:g} s"), True)
        return None

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _await_start(self) -> None:
        """Importing sympy takes longer than a verdict may; the clock of the first verdict starts after it."""
        try:
            if self.connection.poll(_STARTUP_LIMIT_S):
                self.connection.recv()
                self._ready = True
        except (EOFError, OSError):
            pass
        if not self._ready:
            self.kill()
            raise VerifierError(
                f"a verifier process did not start (exit code {self._process.exitcode}); its error stands above. In a "
                "script, start the run under `if __name__ == '__main__':`"
            )


def _serve(connection: Connection, module_name: str, params: Any, parent: int) -> None:
    """The worker: judge what comes in until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    module = importlib.import_module(module_name)
    connection.send("ready")
    while True:
        try:
            text, problem = connection.recv()
        except EOFError:
            return
        connection.send(judge_one(module, params, text, problem))


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, also when it hangs in a verdict then."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _failed(status: Any, params: Any, detail: str) -> Verdict:
    return Verdict(status=status, reward=getattr(params, "wrong_reward", 0.0), detail=detail)
