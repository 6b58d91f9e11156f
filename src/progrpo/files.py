"""Files that are written whole or not at all, JSON that every reader accepts, and JSON lines that may have been cut short."""

import gzip
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, TypeGuard

from progrpo.errors import DataError, RunDirectoryError, StorageError

logger = logging.getLogger(__name__)

_TORCH_WRITER = ("inline_container", "PytorchStreamWriter", "iostream error")
"""What the RuntimeErrors of `torch.save` name when a file does not take what is written, and no others."""


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """The boundary at which a disk that refuses becomes a `StorageError` with the file, the cause and what is free there.

    Raises:
        StorageError: the body raised an OSError, or what safetensors and torch raise in its place.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}{_free_there(path)}") from error
    except Exception as error:
        # safetensors has an error of its own for what the system says; torch does not say it at all
        said = str(error)
        if "(os error " in said:
            cause = said.rpartition("I/O error: ")[2].partition(" (os error ")[0]
        elif any(sign in said for sign in _TORCH_WRITER):
            cause = "not all of it was taken"
        else:
            raise
        raise StorageError(f"{path} cannot be written: {cause}{_free_there(path)}") from error


def _free_there(path: Path) -> str:
    free = free_bytes(path)
    return "" if free is None else f" ({free / 2**30:.2f} GiB free there)"


def free_bytes(path: Path) -> int | None:
    """Bytes that may still be written where `path` is or will be; None where the system does not say."""
    try:
        return shutil.disk_usage(nearest_folder(path)).free
    except OSError:
        return None


def nearest_folder(path: Path) -> Path:
    """`path` or the closest of its parents that exists."""
    return next((one for one in (path, *path.absolute().parents) if one.exists()), Path(path.anchor or "."))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it.

    Raises:
        StorageError: the disk refuses; the old file is as it was.
    """
    aside = path.with_name(f".{path.name}.writing")
    with storing(path):
        try:
            with aside.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def append(path: Path, text: str) -> None:
    """Add to a file; it is on the disk when this returns.

    Raises:
        StorageError: the disk refuses; the last line may be cut short.
    """
    with storing(path), path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Make a folder with its parents; one that is there is left as it is.

    Raises:
        StorageError: it cannot be made.
    """
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text of a value: the one way in which this package writes JSON.

    A number that is not finite has no JSON: it becomes null, which all readers here take for "not known" (or, among
    log-probabilities, for -inf). Text with half a character, which no UTF-8 file can hold, is written in ASCII escapes.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:  # "Out of range float values are not JSON compliant"
        value = finite_or_none(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, indent=indent)
    return text


def finite_or_none(value: Any) -> Any:
    """The value with None for every number that is not finite, inside lists and mappings too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_or_none(item) for key, item in value.items()}
    return [finite_or_none(item) for item in value] if isinstance(value, list | tuple) else value


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (place, value) of each line of a JSON lines file, gzip-compressed where its name ends in .gz; lines of blanks
    are passed over. The place names file and line, counted from 1.

    Raises:
        DataError: a line is no JSON, or the file is damaged (file and line are named).
    """
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    place = f"{path}, line {number}"
                    yield place, parse_json(line, place)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}, line {number + 1}: not readable (damaged or cut short?): {error}") from None


def open_bytes(path: Path) -> GzipFile | BufferedReader:
    """A file to read, decompressed where its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def parse_json(text: bytes, place: str) -> Any:
    """The value of JSON text in UTF-8, with or without a byte-order mark.

    Raises:
        DataError: it is none; `place` is named.
    """
    try:
        return json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or JSON that Python does not read
        raise DataError(f"{place}: not JSON (damaged or cut short?): {error}") from None


def require_writable(path: Path, *, remedy: str = "choose another with out=DIRECTORY") -> None:
    """Check that a file or folder can be made or changed at `path`; nothing is left behind.

    Raises:
        RunDirectoryError: it cannot; `remedy` ends the message.
    """
    try:
        place = nearest_folder(path)
        if not place.is_dir() and place != path:
            raise RunDirectoryError(f"{path} cannot be made: {place} is no folder; {remedy}")
        if path.is_symlink() and not path.exists():
            raise RunDirectoryError(f"{path} is a link to nothing; {remedy}")
        with tempfile.TemporaryFile(dir=place if place.is_dir() else place.parent):
            pass
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        if isinstance(error, RunDirectoryError):
            raise
        said = getattr(error, "strerror", None) or error
        raise RunDirectoryError(f"{path} cannot be written: {said}; {remedy}") from None


def require_new_file(path: Path | None) -> None:
    """Check before the work begins that its result can be written.

    Raises:
        RunDirectoryError: `path` exists, or its folder does not, or nothing can be written there; None asks for no file and
            passes.
    """
    if path is None:
        return
    require_writable(path, remedy="choose another --out")
    if path.exists():
        raise RunDirectoryError(f"{path} exists; choose another --out, nothing was overwritten")
    if not path.parent.is_dir():
        raise RunDirectoryError(f"{path}: there is no folder {path.parent}; make it, or choose another --out")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of our own; see `rows_at`."""
    return [row for _, row in rows_at(path)]


def rows_at(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file of our own, each with where it begins, in bytes; a last line cut short by a kill is left out.

    Raises:
        DataError: another line is no JSON object; file and line are named.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(type(row).__name__)
                except ValueError as error:
                    if not line.endswith(b"\n"):
                        logger.warning("%s: the last line was cut short and is left out", path)
                        return
                    shown = line[:80].decode("utf-8", "replace")
                    raise DataError(f"{path}, line {number}: expected a JSON object, got {shown!r} ({error})") from None
                yield offset, row
            offset += len(line)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value read from JSON is a finite number (true and false are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def lock(path: Path, *, what: Path) -> IO[str]:
    """Hold the lock file `path` for this process until it is closed (or the process ends, however it ends).

    Args:
        what: what is written under it, for the message.

    Raises:
        RunDirectoryError: another process holds it.
    """
    with storing(path):
        file = path.open("w")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RunDirectoryError(
            f"another process is writing to {what}; wait until it ends, or choose another with out="
        ) from None
    except (ImportError, OSError) as error:
        logger.warning("%s cannot be locked (%s): do not start a second process on it", what, error)
    return file
