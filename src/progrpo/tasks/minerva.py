"""Minerva math: 272 undergraduate problems of science and mathematics from MIT OpenCourseWare.

Data: math-ai/minervamath (columns question, answer), or svc-huggingface/minerva-math (problem, and a solution whose last box
is the gold answer, as in the evaluation data of github.com/QwenLM/Qwen2.5-Math); first used in arXiv:2206.14858. The courses
are CC BY-NC-SA 4.0.
Prompt: the bare problem; task.instruction appends one. Judged by rewards/math. Facts: category, where the mirror has it.

Pitfalls: 58 gold answers are written as 4.4e7, which Math-Verify alone reads as 4.4 times Euler's number times 7; a few look
like Python (np.arcsin(10/13), -1./3). They stay as they are: rewards/math reads both as what they mean. Numbers are
rounded, mostly to two or three digits, and rewards/math is exact: 1.57 is not 1.6. Papers that use another grader, for
instance Qwen's with its relative tolerance of 1e-4, get other scores; reward.relative_tolerance comes near it.
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

SOURCES = (
    Source(repo="math-ai/minervamath", files={"test": ("test.jsonl",)}),
    Source(repo="svc-huggingface/minerva-math", files={"test": ("test.jsonl",)}),
)


class Params(PublishedParams):
    expected: int | None = Field(272, ge=1)
    """Problems there must be; null accepts any number."""


def load(split: str, params: Params) -> list[Problem]:
    """Read the problems.

    Raises:
        DataError: see `load_benchmark`.
    """
    return load_benchmark("minerva", SOURCES, split, params, gold_text, _facts)


def _facts(row: Row) -> Mapping[str, Any]:
    return {"category": row.get("type")}
