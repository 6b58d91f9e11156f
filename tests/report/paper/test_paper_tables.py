from pathlib import Path

import pytest
from made_up_runs import MakeRun, write_benchmark, write_model

from progrpo.report.paper.numbers import AVERAGE, ROWS
from progrpo.report.paper.tables import PaperTable, shown
from progrpo.report.read import load_runs
from progrpo.report.run_page.page import Tables, make_tables

MATH = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench")


def made(*paths: Path) -> Tables:
    return make_tables(load_runs(paths))


def named(tables: Tables, name: str) -> PaperTable:
    return next(table for table in tables.paper if table.name == name)


def cells(table: PaperTable, row: int) -> dict[str, str]:
    return {column.key: shown(column, table.rows[row].cell(column)) for column in table.columns}


def test_table_2_whole(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    for index, task in enumerate(MATH):
        write_benchmark(path, task, (8 * (index % 2), 16), n=32)
    table = named(made(path), "table-2-paper")
    # 0 and 16 of 32 right: 25.0 and, for Pass@32, 50.0; 8 and 16: 37.5 and 100.0. Three benchmarks of each.
    assert cells(table, 0) == {
        **{task: ("25.0 / 50.0", "37.5 / 100.0")[index % 2] for index, task in enumerate(MATH)},
        AVERAGE: "31.2 / 75.0",
    }
    paper = {row.texts[0] + row.texts[1]: cells(table, index) for index, row in enumerate(table.rows) if row.of_paper}
    assert paper["paper: ProGRPOQwen2.5-7B"][AVERAGE] == "43.3 / 68.5"
    assert paper["paper: GRPOQwen2.5-7B"][AVERAGE] == "37.6 / 54.7"
    assert paper["paper: ProGRPOQwen2.5-32B"][AVERAGE] == "52.7 / –"
    assert {one["aime24"] for one in paper.values()} == {""}
    assert table.rows[1].texts[-1] == "paper, stated: Sec. 4.3"


def test_the_papers_average_is_never_beside_an_average_of_fewer(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    for task in MATH[:2]:
        write_benchmark(path, task, (16, 16), n=32)
    table = named(made(path), "table-2-paper")
    assert [column.key for column in table.columns] == ["aime24", "aime25", AVERAGE, "shared"]
    assert (cells(table, 0)[AVERAGE], cells(table, 0)["shared"]) == ("", "50.0 / 100.0")
    assert (cells(table, 1)[AVERAGE], cells(table, 1)["shared"]) == ("43.3 / 68.5", "")
    assert table.caption.startswith("Without numbers: AMC 23, MATH-500, Minerva, OlympiadBench.")


def test_fewer_completions_than_the_papers_k(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "aime24", (1, 2), n=6)
    table = named(made(path), "table-2-paper")
    assert table.columns[0].unit == "Pass@1 / Pass@4, %"
    assert "Pass@4 stands for the paper's Pass@32" in table.caption
    assert cells(table, 1)[AVERAGE] == "43.3 / –"  # the paper's Pass@32 is no Pass@4


@pytest.mark.parametrize("preset", ["recommended", None])
def test_the_papers_numbers_stand_beside_its_own_preset_alone(tmp_path: Path, preset: str | None) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "aime24", (1, 2), n=32, preset=preset)
    (table,) = [table for table in made(path).paper if table.name.startswith("table-2")]
    assert [row.run for row in table.rows] == [0]
    assert "stand only beside evaluations of preset paper" in table.caption


def test_other_sampling_is_another_row(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "aime24", (1, 2))
    write_benchmark(path, "aime25", (1, 2), settings={"temperature": 1.0})
    table = named(made(path), "table-2-paper")
    ours = [cells(table, index) for index, row in enumerate(table.rows) if not row.of_paper]
    assert [(one["aime24"] != "", one["aime25"] != "") for one in ours] == [(True, False), (False, True)]
    assert [row.texts[2] for row in table.rows[:2]] == [
        "n 4, temperature 0.6, top-p 0.95, limit 64",
        "n 4, temperature 1, top-p 0.95, limit 64",
    ]


def test_tables_3_and_4(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "livecodebench", (4, 0), n=16)
    rating = {"rating": 1200.4, "percentile": 58.1, "rating_low": 1100.0, "rating_high": 1300.0}
    write_benchmark(path, "codeforces", (1,), n=16, over_task=rating)
    write_benchmark(path, "gpqa", (8, 8), n=16)
    write_benchmark(path, "mmlu_pro", (1, 0, 0, 0), n=1)
    tables = made(path)
    code = named(tables, "table-3-paper")
    assert [column.unit for column in code.columns] == ["Avg@16 / Pass@16, %", "rating / percentile", "Avg@16, %"]
    assert cells(code, 0) == {"livecodebench": "12.50 / 50.00", "codeforces": "1200 / 58.1", "humaneval_plus": ""}
    assert cells(code, 1) == {"livecodebench": "36.47 / 54.12", "codeforces": "1422 / 75.4", "humaneval_plus": "84.01"}
    found = code.rows[0].cell(code.columns[1])[0]
    assert found is not None
    assert (found.low, found.high) == (1100.0, 1300.0)
    general = named(tables, "table-4-paper")
    assert cells(general, 0) == {"gpqa": "50.0", "mmlu_pro": "25.0"}
    assert general.rows[0].texts[2].startswith("n 16 or 1, temperature")
    assert [row.run for row in general.rows] == [0]  # nothing is known of the paper's


def test_what_would_fill_the_others_is_said(tmp_path: Path) -> None:
    tables = made(write_model(tmp_path / "a"))
    assert tables.paper == ()
    assert [note[:7] for note in tables.notes] == [f"Table {number}" for number in range(2, 8)]
    assert "gpqa, mmlu_pro" in tables.notes[2]


def test_tables_6_and_7_of_a_sweep(make_run: MakeRun) -> None:
    methods = [
        {"name": "progrpo", "alpha": 1.0, "baseline": "prompt"},
        {"name": "grpo"},
        {"name": "progrpo", "alpha": 0.3, "baseline": "prompt", "ddof": 0},
        {"name": "progrpo", "alpha": 0.3, "baseline": "none", "ddof": 1},
    ]
    paths = [make_run(f"r{index}", method=method) for index, method in enumerate(methods)]
    for index, path in enumerate(paths):
        write_benchmark(path, "aime24", (index,) * 3)
        write_benchmark(path, "gpqa", (4, 4, 4))
    tables = made(*paths)
    sweep = named(tables, "table-6-paper")
    # By alpha; on the mathematical benchmark alone.
    assert [(row.texts[0], row.run) for row in sweep.rows] == [
        ("α = 0 (grpo)", 1),
        ("α = 0.3", 2),
        ("α = 0.3", 3),
        ("α = 1", 0),
    ]
    assert [cells(sweep, index)[AVERAGE] for index in range(4)] == [
        "25.0 / 100.0",
        "50.0 / 100.0",
        "75.0 / 100.0",
        "0.0 / 0.0",
    ]
    assert "also differ in method.baseline, method.ddof." in sweep.caption
    forms = named(tables, "table-7-paper")
    assert [row.texts[0] for row in forms.rows] == ["c(q) − c(o), α 1", "grpo", "c(q) − c(o), α 0.3", "−c(o), α 0.3"]
    assert [column.key for column in forms.columns] == ["aime24-paper"]
    assert "also differ in method.ddof." in forms.caption
    assert named(tables, "table-7-held-out").columns[0].key == "countdown (held-out)"


def test_ablations_never_average_benchmarks_of_other_kinds(make_run: MakeRun) -> None:
    paths = [make_run(f"r{index}", method={"name": "progrpo", "alpha": index / 2}) for index in (1, 2)]
    for path in paths:
        write_benchmark(path, "gpqa", (4, 4), preset=None)
        write_benchmark(path, "countdown", (0, 0), preset=None)
    sweep, forms = (named(made(*paths), name) for name in ("table-6", "table-7"))
    assert cells(sweep, 0) == {AVERAGE: "100.0 / 100.0"}  # of gpqa alone
    assert sweep.columns[0].label == "gpqa"
    assert (
        "Over the benchmark gpqa, where the paper has six. Of another kind, and not averaged with it: countdown."
        in sweep.caption
    )
    assert cells(forms, 0) == {"gpqa": "100.0 / 100.0", "countdown": "0.0 / 0.0"}


def test_one_strength_is_no_sweep(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b", method={"name": "progrpo", "alpha": 0.3})]
    tables = made(*paths)
    assert not [table for table in tables.paper if table.name.startswith("table-6")]
    assert any(note.startswith("Table 6") for note in tables.notes)
    assert named(tables, "table-7-held-out").rows[0].texts[0] == "grpo"


def test_derived_numbers_of_the_paper_follow_from_its_stated_ones() -> None:
    by_method = {(row.table, row.model, row.method): row.values for row in ROWS}
    ours, grpo, flow = (by_method[2, "Qwen2.5-7B", name] for name in ("ProGRPO", "GRPO", "FlowRL"))
    for key, gain_over_grpo, gain_over_flow in (("pass@1", 5.7, 8.0), ("pass@32", 13.8, 7.5)):
        assert ours[AVERAGE][key] - grpo[AVERAGE][key] == pytest.approx(gain_over_grpo)
        assert ours[AVERAGE][key] - flow[AVERAGE][key] == pytest.approx(gain_over_flow)
    assert {row.evidence for row in ROWS} == {"stated", "derived"}
