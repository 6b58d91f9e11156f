"""The verbs `report` and `compare`: pages from run directories, and a table on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from progrpo.errors import ConfigError
from progrpo.files import write_whole
from progrpo.report.page import make_page
from progrpo.report.read import Run, load_runs
from progrpo.report.summary import Summary, summarise
from progrpo.report.wording import NOTHING, Measure
from progrpo.statistics import Interval


def run_report(run: Path) -> None:
    """Write RUN/report.html and print its path."""
    runs = load_runs([run])
    out = run / "report.html"
    write_whole(out, make_page(runs, title=f"Run {runs[0].name}"))
    Console(soft_wrap=True, highlight=False).print(str(out), markup=False)


def run_compare(runs: Sequence[Path], out: Path) -> None:
    """Write one page for several runs; print their last held-out results, and the page's path.

    Raises:
        ConfigError: `out` is not named like a page; a run directory's own files are never overwritten.
    """
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out: expected a file name that ends in .html, got {str(out)!r}")
    loaded = load_runs(runs)
    page = make_page(loaded, title="Comparison of runs" if len(loaded) > 1 else f"Run {loaded[0].name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page)
    console = Console(soft_wrap=True, highlight=False)
    for table in tables(loaded, summarise(loaded)):
        console.print(table)
    console.print(str(out), markup=False)


def tables(runs: Sequence[Run], summary: Summary) -> list[Table]:
    """The last evaluation of each run, and the paired differences to the first; neither where there is none."""
    found = []
    if summary.last:
        table = _table("held-out: mean over problems [95 % interval over problems]", summary.measures)
        for row in summary.last:
            cells = [_cell(measure, row.cells[measure.key]) for measure in summary.measures]
            table.add_row(Text(f"{row.label}\nstep {row.step}"), *cells)
        found.append(table)
    if summary.differences:
        table = _table(f"difference to {runs[0].name}, paired by problem", summary.measures, percent="points")
        for difference in summary.differences:
            cells = [_cell(measure, difference.cells[measure.key], signed=True) for measure in summary.measures]
            table.add_row(Text(f"{runs[difference.run].name}\nstep {difference.step}"), *cells)
        found.append(table)
    return found


def _table(title: str, measures: Sequence[Measure], percent: str = "%") -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    for measure in measures:
        label = measure.label.replace(" ", "\n")
        unit = percent if measure.percent else measure.unit
        table.add_column(f"{label}\n{unit}", justify="right", no_wrap=True)
    return table


def _cell(measure: Measure, interval: Interval | None, *, signed: bool = False) -> Text:
    if interval is None:
        return Text(NOTHING)
    return Text(f"{measure.value(interval.mean, signed=signed)}\n{measure.range(interval, signed=signed)}")
