import re

import pytest
from made_up_runs import MakeRun, write_jsonl, write_run

from progrpo.report.drawing import Drawing
from progrpo.report.read import Run, load_runs
from progrpo.report.run_page.figures import cost_figures, figures


@pytest.mark.usefixtures("unrendered")
def test_all_figures_of_a_progrpo_run(make_run: MakeRun) -> None:
    drawn = figures(load_runs([make_run("a"), make_run("b", shift=0.1)]))
    assert [one.name for one in drawn] == [
        "entropy",
        "reward",
        "pass-at-1",
        "over-k",
        "pass-at-most",
        "distinct",
        "confidence",
    ]
    shown = {one.name: one.runs for one in drawn}
    assert shown["entropy"] == (0, 1)
    assert shown["confidence"] == (1,)
    assert "all runs" in next(one.caption for one in drawn if one.name == "over-k")


@pytest.mark.parametrize(
    ("absent", "figure"),
    [
        ("rollout/entropy", "entropy"),
        ("rollout/reward", "reward"),
        ("evaluate/pass@1", "pass-at-1"),
        ("progrpo/", "confidence"),
        ("time/", "seconds"),
        ("tokens/", "tokens"),
        ("tokens/logit_row_share", "tokens"),
    ],
)
@pytest.mark.usefixtures("unrendered")
def test_a_figure_without_data_is_left_out(make_run: MakeRun, absent: str, figure: str) -> None:
    path = make_run("a", shift=0.1, accounted=True)
    (run,) = load_runs([path])
    rows = [{key: value for key, value in row.items() if not key.startswith(absent)} for row in run.metrics]
    write_jsonl(path / "metrics.jsonl", rows)
    before, after = ([*figures(runs), *cost_figures(runs)] for runs in ([run], load_runs([path])))
    assert {one.name for one in before} - {one.name for one in after} == {figure}


def test_nulls_count_as_absent(make_run: MakeRun) -> None:
    path = make_run("a")
    write_jsonl(path / "metrics.jsonl", [{"step": 1, "rollout/entropy": None, "rollout/reward": 1.0}])
    # Pass@k over k is drawn from the evaluations themselves.
    assert [one.name for one in figures(load_runs([path]))] == ["reward", "over-k"]


def test_no_metrics_and_no_evaluations_no_figures(make_run: MakeRun) -> None:
    path = make_run("a")
    for file in (path / "metrics.jsonl", *path.glob("evaluations/*")):
        file.unlink()
    assert figures(load_runs([path])) == []
    assert cost_figures(load_runs([path])) == []


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("figures")
    return load_runs([write_run(folder / "a", shift=0.1, accounted=True), write_run(folder / "b")])


@pytest.fixture(scope="module")
def drawn(two_runs: list[Run]) -> list[Drawing]:
    return [*figures(two_runs), *cost_figures(two_runs)]


def test_svg_takes_size_colours_and_font_from_the_page(drawn: list[Drawing]) -> None:
    for drawing in drawn:
        assert re.match(r'<svg viewBox="0 0 360 [\d.]+" role="img"', drawing.svg)
        assert "var(--soft)" in drawing.svg
        assert "#0102" not in drawing.svg
        assert "#01010" not in drawing.svg
        assert "<text" in drawing.svg
        assert "http" not in drawing.svg


def test_ids_are_unique_over_the_page_and_the_same_every_time(two_runs: list[Run], drawn: list[Drawing]) -> None:
    first = "".join(one.svg for one in drawn)
    assert first == "".join(one.svg for one in (*figures(two_runs), *cost_figures(two_runs)))
    ids = re.findall(r'\bid="([^"]*)"', first)
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', first)) <= set(ids)
