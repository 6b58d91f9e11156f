"""`progrpo.compare`: runs side by side as tables, and the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from progrpo.api.evaluate import Evaluations
from progrpo.api.run import TrainingRun
from progrpo.errors import ConfigError
from progrpo.files import make_folder, write_whole
from progrpo.report.comparison.results import not_compared, summarise
from progrpo.report.paper.tables import write_tables
from progrpo.report.read import load_runs
from progrpo.report.run_page.page import make_page, make_tables
from progrpo.report.seeds import pool_seeds
from progrpo.statistics import Interval


class Comparison:
    """What `progrpo.compare` found. Intervals are of 95 %, over problems.

    Attributes:
        held_out: a row per run and measure: the last evaluation during training; "mean", "low", "high", "step".
        differences: a row per run and measure: run minus the first run, paired by problem, at the last step that both were
            evaluated at; "mean", "low", "high", "step", "problems".
        benchmarks: a row per benchmark, run and measure of what `evaluate` made.
        notes: what was left out of the comparison, and why.
        page: the HTML page; None where none was asked for.
    """

    def __init__(
        self,
        held_out: pd.DataFrame,
        differences: pd.DataFrame,
        benchmarks: pd.DataFrame,
        notes: Sequence[str],
        page: Path | None,
    ) -> None:
        self.held_out = held_out
        self.differences = differences
        self.benchmarks = benchmarks
        self.notes = tuple(notes)
        self.page = page

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        tables = {name: getattr(self, name).to_dict("records") for name in ("held_out", "differences", "benchmarks")}
        return {**tables, "notes": list(self.notes), "page": None if self.page is None else str(self.page)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.differences)} differences, page={str(self.page) if self.page else None!r})"


def compare(runs: Sequence[str | Path | TrainingRun | Evaluations], *, out: str | Path | None = None) -> Comparison:
    """Put runs side by side; the others are compared with the first. Runs that differ by the seed alone are one run there.

    Args:
        runs: two or more runs or evaluations, or their directories.
        out: the HTML page to write (its tables go beside it); None writes none.

    Raises:
        ConfigError: `out` is not named like a page. RunDirectoryError: one of them is no run directory.
    """
    page = None if out is None else Path(out)
    if page is not None and page.suffix not in (".html", ".htm"):
        raise ConfigError(f"out: expected a file name that ends in .html, got {str(page)!r}")
    loaded = pool_seeds(load_runs([Path(one if isinstance(one, str | Path) else one.path) for one in runs]))
    tables, summary = make_tables(loaded), summarise(loaded)
    if page is not None:
        make_folder(page.parent)
        write_whole(page, make_page(loaded, title="Comparison of runs", report_tables=tables))
        write_tables(tables.paper, page.with_name(f"{page.stem}-tables"))
    held_out = [
        _row(one.interval(measure.key), run=loaded[run].name, measure=measure.key, step=one.step)
        for run, one in summary.last.items()
        for measure in summary.measures
    ]
    differences = [
        _row(
            one.cells[measure.key], run=loaded[one.run].name, measure=measure.key, step=one.step, problems=one.problems
        )
        for one in summary.differences
        for measure in summary.measures
    ]
    benchmarks = [
        _row(one.interval(measure.key), benchmark=benchmark.name, run=loaded[run].name, measure=measure.key)
        for benchmark in tables.benchmarks
        for run, one in benchmark.evaluations.items()
        for measure in benchmark.measures
    ]
    notes = [*tables.left_out, *not_compared(loaded, summary)]
    return Comparison(_frame(held_out), _frame(differences), _frame(benchmarks), notes, page)


def _row(interval: Interval | None, **names: Any) -> dict[str, Any] | None:
    """None where no problem has the measure."""
    return None if interval is None else names | {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _frame(rows: Sequence[dict[str, Any] | None]) -> pd.DataFrame:
    return pd.DataFrame([row for row in rows if row is not None])
