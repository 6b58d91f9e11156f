"""All tables in the paper's shape, and what would fill those that are left out."""

from collections.abc import Sequence
from dataclasses import dataclass

from progrpo.report.comparison.benchmarks import Comparison, compare_benchmarks
from progrpo.report.paper.ablation_tables import form_tables, strength_tables
from progrpo.report.paper.benchmark_tables import benchmark_tables
from progrpo.report.paper.diversity_tables import diversity_tables
from progrpo.report.paper.numbers import MISSING, SHAPES
from progrpo.report.paper.tables import PaperTable
from progrpo.report.read import Run


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tables:
    """What the benchmarks of a page come to.

    Attributes:
        paper: every table in the paper's shape that some run has numbers for, in the paper's order.
        notes: a sentence on each that is left out.
    """

    comparison: Comparison
    paper: tuple[PaperTable, ...]
    notes: tuple[str, ...]


def make_tables(runs: Sequence[Run]) -> Tables:
    """Compare the benchmarks of the runs, and fill the paper's tables with them."""
    comparison = compare_benchmarks(runs)
    filled = {shape.number: benchmark_tables(shape, runs, comparison) for shape in SHAPES} | {
        5: diversity_tables(runs, comparison),
        6: strength_tables(runs, comparison),
        7: form_tables(runs, comparison),
    }
    return Tables(
        comparison=comparison,
        paper=tuple(table for tables in filled.values() for table in tables),
        notes=tuple(MISSING[number] for number, tables in filled.items() if not tables),
    )
