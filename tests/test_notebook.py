"""The notebook of examples/ runs from its first cell to its last, and was run when it was written."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "own_problems.ipynb"


def cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_it_was_executed_in_order_without_an_error() -> None:
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    kinds = [output["output_type"] for cell in cells() for output in cell["outputs"]]
    assert "execute_result" in kinds
    assert "error" not in kinds


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(), start=1):
        exec(compile("".join(cell["source"]), f"/tmp/ipykernel_1/cell-{number}.py", "exec"), names)
    run, compared, scores = names["run"], names["compared"], names["scores"]
    assert list(run.metrics.index) == list(range(13))
    assert 0 < run.metrics.loc[12, "rollout/reward"] < 1  # it learns from something
    assert isinstance(compared.differences, pd.DataFrame)
    assert compared.page.is_file()
    # a reward of this session judges in this process; what it gave is what the run recorded
    samples = run.samples(1)
    assert set(samples["reward"]) <= {0.0, 1.0}
    assert list(scores.statistics.index) == ["grpo", "progrpo", "balanced"]
    assert scores.statistics.loc["progrpo", "recorded_distance"] == pytest.approx(0.0, abs=1e-5)
