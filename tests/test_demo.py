"""scripts/demo.py, with a stand-in for the trainings: what it runs, what it passes on, and how it ends."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "demo.py"
STAND_IN = """
import os, sys
from pathlib import Path
words = sys.argv[1:]
with open(os.environ["SAID"], "a") as file:
    file.write(" ".join(words) + " threads=" + os.environ.get("OMP_NUM_THREADS", "") + chr(10))
if words[0] == "train":
    out = words[3].removeprefix("out=")
    print("loading", file=sys.stderr)
    print("step    25  held-out: pass@1 0.5", file=sys.stderr)
    if out.endswith(os.environ["FAILS"]):
        sys.exit("error: no such model")
"""


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setattr(script, "PROGRPO", (sys.executable, str(tmp_path / "stand_in.py")))
    monkeypatch.setattr(sys, "argv", ["demo.py", "runs", "--seeds", "2", "--workers", "2"])
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.setenv("FAILS", "none")
    return script


def test_every_method_is_trained_with_every_seed_and_compared(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    assert stopped.value.code == 0
    said = (tmp_path / "said").read_text().splitlines()
    trained = sorted(line.split(" ", 2)[2] for line in said if line.startswith("train "))
    assert trained == sorted(
        f"seed={seed} out=runs/{name}-{seed} --resume threads=1"
        for name in ("grpo", "progrpo", "balanced")
        for seed in (0, 1)
    )
    assert said[-1].startswith("compare runs/grpo-0 runs/grpo-1 runs/progrpo-0 ")
    assert " --out runs/comparison.html" in said[-1]
    passed_on = capsys.readouterr().out
    assert passed_on.count("held-out: pass@1 0.5") == 6
    assert "loading" not in passed_on


def test_a_training_that_fails_is_named_and_nothing_is_compared(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAILS", "balanced-1")
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    assert stopped.value.code == 1
    assert "balanced-1 failed: error: no such model" in capsys.readouterr().err
    assert "compare" not in (tmp_path / "said").read_text()
