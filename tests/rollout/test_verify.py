"""The pool of killable workers, with a reward that hangs, dies or raises on demand."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from progrpo.errors import VerifierError
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem

REWARD = '''
"""A reward that does what the text says."""
import os, time
from progrpo.types import Verdict
SLOW = {slow}
def score(text, problem, params):
    if text == "hang":
        while True: pass
    if text == "die":
        os._exit(3)
    if text == "raise":
        raise RuntimeError("boom")
    time.sleep(float(text) if text.startswith("0.") else 0)
    return Verdict(status="correct", reward=params.correct_reward, extracted=text, detail=str(os.getpid()))
'''
PROBLEM = Problem(id="p", prompt="")


@pytest.fixture
def reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"reward_{os.getpid()}_{time.time_ns()}"
    (tmp_path / name).mkdir()
    for slow in (True, False):
        (tmp_path / name / f"slow_{slow}.py").write_text(REWARD.format(slow=slow))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def judge(name: str, texts: list[str], **settings: object) -> list[str]:
    with Verifier(Choice(name=name), VerifySettings(**{"limit_s": 1.0, "workers": 2} | settings)) as verifier:
        return [verdict.status for verdict in verifier.judge([(text, PROBLEM) for text in texts])]


def test_order_is_kept_and_faults_are_told_apart(reward: str) -> None:
    texts = ["0.3", "a", "hang", "b", "die", "c", "raise", "d"]
    expected = ["correct", "correct", "timeout", "correct", "crashed", "correct", "crashed", "correct"]
    assert judge(f"{reward}.slow_True", texts) == expected


def test_verdicts_belong_to_their_items_and_workers_are_reused(reward: str) -> None:
    texts = [f"t{n}" for n in range(50)]
    seen: list[int] = []
    with Verifier(Choice(name=f"{reward}.slow_True"), VerifySettings(workers=2)) as verifier:
        verdicts = verifier.judge([(text, PROBLEM) for text in texts], seen.append)
        again = verifier.judge([("x", PROBLEM)])
    assert [verdict.extracted for verdict in verdicts] == texts
    assert seen == list(range(1, 51))
    workers = {verdict.detail for verdict in verdicts}
    assert len(workers) <= 2
    assert again[0].detail in workers
    assert str(os.getpid()) not in workers


def test_a_fast_reward_runs_here_and_its_exception_is_recorded(reward: str) -> None:
    with Verifier(Choice(name=f"{reward}.slow_False"), VerifySettings()) as verifier:
        verdicts = verifier.judge([("a", PROBLEM), ("raise", PROBLEM), ("b", PROBLEM)])
    assert [verdict.status for verdict in verdicts] == ["correct", "crashed", "correct"]
    assert verdicts[0].detail == str(os.getpid())
    assert verdicts[1].detail.startswith("RuntimeError: boom (")
    assert "in score: `raise RuntimeError" in verdicts[1].detail


def test_too_many_failures_stop_the_run(reward: str) -> None:
    settings = VerifySettings(max_failed_share=0.25)
    with Verifier(Choice(name=f"{reward}.slow_False"), settings) as verifier:
        verdicts = verifier.judge([(text, PROBLEM) for text in ("a", "b", "c", "raise")])
        verifier.require_trustworthy(verdicts)
        with pytest.raises(VerifierError, match=r"2 of 5 verdicts were timeout or crashed.*boom"):
            verifier.require_trustworthy([*verdicts, verdicts[-1]])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_no_worker_outlives_a_killed_parent(reward: str, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, signal, sys, threading, time
            sys.path.insert(0, {str(tmp_path)!r})
            from progrpo.rollout.verify import Verifier, VerifySettings
            from progrpo.settings import Choice
            from progrpo.types import Problem
            if __name__ == "__main__":
                verifier = Verifier(Choice(name="{reward}.slow_True"), VerifySettings(limit_s=60, workers=1))
                problem = Problem(id="p", prompt="")
                print(verifier.judge([("a", problem)])[0].detail, flush=True)
                threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
                verifier.judge([("hang", problem)])
            """
        )
    )
    parent = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    worker = int(parent.stdout)
    deadline = time.monotonic() + 10
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert parent.returncode == -9
    assert not alive(worker)
