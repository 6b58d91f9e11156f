"""What each tracker is told, with modules in place of the libraries."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from progrpo.errors import ConfigError, StorageError
from progrpo.files import read_jsonl
from progrpo.settings import parse
from progrpo.train import record, setup, trackers
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings
from progrpo.train.trackers import Tracked, Trackers, plain

Make = Callable[..., dict[str, Any]]
NAMES = ["tensorboard", "wandb", "trackio"]


class Told:
    """A library of each kind; `starts` and `rows` hold what it was told."""

    def __init__(self) -> None:
        self.starts: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
        self.rows: dict[str, list[tuple[int, dict[str, float]]]] = {name: [] for name in NAMES}
        self.tables: dict[str, list[tuple[int, Any]]] = {name: [] for name in NAMES}
        self.ended: list[str] = []
        self.fault: Exception | None = None

    def modules(self) -> dict[str, ModuleType]:
        told = self

        class Run:
            def __init__(self, name: str) -> None:
                self.name = name

            def log(self, values: dict[str, Any], step: int) -> None:
                if "samples" in values:
                    told.tables[self.name].append((step, values["samples"]))
                else:
                    told.rows[self.name].append((step, values))

            def finish(self) -> None:
                told.ended.append(self.name)

        def starter(name: str) -> Callable[..., Run]:
            def init(**given: Any) -> Run:
                if told.fault is not None:
                    raise told.fault
                told.starts[name].append(given)
                return Run(name)

            return init

        class SummaryWriter:
            def __init__(self, log_dir: str, purge_step: int) -> None:
                told.starts["tensorboard"].append({"log_dir": log_dir, "purge_step": purge_step})

            def add_text(self, tag: str, text: str, step: int) -> None:
                if tag == "samples":
                    told.tables["tensorboard"].append((step, text))
                else:
                    told.starts["tensorboard"][-1][tag] = (text, step)

            def add_scalar(self, key: str, value: float, step: int) -> None:
                told.rows["tensorboard"].append((step, {key: value}))

            def flush(self) -> None:
                pass

            def close(self) -> None:
                told.ended.append("tensorboard")

        made = {name: ModuleType(name) for name in ("torch.utils.tensorboard", "wandb", "trackio")}
        made["torch.utils.tensorboard"].SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
        for name in ("wandb", "trackio"):
            made[name].init = starter(name)  # type: ignore[attr-defined]
            made[name].Table = lambda **cells: cells  # type: ignore[attr-defined]
        return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setenv("TRACKIO_DIR", "anything")  # so that what the code sets is undone
    monkeypatch.delenv("TRACKIO_DIR")
    for name, module in told.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for module in (record, setup):
        monkeypatch.setattr(module, "require_trackers", lambda settings: None)
    return told


def run(settings: dict[str, Any], *, resume: bool = False) -> Path:
    return train(parse(RunSettings, settings, where="test"), resume=resume).path


def test_each_tracker_gets_the_rows_of_metrics(settings: Make, told: Told) -> None:
    data = settings(record={"trackers": NAMES, "project": "mine"}, steps=2)
    path = run(data)
    rows = read_jsonl(path / "metrics.jsonl")
    expected = [(row["step"], {key: v for key, v in row.items() if v is not None and key != "step"}) for row in rows]
    assert told.rows["wandb"] == told.rows["trackio"] == expected
    assert told.rows["tensorboard"] == [(step, {key: value}) for step, row in expected for key, value in row.items()]
    assert sorted(told.ended) == sorted(NAMES)
    board, wandb, trackio = (told.starts[name][0] for name in NAMES)
    assert board["log_dir"] == str(path / "tensorboard")
    assert "| method.alpha | 0.3 |" in board["settings"][0]
    assert "| batch.group | 4 |" in board["settings"][0]
    assert wandb["dir"] == str(path)
    assert wandb["project"] == trackio["project"] == "mine"
    assert wandb["config"]["batch.group"] == trackio["config"]["batch.group"] == 4
    assert wandb["name"] == "run"
    assert wandb["group"] == trackio["group"] == "run"
    assert os.environ["TRACKIO_DIR"] == str(path / "trackio")


def test_each_tracker_gets_a_table_of_sample_completions(settings: Make, told: Told) -> None:
    batch = {"prompts": 3, "group": 4, "micro_tokens": 128}
    path = run(settings(record={"trackers": NAMES, "samples_every": 2}, steps=3, batch=batch, evaluate={"every": 0}))
    (first, cells), (third, _) = told.tables["wandb"]
    assert (first, third) == (1, 3)
    assert cells["columns"] == ["problem", "prompt", "completion", "answer", "status", "reward", "advantage"]
    # of three groups of four the first completion of each, the second, and two thirds: 8
    rows = read_jsonl(path / "rollouts/step-000001.jsonl")
    chosen = [rows[0], rows[4], rows[8], rows[1], rows[5], rows[9], rows[2], rows[6]]
    assert [row[:3] for row in cells["data"]] == [[one["problem"], one["prompt"], one["completion"]] for one in chosen]
    assert [row[6] for row in cells["data"]] == [one["advantage"] for one in chosen]
    frame = told.tables["trackio"][0][1]["dataframe"]
    assert frame.to_numpy().tolist() == cells["data"]
    text = told.tables["tensorboard"][0][1].splitlines()
    assert text[0] == "| problem | prompt | completion | answer | status | reward | advantage |"
    assert len(text) == 2 + 8


def test_no_table_where_nobody_asked(settings: Make, told: Told) -> None:
    run(settings(record={"trackers": NAMES, "samples_every": 0}, steps=1, evaluate={"every": 0}))
    assert not any(told.tables.values())


@pytest.mark.parametrize(
    ("name", "seed", "group"),
    [
        ("a-3", 3, "a"),
        ("a-seed3", 3, "a"),
        ("seed3", 3, "seed3"),
        ("a-13", 3, "a-13"),
        ("math", 0, "math"),
        ("qwen2.5", 5, "qwen2.5"),
    ],
)
def test_runs_of_other_seeds_share_their_group(name: str, seed: int, group: str) -> None:
    assert trackers._without_seed(name, seed) == group


def test_files_of_trackio_go_where_they_were_asked_to(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", "/elsewhere")
    Trackers(["trackio"], Tracked(tmp_path, "p", "g", "id", {}, 0))
    assert "trackio writes into /elsewhere (TRACKIO_DIR)" in caplog.text
    assert os.environ["TRACKIO_DIR"] == "/elsewhere"


def test_a_resumed_run_is_the_same_run_there(settings: Make, told: Told, tmp_path: Path) -> None:
    data = settings(record={"trackers": NAMES})
    run(data | {"steps": 2})
    run(data, resume=True)
    # steps 0 to 2 stand; what a killed process logged of step 3 does not
    assert [start["purge_step"] for start in told.starts["tensorboard"]] == [0, 3]
    assert [start["resume"] for start in (*told.starts["wandb"], *told.starts["trackio"])] == ["allow"] * 4
    assert len({start["id"] for start in told.starts["wandb"]}) == 1
    assert len({start["name"] for start in told.starts["trackio"]}) == 1
    run(data | {"out": str(tmp_path / "another"), "steps": 2})
    assert len({start["id"] for start in told.starts["wandb"]}) == 2
    assert len({start["name"] for start in told.starts["trackio"]}) == 2


def test_a_tracker_that_does_not_start_leaves_no_run_behind(settings: Make, told: Told) -> None:
    told.fault = RuntimeError("api_key not configured")
    data = settings(record={"trackers": ["tensorboard", "wandb"]})
    with pytest.raises(
        ConfigError, match=r"record.trackers: wandb does not start: RuntimeError: api_key not configured"
    ):
        run(data)
    assert told.ended == ["tensorboard"]  # begun before it, and closed
    assert not Path(data["out"]).exists()


def test_a_full_disk_is_told_as_one(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Trackers(["wandb"], Tracked(tmp_path, "p", "g", "id", {}, 0))

    def full(values: Any, step: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(started._started[0].log.__closure__[0].cell_contents, "log", full)
    with pytest.raises(StorageError, match="No space left on device"):
        started.log({"step": 1, "a": 1.0})


def test_no_launcher_is_asked(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)  # an import of it would fail
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "nowhere"}.items():
        monkeypatch.setenv(name, value)
    Trackers(NAMES, Tracked(tmp_path, "p", "g", "id", {}, 0)).finish()
    assert sorted(told.ended) == sorted(NAMES)


def test_settings_become_one_table() -> None:
    nested = {"a": 1, "b": {"c": None, "d": {"e": 0.5}}, "f": ["x", 2], "g": {}}
    assert plain(nested) == {"a": 1, "b.c": None, "b.d.e": 0.5, "f": "['x', 2]"}


def test_every_tracker_that_settings_allow_can_be_started() -> None:
    assert sorted(trackers._START) == sorted(NAMES)
