"""The verbs `report` and `compare`: pages from run directories, and a table on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from progrpo import schema
from progrpo.cli import output
from progrpo.errors import ConfigError, RunDirectoryError, StorageError
from progrpo.files import make_folder, write_whole
from progrpo.report.alarms import raised
from progrpo.report.comparison.benchmarks import Benchmark
from progrpo.report.comparison.headlines import headlines
from progrpo.report.comparison.results import OTHER_PROBLEMS, Paired, Summary, not_compared, summarise
from progrpo.report.evaluations import HELD_OUT, Evaluation
from progrpo.report.paper.tables import write_tables
from progrpo.report.read import Run, load_runs
from progrpo.report.rollout_pages import ROLLOUT_PAGES, RolloutPages, write_rollout_pages
from progrpo.report.run_page.figures import NO_PAGES
from progrpo.report.run_page.page import Tables, make_page, make_tables
from progrpo.report.seeds import pool_seeds
from progrpo.report.wording import NOTHING, p_value
from progrpo.schema.quantity import Quantity
from progrpo.statistics import Interval

PERCENT = schema.metric("evaluate/pass@1")
"""Writes shares and their differences."""
NAME_WIDTH = 12
"""Characters that a table leaves to the names of runs, where the terminal is narrow."""


def run_report(run: Path) -> None:
    """Write RUN/report.html, its tables into RUN/report-tables/, its rollouts into RUN/report-rollouts/, and print the page's
    path; on stderr, what is left out."""
    runs = load_runs([run])
    out = run / "report.html"
    report_tables = make_tables(runs)
    pages = write_rollout_pages(runs[0], run / ROLLOUT_PAGES)
    _write(runs, report_tables, out, title=f"Run {runs[0].name}", pages=pages)
    _say([*report_tables.left_out, *pages.left_out])
    output.show({"page": str(out)}, lambda: Console(soft_wrap=True, highlight=False).print(str(out), markup=False))


def run_compare(runs: Sequence[Path], out: Path) -> None:
    """Write one page for several runs, and its tables beside it (page.html: page-tables/); print a sentence on each, their
    last held-out results, their benchmarks, and the page's path; on stderr, what is left out or compared with itself.

    Runs that differ by the seed alone are one run there, with intervals over seeds beside those over problems.

    Raises:
        ConfigError: `out` is not named like a page; a run directory's own files are never overwritten.
        RunDirectoryError: the page cannot be written there. StorageError: the disk refuses it.
    """
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out: expected a file name that ends in .html, got {str(out)!r}")
    loaded = pool_seeds(load_runs(runs))
    report_tables = make_tables(loaded)
    title = "Comparison of runs" if len(loaded) > 1 else f"Run {loaded[0].name}"
    _write(loaded, report_tables, out, title=title)
    console = Console(soft_wrap=True, highlight=False)
    summary = summarise(loaded)
    _say([*_nothing_to_compare(runs), *report_tables.left_out, *not_compared(loaded, summary)])
    evaluated = any(run.evaluations or run.benchmarks for run in loaded)
    for one in () if not evaluated else headlines(loaded, summary, report_tables.benchmarks):
        console.print(f"{loaded[one.run].name}: {one.text}", markup=False)
    for alarm in raised(loaded):
        console.print(f"{alarm.name}: alarm {alarm.alarm}, {alarm.steps}: {alarm.text}", markup=False)
    for table in (*tables(loaded, summary), *benchmark_tables(loaded, report_tables.benchmarks)):
        console.print(table)
    beside = out.resolve().with_name(f"{out.stem}-tables")
    console.print(f"page: {out.resolve()}" + (f"; tables: {beside}" if beside.is_dir() else ""), markup=False)


def tables(runs: Sequence[Run], summary: Summary) -> list[Table]:
    """The last evaluation of each run, and the paired differences to the first; neither where there is none."""
    shown = []
    measures = [one for one in summary.measures if "page" not in one.drawn]  # a terminal is narrow
    if summary.last:
        table = _table("held-out: mean over problems [95 % interval over problems]", measures)
        for run, evaluation in summary.last.items():
            cells = [
                _cell(measure, evaluation.interval(measure.key), over_seeds=evaluation.over_seeds(measure.key))
                for measure in measures
            ]
            table.add_row(_heading(runs[run], f"step {evaluation.step}", len(evaluation.seeds)), *cells)
        shown.append(table)
    if summary.differences:
        table = _table(f"difference to {runs[0].name}, paired by problem", measures, percent="points")
        for difference in summary.differences:
            cells = [
                _cell(measure, difference.cells[measure.key], signed=True, over_seeds=difference.seeds.get(measure.key))
                for measure in measures
            ]
            about, seeds = f"step {difference.step}", difference.of_seeds[0]
            if difference.reason:
                otherwise = "other problems" if difference.reason == OTHER_PROBLEMS else "evaluated otherwise"
                about, seeds = f"{otherwise}, not compared", 0
            table.add_row(_heading(runs[difference.run], about, seeds), *cells)
        shown.append(table)
    return shown


def benchmark_tables(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[Table]:
    """One compact table of all benchmarks: means, and the difference to the first run in Pass@1; none without benchmarks."""
    compared = [benchmark for benchmark in benchmarks if benchmark.preset != HELD_OUT]
    if not compared:
        return []
    title = f"benchmarks: % of completions or problems; difference in Pass@1 to {runs[0].name} [95 % interval]"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold", min_width=NAME_WIDTH)
    columns = [one for one in schema.columns("compare") if any(_member(one, benchmark) for benchmark in compared)]
    for heading in (*(one.at("k").heading for one in columns), "difference", "Holm's p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for benchmark in compared:
        most = benchmark.tested[-1]
        table.add_row(Text(benchmark.name), "", Text(f"k={most.removeprefix('pass@')}"), style="bold")
        gaps = {gap.run: gap for gap in benchmark.gaps}
        for run, evaluation in benchmark.evaluations.items():
            cells = [_mean(_member(one, benchmark), evaluation) for one in columns]
            table.add_row(
                Text(f"  {runs[run].name}{_earlier(runs[run], evaluation)}"), *cells, *_gap_cells(gaps.get(run))
            )
    return [table]


def _earlier(run: Run, evaluation: Evaluation) -> str:
    """The step of a checkpoint that is not the run's last, as an addition to its name."""
    behind = run.trained and evaluation.step is not None and evaluation.step != run.steps_done
    return f" (step {evaluation.step} of {run.steps_done})" if behind else ""


def _member(one: Quantity, benchmark: Benchmark) -> Quantity | None:
    """The measure of a benchmark that stands in a column: of a family its largest k."""
    return next((measure for measure in reversed(benchmark.measures) if one.member(measure.key) is not None), None)


def _mean(measure: Quantity | None, evaluation: Evaluation) -> Text:
    interval = evaluation.interval(measure.key) if measure else None
    return Text(NOTHING if measure is None or interval is None else measure.value(interval.mean))


def _gap_cells(gap: Paired | None) -> list[Text]:
    if gap is None:
        return []
    if gap.reason:
        return [Text("not compared"), Text(NOTHING)]
    interval = gap.cells["pass@1"]
    if interval is None:
        return [Text(NOTHING), Text(NOTHING)]
    difference = f"{PERCENT.value(interval.mean, signed=True)} {PERCENT.range(interval, signed=True)}"
    return [Text(difference), Text(p_value(gap.adjusted["pass@1"]))]


def _write(
    runs: Sequence[Run], report_tables: Tables, out: Path, *, title: str, pages: RolloutPages = NO_PAGES
) -> None:
    """The page, and the folder of its tables beside it.

    Raises:
        RunDirectoryError: there is a directory, or what an earlier page wrote cannot be read or removed.
        StorageError: the disk refuses them.
    """
    if out.is_dir():
        raise RunDirectoryError(f"{out}: expected the name of a page to write, got a directory")
    page = make_page(runs, title=title, report_tables=report_tables, pages=pages)
    try:
        make_folder(out.parent)
        write_whole(out, page)
        write_tables(report_tables.paper, out.with_name(f"{out.stem}-tables"))
    except StorageError:
        raise  # it says what the disk refuses
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RunDirectoryError(f"{out}: the page or its tables cannot be written there ({why})") from None


def _say(notes: Sequence[str]) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for note in notes:
        console.print(f"note: {note}", markup=False)


def _nothing_to_compare(runs: Sequence[Path]) -> list[str]:
    """Sentences on a comparison of one run, and of runs with themselves."""
    if len(runs) == 1:
        return ["one run, and nothing to compare it with; name two or more."]
    places = [run.resolve() for run in runs]
    again = dict.fromkeys(str(run) for index, run in enumerate(runs) if places[index] in places[:index])
    return [f"{run} was given before: it is compared with itself." for run in again]


def _table(title: str, measures: Sequence[Quantity], percent: str = "%") -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold", min_width=NAME_WIDTH)
    for measure in measures:
        label = measure.label.replace(" ", "\n")
        unit = percent if measure.percent else measure.unit
        table.add_column(f"{label}\n{unit}", justify="right", no_wrap=True)
    return table


def _heading(run: Run, about: str, seeds: int) -> Text:
    """A run's name, what stands in its row, and, of several seeds, what its second interval is over.

    Args:
        seeds: those of the run that have what stands there; 0 or 1 of a run by itself.
    """
    over = f"over {seeds} seeds" if seeds > 1 else "of one seed"
    return Text("\n".join([run.name, about, *([over] if run.seeds and seeds else [])]))


def _cell(
    measure: Quantity, interval: Interval | None, *, signed: bool = False, over_seeds: Interval | None = None
) -> Text:
    if interval is None:
        return Text(NOTHING)
    lines = [measure.value(interval.mean, signed=signed), measure.range(interval, signed=signed)]
    if over_seeds is not None:
        lines.append(measure.range(over_seeds, signed=signed))
    return Text("\n".join(lines))
