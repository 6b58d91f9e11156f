"""All tables in the paper's shape, and what would fill those that are left out."""

from collections.abc import Sequence
from dataclasses import dataclass

from progrpo.report.comparison.benchmarks import Comparison, compare_benchmarks
from progrpo.report.paper.ablation_tables import ablation_tables
from progrpo.report.paper.benchmark_tables import benchmark_tables
from progrpo.report.paper.diversity_tables import diversity_tables
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
    """Read and compare the benchmarks of the runs, and fill the paper's tables with them."""
    comparison = compare_benchmarks(runs)
    found = [
        *benchmark_tables(runs, comparison),
        *diversity_tables(runs, comparison),
        *ablation_tables(runs, comparison),
    ]
    return Tables(
        comparison=comparison,
        paper=tuple(table for tables, _ in found for table in tables),
        notes=tuple(note for tables, note in found if not tables),
    )
