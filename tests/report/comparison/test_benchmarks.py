from pathlib import Path

import pytest
from made_up_runs import MakeRun, write_benchmark, write_model

from progrpo.api.compare import compare
from progrpo.cli.report import benchmark_tables
from progrpo.report.comparison.benchmarks import (
    Benchmark,
    average,
    compare_benchmarks,
    of_one_kind,
    shared_benchmarks,
)
from progrpo.report.html import paragraphs
from progrpo.report.read import load_runs
from progrpo.report.run_page.page import make_page, make_tables


def compared(*paths: Path) -> tuple[Benchmark, ...]:
    return compare_benchmarks(load_runs(paths))


def two_models(folder: Path) -> tuple[Path, Path]:
    return write_model(folder / "a"), write_model(folder / "b")


def test_a_paired_table_by_hand(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "aime24", (0, 1, 2, 4), measures={"maj@2": 0.5})
    write_benchmark(b, "aime24", (1, 1, 4, 2), measures={"maj@2": 0.75})
    (table,) = compared(a, b)
    assert [measure.key for measure in table.measures] == [
        "pass@1",
        "pass@4",
        "maj@2",
        "auc@4",
        "cover@0.5",
        "truncated",
        "length",
    ]
    first, second = table.evaluations.values()
    # (0 + 1 + 2 + 4) / 16 and (1 + 1 + 4 + 2) / 16; Pass@4 of four completions: whether any is right.
    assert first.interval("pass@1") is not None
    assert first.interval("pass@1").mean == pytest.approx(7 / 16)
    assert second.interval("pass@1") is not None
    assert second.interval("pass@1").mean == pytest.approx(8 / 16)
    assert first.interval("pass@4") is not None
    assert first.interval("pass@4").mean == pytest.approx(3 / 4)
    assert first.statuses() == pytest.approx({"correct": 7 / 16, "wrong": 9 / 16})
    assert first.description == "4 problems, preset paper; n 4, temperature 0.6, top-p 0.95, limit 64"
    (gap,) = table.gaps
    assert (gap.run, gap.problems, gap.reason) == (1, 4, "")
    # Differences in quarters: +1, 0, +2, -2.
    assert gap.cells["pass@1"] is not None
    assert gap.cells["pass@1"].mean == pytest.approx(1 / 16)
    assert gap.counts == {"pass@1": (2, 1, 1), "pass@4": (1, 3, 0)}
    # The signs of +1, +2, -2 in all 8 ways: no sum is nearer to 0 than the one seen, +1. A single difference: always 1.
    assert gap.p == {"pass@1": 1.0, "pass@4": 1.0}


def test_p_values_are_adjusted_over_the_benchmarks_of_a_preset(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    for task, better in (("aime24", 5), ("aime25", 3), ("amc23", 0)):
        write_benchmark(a, task, (1,) * 5)
        write_benchmark(b, task, (2,) * better + (1,) * (5 - better))
    write_benchmark(a, "aime24", (1,) * 5, preset="recommended")
    write_benchmark(b, "aime24", (2,) * 5, preset="recommended")
    tables = compared(a, b)
    assert [table.name for table in tables] == [
        "aime24-paper",
        "aime25-paper",
        "amc23-paper",
        "aime24-recommended",
    ]
    # All five differences have one sign: 2 of 32 ways. Three: 2 of 8. None: 1. A preset of one benchmark is its own family.
    assert [table.gaps[0].p["pass@1"] for table in tables] == pytest.approx([0.0625, 0.25, 1.0, 0.0625])
    adjusted = [table.gaps[0].adjusted["pass@1"] for table in tables]
    assert adjusted == pytest.approx([3 * 0.0625, 2 * 0.25, 1.0, 0.0625])


def test_pairs_go_by_problem_not_by_position(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "aime24", (0, 2, 4))
    file = write_benchmark(b, "aime24", (1, 3, 4))
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    gap = compared(a, b)[0].gaps[0]
    assert gap.counts["pass@1"] == (2, 1, 0)


def test_evaluations_made_otherwise_get_a_reason_and_no_difference(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "aime24", (1, 2, 3))
    write_benchmark(b, "aime24", (1, 2, 3), settings={"temperature": 1.0})
    write_benchmark(b, "aime25", (1, 2, 3))
    first, second = compared(a, b)
    assert [gap.reason for gap in first.gaps] == ["temperature 1, not 0.6"]
    assert (first.gaps[0].cells, first.gaps[0].p) == ({}, {})
    assert list(first.evaluations) == [0, 1]
    assert first.comparable == (0,)
    assert [gap.reason for gap in second.gaps] == ["the first run has no such evaluation"]


def test_an_evaluation_that_the_first_run_has_but_not_whole_is_not_called_absent(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "aime24", (1, 2, 3)).unlink()
    write_benchmark(b, "aime24", (1, 2, 3))
    runs = load_runs([a, b])
    assert [gap.reason for gap in compare_benchmarks(runs)[0].gaps] == [
        "that of the first run is left out: a header without rows (aime24-paper.jsonl is gone); evaluate again"
    ]
    assert paragraphs("captions.jinja", "left_out", runs=runs) == [
        "a: aime24-paper is left out: a header without rows (aime24-paper.jsonl is gone); evaluate again.",
    ]


def test_runs_without_any_evaluation_are_named(tmp_path: Path, make_run: MakeRun) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "aime24", (1, 2), header={"complete": False})
    assert paragraphs("captions.jinja", "left_out", runs=load_runs([a, b, make_run("c")])) == [
        "a: aime24-paper is left out: cut short, or still being written, at 2 of 2 problems.",
        "b: nothing evaluated yet.",
    ]


def test_means_by_category_are_those_of_the_headers(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "mmlu_pro", (1, 0), n=1, header={"by_category": {"law": {"pass@1": 0.25}, "art": {"x": 1.0}}})
    write_benchmark(b, "mmlu_pro", (1, 0), n=1)
    write_benchmark(b, "gpqa", (1, 0), header={"by_category": ["no", "mapping"]})
    gpqa, mmlu = compared(a, b)
    # One row per category; of each run one number per tested measure, here Pass@1 alone.
    assert mmlu.categories == [("art", [[None], [None]]), ("law", [[0.25], [None]])]
    assert gpqa.categories == []


def test_presets_never_meet(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "aime24", (1, 2), preset="paper")
    write_benchmark(b, "aime24", (1, 2), preset="recommended")
    tables = compared(a, b)
    assert [(table.name, list(table.evaluations)) for table in tables] == [
        ("aime24-paper", [0]),
        ("aime24-recommended", [1]),
    ]
    assert [gap.reason for table in tables for gap in table.gaps] == ["the first run has no such evaluation"]


def test_the_largest_power_of_two_that_all_share(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "aime24", (1, 2), n=12)
    write_benchmark(b, "aime24", (1, 2), n=6)
    assert compared(a, b)[0].tested == ("pass@1", "pass@4")
    write_benchmark(a, "mmlu_pro", (1, 0), n=1)
    assert compared(a)[-1].tested == ("pass@1",)


def test_averages_are_over_benchmarks_that_all_runs_share(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "aime24", (2, 2))
    write_benchmark(b, "aime24", (4, 4))
    write_benchmark(a, "amc23", (0, 1, 1, 2))
    write_benchmark(b, "amc23", (1, 1, 1, 1))
    write_benchmark(a, "math500", (4,))
    write_benchmark(a, "minerva", (4,))
    write_benchmark(b, "minerva", (4,), settings={"top_p": 1.0})
    (shared,) = shared_benchmarks(compared(a, b))
    assert [one.task for one in shared.benchmarks] == ["aime24", "amc23"]
    assert shared.left_out == ("math500-paper", "minerva-paper")
    assert shared.powers == (1, 2, 4)
    found = average(shared.benchmarks, 0, "pass@1")
    assert found is not None
    # The mean of 1/2 and 1/4, whatever the numbers of problems; the first has no spread, half of the second's remains.
    assert found.mean == pytest.approx(0.375)
    assert 0.25 <= found.low < 0.375 < found.high <= 0.5
    sure = average(shared.benchmarks, 1, "pass@1")
    assert sure is not None
    assert (sure.low, sure.mean, sure.high) == pytest.approx((0.625, 0.625, 0.625))
    assert average(shared.benchmarks, 0, "maj@4") is None


def test_benchmarks_of_other_kinds_are_never_averaged(tmp_path: Path) -> None:
    (a, _) = two_models(tmp_path)
    write_benchmark(a, "countdown", (2, 2), n=2)
    write_benchmark(a, "gpqa", (2, 2))
    (found,) = map(of_one_kind, shared_benchmarks(compared(a)))
    assert (found.names, found.other_kinds, found.powers) == ("gpqa-paper", ("countdown-paper",), (1, 2, 4))
    write_benchmark(a, "aime24", (2, 2))
    write_benchmark(a, "amc23", (2, 2))
    (found,) = map(of_one_kind, shared_benchmarks(compared(a)))
    assert (found.names, found.other_kinds) == ("aime24-paper, amc23-paper", ("gpqa-paper", "countdown-paper"))


def test_an_average_among_some_runs_needs_only_theirs(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    write_benchmark(a, "aime24", (2, 2))
    write_benchmark(a, "amc23", (2, 2))
    write_benchmark(b, "amc23", (2, 2))
    benchmarks = compared(a, b)
    assert [one.names for one in shared_benchmarks(benchmarks)] == ["amc23-paper"]
    assert [one.names for one in shared_benchmarks(benchmarks, among={0})] == ["aime24-paper, amc23-paper"]
    assert shared_benchmarks(benchmarks, among=()) == []


def test_training_runs_are_compared_on_their_held_out_problems(make_run: MakeRun) -> None:
    comparison = compared(make_run("a", correct=(1, 2, 3)), make_run("b", correct=(2, 3, 4)))
    (table,) = comparison
    assert table.name == "countdown (held-out)"
    assert table.gaps[0].counts["pass@1"] == (3, 0, 0)
    assert table.evaluations[0].interval("length") is None  # those rows do not say


def test_a_benchmark_of_an_earlier_checkpoint_says_its_step(make_run: MakeRun, tmp_path: Path) -> None:
    paths = [make_run("a"), make_run("b")]
    for path, step in zip(paths, (3, 2), strict=True):
        write_benchmark(path, "aime24", (1, 2), header={"model": f"runs/{path.name}/checkpoints/step-{step:06d}"})
    write_benchmark(paths[0], "aime25", (1, 2), header={"model": "some/model"})
    runs = load_runs(paths)
    assert [one.step for run in runs for one in run.benchmarks.values()] == [3, None, 2]
    tables = make_tables(runs)
    assert tables.left_out == ("b: aime24-paper is of the checkpoint of step 2, and the run stands at step 3.",)
    (gap,) = tables.benchmarks[0].gaps
    assert gap.otherwise == "step 2 against step 3"
    (shown,) = benchmark_tables(runs, tables.benchmarks)
    assert [str(cell) for cell in shown.columns[0].cells][1:3] == ["  a", "  b (step 2 of 3)"]
    page = make_page(runs, title="t", report_tables=tables)
    assert ">step 2 against step 3</small>" in page
    found = compare(paths)
    rows = found.benchmarks.groupby(["benchmark", "run"])["step"].first()
    assert (rows["aime24-paper", "a"], rows["aime24-paper", "b"]) == (3, 2)
    assert {row["step"] for row in found.as_json()["benchmarks"] if row["benchmark"] == "aime25-paper"} == {None}
    assert tables.left_out[0] in found.notes
