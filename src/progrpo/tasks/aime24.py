"""AIME 2024: 30 competition problems (AIME I and II), answers 0 to 999.

Data: Maxwell-Jia/AIME_2024 (MIT), or HuggingFaceH4/aime_2024, math-ai/aime24, BytedTsinghua-SIA/AIME-2024 (Apache-2.0).
The problems are the Mathematical Association of America's.
Prompt: the bare problem; task.instruction appends one. Judged by rewards/math.

Pitfalls: some mirrors pad answers with zeros ("025"), which graders of text refuse for 25: they are read as numbers here.
Parquet files made for verl repeat each problem, BytedTsinghua-SIA's 32 times and inside the DAPO wrapper: the wrapper and
the copies are left out, the number of samples is a setting of the evaluation. 30 problems are few: one more solved is 3.3
points.
"""

from pydantic import Field

from progrpo.tasks import _math_problems
from progrpo.tasks._math_problems import aime_answer, load_benchmark
from progrpo.tasks._published import PublishedParams, Source
from progrpo.types import Problem

REWARD = "math"
SAMPLES = _math_problems.SAMPLES

SOURCES = (
    Source(repo="Maxwell-Jia/AIME_2024", files={"test": ("aime_2024_problems.parquet",)}),
    Source(repo="HuggingFaceH4/aime_2024", files={"test": ("data/train-*.parquet",)}),
    Source(repo="math-ai/aime24", files={"test": ("test-*.parquet",)}),
    Source(repo="BytedTsinghua-SIA/AIME-2024", files={"test": ("data/aime-2024.parquet",)}),
)


class Params(PublishedParams):
    expected: int | None = Field(30, ge=1)
    """Problems there must be, copies not counted; null accepts any number."""


def load(split: str, params: Params) -> list[Problem]:
    """Read the problems, each once.

    Raises:
        DataError: see `load_benchmark`; or an answer is no whole number from 0 to 999.
    """
    return load_benchmark("aime24", SOURCES, split, params, aime_answer, repeated=True)
