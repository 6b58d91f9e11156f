import re

import pytest
from made_up_runs import MakeRun, metrics_row, write_jsonl

from progrpo.report.figures import figures
from progrpo.report.read import load_runs
from progrpo.report.seconds import seconds_by_phase


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
        "seconds",
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
    ],
)
def test_a_figure_without_data_is_left_out(make_run: MakeRun, absent: str, figure: str) -> None:
    path = make_run("a", shift=0.1)
    (run,) = load_runs([path])
    rows = [{key: value for key, value in row.items() if not key.startswith(absent)} for row in run.metrics]
    write_jsonl(path / "metrics.jsonl", rows)
    before, after = figures([run]), figures(load_runs([path]))
    assert {one.name for one in before} - {one.name for one in after} == {figure}


def test_nulls_count_as_absent(make_run: MakeRun) -> None:
    path = make_run("a")
    write_jsonl(path / "metrics.jsonl", [{"step": 1, "rollout/entropy": None, "rollout/reward": 1.0}])
    assert [one.name for one in figures(load_runs([path]))] == ["reward"]


def test_no_metrics_no_figures(make_run: MakeRun) -> None:
    path = make_run("a")
    (path / "metrics.jsonl").unlink()
    assert figures(load_runs([path])) == []


def test_svg_takes_size_colours_and_font_from_the_page(make_run: MakeRun) -> None:
    for drawing in figures(load_runs([make_run("a", shift=0.1), make_run("b")])):
        assert re.match(r'<svg viewBox="0 0 360 [\d.]+" role="img"', drawing.svg)
        assert "var(--soft)" in drawing.svg
        assert "#0102" not in drawing.svg
        assert "#01010" not in drawing.svg
        assert "<text" in drawing.svg
        assert "http" not in drawing.svg


def test_ids_are_unique_over_the_page_and_the_same_every_time(make_run: MakeRun) -> None:
    runs = load_runs([make_run("a", shift=0.1), make_run("b")])
    first, again = ("".join(one.svg for one in figures(runs)) for _ in range(2))
    assert first == again
    ids = re.findall(r'\bid="([^"]*)"', first)
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', first)) <= set(ids)


def test_a_name_with_dollars_is_no_formula(make_run: MakeRun) -> None:
    drawn = figures(load_runs([make_run("$x^2$ <b>")]))
    assert ">$x^2$ &lt;b&gt;: 11.5 s</text>" in next(one.svg for one in drawn if one.name == "seconds")


def test_seconds_of_no_phase_are_the_rest(make_run: MakeRun) -> None:
    path = make_run("a")
    write_jsonl(path / "metrics.jsonl", [metrics_row(1), metrics_row(2)])
    # Two steps of 3.5 s, of which 1 s generating and 2 s training each.
    found = seconds_by_phase(load_runs([path])[0])
    assert {phase: seconds for phase, seconds in found.items() if seconds} == {
        "generate": 2.0,
        "train": 4.0,
        "other": 1.0,
    }
