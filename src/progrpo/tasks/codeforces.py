"""Codeforces: contest problems, Pass@k on them, and the rating and percentile that papers call "CodeForces rating".

`mode=paper` (default): the 408 problems of CodeElo as DeepCoder's test config holds them (agentica-org/
DeepCoder-Preview-Dataset, codeforces; or Qwen/CodeElo itself), 57 contests. What its number is: comparable with the papers
that use this set (DeepCoder, FlowRL and, as it seems, arXiv:2602.05281). What it is not: a Codeforces rating. A program
passes here if it passes the statement's sample tests, for 378 of the 408 problems a single one; there is no checker, so a
right answer other than the sample's is wrong, and interactive problems cannot be solved; up to 16 attempts are free of
submission, and time costs nothing. Statements are as DeepCoder has them: without the samples, with tags and time limit.

`mode=strict`: open-r1/codeforces, config verifiable: official tests, generated checkers where many answers are right, and
the problem's time limit in `info["cpu_s"]`. Its rating counts problems the set does not hold as unsolved.

The rating (`summarise`) follows `tasks/_codeforces_rating.py` and is made offline, from files you fetch once:

    contests/ID.json     for each contest {"standings": A, "rating_changes": B}, A the answer of
                         https://codeforces.com/api/contest.standings?contestId=ID&showUnofficial=false and B that of
                         https://codeforces.com/api/contest.ratingChanges?contestId=ID, as they come or their "result" alone
    ratings_2024.json    {"1500": 12, ...}: how many accounts have each rating; rllm publishes the one that papers use as
                         scripts/deepcoder/benchmark/codeforces/ratings_2024.json

in $PROGRPO_DATA/codeforces/, or where `contests` and `ratings` say. Without them everything but the rating works
(`rating=false`). Keep to the conditions of Codeforces when you fetch.
"""

import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from progrpo.errors import DataError
from progrpo.tasks._code_prompts import ask, statement
from progrpo.tasks._codeforces_problems import CONTESTS, PROBLEMS
from progrpo.tasks._codeforces_rating import Contest, percentile, rate, read_accounts, read_contest
from progrpo.tasks._published import (
    MIRROR,
    PublishedParams,
    Source,
    column,
    published_rows,
    require_count,
    require_test,
    text_column,
)
from progrpo.tasks._rows import Row
from progrpo.types import Problem, ProblemResult

logger = logging.getLogger(__name__)

SAMPLES = {"paper": 16, "recommended": 16}
SOURCES = {
    "paper": (
        Source(repo="agentica-org/DeepCoder-Preview-Dataset", files={"test": ("codeforces/test*",)}),
        Source(repo="Qwen/CodeElo", files={"test": ("test.json",)}),
    ),
    "strict": (
        Source(repo="open-r1/codeforces", files={"test": ("verifiable/test-*",), "train": ("verifiable/train-*",)}),
    ),
}

_ID = re.compile(r"(\d+)/?([A-Z]\w*)")
_STRICT_COLUMNS = (
    *("id", "contest_id", "index", "title", "description", "input_format", "output_format", "note", "examples"),
    *("rating", "time_limit", "memory_limit", "input_mode", "official_tests", "official_tests_complete"),
    "generated_checker",
)


class Params(PublishedParams):
    mode: Literal["paper", "strict"] = "paper"
    """`paper`: the statement's sample tests, comparable with papers; `strict`: official tests and checkers."""
    expected: int | None = Field(408, ge=1)
    """Problems there must be; with mode=strict null unless it is given."""
    complete_only: bool = False
    """Strict: leave out problems of which the data set has some official tests only (it has no long ones)."""
    time_factor: float = Field(1.0, gt=0)
    """Strict: CPU seconds of a test in units of the problem's own limit, which is meant for compiled programs."""
    attempts: int = Field(16, ge=1)
    """Samples of a problem that count for the rating, the first so many (FlowRL: 16, DeepCoder: 8)."""
    rating: bool = True
    """Whether to make a rating; it needs the tables named at the head of this file."""
    contests: Path | None = None
    """Folder of the contests' tables. None: $PROGRPO_DATA/codeforces/contests."""
    ratings: Path | None = None
    """File of the distribution of accounts. None: $PROGRPO_DATA/codeforces/ratings_2024.json."""

    @model_validator(mode="before")
    @classmethod
    def _expected_of_the_mode(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("mode") == "strict" and "expected" not in data:
            return {**data, "expected": None}
        return data


def reward(params: Params) -> Mapping[str, Any]:
    """12 s of CPU time a sample test in paper mode, as DeepCoder; in strict mode up to 10 s, the problem's own limit
    standing in `info["cpu_s"]`."""
    if params.mode == "paper":
        return {"name": "code", "cpu_s": 12, "total_s": 180.0}
    return {"name": "code", "cpu_s": max(1, math.ceil(10 * params.time_factor)), "total_s": 300.0}


def load(split: str, params: Params) -> list[Problem]:
    """The problems of a split: test in paper mode; train or test in strict mode.

    Raises:
        DataError: see `published_rows`; a row lacks a column; there are not as many problems as expected.
    """
    if params.mode == "paper":
        require_test("codeforces", split)
        rows = list(published_rows("codeforces", SOURCES["paper"], split, params))
        problems = [_paper(row, place, index, len(rows), params) for index, (place, row) in enumerate(rows)]
    else:
        streamed = published_rows("codeforces", SOURCES["strict"], split, params, _STRICT_COLUMNS)
        rows_read = [_strict(row, place, params) for place, row in streamed]
        problems = [problem for problem in rows_read if problem is not None]
        if left_out := len(rows_read) - len(problems):
            logger.warning("codeforces: %d of %d problems left out: no usable tests", left_out, len(rows_read))
    require_count("codeforces", len(problems), params)
    return problems


def check(params: Params, problems: Sequence[Problem]) -> None:
    """Look for the rating's tables before anything is sampled.

    Raises:
        DataError: one is missing; which file to put where.
    """
    if params.rating:
        _tables(params, {one.facts["contest"] for one in problems if one.facts.get("contest") is not None})


def summarise(problems: Sequence[ProblemResult], params: Params) -> dict[str, float]:
    """The rating of the samples: rating, percentile, contests (how many went in), and rating_mean, rating_low, rating_high
    over other orders of the same samples (see `rate`).

    Samples that are not `correct`, whatever their status, are failed attempts. A contest of CodeElo's of which not all
    problems were evaluated is left out, and so is one that the rule leaves out; both are logged. {} with rating=false.

    Raises:
        DataError: a table is missing (the message says which file to put where) or damaged; a problem's facts name no
            contest.
    """
    if not params.rating:
        return {}
    solved: dict[int, dict[str, list[bool]]] = {}
    for judged in problems:
        contest, index = judged.facts.get("contest"), judged.facts.get("index")
        if not isinstance(contest, int) or not isinstance(index, str):
            raise DataError(
                f"task codeforces: problem {judged.problem} names no contest, so it cannot be rated; use the 408 rows of "
                f"the published set, rows with a column problem_id such as 1971A, or task.rating=false"
            )
        solved.setdefault(contest, {})[f"{contest}{index}"] = [sample.correct for sample in judged.samples]
    if params.mode == "paper":
        partial = [one for one in solved if any(f"{one}{index}" not in solved[one] for index in CONTESTS.get(one, ()))]
        if partial:
            logger.warning("codeforces: no rating in contests evaluated in part: %s", _listed(partial))
        solved = {contest: flags for contest, flags in solved.items() if contest not in partial}
    folder, accounts = _tables(params, solved)
    tables: dict[int, Contest | None] = {contest: read_contest(folder / f"{contest}.json") for contest in solved}
    if small := [contest for contest, table in tables.items() if table is None]:
        logger.warning("codeforces: contests left out, too few participants with a rating: %s", _listed(small))
    values = rate(solved, {one: table for one, table in tables.items() if table is not None}, attempts=params.attempts)
    if "rating" in values:
        values["percentile"] = percentile(values["rating"], read_accounts(accounts))
    return values


def _tables(params: Params, contests: Iterable[int]) -> tuple[Path, Path]:
    """Folder of the contests' tables and file of the accounts.

    Raises:
        DataError: one is missing; which file to put where.
    """
    mirror = os.environ.get(MIRROR) or f"${MIRROR}"
    folder = params.contests or Path(mirror, "codeforces", "contests")
    accounts = params.ratings or Path(mirror, "codeforces", "ratings_2024.json")
    absent = [f"{contest}.json" for contest in sorted(contests) if not (folder / f"{contest}.json").is_file()]
    words = [f"put {_listed(absent)} into {folder}/ (or give task.contests=FOLDER)"] if absent else []
    if not accounts.is_file():
        words.append(f"put the distribution of accounts at {accounts} (or give task.ratings=FILE)")
    if words:
        raise DataError(
            f"task codeforces: no rating without its tables: {' and '.join(words)}; their format is at the head of "
            f"{__name__}; task.rating=false does without"
        )
    return folder, accounts


def _listed(names: Sequence[object], most: int = 60) -> str:
    shown = ", ".join(map(str, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _paper(row: Row, place: str, index: int, rows: int, params: Params) -> Problem:
    """A row of DeepCoder's (problem, tests), which is known by its position, or of CodeElo's (problem_id, description, ...)."""
    contest, letter = _identity(row, place)
    if contest is None and rows == len(PROBLEMS):
        contest, letter = PROBLEMS[index]
    if "problem_id" in row and "tests" not in row:
        text = _codeelo_statement(row, place)
        tests: Any = [
            {"input": input_text, "output": expected}
            for input_text, expected in _pairs(column(row, ("examples",), place), place)
        ]
    else:
        text, tests = text_column(row, ("problem",), place), column(row, ("tests",), place)
    if not tests:
        raise DataError(f"{place}: the problem has no tests")
    facts = {"contest": contest, "index": letter, "points": row.get("points"), "rating": row.get("rating")}
    identity = f"{contest}{letter}" if contest is not None else f"row-{index}"
    return Problem(id=identity, prompt=params.messages(ask(text)), info={"tests": tests}, place=place, facts=facts)


def _identity(row: Row, place: str) -> tuple[int | None, str | None]:
    """Contest and index, from their columns or from problem_id; None where the row has neither."""
    if "contest_id" in row and "index" in row:
        text = f"{row['contest_id']}{row['index']}"
    elif "problem_id" in row:
        text = str(row["problem_id"])
    else:
        return None, None
    match = _ID.fullmatch(text)
    if match is None:
        raise DataError(f"{place}: expected a contest and the index of a problem, such as 1971A, got {text!r:.80}")
    return int(match[1]), match[2]


def _codeelo_statement(row: Row, place: str) -> str:
    """With the parts that DeepCoder's rows have: the samples are the tests, and are not shown."""
    sections: list[tuple[str, object]] = [("", text_column(row, ("description",), place))]
    sections += [(name.capitalize(), row.get(name)) for name in ("input", "output", "interaction", "note")]
    return statement(str(row.get("title") or ""), sections)


def _pairs(examples: Any, place: str) -> list[tuple[str, str]]:
    """Samples as pairs, or as mappings of input and output."""
    try:
        read = json.loads(examples) if isinstance(examples, str) else examples or ()
        pairs = [(one["input"], one["output"]) if isinstance(one, Mapping) else tuple(one) for one in read]
        return [(str(input_text), str(expected)) for input_text, expected in pairs]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{place}: 'examples' must be pairs of input and output: {error}") from None


def _strict(row: Row, place: str, params: Params) -> Problem | None:
    """None where the problem cannot be judged here: no official tests, too few of them, or input from a file."""
    tests, complete = column(row, ("official_tests",), place), bool(row.get("official_tests_complete"))
    if not tests or (params.complete_only and not complete) or (row.get("input_mode") or "stdio") != "stdio":
        return None
    contest, letter = _identity(row, place)
    if contest is None:
        raise DataError(f"{place}: no columns 'contest_id' and 'index'; the row has {', '.join(map(str, row))}")
    limit_s = float(row.get("time_limit") or 2.0)
    limits = f"Time limit: {limit_s:g} s" + (
        f"\nMemory limit: {row['memory_limit']:g} MB" if row.get("memory_limit") else ""
    )
    sections = [("", limits), ("", text_column(row, ("description",), place)), ("Input", row.get("input_format"))]
    sections += [("Output", row.get("output_format")), ("Note", row.get("note"))]
    text = statement(str(row.get("title") or ""), sections, _pairs(row.get("examples"), place))
    info: dict[str, Any] = {
        "tests": [{"input": test["input"], "output": test["output"]} for test in tests],
        "cpu_s": max(1, math.ceil(limit_s * params.time_factor)),
    }
    if row.get("generated_checker"):
        info["checker"] = row["generated_checker"]
    rating = row.get("rating")
    facts = {"contest": contest, "index": letter, "points": None, "rating": rating, "complete_tests": complete}
    if rating is not None:
        facts["category"] = f"{int(rating) // 400 * 400} to {int(rating) // 400 * 400 + 399}"
    return Problem(id=f"{contest}{letter}", prompt=params.messages(ask(text)), info=info, place=place, facts=facts)
