"""Evaluations while a run goes on: benchmarks, the best checkpoint, early stopping; and that a resumed run knows all of it."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from progrpo import schema
from progrpo.api.push import plan_push
from progrpo.api.run import TrainingRun
from progrpo.cli.evaluate import run_evaluate
from progrpo.cli.train import run_train
from progrpo.errors import CheckpointError, ConfigError, DataError, ModelError, ProgrpoError
from progrpo.files import read_jsonl
from progrpo.report.read import load_runs
from progrpo.report.run_page.page import make_page
from progrpo.settings import parse
from progrpo.train import checkpoint
from progrpo.train.plan import make_plan
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose
from progrpo.train.watch import Best, Watch
from stand_ins.runs import run

Make = Callable[..., dict[str, Any]]
BENCHMARK = {"name": "countdown", "test_size": 2, "min_used": 3}


def followed(**changes: Any) -> RunSettings:
    data = {
        "steps": 9,
        "model": {"path": "m"},
        "task": {"name": "countdown"},
        "method": {"name": "grpo"},
        "sampling": {"max_new_tokens": 4},
        "evaluate": {"every": 1},
    }
    return parse(RunSettings, data | changes, where="test")


def watch(values: Mapping[int, float], key: str = "evaluate/pass@1", **changes: Any) -> Watch:
    return Watch(followed(**changes), [{"step": step, key: value, "time/x": 1.0} for step, value in values.items()])


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [
        (
            {0: 0.9, 1: 0.2, 2: 0.4, 3: 0.4, 4: 0.1},
            "auto",
            (2, 0.4),
        ),  # the first of equals; before training there is no folder
        ({0: 0.9, 1: 0.2, 2: 0.4}, "min", (1, 0.2)),
        ({0: 0.9}, "auto", None),
        ({}, "auto", None),
    ],
)
def test_the_best_step(values: dict[int, float], mode: str, best: tuple[int, float] | None) -> None:
    one = watch(values, checkpoint={"best": "pass@1", "mode": mode}).best
    assert one == (best and Best(best[0], "evaluate/pass@1", best[1], 0.9))


def test_a_measure_says_which_direction_is_better() -> None:
    key = "benchmark/aime24/length"
    assert watch({0: 9.0, 1: 3.0, 2: 5.0}, key, checkpoint={"best": key, "mode": "min"}).best.step == 1
    assert watch({1: 3.0, 2: 5.0}, "evaluate/failed_verdicts", checkpoint={"best": "failed_verdicts"}).best.step == 1
    with pytest.raises(ConfigError, match=r"checkpoint.mode: nothing says whether more of 'benchmark/aime24/length'"):
        watch({}, checkpoint={"best": key})


@pytest.mark.parametrize(
    ("values", "min_delta", "ends"),
    [
        ((0.5, 0.4, 0.5), 0.0, True),  # an equal value is no better one
        ((0.5, 0.4, 0.6), 0.0, False),
        ((0.5, 0.4, 0.6, 0.6, 0.6), 0.0, True),
        ((0.5, 0.54, 0.58), 0.05, False),  # what creeps on is measured from the last value that counted: 0.58 - 0.5
        ((0.5, 0.52, 0.54), 0.05, True),
        ((0.5,), 0.0, False),
    ],
)
def test_when_it_is_time_to_stop(values: tuple[float, ...], min_delta: float, ends: bool) -> None:
    stopping = {"measure": "pass@1", "patience": 2, "min_delta": min_delta}
    one = watch(dict(enumerate(values)), early_stopping=stopping)
    assert bool(one.ended) is ends
    if ends:
        assert "evaluate/pass@1 has not been better than 0." in one.ended


def test_a_measure_that_nobody_takes_is_an_error_that_names_those_there_are() -> None:
    one = watch({}, checkpoint={"best": "auc@2"}, early_stopping={"measure": "pass@1"})
    with pytest.raises(
        ConfigError, match=r"checkpoint.best: evaluations log no 'evaluate/auc@2'; they log evaluate/pass@1"
    ):
        one.saw(0, {"evaluate/pass@1": 0.5})
    with pytest.raises(ConfigError, match=r"early_stopping.measure=pass@1: nothing is evaluated; set evaluate.every"):
        followed(evaluate={"every": 0}, early_stopping={"measure": "pass@1"})


@pytest.mark.parametrize("k", [3, 8])
def test_pass_at_a_k_that_is_not_measured_is_refused_before_the_run(k: int) -> None:
    for about in ({"checkpoint": {"best": f"pass@{k}"}}, {"early_stopping": {"measure": f"pass@{k}"}}):
        with pytest.raises(
            ConfigError, match=rf"evaluate.n=4 completions log no pass@{k}; they log pass@1, pass@2, pass@4"
        ):
            watch({}, evaluate={"every": 1, "n": 4}, **about)


def test_keys_of_benchmarks_are_known_to_pages_and_trackers() -> None:
    one = schema.metric("benchmark/aime24/pass@8")
    assert (one.label, one.percent, one.better) == (f"{schema.metric('evaluate/pass@8').label}, aime24", True, "higher")
    assert schema.known("benchmark/aime24/nothing") is None


def rows(path: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.items() if not key.startswith(("time/", "memory/"))}
        for row in read_jsonl(path / "metrics.jsonl")
    ]


def watched(settings: Make, out: Path, steps: int, **changes: Any) -> dict[str, Any]:
    evaluate = {"every": 1, "n": 4, "tasks": [BENCHMARK], "max_new_tokens": 9}
    kept = {"every": 0, "keep": 1, "best": "pass@1"}
    return settings(out=str(out), steps=steps, evaluate=evaluate, checkpoint=kept) | changes


def test_benchmarks_and_the_best_checkpoint(settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run(watched(settings, tmp_path / "whole", 4))
    logged = rows(path)
    key = "benchmark/countdown/pass@4"
    assert all({"benchmark/countdown/pass@1", key, "evaluate/pass@1"} <= row.keys() for row in logged)
    assert len(read_jsonl(path / "evaluations/countdown/step-000003.jsonl")) == 2
    assert all(schema.known(name) for row in logged for name in row if name != "step")
    # best: the first of the largest values after a step
    values = [row["evaluate/pass@1"] for row in logged]
    step = 1 + max(range(4), key=lambda index: (values[1 + index], -index))
    assert json.loads((path / "checkpoints/best.json").read_text())["step"] == step
    assert sorted(TrainingRun(path).checkpoints) == sorted({step, 4})
    assert TrainingRun(path).best == {
        "step": step,
        "metric": "evaluate/pass@1",
        "value": values[step],
        "start": values[0],
        "path": str(path / f"checkpoints/step-{step:06d}"),
    }
    table = TrainingRun(path).evaluations(3, benchmark="countdown")
    assert table["pass@1"].mean() == pytest.approx(logged[3]["benchmark/countdown/pass@1"])
    with pytest.raises(DataError, match=r"not evaluated on 'aime24' during training; evaluate.tasks names countdown"):
        TrainingRun(path).evaluations(benchmark="aime24")
    page = make_page(load_runs([path]), title="page")
    assert "countdown during training" in page
    assert f"4 steps; best at step {step}: <code>evaluate/pass@1</code>" in page

    # the same to the last bit where it was stopped and went on
    parts = tmp_path / "parts"
    run(watched(settings, parts, 2))
    run(watched(settings, parts, 4), resume=True)
    assert rows(parts) == logged
    weights = [one / "checkpoints/step-000004/model.safetensors" for one in (path, parts)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert TrainingRun(parts).best["step"] == step
    assert sorted(TrainingRun(parts).checkpoints) == sorted({step, 4})

    # what `progrpo evaluate` makes of the last checkpoint is what the run made of it
    task = ["task.countdown.test_size=2", "task.countdown.min_used=3", "evaluate.temperature=0.6", "max_new_tokens=9"]
    run_evaluate(str(path), ["countdown"], 4, None, task, tmp_path / "evaluated")
    texts = [
        [[sample["text"] for sample in row["samples"]] for row in read_jsonl(file)]
        for file in (
            path / "evaluations/countdown/step-000004.jsonl",
            tmp_path / "evaluated/evaluations/countdown.jsonl",
        )
    ]
    assert texts[0] == texts[1]
    capsys.readouterr()


def test_the_best_is_named_and_can_be_asked_for(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    data = settings(steps=2, out="runs/a", evaluate={"every": 1, "n": 2}, checkpoint={"best": "length", "mode": "max"})
    recipe.write_text(json.dumps(data))
    run_train(recipe, [], dry_run=False, resume=False, profile=False, processes=None)
    best = TrainingRun("runs/a").best
    said = " ".join(capsys.readouterr().err.split())
    assert f"done: runs/a; best at step {best['step']}: {best['path']} (evaluate/length {best['value']:.4g}" in said
    few = ["max_new_tokens=4", "evaluate.measures=pass_at_k", "task.test_size=2"]
    run_evaluate("runs/a", [], 2, None, ["checkpoint=best", *few], None)
    assert "note:" not in capsys.readouterr().err  # it is the best
    folder = Path(f"runs/evaluate-a-step-{best['step']:06d}")
    assert json.loads((folder / "evaluations/countdown.json").read_text())["model"] == best["path"]
    with pytest.raises(ModelError, match=r"checkpoint=7: there is none of that step; kept are those of "):
        run_evaluate("runs/a", [], 2, None, ["checkpoint=7"], None)
    with pytest.raises(ConfigError, match="checkpoint=best: embedded:countdown is no run directory"):
        run_evaluate("embedded:countdown", [], 2, None, ["checkpoint=best"], None)
    with pytest.raises(ConfigError, match="checkpoint=bset: expected latest, best, or a step"):
        plan_push("runs/a", "me/a", checkpoint="bset")
    marked = Path("runs/a/checkpoints/best.json")
    marked.write_text(json.dumps(Best(1, "evaluate/length", 3.25, None)._asdict()))
    run_evaluate("runs/a", [], 2, None, few, None)
    said = (
        "this is step-000002, the latest; the best by evaluate/length (3.25) is that of step 1, which --checkpoint best"
    )
    assert f"note: {said} takes\n" in capsys.readouterr().err
    marked.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint is marked as the best; a run with checkpoint.best=pass@1"):
        run_evaluate("runs/a", [], 2, None, ["checkpoint=best"], None)


def test_a_run_that_no_longer_gets_better_ends_and_stays_ended(
    settings: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stopping(steps: int, patience: int = 3) -> dict[str, Any]:
        # nothing is better by 10: the third evaluation after the first one ends it
        early = {"measure": "pass@1", "patience": patience, "min_delta": 10}
        evaluate = {"every": 1, "n": 2, "measures": "pass_at_k"}
        return settings(steps=steps, evaluate=evaluate, early_stopping=early, checkpoint={"every": 0})

    path = run(stopping(2))
    assert [row["step"] for row in rows(path)] == [0, 1, 2]
    with caplog.at_level(logging.WARNING):
        run(stopping(6), resume=True)
    assert "the run ends after step 3: evaluate/pass@1 has not been better than" in caplog.text
    assert [row["step"] for row in rows(path)] == [0, 1, 2, 3]
    assert sorted(TrainingRun(path).checkpoints)[-1] == 3
    run(stopping(6), resume=True)
    assert "the run is over since step 3" in caplog.text
    assert [row["step"] for row in rows(path)] == [0, 1, 2, 3]
    run(stopping(6, patience=4), resume=True)
    assert [row["step"] for row in rows(path)] == [0, 1, 2, 3, 4]


def test_a_damaged_best_is_told_and_a_later_mark_is_taken_back(own_run: Path) -> None:
    root = own_run / "checkpoints"
    (root / "best.json").write_text(json.dumps(Best(4, "evaluate/pass@1", 0.5, None)._asdict()))
    assert checkpoint.best_folder(root).name == "step-000004"
    (root / "step-000004/config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="the best checkpoint .* is damaged .* take checkpoint=latest"):
        checkpoint.best_folder(root)
    checkpoint.forget_after(root, 2)
    assert checkpoint.best_of(root) is None
    shutil.rmtree(root)
    assert checkpoint.best_of(root) is None


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["countdown", BENCHMARK], "evaluate.tasks: 'countdown' stands twice"),
        (["countdwn"], "tasks: unknown name 'countdwn'; did you mean 'countdown'"),
        ([{"name": "grid_path", "wals": 3}], "unknown key 'wals'; did you mean 'walls'"),
    ],
)
def test_what_cannot_be_evaluated_is_told_before_the_run(settings: Make, tasks: list[Any], message: str) -> None:
    data = settings(evaluate={"every": 2, "n": 2, "tasks": tasks})
    with pytest.raises(ProgrpoError, match=message):
        run(data)
    assert not Path(data["out"]).exists()


def test_the_plan_names_the_benchmarks(settings: Make) -> None:
    data = settings(evaluate={"every": 2, "n": 2, "tasks": [BENCHMARK]})
    lines = make_plan(choose(parse(RunSettings, data, where="test")))
    assert "benchmarks at each evaluation: countdown (2 problems x 2), at most 10 tokens a completion" in lines
