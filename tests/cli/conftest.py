import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from progrpo.cli import main


class Finished(NamedTuple):
    """Exit status, standard output and error of a verb."""

    status: int
    out: str
    err: str


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """Run a verb as typed, in this process: a process of its own imports torch anew, which takes seconds."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object, cwd: Path | None = None) -> Finished:
        monkeypatch.setattr(sys, "argv", ["progrpo", *map(str, words)])
        if cwd is not None:
            monkeypatch.chdir(cwd)
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        return Finished(int(stopped.value.code or 0), out, err)

    return run
