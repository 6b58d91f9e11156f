"""One self-contained HTML page from runs: no network, no file beside it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from progrpo import schema
from progrpo.report import html, wording
from progrpo.report.alarms import raised
from progrpo.report.comparison.benchmarks import Benchmark, compare_benchmarks
from progrpo.report.comparison.headlines import headlines, lead
from progrpo.report.comparison.results import Summary, summarise
from progrpo.report.evaluations import HELD_OUT
from progrpo.report.paper import tables
from progrpo.report.paper.ablation_tables import form_tables, strength_tables
from progrpo.report.paper.benchmark_tables import benchmark_tables
from progrpo.report.paper.diversity_tables import diversity_tables
from progrpo.report.paper.numbers import MISSING, SHAPES
from progrpo.report.read import Run, grouped
from progrpo.report.rollout_pages import RolloutPages
from progrpo.report.run_page.browsers import completions, disagreements, disputes
from progrpo.report.run_page.cost import cost_table
from progrpo.report.run_page.figures import FIGURES, NO_PAGES, cost_figures, figures, paper_figures
from progrpo.schema.quantity import Quantity

FIRST = ("over-k", "entropy", "benchmark-pass")
"""Figures of the first screen; the last where nothing was trained."""
REPEATED = {f"table-{number}-{HELD_OUT}" for number in (6, 7)}
"""Tables that say the held-out results again; they stand beside the page."""
_NOT_SET = "not set"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tables:
    """What the benchmarks of a page come to.

    Attributes:
        paper: every table in the paper's shape that some run has numbers for, in the paper's order.
        left_out: sentences on evaluations that are left out, and on runs without any.
        notes: a sentence on each table that is left out.
    """

    benchmarks: tuple[Benchmark, ...]
    left_out: tuple[str, ...]
    paper: tuple[tables.PaperTable, ...]
    notes: tuple[str, ...]


def make_tables(runs: Sequence[Run]) -> Tables:
    """Compare the benchmarks of the runs, and fill the paper's tables with them."""
    benchmarks = compare_benchmarks(runs)
    filled = {shape.number: benchmark_tables(shape, runs, benchmarks) for shape in SHAPES} | {
        5: diversity_tables(runs, benchmarks),
        6: strength_tables(runs, benchmarks),
        7: form_tables(runs, benchmarks),
    }
    return Tables(
        benchmarks=benchmarks,
        left_out=tuple(html.paragraphs("captions.jinja", "left_out", runs=runs)),
        paper=tuple(table for of_number in filled.values() for table in of_number),
        notes=tuple(MISSING[number] for number, of_number in filled.items() if not of_number),
    )


def make_page(
    runs: Sequence[Run],
    *,
    title: str,
    report_tables: Tables | None = None,
    pages: RolloutPages = NO_PAGES,
    live: str | None = None,
) -> str:
    """The page as text; the same runs give the same page, byte for byte.

    Args:
        report_tables: the tables of these runs' benchmarks, where the caller has them already.
        pages: of the rollouts of a single run, which its curves lead to.
        live: the version of a page that a server renews while the runs go on (see `progrpo.report.live`).
    """
    report_tables = report_tables or make_tables(runs)
    # What the section of held-out results says is not said again among the benchmarks.
    benchmarks = [one for one in report_tables.benchmarks if one.preset != HELD_OUT]
    browsed = completions(runs) | {"disputes": disputes(runs, benchmarks)}
    summary = summarise(runs)
    drawn, of_paper = figures(runs, pages), paper_figures(runs, report_tables.benchmarks)
    first = [one for name in FIRST for one in (*drawn, *of_paper) if one.name == name]
    if drawn:
        first = [one for one in first if one in drawn]
    return html.render(
        "run_page/page.html",
        scripts=("run_page/page.js", "run_page/disputes.js", *(() if live is None else ("run_page/live.js",))),
        live=live,
        data=browsed,
        wording=wording,
        schema=schema,
        tables=tables,
        title=title,
        runs=runs,
        made_with=grouped(
            (facts, one.name) for run in runs for one in run.members if (facts := wording.made_with(one.environment))
        ),
        differing=differing_settings(runs),
        summary=summary,
        lead=lead(runs),
        headlines=headlines(runs, summary, report_tables.benchmarks),
        report_tables=report_tables,
        benchmarks=benchmarks,
        paper_tables=[one for one in report_tables.paper if one.name not in REPEATED],
        evaluated_by=_evaluated_by(runs, benchmarks),
        first_figures=first,
        paper_figures=[one for one in of_paper if one not in first],
        figures=[one for one in drawn if one not in first],
        words=_words(summary, benchmarks),
        alarms=raised(runs),
        cost_figures=cost_figures(runs),
        cost=cost_table(runs),
        finals=final_values(runs),
        browsed=browsed,
        disagreements=disagreements(runs),
    )


def _words(summary: Summary, benchmarks: Sequence[Benchmark]) -> list[Quantity]:
    """The measures and the metrics that the page shows by their label, each once."""
    measures = [*(summary.measures if summary.last else ()), *(one for table in benchmarks for one in table.measures)]
    shown = [*measures, *(one for name in FIGURES for one in schema.drawn(name))]
    return [one for one in {one.label: one for one in reversed(shown)}.values() if one.meaning][::-1]


def differing_settings(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Settings in which runs differ, with each run's value; where a run was written to is none."""
    settings = [run.settings for run in runs]
    rows = []
    for key in sorted({key for one in settings for key in one}):
        values = [
            one[key] if key in one else _without(key, run, one, settings)
            for run, one in zip(runs, settings, strict=True)
        ]
        # A directory that was only evaluated has no settings of training: that it lacks them is no difference.
        counted = [value for run, value, one in zip(runs, values, settings, strict=True) if run.trained or key in one]
        if len(set(counted)) > 1:
            rows.append((key, values))
    return rows


def _without(key: str, run: Run, config: Mapping[str, str], settings: Sequence[Mapping[str, str]]) -> str:
    """What stands for a setting that a run does not record: a dash where it has none of that name, which is so where
    every run that records it has another method (task, engine, ...)."""
    name = f"{key.partition('.')[0]}.name"
    having = {one.get(name) for one in settings if key in one}
    return wording.NOTHING if not run.trained or (name in config and config[name] not in having) else _NOT_SET


def final_values(runs: Sequence[Run]) -> list[tuple[str, list[tuple[object, int] | None]]]:
    """Per metric, its last value in each run that is not null and the step of it; None where a run has none."""
    last: list[dict[str, tuple[object, int]]] = [
        {key: (value, row["step"]) for row in run.metrics for key, value in row.items() if value is not None}
        for run in runs
    ]

    def natural(key: str) -> list[tuple[int, str]]:
        """Sorts pass@8 before pass@16."""
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]

    keys = sorted({key for values in last for key in values} - {"step"}, key=natural)
    return [(key, [values.get(key) for values in last]) for key in keys]


def _evaluated_by(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[tuple[int, str | None, str, list[str]]]:
    """(run, command, versions and machine, names of the evaluations it made), where an evaluation recorded any of it."""
    makers = grouped(
        ((run, wording.command(one.environment), wording.made_with(one.environment)), benchmark.name)
        for benchmark in benchmarks
        for run, one in benchmark.evaluations.items()
        if one.environment and one.environment != runs[run].environment
    )
    return [(*maker, names) for maker, names in sorted(makers.items(), key=lambda item: item[0][0])]
