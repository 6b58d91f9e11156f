"""How the command line ends where something is wrong: one line, and a status that is documented."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from progrpo import cli
from progrpo import errors as all_errors
from progrpo.cli import EXIT_STATUSES, ending, main
from progrpo.errors import ConfigError, ProgrpoError, ShapeError, own_place
from progrpo.settings import read_yaml

RECIPE = {
    "steps": 2,
    "task": {"name": "countdown", "numbers": 3, "max_number": 6, "max_target": 20, "min_used": 2, "min_solutions": 1}
    | {"train_size": 8, "test_size": 2},
    "method": {"name": "progrpo"},
    "sampling": {"max_new_tokens": 6},
    "batch": {"prompts": 2, "group": 2},
}


@pytest.fixture
def ended(
    tmp_path: Path, tiny_folder: Callable[..., Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[str]]]:
    """`progrpo train` in an empty folder with these settings: exit status, and the lines on standard error."""
    monkeypatch.chdir(tmp_path)
    model = {"path": str(tiny_folder())}

    def run(*words: str, **changes: Any) -> tuple[int, list[str]]:
        recipe = RECIPE | {"out": "run", "model": model} | changes
        Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
        monkeypatch.setattr("sys.argv", ["progrpo", "train", "recipe.yaml", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), capfd.readouterr().err.splitlines()

    return run


def test_every_error_has_a_documented_status() -> None:
    found = [one for one in vars(all_errors).values() if isinstance(one, type) and issubclass(one, ProgrpoError)]
    assert len(found) > 10
    assert {one.exit_code for one in found} <= EXIT_STATUSES.keys()


def test_a_terminated_run_says_how_to_go_on(
    ended: Callable[..., tuple[int, list[str]]], make_module: Callable[[str], str]
) -> None:
    reward = make_module(
        "import os, signal\nfrom stand_ins.parity import Params\nfrom stand_ins import parity\nseen = []\n"
        "def score(text, problem, params):\n"
        "    seen.append(text)\n"
        "    if len(seen) == 6:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return parity.score(text, problem, params)\n"
    )
    before = signal.getsignal(signal.SIGTERM)
    status, lines = ended(reward={"name": reward})
    assert status == 143
    assert lines[-1] == "terminated by SIGTERM after step 1, which has its checkpoint; go on with --resume"
    assert signal.getsignal(signal.SIGTERM) == before
    status, lines = ended("--resume", reward={"name": reward})
    assert status == 0
    assert "run directory run, steps 1 to 2" in lines


def test_sigterm_outside_a_run_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr("sys.argv", ["progrpo", "evaluate", "x"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 143
    said = "terminated by SIGTERM; what was written is kept, and the same command goes on from there\n"
    assert capsys.readouterr().err == said


OWN = {
    "while it is imported": (
        "reward",
        "import not_there\ndef score(text, problem):\n    return 1\n",
        "mine.py, line 1: `import not_there`: ModuleNotFoundError: No module named 'not_there'",
    ),
    "before it is imported": (
        "reward",
        "def score(text, problem):\n    retrun 1\n",
        "mine.py, line 2: `retrun 1`: SyntaxError: invalid syntax",
    ),
    "in a task": (
        "task",
        "from progrpo.settings import Settings\nREWARD = 'math'\nclass Params(Settings):\n    pass\n"
        "def load(split, params):\n    return [{}['prompt']]\n",
        "mine.py, line 6, in load: `return [{}['prompt']]`: KeyError: 'prompt'",
    ),
    "in a method": (
        "method",
        "def advantages(batch, params):\n    return batch.rewards - batch.baseline\n",
        "mine.py, line 2, in advantages: `return batch.rewards - batch.baseline`: AttributeError",
    ),
    "below a method": (
        "method",
        "from progrpo.algo.advantages import group_advantages\n"
        "def advantages(batch, params):\n    return group_advantages(batch.rewards[0])\n",
        "mine.py, line 3, in advantages: `return group_advantages(batch.rewards[0])`",
    ),
}


@pytest.mark.parametrize("where", OWN)
def test_a_fault_in_a_file_of_yours_is_told_by_its_line(
    where: str, ended: Callable[..., tuple[int, list[str]]], tmp_path: Path
) -> None:
    kind, source, message = OWN[where]
    (tmp_path / "mine.py").write_text(source)
    status, lines = ended(**{kind: {"name": "./mine.py"}})
    assert status == 2
    assert [line for line in lines if line.startswith("error:")] == [lines[-1]]
    assert message in lines[-1]
    assert not Path("run").exists()


def test_a_fault_of_this_package_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", partial(read_yaml, None))
    with pytest.raises(AttributeError):
        main()


def test_whose_line_it_is(tmp_path: Path) -> None:
    def here() -> None:
        raise ShapeError("outside of the package's calls")

    with pytest.raises(ShapeError) as raised:
        here()
    assert own_place(raised.value) is None  # this package did not call it: it is the caller of the package


def test_ctrl_c_is_as_it_was(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def app() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr("sys.argv", ["progrpo", "train", "x"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "interrupted; go on with --resume\n"


def test_a_fault_is_one_line_and_several_are_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app() -> None:
        raise ConfigError("no a; it needs\n  b:   c\n\n  d:  e\nno f")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(ending, "own_place", lambda error: None)  # this test is no file of the user's own
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: no a; it needs - b: c - d: e\nerror: no f\n"


def test_exit_of_typer_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def app() -> None:
        raise SystemExit(typer.Exit(1).exit_code)

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1


@pytest.mark.parametrize("text", ["a: [1\nb: 2\n", "? [a]\n: 1\n", "a: 1\na: 2\n", "a: \x00\n", "[" * 3000])
def test_what_is_no_yaml_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"r.yaml: not readable as YAML: .") as raised:
        read_yaml(tmp_path / "r.yaml")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", [("list", "tasks"), ("recipes", "--json"), ("--version",)])
def test_an_output_that_takes_no_more_is_one_line(words: tuple[str, ...], buffered: bool) -> None:
    known = os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "progrpo", *words]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, env=known)
    assert ended.stderr == "error: standard output cannot be written: No space left on device\n"
    assert ended.returncode == 3


def test_what_was_only_buffered_counts_too() -> None:
    code = "import sys; from progrpo.cli.ending import run; run(lambda: (print('x'), sys.exit(0)))"
    known = os.environ | {"PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, env=known)
    assert ended.stderr == "error: standard output cannot be written: No space left on device\n"
    assert ended.returncode == 3


def test_another_refusal_of_the_system_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def app() -> None:
        raise OSError(errno.ENOSPC, "not the output's")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(ending, "own_place", lambda error: None)  # this test is no file of the user's own
    with pytest.raises(OSError, match="not the output's"):
        main()
