import json
from pathlib import Path
from typing import Any

from made_up_runs import HOSTILE, write_benchmark, write_model

from progrpo.report.comparison.benchmarks import compare_benchmarks
from progrpo.report.read import load_runs
from progrpo.report.run_page import browsers as module
from progrpo.report.run_page.browsers import SAMPLES, disputes


def data(*paths: Path) -> dict[str, Any]:
    runs = load_runs(paths)
    return disputes(runs, compare_benchmarks(runs))


def three_models(folder: Path, **settings: Any) -> list[Path]:
    paths = [write_model(folder / name) for name in "abc"]
    for path, correct in zip(paths, ((0, 1, 2, 3), (0, 2, 2, 0), (4, 1, 2, 3)), strict=True):
        write_benchmark(path, "aime24", correct, **settings)
    return paths


def test_the_largest_differences_of_every_pair(tmp_path: Path) -> None:
    found = data(*three_models(tmp_path))
    assert found["runs"] == ["a", "b", "c"]
    (benchmark,) = found["benchmarks"]
    assert (benchmark["name"], benchmark["runs"], benchmark["problems"]) == ("aime24-paper", [0, 1, 2], 4)
    # a-b: problem 3 by 3/4, problem 1 by 1/4; a-c: problem 0; b-c: 0 by 1, 3 by 3/4, 1 by 1/4. Problem 2 is one for all.
    assert benchmark["differing"] == {"0-1": 2, "0-2": 1, "1-2": 3}
    assert [one["id"] for one in benchmark["kept"]] == ["aime24/3", "aime24/0", "aime24/1"]


def test_both_sides_keep_a_few_completions(tmp_path: Path) -> None:
    found = data(*three_models(tmp_path, text=HOSTILE, prompt=[{"role": "user", "content": "Why?"}]))
    problem = found["benchmarks"][0]["kept"][0]
    assert (problem["prompt"], problem["answer"]) == ("user: Why?", "7")
    side = problem["sides"]["0"]
    assert (side["correct"], side["n"]) == (3, 4)
    assert [sample["status"] for sample in side["samples"]] == ["correct"] * SAMPLES + ["wrong"]
    assert side["samples"][0] == {
        "text": f"{HOSTILE} 0",
        "status": "correct",
        "extracted": "7",
        "detail": "",
        "tokens": 10,
        "truncated": False,
    }


def test_runs_evaluated_otherwise_stand_aside(tmp_path: Path) -> None:
    a, b, c = three_models(tmp_path)
    write_benchmark(b, "aime24", (4, 4, 4, 4), settings={"temperature": 1.0})
    assert data(a, b, c)["benchmarks"][0]["runs"] == [0, 2]
    assert data(a, b)["benchmarks"] == []
    assert data(a)["benchmarks"] == []


def test_the_size_is_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    paths = [write_model(tmp_path / name) for name in "ab"]
    for path, right in zip(paths, (0, 6), strict=True):
        write_benchmark(path, "aime24", (right,) * 40, n=6, text="x" * 20_000)
    found = data(*paths)
    assert len(found["benchmarks"][0]["kept"]) == module.MOST_PROBLEMS
    assert found["benchmarks"][0]["differing"] == {"0-1": 40}
    # Two completions of each of two sides, of 1,200 characters, and what says how much was left out.
    assert len(json.dumps(found)) < module.MOST_PROBLEMS * 2 * SAMPLES * 1_500
    monkeypatch.setattr(module, "CHARACTERS", 60_000)
    assert len(data(*paths)["benchmarks"][0]["kept"]) == 60_000 // (1_200 * 2 * SAMPLES * 2)
