"""MATH-500: 500 problems of the MATH test set, seven subjects, five levels, answers in LaTeX.

Data: HuggingFaceH4/MATH-500 (the subset of arXiv:2305.20050, of the MATH data set, arXiv:2103.03874, MIT).
Prompt: the bare problem; task.instruction appends one. Judged by rewards/math. Facts: subject (also the category), level.

Pitfalls: answers are of every kind: numbers, intervals, matrices, equations, names, "even". A grader that
compares text refuses many right ones, and one that calls two answers equal because it can read neither accepts wrong ones.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from progrpo.tasks import _math_problems
from progrpo.tasks._math_problems import gold_text, load_benchmark
from progrpo.tasks._published import PublishedParams, Source
from progrpo.tasks._rows import Row
from progrpo.types import Problem

REWARD = "math"
SAMPLES = _math_problems.SAMPLES

SOURCES = (Source(repo="HuggingFaceH4/MATH-500", files={"test": ("test.jsonl",)}),)


class Params(PublishedParams):
    expected: int | None = Field(500, ge=1)
    """Problems there must be; null accepts any number."""


def load(split: str, params: Params) -> list[Problem]:
    """Read the problems.

    Raises:
        DataError: see `load_benchmark`.
    """
    return load_benchmark("math500", SOURCES, split, params, gold_text, _facts)


def _facts(row: Row) -> Mapping[str, Any]:
    return {"category": row.get("subject"), "subject": row.get("subject"), "level": row.get("level")}
