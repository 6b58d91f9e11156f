"""A reward out of a file, with the results that rewards give elsewhere, through a whole run."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.errors import VerifierError
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings

REWARDS = """
import math
from progrpo.types import Verdict

def score_of_text(text):
    return sum(map(ord, text)) % 3

def number(text, problem):
    return score_of_text(text) - 1.0

def sometimes(text, problem):
    return None if score_of_text(text) == 0 else score_of_text(text) - 1.5

def nothing(text, problem):
    return None

def nan(text, problem):
    return math.nan

def inf(text, problem):
    return math.inf

def right(text, problem):
    return Verdict(status="right", reward=1.0)
"""


@pytest.fixture
def run(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[[str], Path]:
    (tmp_path / "mine.py").write_text(REWARDS)

    def start(function: str) -> Path:
        reward = {"name": f"{tmp_path / 'mine.py'}:{function}"}
        data = settings(reward=reward, steps=1, evaluate={"every": 0}, checkpoint={"every": 0})
        return train(parse(RunSettings, data, where="test")).path

    return start


def _strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("function", ["number", "sometimes", "nothing"])
def test_numbers_and_none_are_taken_as_they_are_meant(run: Callable[[str], Path], function: str) -> None:
    path = run(function)
    rows = [_strict(line) for line in (path / "rollouts/step-000001.jsonl").read_text().splitlines()]
    for row in rows:
        modulo = sum(map(ord, row["completion"])) % 3
        expected = {"number": modulo - 1.0, "sometimes": modulo - 1.5 if modulo else None, "nothing": None}[function]
        assert row["status"] == ("bad_gold" if expected is None else "correct" if expected > 0 else "wrong")
        assert expected is None or row["reward"] == expected
    (metrics,) = (_strict(line) for line in (path / "metrics.jsonl").read_text().splitlines())
    judged = [row["reward"] for row in rows if row["status"] != "bad_gold"]
    mean = metrics["rollout/reward"]
    assert mean is None if not judged else math.isclose(mean, sum(judged) / len(judged), abs_tol=1e-6)
    for file in path.rglob("*.json*"):
        for line in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            _strict(line)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("nan", "gave nan; expected a Verdict, a finite number, a bool or None"),
        ("inf", "gave inf; expected a Verdict, a finite number"),
        ("right", "a verdict has the status 'right'; expected one of correct, wrong"),
    ],
)
def test_what_is_no_result_stops_the_run_and_names_the_reward(
    run: Callable[[str], Path], tmp_path: Path, function: str, words: str
) -> None:
    with pytest.raises(VerifierError) as refused:
        run(function)
    assert f"mine.py:{function}'" in str(refused.value)
    assert words in str(refused.value)
    assert not (tmp_path / "run").exists()  # nothing was trained, nothing is claimed


def test_a_metric_that_is_not_finite_is_null_and_said(
    settings: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    from progrpo.train.record import RunDirectory
    from progrpo.types import WeightedMean

    with RunDirectory.create(parse(RunSettings, settings(), where="test"), (), "digest") as directory:
        row = directory.write_metrics(
            1, {"a": WeightedMean(math.nan, 1), "b": math.inf, "c": 0.5, "d": WeightedMean(0, 0)}
        )
    assert row == {"step": 1, "a": None, "b": None, "c": 0.5, "d": None}
    assert _strict((directory.path / "metrics.jsonl").read_text()) == row
    assert "step 1: not finite, written as null: a, b" in caplog.text
