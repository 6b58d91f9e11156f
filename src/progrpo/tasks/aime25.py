"""AIME 2025: 30 competition problems (AIME I and II), answers 0 to 999.

Data: yentinglin/aime_2025, or math-ai/aime25, opencompass/AIME2025, MathArena/aime_2025 (CC BY-NC-SA 4.0: not for commercial
use). The problems are the Mathematical Association of America's.
Prompt: the bare problem; task.instruction appends one. Judged by rewards/math.

Pitfalls: opencompass has one file for each of the two papers, and whoever reads one has 15 problems: both are read, and 30
are required. It gives one answer as 336^\\circ, which is read as 336. Copies of a row are left out, as in tasks/aime24.py.
"""

from pydantic import Field

from progrpo.tasks import _math_problems
from progrpo.tasks._math_problems import aime_answer, load_benchmark
from progrpo.tasks._published import PublishedParams, Source
from progrpo.types import Problem

REWARD = "math"
SAMPLES = _math_problems.SAMPLES

SOURCES = (
    Source(repo="yentinglin/aime_2025", files={"test": ("data/train-*.parquet",)}),
    Source(repo="math-ai/aime25", files={"test": ("test.jsonl",)}),
    Source(repo="opencompass/AIME2025", files={"test": ("aime2025-I.jsonl", "aime2025-II.jsonl")}),
    Source(repo="MathArena/aime_2025", files={"test": ("data/train-*.parquet",)}),
)


class Params(PublishedParams):
    expected: int | None = Field(30, ge=1)
    """Problems there must be, copies not counted; null accepts any number."""


def load(split: str, params: Params) -> list[Problem]:
    """Read the problems of both papers, each once.

    Raises:
        DataError: see `load_benchmark`; or an answer is no whole number from 0 to 999.
    """
    return load_benchmark("aime25", SOURCES, split, params, aime_answer, repeated=True)
