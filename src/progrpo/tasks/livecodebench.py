"""LiveCodeBench: problems of programming contests by date, so that a model can be tested on those after its training data.

Data: livecodebench/code_generation_lite, whose releases v1 to v6 (400, 511, 612, 713, 880, 1055 problems) are the files
test.jsonl, test2.jsonl, ... up to their number; or lighteval/code_generation_lite, where each release is a folder. The
repository's loading script is never run, and its pickled tests are read as text (`_lcb_pickle`).

A score means nothing without its window of contest dates. The default, release v5 and 2024-08-01 <= date < 2025-02-01, is
the 279 problems of DeepCoder and of the papers that follow it; each problem's facts name release and window. About a
dozen problems are known to have wrong tests or several right outputs (the benchmark's ERRATA.md); they are kept.

The comparison is the benchmark's own, which knows no tolerance (`reward.compare=tokens` does).
"""

import datetime
import json
import logging
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from progrpo.errors import DataError
from progrpo.tasks._code_prompts import ask
from progrpo.tasks._lcb_pickle import read_private_tests
from progrpo.tasks._published import (
    PublishedParams,
    Source,
    column,
    published_rows,
    require_count,
    require_test,
    text_column,
)
from progrpo.tasks._rows import Row
from progrpo.types import Problem

logger = logging.getLogger(__name__)

REWARD = {"name": "code", "compare": "lcb", "cpu_s": 6, "total_s": 300.0}
SAMPLES = {"paper": 16, "recommended": 16}

Release = Literal["v1", "v2", "v3", "v4", "v5", "v6"]
_WINDOW = {"release": "v5", "start": "2024-08-01", "end": "2025-02-01"}


class Params(PublishedParams):
    release: Release = "v5"
    """Cumulative: v5 holds everything up to January 2025."""
    start: datetime.date = datetime.date(2024, 8, 1)
    """First contest date."""
    end: datetime.date = datetime.date(2025, 2, 1)
    """The day after the last contest date."""
    expected: int | None = Field(279, ge=1)
    """Problems in the window; with another release or window than the default, null unless it is given."""

    @model_validator(mode="before")
    @classmethod
    def _expected_of_another_window(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "expected" in data:
            return data
        usual = all(str(data.get(key, value)) == value for key, value in _WINDOW.items())
        return data if usual else {**data, "expected": None}

    @model_validator(mode="after")
    def _ordered(self) -> "Params":
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must lie before end {self.end}; end is the day after the last one")
        return self

    @property
    def window(self) -> str:
        return f"{self.start} <= contest date < {self.end}"


def load(split: str, params: Params) -> list[Problem]:
    """The problems of the window, of the test split; there is no other. Tests outside the window are not even read.

    Raises:
        DataError: see `published_rows`; a row lacks a column, or has tests that cannot be read or are refused; the window
            is empty, or has another number of problems than expected.
    """
    require_test("livecodebench", split)
    rows = 0
    problems = []
    for place, row in published_rows("livecodebench", _sources(params.release), split, params):
        rows += 1
        date = _date(column(row, ("contest_date",), place), place)
        if params.start <= date < params.end:
            problems.append(_problem(row, date, place, params))
    require_count("livecodebench", rows, params.model_copy(update={"expected": None}), "rows")
    require_count("livecodebench", len(problems), params, f"problems with {params.window}")
    logger.info("livecodebench: release %s, %s: %d problems of %d", params.release, params.window, len(problems), rows)
    return problems


def _sources(release: Release) -> tuple[Source, ...]:
    files = tuple(f"test{number if number > 1 else ''}.jsonl" for number in range(1, int(release[1:]) + 1))
    return (
        Source(repo="livecodebench/code_generation_lite", files={"test": files}),
        Source(repo="lighteval/code_generation_lite", files={"test": (f"release_{release}/test*",)}),
    )


def _date(value: Any, place: str) -> datetime.date:
    """Text in ISO form, or what Parquet gives."""
    if isinstance(value, datetime.datetime):
        return value.date()
    try:
        return datetime.date.fromisoformat(str(value)[:10])
    except ValueError:
        raise DataError(f"{place}: 'contest_date' must be a date such as 2024-08-03T00:00:00, got {value!r}") from None


def _problem(row: Row, date: datetime.date, place: str, params: Params) -> Problem:
    starter = row.get("starter_code") or ""
    public = _json(column(row, ("public_test_cases",), place), "public_test_cases", place) or []
    if not isinstance(public, list):
        raise DataError(f"{place}: 'public_test_cases' must be a list, got {type(public).__name__}")
    tests = [*public, *read_private_tests(column(row, ("private_test_cases",), place), place)]
    if not tests:
        raise DataError(f"{place}: the problem has no tests")
    metadata = _json(row.get("metadata"), "metadata", place) or {}
    function = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    info: dict[str, Any] = {"tests": tests}
    if function:
        info["fn_name"] = str(function)
    difficulty, platform = (text_column(row, (name,), place) for name in ("difficulty", "platform"))
    facts = {
        "category": difficulty,
        "difficulty": difficulty,
        "platform": platform,
        "contest_date": date.isoformat(),
        "window": f"release {params.release}, {params.window}",
    }
    text = text_column(row, ("question_content",), place)
    return Problem(
        id=text_column(row, ("question_id",), place),
        prompt=params.messages(ask(text, starter=starter, function=info.get("fn_name"))),
        info=info,
        place=place,
        facts=facts,
    )


def _json(value: Any, name: str, place: str) -> Any:
    """A column that holds JSON, or what Parquet made of it."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except ValueError as error:
        raise DataError(f"{place}: {name!r} is not JSON (damaged or cut short?): {error}") from None
