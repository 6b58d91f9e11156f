"""Your own problems, from a JSONL, JSON, Parquet or CSV file: one row per problem with a prompt and an answer.

    {"prompt": "What is 1/2 + 1/4?", "answer": "3/4"}
    {"prompt": "What is half of 0.2?", "answer": 0.1}
    {"prompt": "Name a root of x^2 = 4.", "answer": ["2", "-2"]}
    {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}], "answer": 4}

An answer is text or a finite number. A list gives several accepted answers: a completion that is correct by any of them is
correct, whatever the reward. A number is written with at most 15 significant digits (0.30000000000000004 is 0.3, 27.0 is
27, a Parquet float of 32 bits that was 0.1 is 0.1); where more digits matter, write text. The content of a message is text,
or a list of text parts [{"type": "text", "text": ...}], which are joined.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from progrpo.errors import DataError, SplitError
from progrpo.tasks._row_problems import RowParams, split_off, to_problem
from progrpo.tasks._rows import read_rows
from progrpo.types import Problem

__all__ = ["REWARD", "Params", "load", "problems_of"]

REWARD = "math"


class Params(RowParams):
    train: Path | None = None
    """JSONL (.jsonl, .json), JSON array, Parquet or CSV file of training problems, all but Parquet also with .gz; needed to
    train, not to evaluate. Several files: task=mixture."""
    test: Path | None = None
    """File of held-out problems; None takes `held_out_fraction` of the training file."""


def load(split: str, params: Params) -> list[Problem]:
    """Read one split.

    Raises:
        DataError: file missing, empty, of an unknown kind, or a row without prompt or answer (file and line are named).
    """
    if split == "test" and params.test is not None:
        return _read(params.test, params)
    if params.train is None:
        raise SplitError(f"task file: no file for the {split} split; give task.{split}=FILE")
    problems = _read(params.train, params)
    if params.test is not None:
        return problems
    return split_off(problems, split, params, where=str(params.train), remedy="give task.test=FILE")


def problems_of(rows: Sequence[Any], *, where: str) -> list[Problem]:
    """Rows of another task, written as those of a file with default settings; all of their columns go to the reward.

    Args:
        where: of which task and split, for messages.

    Raises:
        DataError: a row is no mapping, or has no prompt.
    """
    problems = []
    for index, row in enumerate(rows):
        place = f"{where}, row {index + 1}"
        if isinstance(row, Problem):
            problems.append(row)
            continue
        if not isinstance(row, Mapping):
            raise DataError(f'{place}: expected a row {{"prompt": ..., "answer": ...}}, got {row!r:.80}')
        keys = {"id_key": "id" if "id" in row else None, "answer_key": "answer" if "answer" in row else None}
        problems.append(to_problem(row, place, index, RowParams(info_keys=None, **keys)))
    return problems


def _read(path: Path, params: Params) -> list[Problem]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected JSONL or Parquet rows with {params.prompt_key!r} and "
                        f"{params.answer_key!r}")  # fmt: skip
    problems = [to_problem(row, place, index, params) for index, (place, row) in enumerate(read_rows(path))]
    if not problems:
        raise DataError(f"{path}: the file has no rows")
    return problems
