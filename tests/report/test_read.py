import json
from pathlib import Path

import pytest
from made_up_runs import MakeRun

from progrpo import schema
from progrpo.errors import DataError, RunDirectoryError
from progrpo.report.read import last_shared_evaluation, load_runs, series, unique_names
from progrpo.schema.quantity import Quantity


def test_a_run_is_read(make_run: MakeRun) -> None:
    (run,) = load_runs([make_run("a")])
    assert (run.name, run.steps_done, run.steps_planned) == ("a", 3, 3)
    assert list(run.evaluations) == [0, 3]
    assert list(run.evaluations[3].problems) == ["q0", "q1", "q2"]
    assert list(run.rollouts) == [1, 2, 3]


def test_series_leaves_out_what_is_no_number(make_run: MakeRun) -> None:
    path = make_run("a")
    rows = [
        {"step": 1, "rollout/reward": 1.0},
        {"step": 2, "rollout/reward": None},
        {"step": 3},
        {"step": 4, "rollout/reward": float("nan")},
        {"step": 5, "rollout/reward": 2},
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert series(load_runs([path])[0], "rollout/reward").to_dict() == {1: 1.0, 5: 2.0}


def test_a_metric_that_nothing_logs_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(KeyError, match="no metric 'rollout/rewrad'"):
        series(load_runs([make_run("a")])[0], "rollout/rewrad")


def test_a_run_of_an_older_version_is_read_under_todays_names(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_run("a")
    today = load_runs([path])[0]
    reward = Quantity(key="rollout/reward", label="", unit="", formerly=("train/mean_reward",))
    passes = Quantity(key="pass@K", label="", unit="", formerly=("passes_at_K",))
    monkeypatch.setattr(schema, "METRICS", (reward, *(one for one in schema.METRICS if one.key != reward.key)))
    columns = (passes, *(one for one in schema.columns() if not one.key.startswith("pass@")))
    monkeypatch.setattr(schema, "_columns", lambda: columns)
    for file in (path / "metrics.jsonl", *path.glob("evaluations/*.jsonl")):
        text = file.read_text().replace("rollout/reward", "train/mean_reward").replace("pass@", "passes_at_")
        file.write_text(text)
    old = load_runs([path])[0]
    assert old.metrics == today.metrics
    for step, evaluation in today.evaluations.items():
        for name, scores in evaluation.problems.items():
            assert old.evaluations[step].problems[name].measures == scores.measures


def test_a_killed_run_reads_up_to_where_it_was_cut(make_run: MakeRun) -> None:
    path = make_run("a")
    whole = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(whole[:-20])
    (path / "evaluations/step-000003.jsonl").unlink()
    (run,) = load_runs([path])
    assert (run.steps_done, list(run.evaluations)) == (2, [0])


def test_a_run_killed_at_once_reads_as_empty(make_run: MakeRun) -> None:
    path = make_run("a")
    for file in (*path.glob("*/*.jsonl"), path / "metrics.jsonl", path / "environment.json"):
        file.unlink()
    (run,) = load_runs([path])
    assert (run.steps_done, run.metrics, run.evaluations, run.rollouts, run.environment) == (0, (), {}, {}, {})


def test_a_damaged_line_inside_a_file_is_named(make_run: MakeRun) -> None:
    path = make_run("a")
    (path / "metrics.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(DataError, match="line 1"):
        load_runs([path])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("absent", "nothing there"),
        ("file", "a file"),
        ("empty", "without one"),
        ("parent", "name them one by one: .*/run"),
    ],
)
def test_a_place_without_a_run_says_what_is_there(tmp_path: Path, make_run: MakeRun, what: str, message: str) -> None:
    path = tmp_path / what
    if what == "file":
        path.touch()
    elif what == "empty":
        path.mkdir()
    elif what == "parent":
        make_run("parent/run")
    with pytest.raises(RunDirectoryError, match=f"expected a run directory .*{message}"):
        load_runs([path])


def test_config_that_is_no_mapping_is_refused(make_run: MakeRun) -> None:
    path = make_run("a")
    (path / "config.yaml").write_text("- just\n- a list\n")
    with pytest.raises(RunDirectoryError, match="expected the settings of a run"):
        load_runs([path])


def test_only_evaluations_that_are_shown_are_read(make_run: MakeRun) -> None:
    # Evaluated at 0 2 4 6, at 0 2 4 and never: shown of the first are its ends and the last it shares, 0 4 6.
    paths = [make_run(name) for name in "abc"]
    for path, steps in zip(paths, ([0, 2, 4, 6], [0, 2, 4], []), strict=True):
        text = (path / "evaluations/step-000000.jsonl").read_text()
        for file in path.glob("evaluations/*"):
            file.unlink()
        for step in steps:
            (path / f"evaluations/step-{step:06d}.jsonl").write_text(text)
    runs = load_runs(paths)
    assert [list(run.evaluations) for run in runs] == [[0, 4, 6], [0, 4], []]
    assert last_shared_evaluation(runs[:2]) == 4
    assert last_shared_evaluation(runs) is None


def test_names_grow_until_they_differ() -> None:
    assert unique_names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert unique_names([Path("/x/a"), Path("/y/a")]) == ["x/a", "y/a"]
    assert unique_names([Path("/x/a"), Path("/x/a"), Path("/x/b")]) == ["a (1)", "a (2)", "b"]
