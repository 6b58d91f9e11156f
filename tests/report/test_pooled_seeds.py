import json
import math
import re
from pathlib import Path

import pytest
import yaml
from made_up_runs import MakeRun, evaluation_row, metrics_row, with_seed, write_benchmark, write_jsonl

from progrpo.api.compare import compare
from progrpo.cli.report import run_compare
from progrpo.report.comparison.results import summarise
from progrpo.report.read import Run, load_runs
from progrpo.report.run_page.page import differing_settings, make_page
from progrpo.report.seeds import pool_seeds


def pooled(make_run: MakeRun, *seeds: tuple[str, int, tuple[int, ...]]) -> list[Run]:
    paths = [with_seed(make_run(f"{name}-{seed}", correct=c), seed, alpha=name == "b") for name, seed, c in seeds]
    return pool_seeds(load_runs(paths))


def test_runs_that_differ_by_the_seed_alone_are_one(make_run: MakeRun) -> None:
    runs = pooled(make_run, ("b", 7, (1, 2, 3)), ("a", 1, (1, 2, 3)), ("a", 0, (3, 2, 1)), ("b", 8, (4, 4, 4)))
    assert [(run.name, run.config["seed"], len(run.seeds)) for run in runs] == [("b", "7, 8", 2), ("a", "0, 1", 2)]
    assert [member.name for member in runs[1].members] == ["a-0", "a-1"]


def test_a_repeated_seed_and_another_setting_stay_alone(make_run: MakeRun) -> None:
    paths = [with_seed(make_run(name), 0) for name in ("a", "again")]
    paths.append(with_seed(make_run("other"), 1))
    config = paths[2] / "config.yaml"
    config.write_text(config.read_text().replace("some/model", "other/model"))
    assert [(run.name, run.seeds) for run in pool_seeds(load_runs(paths))] == [("a", ()), ("again", ()), ("other", ())]


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (("grpo-0", "grpo-1"), "grpo"),
        (("grpo-10", "grpo-11"), "grpo"),
        (("qwen2-seed0", "qwen2-seed1"), "qwen2"),
        (("x/seed-0", "x/seed-1"), "x"),
        (("seed0/grpo", "seed1/grpo"), "grpo"),
        (("y/0", "y/1"), "y"),
    ],
)
def test_the_name_is_what_the_names_have_in_common(make_run: MakeRun, names: tuple[str, ...], name: str) -> None:
    paths = [with_seed(make_run(each), seed) for seed, each in enumerate(names)]
    (run,) = pool_seeds(load_runs(paths))
    assert run.name == name


def test_metrics_are_means_over_the_steps_that_all_have(make_run: MakeRun) -> None:
    paths = [with_seed(make_run(f"a-{seed}"), seed) for seed in (0, 1)]
    write_jsonl(paths[1] / "metrics.jsonl", [metrics_row(1, **{"rollout/reward": 0.5, "own": 1}), metrics_row(9)])
    (run,) = pool_seeds(load_runs(paths))
    (row,) = run.metrics
    # 0.1 and 0.5; what one seed alone logged is left out
    assert (row["step"], row["rollout/reward"], "own" in row) == (1, pytest.approx(0.3), False)


def test_measures_are_means_over_seeds_not_of_their_completions_together(make_run: MakeRun) -> None:
    (run,) = pooled(make_run, ("a", 0, (0, 0, 4)), ("a", 1, (0, 2, 4)))
    last = run.evaluations[3]
    # Pass@4 of the second problem: 0 with the one seed, 1 with the other; of all 8 together, 2 correct, it would be 11/14
    assert last.values("pass@4") == {"q0": 0.0, "q1": 0.5, "q2": 1.0}
    assert (last.n, last.problems["q1"].n, last.problems["q1"].correct) == (4, 8, 2)
    assert last.problems["q2"].forms == {"form0": 4, "form1": 4}
    # distinct: 0 0 2 and 0 2 2
    assert last.values("distinct_correct") == {"q0": 0.0, "q1": 1.0, "q2": 2.0}
    assert len(last.results(["q1"])["q1"].samples) == 8


def test_an_interval_over_seeds(make_run: MakeRun) -> None:
    (run,) = pooled(make_run, ("a", 0, (1, 1, 1)), ("a", 1, (2, 2, 2)))
    # 25 and 50 %: mean 37.5, s/sqrt(2) = 12.5 points, t = 12.706: within [0, 1] everything
    found = run.evaluations[3].over_seeds("pass@1")
    assert (found.mean, found.low, found.high, found.count) == (0.375, 0.0, 1.0, 2)
    # distinct 1 and 2, which is no share: 1.5 - 12.706 / 2
    assert run.evaluations[3].over_seeds("distinct_correct").low == pytest.approx(1.5 - 12.7062 * 0.5, abs=1e-3)
    assert run.seeds[0].evaluations[3].over_seeds("pass@1") is None


@pytest.mark.parametrize("seeds", [(0, 1), (5, 6)])
def test_the_same_seeds_are_pairs_and_others_are_not(make_run: MakeRun, seeds: tuple[int, int]) -> None:
    # Pass@1: 25 and 50 % against 75 and 50 %. As pairs the difference is 50 and 0: 25, s/sqrt(2) = 25, t(1) = 12.7062; else
    # variances add up: each mean has s^2/2 = 12.5^2, so that the half width is 12.5 sqrt(2) t(2) = 12.5 * 1.41421 * 4.30265
    runs = pooled(
        make_run, ("a", 0, (1, 1, 1)), ("a", 1, (2, 2, 2)), ("b", seeds[0], (3, 3, 3)), ("b", seeds[1], (2, 2, 2))
    )
    (difference,) = summarise(runs).differences
    found = difference.seeds["pass@1"]
    half = 0.25 * 12.7062 if seeds == (0, 1) else 0.125 * 2**0.5 * 4.30265
    assert difference.same_seeds is (seeds == (0, 1))
    assert (found.mean, found.high - found.mean) == (pytest.approx(0.25), pytest.approx(half, abs=1e-4))


def test_the_tables_of_compare_have_intervals_over_seeds(make_run: MakeRun) -> None:
    seeds = (("a", 0, (1, 1, 1)), ("a", 1, (2, 2, 2)), ("b", 5, (2, 2, 2)), ("b", 6, (3, 3, 3)))
    paths = [with_seed(make_run(f"{name}-{seed}", correct=c), seed, alpha=name == "b") for name, seed, c in seeds]
    # 25 and 50 % against 50 and 75 % with other seeds: Welch's half width is 12.5 sqrt(2) t(2)
    found = compare(paths)
    row = found.differences.set_index("measure").loc["pass@1"]
    assert (row["mean"], row["low"], row["high"], row["seeds"]) == (0.25, 0.25, 0.25, 2)
    assert row["seeds_high"] - 0.25 == pytest.approx(0.125 * 2**0.5 * 4.30265, abs=1e-4)
    assert 0.25 - row["seeds_low"] == pytest.approx(0.125 * 2**0.5 * 4.30265, abs=1e-4)
    first = found.held_out.set_index(["run", "measure"]).loc[("a", "distinct_correct")]
    assert (first["seeds"], first["seeds_low"]) == (2, pytest.approx(1.5 - 12.7062 * 0.5, abs=1e-3))
    alone = compare([paths[0], *paths[2:]])
    row = alone.differences.set_index("measure").loc["pass@1"]
    assert row["seeds"] == 1
    assert math.isnan(row["seeds_low"])
    assert alone.as_json()["differences"][0]["seeds_high"] is None


def test_one_seed_against_several_has_no_interval_over_seeds(make_run: MakeRun) -> None:
    runs = pooled(make_run, ("a", 0, (1, 1, 1)), ("a", 1, (2, 2, 2)), ("b", 0, (2, 2, 2)))
    (difference,) = summarise(runs).differences
    assert difference.seeds == {}
    assert difference.interval("pass@1") is difference.cells["pass@1"]


def test_seeds_evaluated_otherwise_are_left_out_and_named(make_run: MakeRun) -> None:
    paths = [with_seed(make_run(f"a-{seed}"), seed) for seed in (0, 1)]
    write_jsonl(paths[1] / "evaluations/step-000003.jsonl", [evaluation_row(f"q{i}", 1, n=2) for i in range(3)])
    for path, n in zip(paths, (4, 8), strict=True):
        write_benchmark(path, "aime24", (1, 2), n=n)
    (run,) = pool_seeds(load_runs(paths))
    assert list(run.evaluations) == [0]
    assert run.benchmarks == {}
    assert run.left_out == {
        "the evaluation of step 3": "its seeds were evaluated otherwise: n 2, not 4",
        "aime24-paper": "its seeds were evaluated otherwise: n 8, not 4",
    }


def test_benchmarks_of_seeds_are_one(make_run: MakeRun) -> None:
    paths = [with_seed(make_run(f"a-{seed}"), seed) for seed in (0, 1)]
    for path, correct in zip(paths, ((0, 2), (2, 4)), strict=True):
        write_benchmark(path, "aime24", correct, over_task={"rating": 100.0 * correct[0]})
    (run,) = pool_seeds(load_runs(paths))
    one = run.benchmarks["aime24-paper"]
    assert one.values("pass@1") == {"aime24/0": 0.25, "aime24/1": 0.75}
    assert one.over_task == {"rating": 100.0}
    assert one.statistics("tempered").shape == (16, 3)


@pytest.mark.usefixtures("unrendered")
def test_the_page_of_seeds(make_run: MakeRun) -> None:
    seeds = (("a", 0, (1, 1, 1)), ("a", 1, (2, 2, 2)), ("b", 0, (2, 2, 2)), ("b", 1, (3, 3, 3)))
    page = re.sub(r"\s+", " ", make_page(pooled(make_run, *seeds), title="t"))
    assert "2 runs of 2 seeds each from the model" in page
    assert "b paired by seed (Student" in page
    table = page[page.index("Each seed, last evaluation") :]
    table = table[: table.index("</table>")]
    assert re.findall(r'<td class="number">(\d)</td> <td class="number">([\d.]+)</td>', table) == [
        ("0", "25.0"),
        ("1", "50.0"),
        ("0", "50.0"),
        ("1", "75.0"),
    ]
    sources = page[page.index('<section id="provenance">') :]
    assert all(f"/{name}-{seed}, written by" in sources for name, seed, _ in seeds)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert data["runs"] == ["a", "b"]


def test_seeds_that_lack_a_result_are_named_and_not_counted(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [with_seed(make_run(f"a-{seed}", correct=(1, 2, 3 + seed)), seed) for seed in (0, 1)]
    paths.append(with_seed(make_run("a-2"), 2))
    for file in (*paths[2].glob("evaluations/*"), paths[2] / "metrics.jsonl"):
        file.unlink()
    for path in paths[:2]:
        write_benchmark(path, "aime24", (1, 2))
    (run,) = pool_seeds(load_runs(paths))
    assert run.left_out == {
        "seed 2": "nothing evaluated yet",
        "aime24-paper of seed 2": "that seed was not evaluated on it",
    }
    assert [row["step"] for row in run.metrics] == [0, 1, 2, 3]  # of the two that have any
    other = with_seed(make_run("b"), 0, alpha=True)
    run_compare([*paths, other], tmp_path / "x.html")
    out, err = capsys.readouterr()
    assert "over 2 seeds" in out
    assert "3 seeds" not in out
    assert "note: a: aime24-paper of seed 2 is left out: that seed was not evaluated on it." in err
    found = compare([other, *paths])
    assert set(found.held_out.groupby("run")["seeds"].max().items()) == {("a", 2), ("b", 1)}


def test_a_result_of_one_seed_is_not_said_of_several(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [with_seed(make_run(f"a-{seed}"), seed) for seed in (0, 1)]
    for file in paths[0].glob("evaluations/*"):
        file.unlink()
    run_compare([*paths, with_seed(make_run("b"), 0, alpha=True)], tmp_path / "x.html")
    assert "of one seed" in capsys.readouterr().out
    (run,) = pool_seeds(load_runs(paths))
    assert list(run.evaluations[3].seeds) == [1]
    assert run.evaluations[3].over_seeds("pass@1") is None


def test_checkpoints_of_other_steps_are_no_seeds_of_one_result(make_run: MakeRun) -> None:
    paths = [with_seed(make_run(f"a-{seed}"), seed) for seed in (0, 1)]
    for path, step in zip(paths, (3, 2), strict=True):
        write_benchmark(path, "aime24", (1, 2), header={"model": f"{path}/checkpoints/step-{step:06d}"})
    (run,) = pool_seeds(load_runs(paths))
    assert run.benchmarks == {}
    assert run.left_out == {"aime24-paper": "its seeds were evaluated otherwise: step 2, not step 3"}


def test_problems_given_as_rows_are_compared_by_their_digest(make_run: MakeRun) -> None:
    """As `progrpo.train(task=rows)` leaves runs: each with its own copy."""
    paths = [with_seed(make_run(f"a-{seed}"), seed) for seed in (0, 1, 2)]
    for path, digest in zip(paths, ("x", "x", "y"), strict=True):
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["task"] = {"name": "file", "train": f"{config['out']}/problems/train.jsonl", "prompt_key": "prompt"}
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        (path / "environment.json").write_text(json.dumps({"problems": digest}))
    runs = load_runs(paths)
    assert [len(run.members) for run in pool_seeds(runs)] == [2, 1]
    assert differing_settings(runs[:2]) == [("seed", ["0", "1"])]
    assert differing_settings(runs[1:]) == [("problems", ["x", "y"]), ("seed", ["1", "2"])]
