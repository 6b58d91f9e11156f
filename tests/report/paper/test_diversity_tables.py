from pathlib import Path

import pytest
from made_up_runs import MakeRun, write_benchmark, write_model

from progrpo.measures.diversity import distinct_n, self_bleu
from progrpo.report.comparison.benchmarks import compare_benchmarks
from progrpo.report.paper.diversity_tables import diversity_tables
from progrpo.report.paper.tables import PaperTable
from progrpo.report.read import load_runs


def tables(*paths: Path) -> list[PaperTable]:
    runs = load_runs(paths)
    return diversity_tables(runs, compare_benchmarks(runs))


def numbers(table: PaperTable, row: int) -> dict[str, float | None]:
    cells = {column.key: table.rows[row].cell(column)[0] for column in table.columns}
    return {key: value and value.number for key, value in cells.items()}


def test_without_recorded_values_they_are_computed_from_the_correct_completions(tmp_path: Path) -> None:
    a = write_model(tmp_path / "a")
    write_benchmark(a, "aime24", (2, 1, 0), text="one two three four five")
    (table,) = tables(a)
    # "one ... five 0" and "one ... five 1": the problem with two correct completions alone; ten bigrams, six distinct.
    found = numbers(table, 0)
    assert found["pass@1"] == pytest.approx(25.0)
    assert found["distinct_2"] == pytest.approx(0.6)
    texts = ["one two three four five 0", "one two three four five 1"]
    assert found["self_bleu_4"] == self_bleu(texts, 4)
    # Pooled: the second problem's only one comes in; it is the first text again.
    assert found["distinct_2/pooled"] == distinct_n([*texts, texts[0]], 2)
    assert "semantic_cosine" not in found
    assert "computed from the completions" in table.caption


def test_recorded_values_are_taken_as_they_are(tmp_path: Path) -> None:
    a = write_model(tmp_path / "a")
    recorded = {"distinct_2": 0.25, "self_bleu_4": 0.75, "semantic_cosine": 0.5}
    write_benchmark(a, "aime24", (2, 2), measures=recorded, over_task={"self_bleu_4/pooled": 0.875})
    (table,) = tables(a)
    assert numbers(table, 0) == recorded | {"pass@1": 50.0, "self_bleu_4/pooled": 0.875}
    assert table.words == ("run", "model")  # how and by whom is one for all its rows
    assert table.caption.startswith("All evaluated with n 4, temperature 0.6, top-p 0.95, limit 64. Distinct-2")
    assert "as the evaluation recorded them" in table.caption
    assert "on aime24-paper" in table.title


def test_matched_for_the_number_of_correct_completions(tmp_path: Path) -> None:
    a, b = write_model(tmp_path / "a"), write_model(tmp_path / "b")
    write_benchmark(a, "aime24", (2, 2, 1), text="one two three four five")
    write_benchmark(b, "aime24", (4, 1, 4), text="one two three four five")
    raw, matched = tables(a, b)
    # Of the four, all pairs differ in their last word alone, as the first run's two do: at equal numbers there is no
    # difference, while as they are the second run seems to repeat itself more: 20 bigrams, 8 distinct.
    assert numbers(matched, 0)["distinct_2 run"] == pytest.approx(0.6)
    assert numbers(matched, 0)["distinct_2 first"] == pytest.approx(0.6)
    assert numbers(matched, 0)["distinct_2 difference"] == pytest.approx(0.0)
    assert matched.rows[0].texts == ("b", "1 of 3")
    assert numbers(raw, 1)["distinct_2"] == pytest.approx(0.4)


def test_differences_are_of_the_run_less_the_first(tmp_path: Path) -> None:
    a, b = write_model(tmp_path / "a"), write_model(tmp_path / "b")
    write_benchmark(a, "aime24", (2,), text="one two three four five")
    write_benchmark(b, "aime24", (2,), text="one one one one one")
    # 6 of 10 bigrams are distinct, and 3 of 10: "one one", "one 0", "one 1".
    found = numbers(tables(a, b)[1], 0)
    assert found["distinct_2 first"] == pytest.approx(0.6)
    assert found["distinct_2 run"] == pytest.approx(0.3)
    assert found["distinct_2 difference"] == pytest.approx(-0.3)


def test_aime24_first_and_else_what_there_is(make_run: MakeRun) -> None:
    path = make_run("a", correct=(1, 2, 3))
    assert "on countdown (held-out)" in tables(path)[0].title
    write_benchmark(path, "minerva", (2, 2))
    assert "on minerva-paper" in tables(path)[0].title
    write_benchmark(path, "aime24", (2, 2))
    assert "on aime24-paper" in tables(path)[0].title


def test_no_problem_solved_twice_no_table(tmp_path: Path) -> None:
    a = write_model(tmp_path / "a")
    write_benchmark(a, "aime24", (1, 0))
    assert tables(a) == []
