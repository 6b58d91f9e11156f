"""Rows of a data file, one by one, each with its place in words: JSON lines, a JSON array, Parquet or CSV."""

import csv
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from progrpo.errors import DataError
from progrpo.files import json_lines, open_bytes, parse_json

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".jsonl.gz", ".json.gz", ".csv.gz")

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
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    readers = {"parquet": _parquet, "csv": _csv, "jsonl": _lines, "json": _json}
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    for place, row in readers[kind](path, columns):
        if not isinstance(row, dict):
            raise DataError(f"{place}: expected a JSON object, got {type(row).__name__}")
        yield place, row


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    """A few rows at a time: some training sets do not fit the memory, and some rows hold megabytes."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
            short = shortening(file.schema_arrow)
            for batch in file.iter_batches(batch_size=16, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", short(row)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        words = str(error).split("\n")[0]
        place = f"{path}, row {number + 1}" if number else str(path)
        raise DataError(f"{place}: not readable as Parquet (damaged or cut short?): {words}") from None


def shortening(schema: Any) -> Callable[[Row], Row]:
    """What makes of a row of this Arrow schema the numbers that were meant (see `_in_short`)."""
    short = {field.name: _in_short(field.type) for field in schema}
    return lambda row: {name: short[name](value) for name, value in row.items()}


def _in_short(kind: Any) -> Callable[[Any], Any]:
    """What makes of a value of this Arrow type the number that was meant, where it is of 32 or 16 bits: 0.1, and not the
    0.10000000149011612 that it is in 64 bits."""
    import numpy
    import pyarrow.types

    if pyarrow.types.is_float32(kind) or pyarrow.types.is_float16(kind):
        narrow = numpy.float32 if pyarrow.types.is_float32(kind) else numpy.float16
        return lambda value: None if value is None else float(str(narrow(value)))
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind):
        item = _in_short(kind.value_type)
        return _as_it_is if item is _as_it_is else lambda value: value and [item(one) for one in value]
    if pyarrow.types.is_struct(kind):
        inner = {field.name: _in_short(field.type) for field in kind}
        if all(item is _as_it_is for item in inner.values()):
            return _as_it_is
        return lambda value: value and {name: inner[name](one) for name, one in value.items()}
    return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _csv(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    number = 0
    try:
        with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, strict=True), start=1):
                if None in row or None in row.values():
                    raise DataError(f"{path}, row {number}: has another number of fields than the header")
                yield f"{path}, row {number}", row
    except (csv.Error, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        place = f"{path}, row {number + 1}" if number else str(path)
        raise DataError(f"{place}: not readable as CSV (damaged or cut short?): {error}") from None


def _lines(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    return json_lines(path)


def _json(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    """An array of objects; JSON lines under the name .json are read as what they are."""
    try:
        with open_bytes(path) as file:
            start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
            text = start + file.read() if start[:1] == b"[" else None
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not readable (damaged or cut short?): {error}") from None
    if text is None:
        yield from json_lines(path)
        return
    for number, row in enumerate(parse_json(text, str(path)), start=1):
        yield f"{path}, row {number}", row
