"""AMC 2023: 40 competition problems with a number as the answer.

Data: zwhe99/amc23, or math-ai/amc23; the set goes back to the evaluation data of github.com/QwenLM/Qwen2.5-Math. The
problems are the Mathematical Association of America's. AI-MO/aimo-validation-amc (83 problems of 2022 and 2023) is another
set, on which scores are not comparable.
Prompt: the bare problem; task.instruction appends one. Judged by rewards/math.

Pitfalls: answers are stored as floats ("27.0", one is "-1.0"), which graders of text refuse for 27: whole numbers are
written without the point here.
"""

from pydantic import Field

from progrpo.tasks import _math_problems
from progrpo.tasks._math_problems import gold_text, load_benchmark, whole_number
from progrpo.tasks._published import PublishedParams, Source
from progrpo.tasks._rows import Row
from progrpo.types import Problem

REWARD = "math"
SAMPLES = _math_problems.SAMPLES

SOURCES = (
    Source(repo="zwhe99/amc23", files={"test": ("data/test-*.parquet",)}),
    Source(repo="math-ai/amc23", files={"test": ("test-*.parquet",)}),
)


class Params(PublishedParams):
    expected: int | None = Field(40, ge=1)
    """Problems there must be; null accepts any number."""


def load(split: str, params: Params) -> list[Problem]:
    """Read the problems.

    Raises:
        DataError: see `load_benchmark`.
    """
    return load_benchmark("amc23", SOURCES, split, params, _gold)


def _gold(row: Row, place: str) -> str:
    text = gold_text(row, place)
    return whole_number(text) or text
