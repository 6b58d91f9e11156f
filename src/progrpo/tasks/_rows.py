"""Rows of a data file, one by one, each with its place in words: JSON lines, a JSON array, Parquet or CSV."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from progrpo.errors import DataError

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")

Row = Mapping[str, Any]


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[str, Row]]:
    """Yield (place, row) of each row; the place names file and line or row, counted from 1.

    Args:
        columns: Parquet columns to read, of those there are; None reads all. Other kinds are read whole.

    Raises:
        DataError: no such file, an unknown kind, or a damaged row (file and line are named).
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    readers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _lines, ".json": _json}
    if path.suffix not in readers:
        raise DataError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    for place, row in readers[path.suffix](path, columns):
        if not isinstance(row, dict):
            raise DataError(f"{path}, {place}: expected a JSON object, got {type(row).__name__}")
        yield f"{path}, {place}", row


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    """A few rows at a time: some training sets do not fit the memory, and some rows hold megabytes."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(batch_size=16, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as Parquet (damaged or cut short?): {error}") from None


def _csv(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, strict=True), start=1):
                if None in row or None in row.values():
                    raise DataError(f"{path}, row {number}: has another number of fields than the header")
                yield f"row {number}", row
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as CSV (damaged or cut short?): {error}") from None


def _lines(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"line {number}", _loads(line, f"{path}, line {number}")


def _json(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    """An array of objects; JSON lines under the name .json are read as what they are."""
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start != b"[":
        yield from _lines(path, columns)
        return
    for number, row in enumerate(_loads(path.read_bytes(), str(path)), start=1):
        yield f"row {number}", row


def _loads(text: bytes, place: str) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or JSON that Python does not read
        raise DataError(f"{place}: not JSON (damaged or cut short?): {error}") from None
