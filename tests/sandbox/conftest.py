"""What a program in the sandbox leaves behind."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from progrpo.sandbox import bubblewrap


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bool]]:
    """Whether no process of this test's programs is left, waiting two seconds for it."""
    token = f"# {os.urandom(8).hex()}"
    monkeypatch.setattr(bubblewrap, "_LAUNCHER", f"{bubblewrap._LAUNCHER}\n{token}")

    def check() -> bool:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            if not any(token.encode() in _command(process) for process in Path("/proc").glob("[0-9]*")):
                return True
            time.sleep(0.05)
        return False

    yield check
    assert check(), "a process of the test's programs is left"


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
