"""The verb `verify`, run as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COUNTDOWN = [
    {"id": "right", "completion": "2+4", "answer": "6", "numbers": [2, 4]},
    {"id": 2, "completion": "2*4", "answer": 6, "numbers": [2, 4]},
    {"id": "unreadable", "completion": "six", "answer": "6", "numbers": [2, 4]},
    {"id": "no numbers", "completion": "2+4", "answer": "6"},
]


def verify(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "progrpo", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_is_graded_in_order(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = verify(write(tmp_path / "in.jsonl", COUNTDOWN), "--reward", "expression", "--out", out)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["right", 2, "unreadable", "no numbers"]
    assert [row["status"] for row in rows] == ["correct", "wrong", "no_answer", "bad_gold"]
    assert [row["correct"] for row in rows] == [True, False, False, False]
    assert list(rows[0]) == ["id", "status", "correct", "reward", "extracted", "detail", "seconds"]
    assert rows[1]["detail"] == "equals 8, expected 6"
    assert "mean reward" in done.stdout
    assert "0.2500" in done.stdout


def test_two_graders_side_by_side(tmp_path: Path) -> None:
    rows = [
        {"id": "both", "completion": "Answer: 34", "answer": "34"},
        {"id": "one", "completion": "Answer: 34.0", "answer": "34"},
    ]
    out = tmp_path / "out.jsonl"
    done = verify(write(tmp_path / "in.jsonl", rows), "--reward", "math", "--reward", "dapo_math", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "math and dapo_math disagree on 1 of 2 rows" in done.stdout
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["correct"] for row in graded] == [True, True]
    assert [row["others"]["dapo_math"]["correct"] for row in graded] == [True, False]


def test_settings_of_a_reward_go_by_its_name(tmp_path: Path) -> None:
    rows = [{"id": 1, "completion": "<a>2+4</a>", "answer": "6", "numbers": [2, 4]}]
    done = verify(write(tmp_path / "in.jsonl", rows), "expression.tag=a", "--reward", "expression", "--show", "0")
    assert "correct" in done.stdout
    assert "1.0000" in done.stdout


def test_tokens_of_a_row_count_for_terms_on_length(tmp_path: Path) -> None:
    rows = [COUNTDOWN[0] | {"tokens": 10}]
    settings = ["length.over={name: expression}", "length.limit_tokens=10", "length.buffer_tokens=5"]
    done = verify(write(tmp_path / "in.jsonl", rows), *settings, "--reward", "length", "--show", "0")
    assert done.returncode == 0, done.stderr
    assert "0.0000" in done.stdout.split("mean reward")[1].split("\n")[0]


def test_what_no_file_can_hold_loses_no_row(tmp_path: Path) -> None:
    rows = [
        {"id": "\ud800", "completion": "2+4\udfff", "answer": "6", "numbers": [2, 4]},
        {"id": "\u0000", "completion": "2+4", "answer": "6", "numbers": [2, 4]},
    ]
    out = tmp_path / "out.jsonl"
    done = verify(write(tmp_path / "in.jsonl", rows), "--reward", "expression", "--out", out, "--show", "0")
    assert done.returncode == 0, done.stderr
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in graded] == ["\ud800", "\u0000"]
    assert [row["status"] for row in graded] == ["no_answer", "correct"]


@pytest.mark.parametrize(
    "line", [b'{"completion": "\xff"}', b'{"completion": "x", "answer": ' + b"1" * 5000 + b"}", b"[" * 99_999]
)
def test_lines_that_python_cannot_read_are_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"completion": "x"}\n' + line)
    done = verify(path)
    assert done.returncode == 2
    assert "line 2: not JSON" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(COUNTDOWN[0]).encode())
    assert verify(path, "--reward", "expression").returncode == 0


@pytest.mark.parametrize(
    ("lines", "arguments", "message"),
    [
        (None, (), "no such file"),
        ([], (), "the file has no rows"),
        (['{"id": 1}'], (), 'line 1: "completion" must be text, got None'),
        (['{"completion": "x", "answer": {"a": 1}}'], (), "line 1: 'answer' must be text, a finite number, or a list"),
        (['{"completion": "x"}', "{"], (), "line 2: not JSON"),
        (["[1]"], (), "line 1: expected a JSON object, got list"),
        (['{"completion": "x"}'], ("--reward", "expresion"), "did you mean 'expression'"),
        (['{"completion": "x"}'], ("--reward", "expression", "--reward", "expression"), "the same reward twice"),
        (['{"completion": "x"}'], ("verify.workrs=2",), "did you mean 'workers'"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, lines: list[str] | None, arguments: tuple[str, ...], message: str) -> None:
    path = tmp_path / "in.jsonl"
    if lines is not None:
        path.write_text("\n".join(lines))
    done = verify(path, *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_an_existing_out_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    done = verify(write(tmp_path / "in.jsonl", COUNTDOWN), "--reward", "expression", "--out", out)
    assert done.returncode == 2
    assert "nothing was overwritten" in done.stderr
    assert out.read_text() == "precious"
