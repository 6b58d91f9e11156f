from pathlib import Path
from typing import Any

import pytest
from made_up_runs import MakeRun, write_run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run directory of a name; see `write_run` for what may be set."""

    def make(name: str, **settings: Any) -> Path:
        return write_run(tmp_path / name, **settings)

    return make
