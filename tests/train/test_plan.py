import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from progrpo.errors import DataError, PluginError, ProgrpoError, StorageError
from progrpo.model import count_parameters
from progrpo.rollout.generate import _for_length
from progrpo.settings import parse
from progrpo.train import disk_space
from progrpo.train import plan as plan_module
from progrpo.train.benchmarks import plan_benchmarks
from progrpo.train.disk_space import predict
from progrpo.train.loop import train
from progrpo.train.plan import STOPS, make_plan
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose, resolve

Make = Callable[..., dict[str, Any]]

UNABLE = "./unable.py"


def plan(settings: dict[str, Any]) -> list[str]:
    return make_plan(choose(parse(RunSettings, settings, where="test")))


def test_a_model_that_is_here_has_its_memory_counted(settings: Make) -> None:
    lines = plan(settings())
    assert not [line for line in lines if "the run would stop" in line or "not known" in line]
    assert [line.split(":")[0].split(" (")[0] for line in lines[-4:]] == [
        "model",
        "memory per process",
        "memory",
        "disk",
    ]


def test_weights_that_are_cut_short_stop_the_plan(
    settings: Make, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (line,) = [line for line in plan(settings(model={"path": str(folder)})) if line.startswith(STOPS)]
    assert f"{weights} cannot be read" in line


def test_a_model_that_is_refused_for_its_size_has_its_memory_told(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progrpo.train.footprint.device_memory", lambda device: 10_000)
    chosen = choose(parse(RunSettings, settings(parallel="fsdp2"), where="test"))
    found = "\n".join(make_plan(chosen, processes=2))
    assert "memory per process (fsdp2, 2 processes), GiB: " in found
    assert "DOES NOT FIT" in found
    assert f"{STOPS}engine 'hf' samples from a whole copy of the model beside the shards" in found


@pytest.mark.parametrize("path", ["no-such-owner/no-such-model", "/nowhere/at/all"])
def test_a_model_that_is_not_here_stops_no_plan(settings: Make, path: str) -> None:
    lines = plan(settings(model={"path": path}))
    assert "optimiser step: 4 problems = 16 sequences; 1 step per rollout, by adamw" in lines
    assert lines[-1].startswith("warning: as things are the run would stop: model")
    assert path in lines[-1]
    assert not [line for line in lines if line.startswith(("memory", "disk"))]


def test_held_out_problems_that_are_trained_on_are_said(settings: Make, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) + "\n" for n in range(9))
    (tmp_path / "a.jsonl").write_text(rows)
    (tmp_path / "b.jsonl").write_text(rows[: len(rows) // 3] + '{"prompt": "9+9=", "answer": "18"}\n')
    task = {"name": "file", "chat": False, "train": str(tmp_path / "a.jsonl"), "test": str(tmp_path / "b.jsonl")}
    lines = plan(settings(task=task, reward={"name": "math"}, batch={"prompts": 4, "group": 2}))
    assert [line for line in lines if "3 of 4 held-out problems are training problems too" in line]
    task["test"] = str(tmp_path / "c.jsonl")
    (tmp_path / "c.jsonl").write_text('{"prompt": "9+9=", "answer": "18"}\n')
    found = plan(settings(task=task, reward={"name": "math"}, verify={"check_gold": False}))
    assert not [line for line in found if "training problems too" in line]
    (tmp_path / "c.jsonl").write_text('{"prompt": " 3+1=\\n", "answer": "4"}\n')  # but for white space
    found = plan(settings(task=task, reward={"name": "math"}, verify={"check_gold": False}))
    assert [line for line in found if "1 of 1 held-out problems are training problems too" in line]


def test_benchmarks_that_are_trained_on_are_said(
    settings: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) + "\n" for n in range(9))
    (tmp_path / "a.jsonl").write_text(rows)
    (tmp_path / "b.jsonl").write_text('{"prompt": "9+9=", "answer": "18"}\n')
    task = {"name": "file", "chat": False, "train": str(tmp_path / "a.jsonl"), "test": str(tmp_path / "b.jsonl")}
    made = settings(
        task=task,
        steps=1,
        reward={"name": "math"},
        verify={"check_gold": False},
        evaluate={"every": 1, "n": 1, "tasks": [{"name": "file", "test": str(tmp_path / "a.jsonl"), "chat": False}]},
    )
    train(parse(RunSettings, made, where="test"))
    assert "9 of 9 problems of benchmark file are training problems too" in caplog.text


def stops(settings: dict[str, Any], **kwargs: Any) -> list[str]:
    lines = make_plan(choose(parse(RunSettings, settings, where="test")), **kwargs)
    return [line.removeprefix(STOPS) for line in lines if line.startswith(STOPS)]


HALF_BAD = """
from stand_ins.parity import Params, score
def gold_fault(problem, params):
    return "odd" if int(problem.id[-1]) % 2 else None
"""


def test_golds_are_checked(settings: Make, make_module: Callable[[str], str]) -> None:
    made = settings(reward={"name": make_module(HALF_BAD)})
    lines = plan(resolve(parse(RunSettings, made, where="test")).model_dump())
    assert [line for line in lines if re.fullmatch(r"warning: \d+ of 28 gold answers do not verify; .*left out", line)]
    (data,) = [line for line in lines if line.startswith("data:")]
    assert int(re.search(r"data: (\d+) training", data)[1]) < 24
    bad = make_module(HALF_BAD.replace('"odd" if int(problem.id[-1]) % 2 else None', '"odd"'))
    assert [line for line in stops(settings(reward={"name": bad})) if "of all 24 train problems are unusable" in line]


def test_each_reason_is_given_and_all_at_once(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    found = stops(
        settings(
            task={"name": "file", "train": "nowhere.jsonl"},
            model={"path": "/nowhere/at/all", "device": "quantum"},
        )
    )
    for part in (
        "is not empty and holds no run",
        "'quantum' cannot be used",
        "nowhere.jsonl: no such file",
        "/nowhere/at",
    ):
        assert len([line for line in found if part in line]) == 1, part
    assert len(found) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": "/proc/run"}, "/proc/run cannot be written: .*choose another with out="),
        ({"out": "file.txt/run"}, "file.txt/run cannot be made: .*file.txt is no folder"),
        ({"out": "x" * 300}, "cannot be written: File name too long"),
        ({"record": {"trackers": ["trackio"]}}, "'trackio' is not installed"),
        ({"batch": {"prompts": 40, "group": 2}}, "batch.prompts=40 exceeds the 24 training problems"),
        ({"method": {"name": "dapo", "max_rounds": 9}}, "method.max_rounds=9 times batch.prompts=4 exceeds the 24"),
        ({"data": {"max_prompt_tokens": 3}}, "prompts are longer than data.max_prompt_tokens=3"),
        (
            {"sampling": {"max_new_tokens": 4, "stop": [999]}},
            "sampling.stop: the model has no token 999; expected ids below",
        ),
        ({"evaluate": {"every": 2, "measures": [UNABLE]}}, "this measure needs a machine of another kind"),
    ],
)
def test_one_reason(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "file.txt").touch()
    if "out" in changes and changes["out"][0] == "f":
        changes = {"out": str(tmp_path / changes["out"])}
    (tmp_path / UNABLE).write_text(
        "from progrpo.errors import ConfigError\n"
        "def measure(judged, params): return {}\n"
        "def prepare(params): raise ConfigError('this measure needs a machine of another kind')\n"
    )
    monkeypatch.chdir(tmp_path)
    made = settings(**changes)
    line, *others = stops(made)
    assert re.search(message, line)
    assert bool(others) == (made["out"] == "/proc/run")  # which has no room either
    # and the run itself stops for it before anything is made
    with pytest.raises(ProgrpoError, match=message):
        train(parse(RunSettings, made, where="test"))


def test_a_mistyped_measure_is_refused_before_anything_is_read(settings: Make) -> None:
    mistyped = settings(evaluate={"every": 2, "measures": ["pass_at_kk"]}, model={"path": "/nowhere/at/all"})
    for go in (plan, lambda given: train(parse(RunSettings, given, where="test"))):
        with pytest.raises(PluginError, match="measures: unknown name 'pass_at_kk'; did you mean 'pass_at_k'"):
            go(mistyped)


def test_what_a_resumed_run_would_stop_for(settings: Make) -> None:
    made = settings(steps=2, evaluate={"every": 0})
    path = train(parse(RunSettings, made, where="test")).path
    (line,) = stops(made)
    assert "already holds a run" in line
    whole = resolve(parse(RunSettings, made | {"steps": 4}, where="test"))
    assert not [line for line in make_plan(choose(whole), resume=True) if "would stop" in line]
    other = resolve(parse(RunSettings, made | {"seed": 3}, where="test"))
    (line,) = [line for line in make_plan(choose(other), resume=True) if "would stop" in line]
    assert "cannot resume with other settings: seed: 0 -> 3" in line
    assert path.is_dir()


def test_the_size_of_a_checkpoint_is_predicted(settings: Make) -> None:
    made = parse(RunSettings, settings(steps=2, evaluate={"every": 0}), where="test")
    path = train(made).path / "checkpoints" / "step-000002"
    written = {name: (path / name).stat().st_size for name in ("model.safetensors", "trainer_state.pt")}
    room = predict(made, count_parameters(made.model.path)["parameters"], held_out=0)
    # 4 bytes of weight and 8 of moments a parameter; names and shapes are the rest, much in so small a model
    assert room.checkpoint <= sum(written.values()) <= room.checkpoint + 40_000
    assert room.largest <= written["trainer_state.pt"]


def test_room_is_counted_in_checkpoints_kept_and_being_written(settings: Make) -> None:
    def room(**checkpoint: int) -> int:
        made = settings(steps=10, checkpoint=checkpoint, evaluate={"every": 5, "n": 3}, record={"rollouts_every": 4})
        return predict(parse(RunSettings, made, where="test"), 1000, held_out=4).at_once

    assert room(every=0, keep=2) == 1  # the last step alone
    assert room(every=2, keep=2) == 3  # five are made; two are kept while the next is written
    assert room(every=2, keep=9) == 5
    assert room(every=4, keep=9) == 3  # steps 4, 8, and the last
    made = parse(
        RunSettings, settings(steps=10, record={"rollouts_every": 4}, evaluate={"every": 4, "n": 3}), where="test"
    )
    # rollouts 1, 5, 9 of 16 completions; evaluations at 0, 4, 8, 10 of 4 problems x 3; 1,000 + 10 tokens x 4 bytes a row
    # and 28 bytes for each of the 160 tokens of the ten rollouts, each of which leads to a checkpoint or follows one
    assert predict(made, 1000, held_out=4).tokens == 10 * 28 * 16 * 10
    assert predict(made, 1000, held_out=4).rows == (3 * 16 + 4 * 4 * 3) * 1040 + 10 * 28 * 16 * 10
    small = made.model_copy(update={"record": made.record.model_copy(update={"tokens_mib": 0.01})})
    assert predict(small, 1000, held_out=4).tokens == 10485
    # and at each of the four evaluations two benchmarks, of 5 problems x 2 and 7 x 6
    more = predict(made, 1000, 4, [(5, 2), (7, 6)]).rows - predict(made, 1000, 4).rows
    assert more == 4 * (5 * 2 + 7 * 6) * 1040
    longer = made.model_copy(update={"evaluate": made.evaluate.model_copy(update={"max_new_tokens": 100})})
    assert predict(longer, 1000, 4).rows - predict(made, 1000, 4).rows == 4 * 4 * 3 * (100 - 10) * 4


def test_the_rows_of_benchmarks_are_in_the_plan(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(plan_module, "predict", lambda *args: seen.append(args[2:]) or predict(*args))
    benchmark = {
        "name": "countdown",
        "test_size": 3,
        "numbers": 3,
        "max_number": 6,
        "max_target": 20,
        "min_solutions": 1,
    }
    made = settings(evaluate={"every": 2, "n": 5, "tasks": [benchmark]})
    lines = plan(made)
    assert not [line for line in lines if line.startswith(STOPS)]
    ((held_out, benchmarks),) = seen
    assert held_out > 0
    assert benchmarks == [(3, 5)]


def test_a_benchmark_of_the_runs_own_task_is_judged_by_the_runs_reward(settings: Make) -> None:
    other = {"name": "countdown", "test_size": 3, "numbers": 3, "max_number": 6, "max_target": 20, "min_solutions": 1}
    reward = {"name": "expression", "correct_reward": 2.0}
    made = parse(RunSettings, settings(evaluate={"every": 2, "tasks": [other]}, reward=reward), where="test")
    (benchmark,) = plan_benchmarks(resolve(made))
    assert benchmark.reward.params["correct_reward"] == 2.0


def test_no_room_for_the_checkpoints(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = settings(checkpoint={"every": 2, "keep": 1})
    needed = 2 * 12 * count_parameters(made["model"]["path"])["parameters"]
    monkeypatch.setattr(disk_space, "free_bytes", lambda path: needed - 1)
    (line,) = stops(made)
    assert re.search(r"disk has 0.00 GiB left, and the run will need 0.00 GiB for 2 checkpoints", line)
    with pytest.raises(
        StorageError, match="make room, choose another disk with out=DIRECTORY, or lower checkpoint.keep"
    ):
        train(parse(RunSettings, made, where="test"))
    assert not Path(made["out"]).exists()
    monkeypatch.setattr(disk_space, "free_bytes", lambda path: needed)
    assert not stops(made)
    assert [line for line in plan(made) if line.startswith("warning:") and "the run may need" in line]


def test_checkpoints_that_are_there_count_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints" / "step-000001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000001" / "file").write_bytes(bytes(1000))
    monkeypatch.setattr(disk_space, "free_bytes", lambda path: 500)
    fits = disk_space.DiskSpace(checkpoint=750, largest=500, at_once=2, rows=0)
    assert disk_space.require_disk_space(tmp_path, fits) == []
    with pytest.raises(StorageError, match="make room"):
        disk_space.require_disk_space(tmp_path, replace(fits, checkpoint=751))


def test_a_limit_on_the_size_of_files_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_space.resource, "getrlimit", lambda which: (10, 10))
    with pytest.raises(StorageError, match="ulimit -f"):
        disk_space.require_disk_space(tmp_path, disk_space.DiskSpace(checkpoint=17, largest=11, at_once=1, rows=0))


@pytest.fixture
def long_and_short(tmp_path: Path) -> dict[str, Any]:
    """Three problems; the second prompt has 490 tokens, of the tiny model's 512."""
    prompts = ("1+1=", "1" * 490, "1+2=")
    rows = "".join(json.dumps({"prompt": prompt, "answer": "2"}) + "\n" for prompt in prompts)
    (tmp_path / "long.jsonl").write_text(rows)
    return {
        "task": {"name": "file", "chat": False, "train": str(tmp_path / "long.jsonl")},
        "reward": {"name": "math"},
        "batch": {"prompts": 2, "group": 2},
        "evaluate": {},
        "verify": {"check_gold": False},
    }


def test_a_completion_beyond_the_model_s_positions_is_refused(
    settings: Make, long_and_short: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    fits = settings(**long_and_short, sampling={"max_new_tokens": 22})  # 490 + 22 = 512
    assert not [line for line in plan(fits) if "would stop" in line]
    beyond = settings(**long_and_short, sampling={"max_new_tokens": 23})
    said = (
        "training problems: 1 of 3 prompts is too long for sampling.max_new_tokens=23 within the model's 512 positions; the "
        "first, .*long.jsonl, line 2, has 490 tokens. Set sampling.max_new_tokens=22 or less, or "
        "data.long_prompts=drop"
    )
    assert re.search(f"the run would stop: {said}", "\n".join(plan(beyond)))
    with pytest.raises(DataError, match=said):
        train(parse(RunSettings, beyond, where="test"))
    assert not Path(beyond["out"]).exists()
    dropped = settings(**long_and_short, sampling={"max_new_tokens": 23}, data={"long_prompts": "drop"})
    assert "data: 2 training problems, prompts up to 4 tokens" in plan(dropped)
    assert "1 of 3 prompts left out, too long for sampling.max_new_tokens=23 within" in caplog.text
    alone = settings(**long_and_short, sampling={"max_new_tokens": 512})
    assert "3 of 3 prompts are too long for sampling.max_new_tokens=512" in "\n".join(plan(alone))
    assert "Set sampling.max_new_tokens=22 or less" in "\n".join(plan(alone))
    assert "drop" not in "\n".join(plan(alone))  # none would be left


@pytest.mark.parametrize(
    ("positions", "limit", "longest", "remedies"),
    [
        (None, 8, 490, ["data.max_prompt_tokens=490", "DROP"]),
        (512, 8, 490, ["data.max_prompt_tokens=490", "DROP"]),  # 490 + 22 new tokens = 512
        (
            500,
            8,
            490,
            [
                "sampling.max_new_tokens=10 or less with data.max_prompt_tokens=490",
                "DROP",
                "MODEL of more than 500 positions",
            ],
        ),
        (500, 600, 490, ["sampling.max_new_tokens=10 or less", "DROP", "MODEL of more than 500 positions"]),
        (490, 600, 490, ["DROP", "MODEL of more than 490 positions"]),  # no completion has room, however short
    ],
)
def test_what_is_advised_makes_room_for_the_longest_prompt(
    positions: int | None, limit: int, longest: int, remedies: list[str]
) -> None:
    advised = [
        one.replace("model.path to a model", "MODEL") for one in _for_length(longest, positions, 22, limit, ["DROP"])
    ]
    assert advised == remedies


def test_tokens_without_an_embedding_stop_the_plan(settings: Make, tmp_path: Path) -> None:
    folder = shutil.copytree(settings()["model"]["path"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": 40}
    (folder / "config.json").write_text(json.dumps(config))
    made = settings(model={"path": str(folder)})
    (line,) = [line for line in plan(made) if "would stop" in line]
    assert "but the model embeds 40 tokens" in line
