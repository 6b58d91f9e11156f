"""DeepCoder's training set: 24,287 coding problems with tests, from PrimeIntellect, TACO and LiveCodeBench before 2024-08.

Data: agentica-org/DeepCoder-Preview-Dataset, configs primeintellect, taco and lcbv5; the test split is lcbv5's, the 279
LiveCodeBench problems of 2024-08-01 to 2025-01-31. Columns problem, solutions, tests, starter_code, metadata; `tests` is
text in one of three shapes or a Python literal, which the reward reads (rewards/code.py).

The reward is DeepCoder's rule (rllm, rewards/code_reward.py): the last fenced block has to pass at most 15 tests, those
with the longest inputs, with 12 s for each (PrimeIntellect, TACO) or 6 s (LiveCodeBench). The comparison is not theirs,
which takes YES for NO. Rows are read one after the other, but all tests are kept: about 10 GB with all parts.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from progrpo.errors import DataError
from progrpo.tasks._code_prompts import ask
from progrpo.tasks._published import PublishedParams, Source, column, find_files, require_count, text_column
from progrpo.tasks._rows import Row, read_rows
from progrpo.types import Problem

SubsetName = Literal["primeintellect", "taco", "lcbv5"]

SOURCES = (
    Source(
        repo="agentica-org/DeepCoder-Preview-Dataset",
        files={
            "primeintellect": ("primeintellect/train*",),
            "taco": ("taco/train*",),
            "lcbv5": ("lcbv5/train*",),
            "test": ("lcbv5/test*",),
        },
    ),
)
_CPU_S = {"primeintellect": 12, "taco": 12, "lcbv5": 6}
"""CPU seconds of one test in each part."""
_MAX_TESTS = 15

_COLUMNS = ("problem", "solutions", "tests", "starter_code", "metadata")
_FUNCTION = re.compile(r"""["']fn_name["']\s*:\s*["'](\w+)["']""")


class Params(PublishedParams):
    parts: tuple[SubsetName, ...] = Field(("primeintellect", "taco", "lcbv5"), min_length=1)
    """Parts of the training split; the test split is LiveCodeBench's whatever stands here."""


def reward(params: Params) -> Mapping[str, Any]:
    """DeepCoder's limits; of several parts the longest. `info["cpu_s"]` of a problem is that of its own part."""
    cpu_s = max(_CPU_S[part] for part in params.parts)
    return {"name": "code", "max_tests": _MAX_TESTS, "cpu_s": cpu_s, "total_s": float(_MAX_TESTS * cpu_s)}


def load(split: str, params: Params) -> list[Problem]:
    """The problems of one split, in the order of the parts; one whose text was there before is left out.

    Raises:
        DataError: unknown split; see `find_files`; a row lacks a column or has no tests.
    """
    if split not in ("train", "test"):
        raise DataError(f"task deepcoder: it has no {split} split; it has train, test")
    seen: set[str] = set()
    problems = []
    for place, row, part in _rows(split, params):
        text = text_column(row, ("problem",), place)
        key = hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest()[:24]
        if key not in seen:
            seen.add(key)
            problems.append(_problem(row, text, part, f"{part or 'row'}-{key}", place, params))
    require_count("deepcoder", len(problems), params)
    return problems


def _rows(split: str, params: Params) -> Iterator[tuple[str, Row, str | None]]:
    """(place, row, part); the part is None where one file holds several."""
    parts: dict[Path, list[str]] = {}
    for part in params.parts if split == "train" else ("test",):
        for path in find_files("deepcoder", SOURCES, part, params):
            parts.setdefault(path, []).append("lcbv5" if part == "test" else part)
    for path, names in parts.items():
        for place, row in read_rows(path, _COLUMNS):
            yield place, row, names[0] if len(names) == 1 else None


def _problem(row: Row, text: str, part: str | None, identity: str, place: str, params: Params) -> Problem:
    tests = column(row, ("tests",), place)
    if not tests or not isinstance(tests, str | list | dict):
        raise DataError(f"{place}: 'tests' must be tests or text that holds them, got {tests!r:.80}")
    starter = row.get("starter_code") or ""
    function = _metadata(row.get("metadata"), place).get("func_name")
    info: dict[str, Any] = {"tests": tests}
    if function:
        info["fn_name"] = str(function)
    if part is not None:
        info["cpu_s"] = _CPU_S[part]
    if solution := _solution(row.get("solutions")):
        info["solution"] = solution
    prompt = ask(text, starter=starter, function=info.get("fn_name") or _called(tests))
    facts = {"category": part} if part is not None else {}
    return Problem(id=identity, prompt=params.messages(prompt), info=info, place=place, facts=facts)


def _metadata(value: Any, place: str) -> Mapping[str, Any]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"{place}: 'metadata' is not JSON: {error}") from None
    if value and not isinstance(value, Mapping):
        raise DataError(f"{place}: 'metadata' must be a mapping, got {value!r:.80}")
    return value or {}


def _called(tests: Any) -> str | None:
    """The function that tests call, without reading them: text of megabytes is searched in no time, and quotes inside its
    inputs are escaped."""
    match = _FUNCTION.search(tests if isinstance(tests, str) else json.dumps(tests, default=str))
    return match[1] if match else None


def _solution(value: Any) -> str | None:
    """The first published solution; they come as a list, as a list in JSON, or as source."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    listed = value if isinstance(value, list) else [value]
    return next((one for one in listed if isinstance(one, str) and one.strip()), None)
