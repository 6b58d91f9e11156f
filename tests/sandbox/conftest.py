"""A box that holds, or no tests of it."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from progrpo.errors import SandboxError
from progrpo.sandbox import Box, bubblewrap
from progrpo.sandbox.isolation import require_isolation


@pytest.fixture(scope="session")
def box() -> Box:
    try:
        return require_isolation()
    except SandboxError as error:
        if "does not isolate" in str(error) and "did not run" not in str(error):
            raise  # programs run and get out: that is a fault of ours, not a machine without namespaces
        pytest.skip(f"this machine cannot isolate: {error}")


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
