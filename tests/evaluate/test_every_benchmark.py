"""Every benchmark of the paper, end to end: a random model on a few made-up problems in the published schema."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.cli.evaluate import run_evaluate
from progrpo.errors import DataError
from progrpo.evaluate.presets import SUITES

FIXTURES = Path(__file__).parents[1] / "tasks" / "fixtures"
FILES = {
    "livecodebench": "code_livecodebench",
    "codeforces": "code_codeforces_codeelo",
    "humaneval_plus": "code_humaneval_plus",
}
SETTINGS = {"codeforces": ["task.codeforces.rating=false"]}
CODE = SUITES["code"]


def run(model: Path, names: list[str], out: Path, *settings: str, **files: Path) -> None:
    words = [
        word
        for name in names
        for word in (
            f"task.{name}.path={files.get(name, FIXTURES / f'{FILES.get(name, name)}.jsonl')}",
            f"task.{name}.expected=null",
            *SETTINGS.get(name, []),
        )
    ]
    run_evaluate(str(model), names, 2, None, [*words, "max_new_tokens=4", *settings], out)


@pytest.fixture(scope="module")
def model(tiny_folder: Callable[..., Path]) -> Path:
    return tiny_folder(chat=True)


def header(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"evaluations/{name}.json").read_text())
    return found


def test_math_and_choice(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Worker processes are tested in tests/rollout; here each benchmark would start its own, which import sympy.
    monkeypatch.setattr("progrpo.rewards.math.SLOW", False)
    names = [*SUITES["math"], *SUITES["ood"]]
    run(model, names, tmp_path)
    for name in names:
        found = header(tmp_path, name)
        assert found["complete"]
        assert found["samples"] == 2 * (found["problems"] - len(found["excluded"])) > 0
        assert not found["excluded"], found["excluded"]
        assert set(found["statuses"]) <= {"no_answer", "wrong", "correct"}
        assert {"pass@1", "pass@2", "maj@2", "truncated"} <= found["summary"].keys()
        rows = (tmp_path / f"evaluations/{name}.jsonl").read_text().splitlines()
        assert len(rows) == found["problems"]
        assert json.loads(rows[0])["samples"][0]["raw"]["entropy"] > 0
    assert len(header(tmp_path, "mmlu_pro")["by_category"]) > 1
    shown = capsys.readouterr().out
    assert "all tasks" in shown
    assert "olympiadbench" in shown


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize("name", CODE)
def test_code(model: Path, tmp_path: Path, name: str) -> None:
    run(model, [name], tmp_path, "verify.check_gold=false")
    found = header(tmp_path, name)
    assert found["complete"]
    assert found["statuses"] == {"no_answer": 2 * found["problems"]}  # four random characters hold no code block


def test_a_missing_benchmark_stops_before_the_first(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"task aime25: path=.*nowhere: no such file"):
        run(model, ["aime24", "aime25"], tmp_path / "out", aime25=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
