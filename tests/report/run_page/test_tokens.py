import pytest
from made_up_runs import ACCOUNTED, MakeRun, metrics_row, write_jsonl

from progrpo.report.read import load_runs
from progrpo.report.run_page.cost import positions_by_use, tokens_figure


def test_every_position_is_counted_once(make_run: MakeRun) -> None:
    # Of 1,000 positions 500 were scored, 200 of them trained; 250 are prompts again and 100 padding; 150 are left.
    assert positions_by_use(load_runs([make_run("a", accounted=True)])[0]) == {
        "trained": 200,
        "scored only": 300,
        "prompts": 150,
        "prompts again": 250,
        "padding": 100,
    }


def test_a_step_that_forwarded_nothing_counts_as_a_step(make_run: MakeRun) -> None:
    path = make_run("a")
    nothing = dict.fromkeys(ACCOUNTED) | {"tokens/forwarded": 0.0, "tokens/trained": 0.0}
    write_jsonl(path / "metrics.jsonl", [metrics_row(0), metrics_row(1, **ACCOUNTED), metrics_row(2, **nothing)])
    found = positions_by_use(load_runs([path])[0])
    assert found["trained"] == 100  # 200 in two steps
    assert sum(found.values()) == pytest.approx(500)


def test_runs_of_older_versions_have_no_bar(make_run: MakeRun) -> None:
    old, new = make_run("an-old-run"), make_run("a-new-run", accounted=True)
    write_jsonl(old / "metrics.jsonl", [metrics_row(1, **{"tokens/forwarded": 900.0, "tokens/trained": 200.0})])
    drawn = tokens_figure(load_runs([old, new]))
    assert drawn is not None
    assert "a-new-run: 1,000 positions</text>" in drawn.svg
    assert "an-old-run" not in drawn.svg
    assert tokens_figure(load_runs([old])) is None


@pytest.mark.parametrize(
    ("scale", "unit"), [(1, ">positions per step<"), (50, ">thousand positions"), (5000, ">million")]
)
def test_units_keep_the_axis_short(make_run: MakeRun, scale: float, unit: str) -> None:
    path = make_run("a")
    row = ACCOUNTED | {key: scale * ACCOUNTED[key] for key in ("tokens/forwarded", "tokens/trained")}
    write_jsonl(path / "metrics.jsonl", [metrics_row(1, **row)])
    drawn = tokens_figure(load_runs([path]))
    assert drawn is not None
    assert unit in drawn.svg
