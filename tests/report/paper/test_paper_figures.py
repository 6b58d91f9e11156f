import re
from pathlib import Path

import pytest
from made_up_runs import MakeRun, write_benchmark, write_model, write_run

from progrpo.report.comparison.benchmarks import compare_benchmarks
from progrpo.report.drawing import Drawing
from progrpo.report.paper.distributions import chosen_benchmarks, half_solved, marks_of, one_problem
from progrpo.report.read import load_runs
from progrpo.report.run_page.figures import paper_figures


def figures(*paths: Path) -> dict[str, Drawing]:
    runs = load_runs(paths)
    return {one.name: one for one in paper_figures(runs, compare_benchmarks(runs))}


def two_runs(folder: Path, methods: tuple[str, str] = ("grpo", "dapo")) -> list[Path]:
    """Training runs with three benchmarks, and without evaluations of training."""
    paths = [write_run(folder / name, method={"name": method}) for name, method in zip("ab", methods, strict=True)]
    for file in folder.glob("*/evaluations/*"):
        file.unlink()
    for index, path in enumerate(paths):
        for task in ("math500", "aime24", "amc23"):
            write_benchmark(path, task, (0, 2 + index, 4), entropy=0.2 + 0.3 * index)
    return paths


@pytest.mark.usefixtures("unrendered")
def test_every_figure_of_the_paper(tmp_path: Path) -> None:
    drawn = figures(*two_runs(tmp_path))
    captions = {name: re.match(r"As the paper's (Fig\. \d)", one.caption) for name, one in drawn.items()}
    assert {name: found and found[1] for name, found in captions.items()} == {
        "benchmark-pass": "Fig. 1",
        "statistics": "Fig. 3",
        "entropy-4": "Fig. 4",
        "entropy-7": "Fig. 7",
        "average-pass": "Fig. 5",
        "one-problem": "Fig. 8",
    }
    assert [panel.label for panel in drawn["benchmark-pass"].panels] == ["aime24-paper", "amc23-paper", "math500-paper"]
    assert len(drawn["statistics"].panels) == 6
    assert "aime24-paper, 12 completions per run; token statistics at temperature 1," in drawn["statistics"].caption
    assert drawn["entropy-7"].title.endswith("math500-paper")
    assert "mean over benchmarks" in drawn["average-pass"].caption
    assert "3 benchmarks: aime24-paper, amc23-paper, math500-paper. Bands" in drawn["average-pass"].caption
    assert drawn["one-problem"].marks == (("correct", True), ("not correct", False))
    # Of 8 completions 0, 5 and 8 are correct: the second problem is nearest to half.
    assert drawn["one-problem"].panels[0].label == "aime24/1"
    assert "a 2 of 4, b 3 of 4 correct" in drawn["one-problem"].caption


def test_ids_differ_over_all_panels_and_stay_the_same(tmp_path: Path) -> None:
    paths = two_runs(tmp_path)
    first, again = ("".join(panel.svg for one in figures(*paths).values() for panel in one.panels) for _ in range(2))
    assert first == again
    ids = re.findall(r'\bid="([^"]*)"', first)
    assert len(ids) == len(set(ids))
    assert "#0102" not in first


@pytest.mark.usefixtures("unrendered")
def test_pass_at_k_of_held_out_problems_is_drawn_once_by_the_training_figures(make_run: MakeRun) -> None:
    methods = ({"name": "grpo"}, {"name": "progrpo", "baseline": "prompt", "alpha": 0.3})
    paths = [make_run(f"r{index}", method=method) for index, method in enumerate(methods)]
    assert figures(*paths) == {}  # those rows have no token statistics
    for path in paths:
        write_benchmark(path, "aime24", (0, 2, 4))
    drawn = figures(*paths)
    assert [panel.label for panel in drawn["benchmark-pass"].panels] == ["aime24-paper"]
    assert drawn["average-pass"].labels == ("r0: grpo", "r1: c(q) − c(o), α 0.3")


@pytest.mark.usefixtures("unrendered")
def test_forms_are_compared_where_two_runs_were_trained(tmp_path: Path) -> None:
    a, b = two_runs(tmp_path)
    c = write_model(tmp_path / "c")
    write_benchmark(c, "aime24", (0, 2, 4))
    assert "average-pass" not in figures(a, c)
    assert "average-pass" not in figures(a)
    assert figures(a, b, c)["average-pass"].runs == (0, 1, 2)


@pytest.mark.usefixtures("unrendered")
def test_one_benchmark_alone_is_called_no_average(make_run: MakeRun) -> None:
    paths = [make_run(name) for name in "ab"]
    for path in paths:
        for file in path.glob("evaluations/*"):
            file.unlink()
        write_benchmark(path, "countdown", (1, 2), preset=None)
        write_benchmark(path, "gpqa", (1, 2), preset=None)
    drawn = figures(*paths)["average-pass"]
    assert drawn.title == "Pass@k by the form of the advantage"
    assert drawn.caption.startswith(
        "As the paper's Fig. 5, but of one benchmark. 1 benchmark: gpqa alone, which is no average. "
        "Of another kind, and not averaged with it: countdown. Bands"
    )


@pytest.mark.parametrize(("temperature", "said"), [(1.0, False), (0.6, True)])
def test_at_temperature_1_nothing_is_missing(tmp_path: Path, temperature: float, said: bool) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "aime24", (1, 2), raw=False, settings={"temperature": temperature})
    runs = load_runs([path])
    (drawn,) = chosen_benchmarks(compare_benchmarks(runs))
    assert f"at the sampling temperature {temperature:g}, before top-p and top-k" in drawn.note(runs)
    assert ("not all runs recorded them at 1" in drawn.note(runs)) == said


def test_completions_at_one_point_are_one_larger_mark(tmp_path: Path) -> None:
    paths = [write_model(tmp_path / name) for name in "ab"]
    for path in paths:
        file = write_benchmark(path, "aime24", (3,))
        if path == paths[1]:  # all at one point: three right, one wrong
            text = re.sub(r'"probability": [\d.]+', '"probability": 0.5', file.read_text())
            file.write_text(re.sub(r'"low_probability": [\d.]+', '"low_probability": 0.25', text))
    (drawn,) = chosen_benchmarks(compare_benchmarks(load_runs(paths)))
    found = [(mark.run, mark.correct, mark.probability, mark.low, count) for mark, count in marks_of(drawn, "aime24/0")]
    assert found == [
        (1, True, 0.5, 0.25, 3),
        (0, False, 0.87, 0.47, 1),
        (0, True, 0.88, 0.48, 1),
        (0, True, 0.89, 0.49, 1),
        (0, True, 0.9, 0.5, 1),
        (1, False, 0.5, 0.25, 1),
    ]


def test_wrong_completions_are_hollow(tmp_path: Path) -> None:
    def shapes(correct: int) -> str:
        path = write_model(tmp_path / str(correct))
        write_benchmark(path, "aime24", (correct,))
        runs = load_runs([path])
        drawn = one_problem(runs, compare_benchmarks(runs))
        assert drawn is not None
        return drawn.panels[0].svg

    assert len(re.findall(r'<use [^>]*style="fill-opacity: 0;', shapes(1))) == 3
    assert len(re.findall(r'<use [^>]*style="fill-opacity: 0;', shapes(4))) == 0


def test_statistics_of_two_temperatures_are_never_mixed(tmp_path: Path) -> None:
    a, b, c = (write_model(tmp_path / name) for name in "abc")
    write_benchmark(a, "aime24", (1, 2))
    write_benchmark(b, "aime24", (1, 2), raw=False)
    write_benchmark(c, "aime24", (1, 2), entropy=None)
    (drawn,) = chosen_benchmarks(compare_benchmarks(load_runs([a, b, c])))
    assert (drawn.kind, tuple(drawn.values), drawn.missing) == ("tempered", (0, 1), (2,))
    note = drawn.note(load_runs([a, b, c]))
    assert "at the sampling temperature 0.6" in note
    assert note.endswith("Without them, or evaluated otherwise: c.")
    (alone,) = chosen_benchmarks(compare_benchmarks(load_runs([a, c])))
    assert (alone.kind, alone.missing) == ("raw", (1,))


@pytest.mark.usefixtures("unrendered")
def test_runs_evaluated_otherwise_are_not_drawn_and_named(tmp_path: Path) -> None:
    a, b = two_runs(tmp_path)
    write_benchmark(b, "aime24", (1, 2, 3), settings={"temperature": 1.0})
    drawn = figures(a, b)
    assert "aime24-paper of b (temperature 1, not 0.6)" in drawn["benchmark-pass"].caption
    assert drawn["statistics"].runs == (0,)
    assert "aime24-paper" in drawn["average-pass"].caption.split("Left out")[1]


@pytest.mark.usefixtures("unrendered")
def test_values_that_are_all_equal_have_no_density(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    file = write_benchmark(path, "aime24", (1, 2))
    file.write_text(re.sub(r'"entropy": [\d.]+', '"entropy": 0.5', file.read_text()))
    assert "vertical line" in figures(path)["entropy-4"].caption


@pytest.mark.usefixtures("unrendered")
def test_one_completion_per_problem_has_no_curve(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "mmlu_pro", (1, 0), n=1, entropy=None)
    assert figures(path) == {}


@pytest.mark.parametrize(("correct", "picked"), [((0, 4), 0), ((4, 3, 1), 1), ((1, 2), 1)])
def test_the_problem_solved_nearest_to_half_the_time(tmp_path: Path, correct: tuple[int, ...], picked: int) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "aime24", correct)
    (benchmark,) = compare_benchmarks(load_runs([path]))
    assert half_solved(benchmark, [0]) == f"aime24/{picked}"
