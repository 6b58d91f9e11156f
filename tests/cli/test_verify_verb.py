"""The verb `verify`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Finished(NamedTuple):
    """What the fixture `here` gives."""

    status: int
    out: str
    err: str


Verify = Callable[..., Finished]
COUNTDOWN = [
    {"id": "right", "completion": "2+4", "answer": "6", "numbers": [2, 4]},
    {"id": 2, "completion": "2*4", "answer": 6, "numbers": [2, 4]},
    {"id": "unreadable", "completion": "six", "answer": "6", "numbers": [2, 4]},
    {"id": "no numbers", "completion": "2+4", "answer": "6"},
]


@pytest.fixture
def verify(here: Callable[..., Finished]) -> Verify:
    return lambda *arguments: here("verify", *arguments)


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_is_graded_in_order(tmp_path: Path, verify: Verify) -> None:
    out = tmp_path / "out.jsonl"
    done = verify(write(tmp_path / "in.jsonl", COUNTDOWN), "--reward", "expression", "--out", out)
    assert done.status == 0, done.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["right", 2, "unreadable", "no numbers"]
    assert [row["status"] for row in rows] == ["correct", "wrong", "no_answer", "bad_gold"]
    assert [row["correct"] for row in rows] == [True, False, False, False]
    assert list(rows[0]) == ["id", "status", "correct", "reward", "extracted", "detail", "seconds"]
    assert rows[1]["detail"] == "equals 8, expected 6"
    assert "mean reward" in done.out
    assert "0.2500" in done.out


def test_two_graders_side_by_side(tmp_path: Path, verify: Verify) -> None:
    rows = [
        {"id": "both", "completion": "Answer: 34", "answer": "34"},
        {"id": "one", "completion": "Answer: 34.0", "answer": "34"},
    ]
    out = tmp_path / "out.jsonl"
    done = verify(write(tmp_path / "in.jsonl", rows), "--reward", "math", "--reward", "dapo_math", "--out", out)
    assert done.status == 0, done.err
    assert "math and dapo_math disagree on 1 of 2 rows" in done.out
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["correct"] for row in graded] == [True, True]
    assert [row["others"]["dapo_math"]["correct"] for row in graded] == [True, False]


def test_settings_of_a_reward_go_by_its_name(tmp_path: Path, verify: Verify) -> None:
    rows = [{"id": 1, "completion": "<a>2+4</a>", "answer": "6", "numbers": [2, 4]}]
    done = verify(write(tmp_path / "in.jsonl", rows), "expression.tag=a", "--reward", "expression", "--show", "0")
    assert "correct" in done.out
    assert "1.0000" in done.out


def test_tokens_of_a_row_count_for_terms_on_length(tmp_path: Path, verify: Verify) -> None:
    rows = [COUNTDOWN[0] | {"tokens": 10}]
    settings = ["length.over={name: expression}", "length.limit_tokens=10", "length.buffer_tokens=5"]
    done = verify(write(tmp_path / "in.jsonl", rows), *settings, "--reward", "length", "--show", "0")
    assert done.status == 0, done.err
    assert "0.0000" in done.out.split("mean reward")[1].split("\n")[0]


def test_what_no_file_can_hold_loses_no_row(tmp_path: Path, verify: Verify) -> None:
    rows = [
        {"id": "\ud800", "completion": "2+4\udfff", "answer": "6", "numbers": [2, 4]},
        {"id": "\u0000", "completion": "2+4", "answer": "6", "numbers": [2, 4]},
    ]
    out = tmp_path / "out.jsonl"
    done = verify(write(tmp_path / "in.jsonl", rows), "--reward", "expression", "--out", out, "--show", "0")
    assert done.status == 0, done.err
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in graded] == ["\ud800", "\u0000"]
    assert [row["status"] for row in graded] == ["no_answer", "correct"]


@pytest.mark.parametrize(
    "line", [b'{"completion": "\xff"}', b'{"completion": "x", "answer": ' + b"1" * 5000 + b"}", b"[" * 99_999]
)
def test_lines_that_python_cannot_read_are_named(tmp_path: Path, line: bytes, verify: Verify) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"completion": "x"}\n' + line)
    done = verify(path)
    assert done.status == 2
    assert "line 2: not JSON" in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_a_byte_order_mark_is_no_fault(tmp_path: Path, verify: Verify) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(COUNTDOWN[0]).encode())
    assert verify(path, "--reward", "expression").status == 0


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
        (
            ['{"completion": "x"}'],
            ("verify.workrs=2",),
            "override 'verify.workrs=2': unknown key 'verify.workrs'; did",
        ),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, lines: list[str] | None, arguments: tuple[str, ...], message: str, verify: Verify
) -> None:
    path = tmp_path / "in.jsonl"
    if lines is not None:
        path.write_text("\n".join(lines))
    done = verify(path, *arguments)
    assert done.status == 2
    assert message in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_an_existing_out_is_not_overwritten(tmp_path: Path, verify: Verify) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    done = verify(write(tmp_path / "in.jsonl", COUNTDOWN), "--reward", "expression", "--out", out)
    assert done.status == 2
    assert "nothing was overwritten" in done.err
    assert out.read_text() == "precious"
