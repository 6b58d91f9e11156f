"""What the text of the ProGRPO paper (arXiv:2602.05281) fixes of its own tables, and how each number is known: paper.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

AVERAGE = "average"
"""Stands for the column of the mean over the six mathematical benchmarks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRow:
    """One row of one of the paper's tables.

    Attributes:
        evidence: "stated" in the text; "derived" from stated numbers by one subtraction, so good to about one unit of the
            last digit.
        values: by column and measure, in the unit the paper prints: percent, or rating points.
        how: where the numbers stand, or how they were derived.
    """

    table: int
    model: str
    method: str
    evidence: Literal["stated", "derived"]
    values: Mapping[str, Mapping[str, float]]
    how: str


_TEXT = yaml.safe_load((Path(__file__).parent / "numbers.yaml").read_text("utf-8"))
ROWS = tuple(PaperRow(**row) for row in _TEXT["rows"])
REMARKS: Mapping[int, str] = _TEXT["remarks"]
"""What else the text says, by table."""


def rows_of(table: int) -> list[PaperRow]:
    return [row for row in ROWS if row.table == table]
