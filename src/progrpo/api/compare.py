"""`progrpo.compare`: runs side by side as tables, and the page."""

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from progrpo.api.evaluate import Evaluations
from progrpo.api.run import TrainingRun
from progrpo.errors import ConfigError
from progrpo.files import finite_or_none, make_folder, write_whole
from progrpo.report.alarms import raised
from progrpo.report.comparison.results import not_compared, summarise
from progrpo.report.paper.tables import write_tables
from progrpo.report.read import load_runs
from progrpo.report.run_page.page import make_page, make_tables
from progrpo.report.seeds import pool_seeds
from progrpo.statistics import Interval


class Comparison:
    """What `progrpo.compare` found. Intervals are of 95 %: "low" and "high" over problems; "seeds_low" and "seeds_high" over
    the "seeds" of runs that differ by the seed alone (Student's; Welch's for a difference of runs with other seeds), nan
    with fewer than two on a side, and where all of them gave the same.

    Attributes:
        held_out: a row per run and measure: the last evaluation during training; "mean", "low", "high", "step", and those
            over seeds.
        differences: a row per run and measure: run minus the first run, paired by problem (and by seed where both have the
            same ones), at the last step that both were evaluated at; "mean", "low", "high", "step", "problems", and those
            over seeds.
        benchmarks: a row per benchmark, run and measure of what `evaluate` made; "mean", "low", "high", the "step" of the
            checkpoint (None of a model that is none of a run), and those over seeds.
        alarms: a row per alarm of a run, or of one of its seeds: "run", "alarm", the "step" it began at, "until" which, "text".
        notes: what was left out of the comparison, and why.
        page: the HTML page; None where none was asked for.
    """

    def __init__(
        self,
        held_out: pd.DataFrame,
        differences: pd.DataFrame,
        benchmarks: pd.DataFrame,
        alarms: pd.DataFrame,
        notes: Sequence[str],
        page: Path | None,
    ) -> None:
        self.held_out = held_out
        self.differences = differences
        self.benchmarks = benchmarks
        self.alarms = alarms
        self.notes = tuple(notes)
        self.page = page

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        tables = {
            name: finite_or_none(getattr(self, name).to_dict("records"))
            for name in ("held_out", "differences", "benchmarks", "alarms")
        }
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
        _row(one.interval(key), one.over_seeds(key), len(one.seeds), run=loaded[run].name, measure=key, step=one.step)
        for run, one in summary.last.items()
        for key in (measure.key for measure in summary.measures)
    ]
    differences = [
        _row(
            one.cells[key],
            one.seeds.get(key),
            min(one.of_seeds),
            run=loaded[one.run].name,
            measure=key,
            step=one.step,
            problems=one.problems,
        )
        for one in summary.differences
        for key in (measure.key for measure in summary.measures)
    ]
    benchmarks = [
        _row(
            one.interval(key),
            one.over_seeds(key),
            len(one.seeds),
            benchmark=benchmark.name,
            run=loaded[run].name,
            measure=key,
            step=one.step,
        )
        for benchmark in tables.benchmarks
        for run, one in benchmark.evaluations.items()
        for key in (measure.key for measure in benchmark.measures)
    ]
    notes = [*tables.left_out, *not_compared(loaded, summary)]
    alarms = [
        {"run": one.name, "alarm": one.alarm, "step": one.step, "until": one.until, "text": one.text}
        for one in raised(loaded)
    ]
    return Comparison(_frame(held_out), _frame(differences), _frame(benchmarks), _frame(alarms), notes, page)


def _row(interval: Interval | None, seeds: Interval | None, count: int, **names: Any) -> dict[str, Any] | None:
    """None where no problem has the measure."""
    if interval is None:
        return None
    low, high = (nan, nan) if seeds is None else (seeds.low, seeds.high)
    over_seeds = {"seeds": max(1, count), "seeds_low": low, "seeds_high": high}
    return names | {"mean": interval.mean, "low": interval.low, "high": interval.high} | over_seeds


def _frame(rows: Sequence[dict[str, Any] | None]) -> pd.DataFrame:
    kept = [row for row in rows if row is not None]
    frame = pd.DataFrame(kept)
    if any(row.get("step", 0) is None for row in kept):  # a step stays a whole number beside None
        frame["step"] = pd.Series([row["step"] for row in kept], dtype=object)
    return frame
