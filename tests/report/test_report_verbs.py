import json
import re
from pathlib import Path

import pytest
from click.testing import Result
from made_up_runs import MakeRun, with_seed, write_benchmark, write_model
from typer.testing import CliRunner

from progrpo.cli import app
from progrpo.errors import ConfigError, RunDirectoryError, StorageError

pytestmark = pytest.mark.usefixtures("unrendered")


def invoked(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    if result.exception is not None:
        raise result.exception
    return result


def invoke(*arguments: object) -> str:
    return invoked(*arguments).stdout


def test_report_writes_into_the_run_directory(make_run: MakeRun) -> None:
    path = make_run("a", shift=0.1)
    output = invoke("report", path)
    assert output.strip() == str(path / "report.html")
    assert "<title>Run a</title>" in (path / "report.html").read_text("utf-8")
    invoke("report", path)  # a second time, over the first page


def test_compare_prints_a_table_and_writes_a_page(make_run: MakeRun, tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    output = invoke("compare", make_run("a"), make_run("b", correct=(2, 3, 4)), "--out", out)
    assert "".join(output.split()).endswith(f"page:{out};tables:{out.parent}/page-tables")
    assert "Comparison of runs" in out.read_text("utf-8")
    # 50.0 % and 75.0 % of completions are correct; on each problem b has one in four more.
    shown = re.sub(r"\s+", " ", output)
    assert "a 50.0" in shown
    assert "b 75.0" in shown
    assert "+25.0" in shown
    assert "[+25.0, +25.0]" in shown


def test_compare_prints_benchmarks_and_writes_tables(tmp_path: Path) -> None:
    paths = [write_model(tmp_path / name) for name in ("base", "tuned", "hot")]
    write_benchmark(paths[0], "aime24", (0, 1, 2, 0, 0))
    write_benchmark(paths[1], "aime24", (1, 2, 3, 1, 1))
    write_benchmark(paths[2], "aime24", (1, 2, 3, 1, 1), settings={"temperature": 1.0})
    output = invoke("compare", *paths, "--out", tmp_path / "page.html")
    shown = [re.sub(r"\s+", " ", line).strip() for line in output.splitlines()]
    # 3 and 8 of 20 completions; every problem has one in four more, which 2 of 32 sign patterns reach.
    assert "aime24-paper k=4" in shown
    assert "base 15.0 40.0 0.0" in shown
    assert "tuned 40.0 100.0 0.0 +25.0 [+25.0, +25.0] 0.062" in shown
    assert "hot 40.0 100.0 0.0 not compared –" in shown
    folder = tmp_path / "page-tables"
    assert "".join(output.split()).endswith(f"page:{tmp_path / 'page.html'};tables:{folder}")
    assert sorted(path.name for path in folder.glob("table-2*")) == [
        "table-2-paper.csv",
        "table-2-paper.md",
        "table-2-paper.tex",
    ]
    assert "base,some/model" in (folder / "table-2-paper.csv").read_text("utf-8")


def test_report_writes_its_tables_beside_the_page(make_run: MakeRun) -> None:
    path = make_run("a")
    write_benchmark(path, "aime24", (1, 2))
    assert invoke("report", path).strip() == str(path / "report.html")
    assert (path / "report-tables/table-2-paper.md").is_file()
    assert "aime24-paper" in (path / "report.html").read_text("utf-8")


def test_compare_of_runs_without_evaluations_prints_no_table(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("a")
    for file in path.glob("evaluations/*"):
        file.unlink()
    assert invoke("compare", path, "--out", tmp_path / "x.html").strip() == f"page: {tmp_path / 'x.html'}"


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


def test_incomplete_evaluations_are_named_on_stderr(tmp_path: Path) -> None:
    paths = [write_model(tmp_path / name) for name in ("whole", "cut", "gone", "empty")]
    for path in paths[:3]:
        file = write_benchmark(path, "aime24", (0,) * 256, n=1)
        if path.name == "cut":
            header = json.loads(file.with_suffix(".json").read_text())
            file.with_suffix(".json").write_text(json.dumps(header | {"complete": False}))
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:64]))
        elif path.name == "gone":
            file.unlink()
    notes = [
        "note: cut: aime24-paper is left out: cut short, or still being written, at 64 of 256 problems.",
        "note: gone: aime24-paper is left out: a header without rows (aime24-paper.jsonl is gone); evaluate again.",
        "note: empty: nothing evaluated yet.",
    ]
    assert invoked("compare", *paths, "--out", tmp_path / "x.html").stderr.splitlines() == notes
    for path, note in zip(paths[1:], notes, strict=True):
        assert invoked("report", path).stderr.splitlines() == [note]
        assert note.split(": ", 1)[1] in (path / "report.html").read_text("utf-8")


def test_nothing_to_compare_is_said(make_run: MakeRun, tmp_path: Path) -> None:
    a, b = make_run("a"), make_run("b")
    out = ("--out", tmp_path / "x.html")
    assert invoked("compare", a, b, *out).stderr == ""
    assert invoked("compare", a, *out).stderr == "note: one run, and nothing to compare it with; name two or more.\n"
    twice = b / ".." / "a"
    assert (
        invoked("compare", a, b, twice, *out).stderr == f"note: {twice} was given before: it is compared with itself.\n"
    )


@pytest.mark.parametrize(
    ("place", "error", "named"),
    [
        ("file/x.html", StorageError, "file cannot be written: File exists"),
        ("folder.html", RunDirectoryError, "folder.html: expected the name of a page to write, got a directory"),
        ("full/x.html", StorageError, "full/x-tables/.progrpo-tables cannot be written: Is a directory"),
    ],
)
def test_a_page_that_cannot_be_written_is_named(
    make_run: MakeRun, tmp_path: Path, place: str, error: type[Exception], named: str
) -> None:
    path = make_run("a")
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "full" / "x-tables").mkdir(parents=True)
    (tmp_path / "full" / "x-tables" / ".progrpo-tables").mkdir()  # the list of files cannot be written over it
    with pytest.raises(error, match=re.escape(str(tmp_path / named))) as raised:
        invoke("compare", path, "--out", tmp_path / place)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob(".*.writing"))


def test_other_problems_are_not_compared(make_run: MakeRun, tmp_path: Path) -> None:
    a, b = make_run("a"), make_run("b")
    for file in b.glob("evaluations/*"):
        file.write_text(file.read_text().replace('"problem": "', '"problem": "x'))
    output = invoke("compare", a, b, "--out", tmp_path / "x.html")
    assert "other problems, not compared" in output
    section = output[output.index("difference to a") : output.index("benchmarks") if "benchmarks" in output else None]
    assert "step" not in section
    page = (tmp_path / "x.html").read_text("utf-8")
    row = page[page.index("<h3>Difference to") : page.index("Intervals over problems do not")]
    assert 'colspan="8">Not compared: other problems.</td>' in row
    assert "Each run minus" not in row


def test_runs_of_several_seeds_fit_a_terminal_of_80_columns(make_run: MakeRun, tmp_path: Path) -> None:
    correct = {"grpo-0": (0, 2, 4), "grpo-1": (0, 2, 3), "balanced-0": (1, 3, 4), "balanced-1": (1, 2, 4)}
    paths = [with_seed(make_run(name, correct=of), int(name[-1]), alpha=name < "c") for name, of in correct.items()]
    arguments = ["compare", *map(str, paths), "--out", str(tmp_path / "page.html")]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"}, catch_exceptions=False).stdout
    lines = shown.split("held-out: mean over problems")[1].splitlines()
    assert max(map(len, lines[:-1])) <= 80  # the last is the page's path
    assert "…" not in shown
    names = [line.split()[0] for line in lines if re.match(r" (grpo|balanced) ", line)]
    assert names == ["grpo", "balanced", "balanced"]
    # 6 and 5 of 12: 45.8 on the mean; the interval over 2 seeds is ± 12.706 * 4.17, cut to what a share can be
    assert re.search(r"over 2 seeds +\[0\.0, 98\.8\]", shown)
