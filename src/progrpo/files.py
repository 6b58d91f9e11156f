"""Files that are written whole or not at all, and JSON lines that may have been cut short."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from progrpo.errors import DataError

logger = logging.getLogger(__name__)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.writing")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


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
