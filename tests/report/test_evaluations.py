import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import MakeRun, write_benchmark, write_model

from progrpo.errors import DataError
from progrpo.report.comparison.benchmarks import compare_benchmarks
from progrpo.report.evaluations import HELD_OUT, Evaluation, why_apart
from progrpo.report.read import load_runs


def evaluation(path: Path, task: str = "aime24", correct: tuple[int, ...] = (0, 1, 4), **settings: Any) -> Evaluation:
    write_benchmark(write_model(path), task, correct, **settings)
    (run,) = load_runs([path])
    assert not run.left_out
    (one,) = run.benchmarks.values()
    return one


def test_scores_of_a_benchmark(tmp_path: Path) -> None:
    one = evaluation(tmp_path / "a", measures={"maj@4": 0.5}, over_task={"rating": 1200.5})
    assert (one.name, one.task, one.preset, one.n, one.step) == ("aime24-paper", "aime24", "paper", 4, None)
    assert one.values("pass@1") == {"aime24/0": 0.0, "aime24/1": 0.25, "aime24/2": 1.0}
    # One right of four: two draws miss it with probability 3/4 * 2/3 = 1/2.
    assert one.values("pass@2") == pytest.approx({"aime24/0": 0.0, "aime24/1": 0.5, "aime24/2": 1.0})
    assert one.values("pass@8") == {}
    # Of the verdicts, too, whatever was measured: Pass@k is k/4, so the heights up to 4 are 1/4 .. 1, in the mean 5/8.
    assert one.values("auc@4") == pytest.approx({"aime24/0": 0.0, "aime24/1": 0.625, "aime24/2": 1.0})
    assert one.values("cover@0.25") == {"aime24/0": 0.0, "aime24/1": 1.0, "aime24/2": 1.0}
    assert one.values("cover@0.5")["aime24/1"] == 0.0
    assert one.values("auc@8") == {}
    assert one.values("maj@4")["aime24/1"] == 0.5
    assert set(one.values("length").values()) == {11.5}  # 10, 11, 12 and 13 tokens
    assert set(one.values("truncated").values()) == {0.0}
    assert one.statuses() == {"correct": 5 / 12, "wrong": 7 / 12}
    assert one.over_task == {"rating": 1200.5}
    assert one.sampling == "n 4, temperature 0.6, top-p 0.95, limit 64"


def test_completions_are_read_again_where_they_stand(tmp_path: Path) -> None:
    one = evaluation(tmp_path / "a", prompt=({"role": "user", "content": "Ä é"},))
    (result,) = one.results(["aime24/1"]).values()
    assert (result.problem, result.correct, result.prompt) == ("aime24/1", 1, ({"role": "user", "content": "Ä é"},))
    results = one.results(["aime24/2", "gone", "aime24/0"])
    assert [(name, each.problem) for name, each in results.items()] == [(f"aime24/{i}", f"aime24/{i}") for i in (2, 0)]


def test_token_statistics_of_both_temperatures(tmp_path: Path) -> None:
    one = evaluation(tmp_path / "a")
    tempered, raw = one.statistics("tempered"), one.statistics("raw")
    assert tempered is not None
    assert raw is not None
    assert tempered.shape == (12, 3)
    assert tempered[1].tolist() == pytest.approx([0.89, 0.49, 0.51])  # probability, lowest 20 %, entropy of index 1
    assert raw[1, 2] == pytest.approx(1.01)
    assert evaluation(tmp_path / "b", entropy=None).statistics("tempered") is None
    assert evaluation(tmp_path / "c", raw=False).statistics("raw") is None


def test_a_completion_without_tokens_has_no_statistics(tmp_path: Path) -> None:
    file = write_benchmark(write_model(tmp_path / "a"), "aime24", (1,))
    row = json.loads(file.read_text())
    del row["samples"][0]["entropy"]
    file.write_text(json.dumps(row) + "\n")
    values = load_runs([tmp_path / "a"])[0].benchmarks["aime24-paper"].statistics("tempered")
    assert values is not None
    assert values.shape == (3, 3)
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({}, ""),
        ({"settings": {"seed": 7}}, ""),
        ({"settings": {"temperature": 0.60, "top_k": 0.0}}, ""),
        ({"settings": {"task": {"path": "elsewhere.jsonl", "source": "x/y", "expected": None}}}, ""),
        ({"n": 2}, "n 2, not 4"),
        ({"settings": {"temperature": 1.0}}, "temperature 1, not 0.6"),
        ({"settings": {"top_p": 1.0}}, "top-p 1, not 0.95"),
        ({"settings": {"max_new_tokens": 8192}}, "limit 8192, not 64"),
        ({"settings": {"task": {"instruction": "Think."}}}, "task.instruction Think., not unknown"),
        ({"settings": {"reward": {"name": "choice"}}}, "reward.name choice, not math"),
        ({"header": {"digest": "x"}}, "other problems"),
        ({"header": {"preset": "recommended"}}, "preset recommended, not paper"),
        ({"header": {"problems": 4, "excluded": [{"problem": "aime24/9"}]}}, "other problems"),
        ({"n": 2, "settings": {"top_p": 1.0}}, "n 2, not 4; top-p 1, not 0.95"),
    ],
)
def test_evaluations_made_otherwise_are_told_apart(tmp_path: Path, other: dict[str, Any], reason: str) -> None:
    first, second = evaluation(tmp_path / "a"), evaluation(tmp_path / "b", correct=(0, 1, 2), **other)
    assert why_apart(second, first) == reason


def test_without_a_digest_the_problems_themselves_are_compared(tmp_path: Path) -> None:
    header = {"digest": None}
    first, same = (evaluation(tmp_path / name, header=header) for name in "ab")
    other = evaluation(tmp_path / "c", header=header, prompt="another prompt")
    assert why_apart(same, first) == ""
    assert why_apart(other, first) == "other problems"


def test_held_out_evaluations_are_benchmarks_too(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("cut"), make_run("never")]
    (paths[1] / "evaluations/step-000003.jsonl").unlink()
    for file in paths[2].glob("evaluations/*"):
        file.unlink()
    (benchmark,) = compare_benchmarks(load_runs(paths))
    assert (benchmark.name, benchmark.task, benchmark.preset) == ("countdown (held-out)", "countdown", HELD_OUT)
    # Runs a and cut share step 0 only.
    assert {run: one.step for run, one in benchmark.evaluations.items()} == {0: 0, 1: 0}
    assert benchmark.apart == {}
    (alone,) = compare_benchmarks(load_runs(paths[:1]))
    assert alone.evaluations[0].step == 3


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("unfinished", "cut short, or still being written, at 2 of 3 problems"),
        ("not begun", "cut short, or still being written, at 0 of 3 problems"),
        ("no header", "rows without a header aime24-paper.json"),
        ("cut", "2 problems where its header says 3; evaluate again"),
        ("empty", "a header without rows (aime24-paper.jsonl is empty); evaluate again"),
        ("gone", "a header without rows (aime24-paper.jsonl is gone); evaluate again"),
    ],
)
def test_an_evaluation_cut_short_is_left_out_and_named(tmp_path: Path, damage: str, why: str) -> None:
    file = write_benchmark(write_model(tmp_path / "a"), "aime24", (1, 2, 3))
    head = file.with_suffix(".json")
    if damage in ("unfinished", "not begun"):
        head.write_text(json.dumps({**json.loads(head.read_text()), "complete": False}))
    if damage == "no header":
        head.unlink()
    elif damage in ("not begun", "gone"):
        file.unlink()
    else:
        file.write_text("" if damage == "empty" else file.read_text()[:-20])
    (run,) = load_runs([tmp_path / "a"])
    assert run.benchmarks == {}
    assert run.left_out == {"aime24-paper": why}


def test_damaged_files_are_named(tmp_path: Path) -> None:
    file = write_benchmark(write_model(tmp_path / "a"), "aime24", (1, 2))
    text = file.read_text()
    file.write_text(text.replace('"problem": "aime24/0"', '"problem: "aime24/0"'))
    with pytest.raises(DataError, match=r"aime24-paper\.jsonl, line 1"):
        load_runs([tmp_path / "a"])
    file.with_suffix(".json").write_text("{")
    with pytest.raises(DataError, match=r"aime24-paper\.json: not JSON"):
        load_runs([tmp_path / "a"])
