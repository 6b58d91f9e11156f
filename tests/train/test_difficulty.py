"""Pass rates before training: measured once and kept, what they leave to train on, and the order that they give."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from progrpo.errors import ConfigError, RunDirectoryError
from progrpo.files import read_jsonl
from progrpo.settings import parse
from progrpo.train import difficulty
from progrpo.train.difficulty import PassRate, describe, from_rows, select, to_rows
from progrpo.train.plan import make_plan
from progrpo.train.settings import DataSettings, RunSettings
from progrpo.train.setup import choose
from progrpo.types import Problem
from stand_ins.noting_engine import ENGINE
from stand_ins.runs import run

Make = Callable[..., dict[str, Any]]
FIVE = [Problem(id=name, prompt="") for name in "abcde"]
RATES = {"a": PassRate(0, 4), "b": PassRate(1, 4), "c": PassRate(2, 4), "d": PassRate(4, 4), "e": PassRate(0, 0)}
KEPT = {"pass_rate": (0.25, 0.75), "pass_rate_samples": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(difficulty.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "pass_rates"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The problems that were sampled to be measured, in order."""
    ids: list[str] = []
    real = difficulty.run_rollout

    def counted(problems: list[Problem], **kwargs: Any) -> Any:
        ids.extend(problem.id for problem in problems)
        return real(problems, **kwargs)

    monkeypatch.setattr(difficulty, "run_rollout", counted)
    return ids


@pytest.fixture
def filtered(settings: Make) -> Make:
    return lambda **changes: settings(
        **{"data": KEPT, "steps": 2, "evaluate": {}, "checkpoint": {"every": 1}} | changes
    )


def weights(path: Path) -> bytes:
    return (path / "checkpoints" / "step-000002" / "model.safetensors").read_bytes()


def sampled(path: Path, steps: int = 2) -> list[str]:
    """The problems of the rollouts, in order."""
    rows = [row for step in range(1, steps + 1) for row in read_jsonl(path / "rollouts" / f"step-{step:06d}.jsonl")]
    return list(dict.fromkeys(f"{row['problem']}" for row in rows))


def test_what_is_kept_and_what_is_said() -> None:
    data = DataSettings(**KEPT)
    assert [one.id for one in select(FIVE, RATES, data)] == ["b", "c"]  # both ends are within
    assert [one.id for one in select(FIVE, RATES, DataSettings())] == list("abcde")
    assert list(describe(FIVE, RATES, data)) == [
        "pass rates of 5 training problems before training, 4 completions each:",
        "  0                  1  " + "#" * 40,
        "  up to 0.25         1  " + "#" * 40,
        "  up to 0.5          1  " + "#" * 40,
        "  up to 0.75         0",
        "  below 1            0",
        "  1                  1  " + "#" * 40,
        "kept 2: of 5 problems 1 is too hard (pass rate below 0.25), 1 too easy (above 0.75), 1 could not be judged",
    ]
    rows = to_rows(FIVE, RATES, data)
    assert [row["kept"] for row in rows] == [False, True, True, False, False]
    assert from_rows(rows) == RATES
    with pytest.raises(ConfigError, match=r"data.pass_rate leaves no problem: of 5 problems 3 are too hard"):
        select(FIVE, RATES, DataSettings(pass_rate=(0.6, 0.9)))
    for wrong in ((0.9, 0.1), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(ConfigError, match=r"pass_rate: expected a range within \[0, 1\]"):
            parse(DataSettings, {"pass_rate": wrong}, where="data")


def test_a_run_measures_once_and_trains_on_what_is_kept(filtered: Make, measured: list[str], tmp_path: Path) -> None:
    told: list[str] = []
    path = run(filtered(), listen=lambda event, data: told.extend(data["lines"]) if event == "difficulty" else None)
    rows = read_jsonl(path / "pass_rates.jsonl")
    assert measured == [row["problem"] for row in rows]
    assert len(rows) == 24
    assert all(row["judged"] == 4 and row["pass_rate"] == row["correct"] / 4 for row in rows)
    assert all(row["kept"] is (0.25 <= row["pass_rate"] <= 0.75) for row in rows)
    kept = {row["problem"] for row in rows if row["kept"]}
    assert 8 <= len(kept) < 24  # or nothing is shown by what follows
    assert set(sampled(path)) <= kept
    assert told[-1].startswith(f"kept {len(kept)}: of 24 problems ")
    # Another run that begins with the same model takes what is known, and is the same for it to the last bit.
    again = run(filtered(out=str(tmp_path / "again")))
    other = run(filtered(out=str(tmp_path / "other"), seed=1, method={"name": "grpo"}))
    assert len(measured) == 24
    assert weights(again) == weights(path)
    assert (other / "pass_rates.jsonl").read_text() == (path / "pass_rates.jsonl").read_text()
    # One that samples otherwise measures for itself.
    run(filtered(out=str(tmp_path / "hot"), sampling={"max_new_tokens": 9}))
    assert len(measured) == 48


def test_a_resumed_run_measures_nothing(filtered: Make, cache: Path, measured: list[str]) -> None:
    made = filtered(data={**KEPT, "curriculum": True})
    path = run(made)
    whole, of_two = weights(path), len(measured)
    shutil.rmtree(path / "checkpoints" / "step-000002")
    shutil.rmtree(cache)
    run(made, resume=True)
    assert weights(path) == whole
    assert len(measured) == of_two
    (path / "pass_rates.jsonl").unlink()
    with pytest.raises(
        RunDirectoryError, match=r"pass_rates.jsonl is missing: which problems the run trains on is not known"
    ):
        run(made, resume=True)


def test_a_measurement_that_was_stopped_goes_on(
    filtered: Make, cache: Path, measured: list[str], tmp_path: Path
) -> None:
    path = run(filtered())
    (file,) = cache.iterdir()
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-10]) + lines[-10][:20])  # as a kill leaves it
    measured.clear()
    again = run(filtered(out=str(tmp_path / "again")))
    assert len(measured) == 10
    assert (again / "pass_rates.jsonl").read_text() == (path / "pass_rates.jsonl").read_text()
    measured.clear()
    run(filtered(out=str(tmp_path / "third")))
    assert measured == []  # what was measured anew is whole in the file, too


def test_a_curriculum_goes_from_easy_to_hard(filtered: Make, tmp_path: Path) -> None:
    made = filtered(data={"curriculum": True, "pass_rate_samples": 4}, steps=6, checkpoint={})
    path = run(made)
    rates = {row["problem"]: row["pass_rate"] for row in read_jsonl(path / "pass_rates.jsonl")}
    met = sampled(path, 6)
    assert len(met) == 24  # one epoch
    assert [rates[one] for one in met] == sorted(rates.values(), reverse=True)
    assert len(set(rates.values())) > 2
    # Equal ones come in the order of the seed.
    other = sampled(run(filtered(**made | {"seed": 1, "out": str(tmp_path / "other")})), 6)
    assert other != met
    assert [rates[one] for one in other] == [rates[one] for one in met]


def test_an_engine_of_its_own_weights_is_given_them_once_before_it_measures(
    filtered: Make, make_module: Callable[[str], str], tmp_path: Path
) -> None:
    name = make_module(ENGINE + "OWN_WEIGHTS = True\n")
    made = filtered(engine={"name": name}, data={**KEPT, "pass_rate_samples": 5}, steps=1)
    states: list[torch.Tensor] = []

    def listen(event: str, data: Any) -> None:
        if event == "difficulty":
            states.append(torch.get_rng_state())

    run(made, listen=listen)
    calls = importlib.import_module(name).calls
    # Measured by 5 completions each, trained on groups of 4, by the same engine.
    assert calls == ["version 0: 27 tensors", 5, 4, "version 1: 27 tensors", "close"]
    calls.clear()
    run(made | {"out": str(tmp_path / "again")}, listen=listen)
    assert calls == ["version 0: 27 tensors", 4, "version 1: 27 tensors", "close"]
    assert torch.equal(*states)  # what is drawn next does not depend on whether there was something to measure
    calls.clear()
    with pytest.raises(ConfigError, match=r"leaves no problem: of 24 problems 0 are too hard"):
        run(made | {"out": str(tmp_path / "few"), "data": {"pass_rate": [0.0, 0.0], "pass_rate_samples": 6}})
    assert calls == ["version 0: 27 tensors", 6, "close"]


def test_the_plan_knows_what_is_measured(filtered: Make, settings: Make) -> None:
    def lines(data: dict[str, Any]) -> list[str]:
        return make_plan(choose(parse(RunSettings, data, where="test")))

    (line,) = [line for line in lines(filtered()) if "pass rates" in line]
    assert line.startswith("pass rates: not measured yet; 24 problems x 4 completions = 96 before the first step")
    path = run(filtered())
    kept = sum(row["kept"] for row in read_jsonl(path / "pass_rates.jsonl"))
    found = lines(filtered(out=str(path.parent / "next")))
    assert "pass rates of 24 training problems before training, 4 completions each:" in found
    assert any(line.startswith(f"kept {kept}: of 24 problems") for line in found)
    assert not any("pass rates" in line for line in lines(settings(out=str(path.parent / "plain"))))


def test_a_cache_that_cannot_be_written_stops_no_run(
    filtered: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(difficulty.CACHE, str(tmp_path / "file" / "within"))
    path = run(filtered())
    assert len(read_jsonl(path / "pass_rates.jsonl")) == 24
    assert "pass rates are not kept for other runs" in caplog.text


def test_epochs_are_those_of_the_problems_that_are_kept(filtered: Make, tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"{n}+{n * n}=", "answer": n} for n in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"name": "file", "train": str(file), "chat": False}
    made = {key: value for key, value in filtered(task=task, epochs=1).items() if key != "steps"}
    path = run(made)
    kept = sum(row["kept"] for row in read_jsonl(path / "pass_rates.jsonl"))
    assert 4 <= kept < 20
    assert read_jsonl(path / "metrics.jsonl")[-1]["step"] == -(-kept // 4)
