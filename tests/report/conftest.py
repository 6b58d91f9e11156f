from pathlib import Path
from typing import Any, TextIO

import pytest
from made_up_runs import MakeRun, write_run
from matplotlib.figure import Figure


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw every figure, and leave out turning it into SVG, which is most of the time a page takes."""

    def save(self: Figure, file: TextIO, **_: Any) -> None:
        width, height = 72 * self.get_size_inches()
        file.write(f'<svg viewBox="0 0 {width:g} {height:g}"></svg>')

    monkeypatch.setattr(Figure, "savefig", save)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run directory of a name; see `write_run` for what may be set."""

    def make(name: str, **settings: Any) -> Path:
        return write_run(tmp_path / name, **settings)

    return make
