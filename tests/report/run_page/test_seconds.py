from made_up_runs import MakeRun, metrics_row, write_jsonl

from progrpo.report.read import load_runs
from progrpo.report.run_page.cost import PHASES, seconds_by_phase, seconds_figure
from progrpo.train import clock


def test_phases_are_those_the_clock_writes() -> None:
    assert PHASES == clock.PHASES  # the report reads run directories, and imports nothing of train


def test_a_name_with_dollars_is_no_formula(make_run: MakeRun) -> None:
    drawn = seconds_figure(load_runs([make_run("$x^2$ <b>")]))
    assert drawn is not None
    assert ">$x^2$ &lt;b&gt;: 11.5 s</text>" in drawn.svg


def test_seconds_of_no_phase_are_the_rest(make_run: MakeRun) -> None:
    path = make_run("a")
    beside = {"time/verify_hidden_s": 9.0}  # while generating: no part of the step's 3.5 s
    write_jsonl(path / "metrics.jsonl", [metrics_row(1, **beside), metrics_row(2)])
    # Two steps of 3.5 s, of which 1 s generating and 2 s training each.
    found = seconds_by_phase(load_runs([path])[0])
    assert {phase: seconds for phase, seconds in found.items() if seconds} == {
        "generate": 2.0,
        "train": 4.0,
        "other": 1.0,
    }


def test_the_legend_names_what_can_be_seen(make_run: MakeRun) -> None:
    path = make_run("a")
    write_jsonl(path / "metrics.jsonl", [metrics_row(1, **{"time/sync_s": 0.001, "time/write_s": 0.01})])
    drawn = seconds_figure(load_runs([path]))
    assert drawn is not None
    assert [label for label, _ in drawn.keys] == ["generate", "train", "write", "other"]
    assert len({colour for _, colour in drawn.keys}) == 4
