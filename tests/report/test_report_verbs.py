import re
from pathlib import Path

import pytest
from made_up_runs import MakeRun
from typer.testing import CliRunner

from progrpo.cli import app
from progrpo.errors import ConfigError, RunDirectoryError


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    if result.exception is not None:
        raise result.exception
    return result.output


def test_report_writes_into_the_run_directory(make_run: MakeRun) -> None:
    path = make_run("a", shift=0.1)
    output = invoke("report", path)
    assert output.strip() == str(path / "report.html")
    assert "<title>Run a</title>" in (path / "report.html").read_text("utf-8")
    invoke("report", path)  # a second time, over the first page


def test_compare_prints_a_table_and_writes_a_page(make_run: MakeRun, tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    output = invoke("compare", make_run("a"), make_run("b", correct=(2, 3, 4)), "--out", out)
    assert output.rstrip().endswith(str(out))
    assert "Comparison of runs" in out.read_text("utf-8")
    # 50.0 % and 75.0 % of completions are correct; on each problem b has one in four more.
    shown = re.sub(r"\s+", " ", output)
    assert "a 50.0" in shown
    assert "b 75.0" in shown
    assert "+25.0" in shown
    assert "[+25.0, +25.0]" in shown


def test_compare_of_runs_without_evaluations_prints_no_table(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("a")
    for file in path.glob("evaluations/*"):
        file.unlink()
    assert invoke("compare", path, "--out", tmp_path / "x.html").strip() == str(tmp_path / "x.html")


def test_compare_overwrites_nothing_but_pages(make_run: MakeRun) -> None:
    path = make_run("a")
    before = (path / "metrics.jsonl").read_text()
    with pytest.raises(ConfigError, match=r"ends in \.html"):
        invoke("compare", path, "--out", path / "metrics.jsonl")
    assert (path / "metrics.jsonl").read_text() == before


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="nothing there"):
        invoke("report", tmp_path / "absent")
    with pytest.raises(RunDirectoryError, match="nothing there"):
        invoke("compare", tmp_path / "absent", "--out", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()
