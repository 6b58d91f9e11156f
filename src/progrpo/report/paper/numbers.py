"""The ProGRPO paper's tables (arXiv:2602.05281): their shape, and what its text fixes of their numbers, from numbers.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml

from progrpo.settings import Settings

AVERAGE = "average"
"""Stands for the column of the mean over the six mathematical benchmarks."""


class PaperRow(Settings):
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


class Shape(Settings):
    """One of the paper's tables of benchmarks.

    Attributes:
        k: the paper's, in Pass@k; where not all evaluations reach it, the largest power of two that they do.
        columns: (task, name of the benchmark in the paper, keys of its measures); "pass@k" stands for Pass@k at that k.
        averaged: whether its last column is the average of the others.
    """

    number: int
    subject: str
    k: int
    digits: int
    columns: tuple[tuple[str, str, tuple[str, ...]], ...]
    averaged: bool = False


class Ablation(Settings):
    """A table of runs that differ in one thing: `varied` are the settings it is of, `word` heads its column."""

    subject: str
    word: str
    varied: tuple[str, ...]


_TEXT = yaml.safe_load((Path(__file__).parent / "numbers.yaml").read_text("utf-8"))
ROWS = tuple(PaperRow(**row) for row in _TEXT["rows"])
SHAPES = tuple(Shape(**shape) for shape in _TEXT["shapes"])
ABLATIONS = {number: Ablation(**about) for number, about in _TEXT["ablations"].items()}
REMARKS: Mapping[int, str] = _TEXT["remarks"]
"""What else the text says, by table."""
MISSING: Mapping[int, str] = _TEXT["missing"]
"""What would fill a table, by its number."""

MATHEMATICS = {task: label for task, label, _ in SHAPES[0].columns}
"""The paper's six mathematical benchmarks by task."""
ORDER = tuple(task for shape in SHAPES for task, _, _ in shape.columns)
"""Benchmarks as the paper lists them; others follow by name."""
