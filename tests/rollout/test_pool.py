"""The pool itself: threads, memory, interruption, and many verdicts with hanging ones among them."""

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from progrpo.errors import VerifierError
from progrpo.rollout.pool import Stopped, WorkerPool
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem

MODULE = '''
"""Functions that do what they are told."""
import os, time
from progrpo.types import Verdict

SLOW = True

class _Served:
    def __init__(self, settings):
        self.settings = settings

    def warm(self):
        if self.settings == "broken":
            raise RuntimeError("no warm start")

    def echo(self, value):
        return value, os.getpid(), self.settings

    def environment(self):
        return os.environ.get("PYTHONSAFEPATH")

    def sleep(self, seconds):
        time.sleep(seconds)
        return os.getpid()

    def fill(self, gigabytes):
        return len(bytearray(int(gigabytes * 2**30)))

def fast_verdict(text, problem, params):
    return Verdict(status="no_answer", reward=0.0, detail=str(os.getpid())) if not text else None

def score(text, problem, params):
    if text == "hang":
        while True:
            pass
    if text == "die":
        os._exit(3)
    return Verdict(status="correct" if text == "1" else "wrong", reward=0.0, detail=str(os.getpid()))
'''


@pytest.fixture
def module(make_module: Callable[[str], str]) -> str:
    return make_module(MODULE)


@pytest.fixture
def pool(module: str) -> Iterator[WorkerPool]:
    made = WorkerPool(served(module, "settings"), limit_s=2.0, workers=2, memory_bytes=2**30)
    yield made
    made.close()


def served(module: str, settings: str) -> Callable[[], Any]:
    return partial(importlib.import_module(module)._Served, settings)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


def test_outcomes_stand_in_order_and_carry_the_settings(pool: WorkerPool) -> None:
    outcomes = pool.run([("echo", (n,)) for n in range(40)])
    assert [outcome.value[0] for outcome in outcomes] == list(range(40))
    assert {outcome.value[2] for outcome in outcomes} == {"settings"}
    assert 1 <= len({outcome.value[1] for outcome in outcomes}) <= 2
    assert all(0 <= outcome.seconds < 2 for outcome in outcomes)  # the limit


def test_a_worker_survives_the_thread_that_asked_for_it(pool: WorkerPool) -> None:
    found: list[int] = []

    def ask() -> None:
        found.append(pool.run([("echo", (0,))])[0].value[1])

    for _ in range(3):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        time.sleep(0.2)  # Linux would kill a worker now if the thread had started it
    assert len(set(found)) == 1


def test_threads_may_ask_at_once(pool: WorkerPool) -> None:
    answers: dict[int, list[int]] = {}

    def ask(who: int) -> None:
        answers[who] = [outcome.value[0] for outcome in pool.run([("echo", (100 * who + n,)) for n in range(20)])]

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {who: [100 * who + n for n in range(20)] for who in range(4)}


def test_memory_is_bounded(pool: WorkerPool) -> None:
    small, large, after = pool.run([("fill", (0.1,)), ("fill", (3.0,)), ("fill", (0.1,))])
    assert small.value == after.value == int(0.1 * 2**30)
    assert (large.failure, large.detail.split(":")[0]) == ("crashed", "MemoryError")


def test_a_worker_that_dies_idle_is_replaced(pool: WorkerPool) -> None:
    (before,) = pool.run([("echo", (1,))])
    os.kill(before.value[1], signal.SIGKILL)
    time.sleep(0.2)
    (after,) = pool.run([("echo", (2,))])
    assert after.value[0] == 2
    assert after.value[1] != before.value[1]


def test_an_interrupted_run_leaves_no_answer_for_the_next(pool: WorkerPool) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.run([("echo", ("old",)) for _ in range(6)], stop)
    assert [outcome.value[0] for outcome in pool.run([("echo", ("new",)) for _ in range(6)])] == ["new"] * 6


def test_another_thread_can_stop_a_run(module: str) -> None:
    pool = WorkerPool(served(module, "settings"), limit_s=300.0, workers=2, memory_bytes=2**30)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        pool.run([("sleep", (200,)) for _ in range(20)], stop=stop)
    assert time.monotonic() - started < 100  # it waited for no call to end
    assert not children()
    assert pool.run([("echo", ("new",))], stop=threading.Event())[0].value[0] == "new"
    pool.close()


def test_a_worker_that_cannot_start_is_an_error_at_once(module: str) -> None:
    pool = WorkerPool(served(module, "broken"), limit_s=2.0, workers=1, memory_bytes=2**30)
    with pytest.raises(VerifierError, match="did not start"):
        pool.run([("echo", (1,))])
    pool.close()
    assert not children()


def test_what_the_fast_verdict_decides_never_reaches_a_worker(module: str) -> None:
    problem = Problem(id="p", prompt="")
    seen: list[int] = []
    with Verifier(Choice(name=module), VerifySettings(workers=1)) as verifier:
        verdicts = verifier.judge([(text, problem) for text in ("", "1", "", "0")], seen.append)
    assert [verdict.status for verdict in verdicts] == ["no_answer", "correct", "no_answer", "wrong"]
    assert [verdict.detail == str(os.getpid()) for verdict in verdicts] == [True, False, True, False]
    assert seen == [2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_leaves_no_orphan(module: str, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import signal, sys
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
            sys.path.insert(0, {str(tmp_path)!r})
            from functools import partial
            from progrpo.rollout.pool import WorkerPool
            from {module} import _Served
            if __name__ == "__main__":
                pool = WorkerPool(partial(_Served, None), limit_s=60, workers=2, memory_bytes=2**30)
                print(*{{outcome.value for outcome in pool.run([("sleep", (0.3,))] * 2)}}, flush=True)
                pool.run([("sleep", (50,))] * 2)
            """
        )
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(0.3)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=20) != 0
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in workers)


@pytest.mark.slow
def test_ten_thousand_verdicts_with_one_in_a_hundred_hanging(module: str) -> None:
    texts = ["hang" if n % 100 == 7 else "die" if n % 1000 == 500 else ("1", "0", "")[n % 3] for n in range(10_000)]
    expected = {"hang": "timeout", "die": "crashed", "1": "correct", "0": "wrong", "": "no_answer"}
    problem = Problem(id="p", prompt="")
    memory = []
    with Verifier(Choice(name=module), VerifySettings(workers=4, limit_s=0.5)) as verifier:
        for start in range(0, len(texts), 2000):
            part = texts[start : start + 2000]
            verdicts = verifier.judge([(text, problem) for text in part])
            assert [verdict.status for verdict in verdicts] == [expected[text] for text in part]
            assert len(children()) <= 4
            memory.append(psutil.Process().memory_info().rss)
    assert not children()
    assert memory[-1] - memory[0] < 20 * 2**20
    assert Counter(expected[text] for text in texts) == {
        "timeout": 100,
        "crashed": 10,
        "correct": Counter(texts)["1"],
        "wrong": Counter(texts)["0"],
        "no_answer": Counter(texts)[""],
    }


@pytest.mark.parametrize("before", [None, "yes"])
def test_modules_in_the_current_folder_are_not_imported(
    pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """A worker imports what this process imports; what it starts in turn finds the environment as it was."""
    (here := tmp_path / "here").mkdir()
    for name in ("math", "random", "selectors", "tempfile"):
        (here / f"{name}.py").write_text("raise RuntimeError('not the module that is meant')")
    monkeypatch.chdir(here)
    if before:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    outcomes = pool.run([("echo", (1,)), ("environment", ())])
    assert outcomes[0].value[0] == 1
    assert outcomes[1].value == os.environ.get("PYTHONSAFEPATH") == before
