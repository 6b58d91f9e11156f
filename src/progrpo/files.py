"""Files that are written whole or not at all, and JSON lines that may have been cut short."""

import json
import logging
import os
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
    """The rows of a file of our own; a last line cut short by a kill is left out.

    Raises:
        DataError: another line is no JSON object; file and line are named.
    """
    rows = []
    lines = path.read_text("utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                logger.warning("%s: the last line was cut short and is left out", path)
                continue
            raise DataError(f"{path}, line {number}: expected a JSON object, got {line[:80]!r} ({error})") from None
        rows.append(row)
    return rows


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
