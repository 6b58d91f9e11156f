import json

import pytest
from made_up_runs import MakeRun, evaluation_row, write_jsonl

from progrpo.report.comparison.results import not_compared, summarise
from progrpo.report.read import load_runs


def test_first_and_last_evaluation(make_run: MakeRun) -> None:
    summary = summarise(load_runs([make_run("a", correct=(1, 2, 3))]))
    assert [measure.key for measure in summary.measures] == [
        *("pass@1", "pass@4", "auc@4", "cover@0.5", "distinct_correct", "entropy")
    ]
    assert (list(summary.first), list(summary.last)) == ([0], [0])
    first, last = summary.first[0].interval, summary.last[0].interval
    assert (summary.first[0].step, len(summary.first[0].problems), summary.first[0].n) == (0, 3, 4)
    assert first("pass@1").mean == 0.25
    # (1/4 + 2/4 + 3/4) / 3, and min(forms=2, correct) = 1, 2, 2
    assert last("pass@1").mean == pytest.approx(0.5)
    assert last("distinct_correct").mean == pytest.approx(5 / 3)
    assert last("pass@1").low >= 0.25
    assert last("pass@1").high <= 0.75


def test_a_common_start_is_one_row(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b")]
    summary = summarise(load_runs(paths))
    assert (list(summary.first), summary.same_start) == ([0], True)
    write_jsonl(paths[1] / "evaluations/step-000000.jsonl", [evaluation_row(f"q{i}", 2) for i in range(3)])
    summary = summarise(load_runs(paths))
    assert (list(summary.first), summary.same_start) == ([0, 1], False)


def test_differences_are_paired_by_problem_not_by_position(make_run: MakeRun) -> None:
    paths = [make_run("a", correct=(1, 2, 3)), make_run("b", correct=(2, 3, 4))]
    file = paths[1] / "evaluations/step-000003.jsonl"
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    (difference,) = summarise(load_runs(paths)).differences
    found = difference.cells["pass@1"]
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert (difference.run, difference.step, difference.problems) == (1, 3, 3)
    # distinct: min(2, correct) = 1 2 2 against 2 2 2
    assert difference.counts == {"pass@1": (3, 0, 0), "distinct_correct": (1, 2, 0)}


def test_runs_evaluated_on_other_problems_have_no_difference(make_run: MakeRun) -> None:
    paths = [make_run(name) for name in ("a", "other", "same-names")]
    for path, old, new in zip(
        paths[1:], ('"problem": "', '"prompt": "'), ('"problem": "x', '"prompt": "x'), strict=True
    ):
        for file in path.glob("evaluations/*"):
            file.write_text(file.read_text().replace(old, new))
    for difference in summarise(load_runs(paths)).differences:
        assert (difference.problems, difference.counts) == (0, {})
        assert set(difference.cells.values()) == {None}


def test_each_difference_has_its_own_last_shared_step(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("cut"), make_run("b"), make_run("never")]
    (paths[1] / "evaluations/step-000003.jsonl").unlink()
    for file in paths[3].glob("evaluations/*"):
        file.unlink()
    summary = summarise(load_runs(paths))
    assert [(one.run, one.step) for one in summary.differences] == [(1, 0), (2, 3)]
    assert {run: one.step for run, one in summary.last.items()} == {0: 3, 1: 0, 2: 3}


def test_a_measure_that_some_problems_lack_is_averaged_over_the_others(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b")]
    file = paths[1] / "evaluations/step-000003.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    del rows[0]["measures"]["distinct_correct"]
    rows[1]["measures"]["entropy"] = None
    write_jsonl(file, rows)
    summary = summarise(load_runs(paths))
    assert summary.last[1].interval("distinct_correct").count == 2
    assert summary.differences[0].cells["distinct_correct"].count == 2
    assert summary.differences[0].cells["entropy"].count == 2
    assert summary.differences[0].cells["pass@1"].count == 3


def test_measures_nobody_has_are_empty_cells(make_run: MakeRun) -> None:
    path = make_run("a")
    for file in path.glob("evaluations/*"):
        row = evaluation_row("q", 1, n=1)
        row["measures"] = {"pass@1": 1.0}
        write_jsonl(file, [row])
    summary = summarise(load_runs([path]))
    assert [measure.key for measure in summary.measures] == ["pass@1", "cover@0.5", "distinct_correct", "entropy"]
    assert summary.last[0].interval("entropy") is None


def test_no_evaluation_at_all(make_run: MakeRun) -> None:
    path = make_run("a")
    for file in path.glob("evaluations/*"):
        file.unlink()
    summary = summarise(load_runs([path]))
    assert (summary.first, summary.last, summary.differences) == ({}, {}, ())


def test_what_is_not_compared_is_said_and_where_runs_stand(make_run: MakeRun) -> None:
    paths = [make_run(name) for name in ("a", "b", "cut", "never", "other")]
    assert not_compared(load_runs(paths[:2]), summarise(load_runs(paths[:2]))) == []  # both at 3 of 3, and compared
    # cut: killed before its last step, and evaluated at step 2 where nobody else was
    rows = (paths[2] / "metrics.jsonl").read_text().splitlines(keepends=True)
    (paths[2] / "metrics.jsonl").write_text("".join(rows[:3]))
    (paths[2] / "evaluations/step-000000.jsonl").unlink()
    (paths[2] / "evaluations/step-000003.jsonl").rename(paths[2] / "evaluations/step-000002.jsonl")
    for file in paths[3].glob("evaluations/*"):
        file.unlink()
    for file in paths[4].glob("evaluations/*"):
        file.write_text(file.read_text().replace('"problem": "', '"problem": "x'))
    runs = load_runs(paths)
    assert not_compared(runs, summarise(runs)) == [
        "the runs stand at different steps, or are not finished: a at 3 of 3, b at 3 of 3, cut at 2 of 3, never at 3 of 3, "
        "other at 3 of 3.",
        "cut is not compared with a on held-out problems: they share no step that both were evaluated at (2 against 0, 3).",
        "never is not compared with a on held-out problems: never was never evaluated on held-out problems (evaluate.every).",
        "other is not compared with a on held-out problems: their held-out problems differ.",
    ]
