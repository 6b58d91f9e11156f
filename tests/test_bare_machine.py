"""Where the sandbox and the browser are missing their tests skip aloud; a sandbox that is there and broken fails."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ONE_OF_EACH = (
    "sandbox/test_seccomp.py::test_the_kernel_takes_it",
    "rewards/test_code_adversary.py::test_nobody_can_be_traced",
    "report/run_page/test_browser.py::test_a_page_without_rollouts_is_ready_too",
)
SAYS = "#!/bin/sh\n[ $1 = --help ] && echo --size || {{ echo 'bwrap: {}' >&2; exit 1; }}"
FORBIDDEN = SAYS.format("No permissions to create new namespace")
BROKEN = SAYS.format("Unknown option --walls")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """For the user without rights, too; pytest's own folders are closed to others whenever another pytest starts."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize(
    ("bwrap", "options", "code", "sandbox", "browser"),
    [
        (
            None,
            [],
            0,
            r"SKIPPED 2: bubblewrap is missing: apt-get install bubblewrap\n",
            r"SKIPPED 1: chromium is missing: apt-get install chromium\n",
        ),
        pytest.param(
            None, ["--insist"], 1, r"\nbubblewrap is missing", r"\nchromium is missing", marks=pytest.mark.slow
        ),
        pytest.param(
            FORBIDDEN,
            [],
            0,
            r"SKIPPED 2: .* sysctl -w kernel.unprivileged_userns_clone=1 ",
            "SKIPPED 1: chromium",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            BROKEN,
            [],
            1,
            r"SandboxError: .* Unknown option --walls",
            "SKIPPED 1: chromium",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["missing", "insisted on", "forbidden by the machine", "broken"],
)
def test_what_cannot_run(
    bwrap: str | None, options: list[str], code: int, sandbox: str, browser: str, open_folder: Path
) -> None:
    if bwrap is not None:
        (open_folder / "bwrap").write_text(bwrap)
        (open_folder / "bwrap").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "", *options, *ONE_OF_EACH]
    found = subprocess.run(
        command, cwd=TESTS, env=environment | {"PATH": str(open_folder)}, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == code, found.stdout
    for expected in (sandbox, browser):
        assert re.search(expected, found.stdout), found.stdout
