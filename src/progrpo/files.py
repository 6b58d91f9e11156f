"""Files that are written whole or not at all, and JSON lines that may have been cut short."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from progrpo.errors import DataError, RunDirectoryError

logger = logging.getLogger(__name__)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.writing")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def require_new_file(path: Path | None) -> None:
    """Check before the work begins that its result can be written.

    Raises:
        RunDirectoryError: `path` exists, or its folder does not; None asks for no file and passes.
    """
    if path is None:
        return
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


def lock(path: Path, *, what: Path) -> IO[str]:
    """Hold the lock file `path` for this process until it is closed (or the process ends, however it ends).

    Args:
        what: what is written under it, for the message.

    Raises:
        RunDirectoryError: another process holds it.
    """
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
