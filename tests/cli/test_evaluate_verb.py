"""The verb `evaluate` as a user calls it."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.cli.evaluate import run_evaluate
from progrpo.errors import ConfigError, DataError, ModelError, PluginError, RunDirectoryError

COUNTDOWN = ["task.test_size=5", "task.numbers=3", "task.max_number=6", "task.max_target=20", "task.min_used=2"]
QUICK = [*COUNTDOWN, "task.min_solutions=1", "max_new_tokens=5", "evaluate.at_a_time=2"]
MEASURES = "evaluate.measures=[pass_at_k, tokens]"


def evaluate(
    model: object,
    out: Path | None,
    *settings: str,
    n: int | None = 2,
    preset: str | None = None,
    task: str = "countdown",
) -> None:
    run_evaluate(str(model), [task], n, preset, [*QUICK, MEASURES, *settings], out)


def header(folder: Path, name: str = "countdown") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"evaluations/{name}.json").read_text())
    return found


def texts(folder: Path) -> list[list[str]]:
    rows = [json.loads(line) for line in (folder / "evaluations/countdown.jsonl").read_text().splitlines()]
    return [[sample["text"] for sample in row["samples"]] for row in rows]


@pytest.fixture(scope="module")
def model(tiny_folder: Callable[..., Path]) -> Path:
    return tiny_folder(seed=3)


def test_a_directory_with_rows_and_a_summary(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(model, tmp_path / "e")
    found = header(tmp_path / "e")
    assert found["complete"]
    assert (found["task"], found["problems"], found["settings"]["n"]) == ("countdown", 5, 2)
    assert found["settings"]["task"]["numbers"] == 3
    assert set(found["summary"]) == {"pass@1", "pass@2", "entropy", "length", "truncated"}
    assert len(texts(tmp_path / "e")) == 5
    assert "countdown: 5 problems x 2, T 0.6, top-p 0.95, at most 5 tokens" in capsys.readouterr().out
    assert (tmp_path / "e/config.yaml").is_file()


def test_what_is_there_is_not_done_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(model, tmp_path)
    whole, rows = texts(tmp_path), tmp_path / "evaluations/countdown.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[:2]) + lines[2][:30])  # killed while it wrote the third
    cut = header(tmp_path) | {"complete": False}
    (tmp_path / "evaluations/countdown.json").write_text(json.dumps(cut))
    evaluate(model, tmp_path)
    assert texts(tmp_path) == whole
    assert header(tmp_path)["complete"]
    monkeypatch.setattr("progrpo.api.evaluate.load_model", None)  # nothing left: no model is needed
    evaluate(model, tmp_path)
    evaluate(model, tmp_path, "evaluate.measures=[tokens]")
    assert set(header(tmp_path)["summary"]) == {"entropy", "length", "truncated"}
    assert texts(tmp_path) == whole


def test_other_settings_are_refused(model: Path, tmp_path: Path) -> None:
    evaluate(model, tmp_path)
    with pytest.raises(RunDirectoryError, match=r"settings\.n 2, asked for now: 3"):
        evaluate(model, tmp_path, n=3)
    with pytest.raises(RunDirectoryError, match="not of"):
        evaluate("embedded:countdown", tmp_path)


def test_a_preset_is_in_the_name(model: Path, tmp_path: Path) -> None:
    settings = [MEASURES, "task.test_size=1", "max_new_tokens=8192"]
    run_evaluate("embedded:countdown", ["countdown"], None, "paper", settings, tmp_path)
    assert header(tmp_path, "countdown-paper")["settings"]["n"] == 32
    with pytest.raises(ConfigError, match="give one of the two"):
        evaluate(model, tmp_path, preset="paper")
    with pytest.raises(ConfigError, match="expected one of paper, recommended"):
        evaluate(model, tmp_path, n=None, preset="papers")


def test_a_limit_beyond_the_model_s_positions_is_refused_before_anything_is_made(model: Path, tmp_path: Path) -> None:
    # Prompts such as "1 2 3=14:" of the tiny model, which has 512 positions.
    with pytest.raises(
        DataError, match=r"5 of 5 prompts are too long for a completion of 510 tokens.*512 positions"
    ) as said:
        evaluate(model, tmp_path / "e", "max_new_tokens=510")
    assert not (tmp_path / "e").exists()
    most = int(re.search(r"set max_new_tokens=(\d+) or less", str(said.value))[1])
    evaluate(model, tmp_path / "e", f"max_new_tokens={most}", n=1)
    assert header(tmp_path / "e")["complete"]


def test_what_a_task_allows_by_itself_is_cut_where_the_positions_end_and_counted(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_evaluate("embedded:countdown", ["countdown"], 1, None, [*QUICK[:6], MEASURES], tmp_path / "a")
    assert header(tmp_path / "a")["settings"]["max_new_tokens"] == 1024  # the model has 256 positions, and needs fewer
    assert not caplog.records
    small = tmp_path / "small"
    shutil.copytree(model, small)
    config = json.loads((small / "config.json").read_text()) | {"max_position_embeddings": 32}
    (small / "config.json").write_text(json.dumps(config))
    run_evaluate(str(small), ["countdown"], 1, None, [*QUICK[:6], MEASURES], tmp_path / "b")
    rows = [json.loads(line) for line in (tmp_path / "b/evaluations/countdown.jsonl").read_text().splitlines()]
    cut = [row for row in rows if row["samples"][0]["finish"] == "length"]
    assert {len(row["prompt"]) + row["samples"][0]["tokens"] for row in cut} == {32}  # a token a character
    assert f"{len(cut)} of 5 completions were cut where the model's 32 positions end" in caplog.text


def test_stops_are_part_of_what_was_asked(model: Path, tmp_path: Path) -> None:
    evaluate(model, tmp_path)
    assert "stop" not in header(tmp_path)["settings"]
    with pytest.raises(RunDirectoryError, match="stop"):
        evaluate(model, tmp_path, "evaluate.stop=7")
    evaluate(model, tmp_path / "e", "evaluate.stop=['7', 9]", "max_new_tokens=30")
    assert header(tmp_path / "e")["settings"]["stop"] == ["7", 9]
    found = [text for row in texts(tmp_path / "e") for text in row]
    assert all("7" not in text[:-1] for text in found)
    assert any(text.endswith("7") for text in found)


def test_other_weights_under_the_same_name_are_refused(
    tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tiny_folder(seed=3), tiny_folder(seed=4)
    model = tmp_path / "model"
    shutil.copytree(one, model)
    evaluate(model, tmp_path / "e")
    shutil.rmtree(model)
    shutil.copytree(other, model)
    with pytest.raises(RunDirectoryError, match="other weights"):
        evaluate(model, tmp_path / "e")
    evaluate(one, tmp_path / "f")
    (tmp_path / "f").rename(tmp_path / "g")
    monkeypatch.chdir(one.parent)
    with pytest.raises(RunDirectoryError, match="holds the evaluations of"):  # the folder's own model is by its name
        evaluate(one.name, tmp_path / "g")


def test_a_training_run_takes_no_other_models_evaluation(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("model: {path: embedded:countdown}\nmethod: {name: grpo}\n")
    with pytest.raises(RunDirectoryError, match=r"is a training run, .*progrpo evaluate"):
        evaluate("embedded:countdown", run)


def test_a_first_failure_leaves_the_folder_usable(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.device"):
        evaluate(model, tmp_path / "e", "model.device=cuda:7")
    with pytest.raises(ModelError, match="no-such"):
        evaluate("no-such/model", tmp_path / "e")
    (tmp_path / "e/evaluations").mkdir(parents=True, exist_ok=True)  # killed before it wrote anything
    evaluate(model, tmp_path / "e")


def test_all_missing_data_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    with pytest.raises(DataError) as failure:
        run_evaluate("m", ["aime24", "math500"], 2, None, [], tmp_path / "out")
    assert "task aime24" in str(failure.value)
    assert "task math500" in str(failure.value)


def test_a_mistyped_run_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="runs/tree: no such folder in runs/"):
        evaluate("runs/tree", None)


def test_a_model_needs_a_task_and_a_run_brings_its_own(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--task: name what to evaluate"):
        run_evaluate(str(model), [], 2, None, [MEASURES], tmp_path)
    run = tmp_path / "run"
    words = [
        f"out={run}",
        "steps=1",
        "evaluate.every=0",
        "batch.prompts=2",
        "batch.group=2",
        "sampling.max_new_tokens=4",
        "sampling.stop=[9]",
    ]
    from progrpo.cli.train import run_train

    recipe = Path(__file__).parents[2] / "recipes/demo/grpo.yaml"
    run_train(
        recipe,
        [*words, "task.test_size=3", "task.max_target=20"],
        dry_run=False,
        resume=False,
        profile=False,
        processes=None,
    )
    run_evaluate(str(run), [], 2, None, [MEASURES, "max_new_tokens=5"], None)
    assert header(run)["settings"]["task"]["max_target"] == 20
    assert header(run)["problems"] == 3
    assert header(run)["settings"]["stop"] == [9]
    folder = run / "checkpoints/step-000001"  # given by itself, a checkpoint is sampled as its run was, too
    evaluate(folder, tmp_path / "c")
    assert header(tmp_path / "c")["settings"]["stop"] == [9]
    evaluate(folder, tmp_path / "d", "evaluate.stop=[8]")
    assert header(tmp_path / "d")["settings"]["stop"] == [8]


def sums(path: Path, targets: range) -> Path:
    rows = [{"prompt": f"2 4 = {n}: ", "answer": str(n), "numbers": [2, 4]} for n in targets]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_runs_own_reward_judges_its_own_task_on_whatever_data(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And what of that was trained on is said."""
    from progrpo.train.loop import train
    from progrpo.train.settings import load_settings

    trained, others = sums(tmp_path / "train.jsonl", range(4)), sums(tmp_path / "others.jsonl", range(2, 9))
    data = {
        "steps": 1,
        "out": str(tmp_path / "run"),
        "model": {"path": str(model)},
        "task": {
            "name": "file",
            "train": str(trained),
            "test": str(sums(tmp_path / "test.jsonl", range(20, 22))),
            "chat": False,
        },
        "reward": {"name": "expression"},
        "method": {"name": "grpo"},
        "batch": {"prompts": 2, "group": 2},
        "sampling": {"max_new_tokens": 4},
        "evaluate": {"every": 0},
        "verify": {"check_gold": False},
    }
    run = train(load_settings(data, [])).path
    caplog.clear()
    quick = [MEASURES, "max_new_tokens=4", "verify.check_gold=false"]
    run_evaluate(str(run), [], 1, None, [*quick, f"task.test={others}"], None)
    found = header(run, "file")
    assert (found["settings"]["reward"]["name"], found["problems"]) == ("expression", 7)
    assert "file: 2 of 7 held-out problems are training problems too" in caplog.text
    caplog.clear()
    run_evaluate(str(run), [], 1, None, quick, tmp_path / "own")
    assert "held-out" not in caplog.text
    # Another task has its own.
    run_evaluate(str(run), ["countdown"], 1, None, [*quick, *COUNTDOWN, "task.min_solutions=1"], tmp_path / "other")
    assert header(tmp_path / "other")["settings"]["reward"]["name"] == "expression"
    run_evaluate(str(run), [], 1, None, [*quick, "reward.name=math"], tmp_path / "asked")
    assert header(tmp_path / "asked", "file")["settings"]["reward"]["name"] == "math"


def test_an_own_reward_or_measure_that_was_edited_is_another(model: Path, tmp_path: Path) -> None:
    def own(name: str, text: str) -> str:
        from progrpo import sources

        path = tmp_path / name
        path.write_text(text)
        for known in [one for one in sources._MODULES if getattr(sys.modules.get(one), "__file__", None) == str(path)]:
            del sys.modules[known], sources._MODULES[known]  # as another process would find it
        return str(path)

    def judge(verdict: bool) -> str:
        return own("judge.py", f"def score(text, problem):\n    return {verdict}\n")

    measures = own("lengthy.py", "def measure(judged, params):\n    return {'lengthy': 1.0}\n")
    more = [f"evaluate.measures=[pass_at_k, {measures}]"]
    evaluate(model, tmp_path / "e", *more, f"reward.name={judge(False)}")
    assert header(tmp_path / "e")["summary"]["pass@1"]["mean"] == 0.0
    evaluate(model, tmp_path / "e", *more, f"reward.name={judge(False)}")  # the same text: nothing to do
    with pytest.raises(RunDirectoryError, match="reward_sources"):
        evaluate(model, tmp_path / "e", *more, f"reward.name={judge(True)}")
    judge(False)
    own("lengthy.py", "def measure(judged, params):\n    return {'lengthy': 2.0}\n")
    evaluate(model, tmp_path / "e", *more, f"reward.name={tmp_path / 'judge.py'}")
    assert header(tmp_path / "e")["summary"]["lengthy"]["mean"] == 2.0


def test_an_answerless_evaluation_is_remarked(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(model, tmp_path, "max_new_tokens=1")
    assert "no completion of countdown has an answer" in capsys.readouterr().out


def test_numbers_of_completions_are_given_once(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.n=3: -n 2 says already"):
        evaluate(model, tmp_path, "evaluate.n=3")
    with pytest.raises(ConfigError, match=r"evaluate\.n=3: --preset paper says"):
        evaluate(model, tmp_path, "evaluate.n=3", n=None, preset="paper")


def test_errors_come_before_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progrpo.api.evaluate.load_model", None)
    with pytest.raises(PluginError, match="unknown name 'countdwn'"):
        evaluate("m", tmp_path, task="countdwn")
    with pytest.raises(PluginError, match="unknown name 'pass_at'"):
        evaluate("m", tmp_path, "evaluate.measures=[pass_at]")
    with pytest.raises(ConfigError, match="the model is the first argument"):
        evaluate("m", tmp_path, "model.path=x")
    with pytest.raises(ConfigError, match="override 'evaluate=3': evaluate: "):
        evaluate("m", tmp_path, "evaluate=3")
    with pytest.raises(ConfigError, match="path: string should have at least 1 character"):
        evaluate("", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="is no run directory"):
        evaluate("m", tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("model: {path: m}\n")
    with pytest.raises(ModelError, match="without a checkpoint"):
        evaluate(run, None)


def test_a_run_is_evaluated_at_its_latest_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [
        "steps=1",
        f"out={run}",
        "evaluate.every=0",
        "batch.prompts=2",
        "batch.group=2",
        "sampling.max_new_tokens=4",
        "sampling.stop=[9]",
    ]
    recipe = Path(__file__).parents[2] / "recipes/demo/grpo.yaml"
    from progrpo.cli.train import run_train

    run_train(recipe, words, dry_run=False, resume=False, profile=False, processes=None)
    evaluate(run, None)
    assert header(run)["model"].endswith("run/checkpoints/step-000001")
    assert "method" in (run / "config.yaml").read_text()


@pytest.mark.slow
def test_killed_evaluations_go_on(tmp_path: Path) -> None:
    words = ["evaluate", "embedded:countdown", "-n", "8", "task.test_size=60", "evaluate.at_a_time=4", MEASURES]

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "progrpo", *words, "--out", str(out)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    rows = tmp_path / "killed/evaluations/countdown.jsonl"
    process = start(tmp_path / "killed")
    while not rows.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not header(tmp_path / "killed").get("complete")
    assert start(tmp_path / "killed").wait() == 0
    assert texts(tmp_path / "killed") == texts(tmp_path / "whole")
    one, other = header(tmp_path / "killed"), header(tmp_path / "whole")
    assert one["summary"]["pass@1"] == other["summary"]["pass@1"]
