"""OlympiadBench: 674 problems of mathematics olympiads, English, text only, open-ended.

Data: math-ai/olympiadbench, or Hothan/OlympiadBench (Apache-2.0), file OE_TO_maths_en_COMP; arXiv:2402.14008. The copy in the
evaluation data of github.com/QwenLM/Qwen2.5-Math has 675 (expected=675).
Prompt: the bare problem, after its context where it has one; task.instruction appends one. Judged by rewards/math. Facts:
subfield (also the category), answer_type, is_multiple_answer, unit, error.

Pitfalls: 94 problems have several answers. Most harnesses ask for the first one only; here all are the gold answer, "a, b",
in any order. A completion may leave a unit out. `error` is the tolerance of a problem, which one or two have and only the
official judge looks at: rewards/math has no tolerance for a single problem and stays exact there; the fact says so.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from progrpo.errors import DataError
from progrpo.tasks import _math_problems
from progrpo.tasks._math_problems import load_benchmark
from progrpo.tasks._published import PublishedParams, Source, column, text_column
from progrpo.tasks._rows import Row
from progrpo.types import Problem

REWARD = "math"
SAMPLES = _math_problems.SAMPLES

SOURCES = (
    Source(repo="math-ai/olympiadbench", files={"test": ("test*",)}),
    Source(
        repo="Hothan/OlympiadBench",
        files={"test": ("OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet",)},
    ),
)


_DOLLAR = re.compile(r"(?<!\\)\$")


class Params(PublishedParams):
    expected: int | None = Field(674, ge=1)
    """Problems there must be; null accepts any number."""


def load(split: str, params: Params) -> list[Problem]:
    """Read the problems.

    Raises:
        DataError: see `load_benchmark`.
    """
    return load_benchmark("olympiadbench", SOURCES, split, params, _gold, _facts, context=("context",))


def _gold(row: Row, place: str) -> str:
    """All final answers, in one list."""
    value = column(row, ("final_answer", "answer"), place)
    answers = value if isinstance(value, list) else [value]
    if not answers:
        raise DataError(f"{place}: 'final_answer' is empty; every row needs a gold answer")
    texts = [text_column({"final_answer": answer}, ("final_answer",), place) for answer in answers]
    return ", ".join(_DOLLAR.sub("", text).strip() for text in texts)


def _facts(row: Row) -> Mapping[str, Any]:
    names = ("subfield", "answer_type", "is_multiple_answer", "unit", "error")
    return {"category": row.get("subfield"), **{name: row.get(name) for name in names}}
