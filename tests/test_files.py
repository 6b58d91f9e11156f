import json
from pathlib import Path

import pytest

from progrpo.errors import DataError
from progrpo.files import read_jsonl, rows_at


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
