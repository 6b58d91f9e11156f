import json
import math
import re
from pathlib import Path

import pytest

from progrpo.errors import DataError
from progrpo.files import is_number, read_jsonl, rows_at, to_json


def test_rows_come_with_where_they_begin(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a": "é"}\n\n{"a": 2}\n{"a": 3'.encode())  # é takes two bytes; the last line was cut
    found = list(rows_at(path))
    assert found == [(0, {"a": "é"}), (13, {"a": 2})]
    assert read_jsonl(path) == [row for _, row in found]
    with path.open("rb") as file:
        file.seek(found[1][0])
        assert json.loads(file.readline()) == {"a": 2}


@pytest.mark.parametrize("line", [b"{", b"[1]", b'"a"', b"\xff"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"rows.jsonl, line 2: expected a JSON object"):
        read_jsonl(path)


def test_json_that_every_reader_accepts() -> None:
    text = to_json({"a": [1.5, math.nan, {"b": math.inf}], "c": (-math.inf,), "d": "é", "e": 10**30})
    assert text == '{"a": [1.5, null, {"b": null}], "c": [null], "d": "é", "e": 1' + 30 * "0" + "}"
    assert to_json(["é\ud83d", math.nan]) == r'["\u00e9\ud83d", null]'
    assert to_json([0.1], indent=1) == "[\n 0.1\n]"


def test_nothing_else_writes_json() -> None:
    """Everywhere else a NaN would be written as a word that is no JSON."""
    source = Path(__file__).parent.parent
    allowed = {
        "src/progrpo/files.py": 3,  # the writer itself
        "src/progrpo/report/html.py": 1,  # what stands inside a page, with allow_nan=False
        "src/progrpo/environment.py": 1,  # a hash, nothing that is written
        "src/progrpo/tasks/deepcoder.py": 1,  # text that is searched
        "src/progrpo/report/evaluations.py": 1,  # a hash
        "src/progrpo/sandbox/interpreter.py": 1,  # inside another interpreter
        "scripts/bad_inputs.py": 5,  # what is wrong on purpose
    }
    found = {
        str(path.relative_to(source)): len(re.findall(r"\bjson\.dumps?\(", path.read_text()))
        for folder in ("src", "scripts", "benchmarks")
        for path in (source / folder).rglob("*.py")
    }
    assert {path: count for path, count in found.items() if count} == allowed


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("1", True), ("-0.5", True), ("0", True)),
        *((text, False) for text in ("NaN", "-Infinity", "1" + "0" * 400, "true", "null", '"1"')),
    ],
)
def test_numbers_are_finite_and_no_truth_values(text: str, number: bool) -> None:
    assert is_number(json.loads(text)) is number
