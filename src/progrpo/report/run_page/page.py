"""One self-contained HTML page from runs: no network, no file beside it."""

import re
from collections.abc import Mapping, Sequence

from progrpo import schema
from progrpo.report import html, wording
from progrpo.report.comparison.benchmarks import Benchmark
from progrpo.report.comparison.summary import headlines, summarise
from progrpo.report.paper import tables
from progrpo.report.paper.all_tables import Tables, make_tables
from progrpo.report.read import Run
from progrpo.report.run_page.cost import cost_table
from progrpo.report.run_page.disputes import disputes
from progrpo.report.run_page.figures import cost_figures, figures, paper_figures
from progrpo.report.run_page.samples import completions, disagreements

_NOT_SET = "not set"


def make_page(runs: Sequence[Run], *, title: str, made: Tables | None = None) -> str:
    """The page as text; the same runs give the same page, byte for byte.

    Args:
        made: the tables of these runs' benchmarks, where the caller has them already.
    """
    made = made or make_tables(runs)
    comparison = made.comparison
    browsed = completions(runs) | {"disputes": disputes(runs, comparison.benchmarks)}
    cost_columns, cost_cells = cost_table(runs)
    summary = summarise(runs)
    return html.render(
        "run_page/page.html",
        scripts=("run_page/page.js", "run_page/disputes.js"),
        data=browsed,
        filters={
            "significant": wording.significant,
            "p_value": wording.p_value,
            "quantity": schema.known,
            "method": wording.method,
            "model": wording.model,
            "command": wording.command,
            "progress": wording.progress,
            "shown": tables.shown,
            "ranges": tables.ranges,
        },
        title=title,
        runs=runs,
        trained=any(run.trained for run in runs),
        made_with=_made_with(runs),
        differing=differing_settings(runs),
        summary=summary,
        headlines=headlines(runs, summary),
        comparison=comparison,
        some_left_out=any(run.left_out for run in runs),
        evaluated_by=_evaluated_by(runs, comparison.benchmarks),
        paper_figures=paper_figures(runs, comparison),
        paper_tables=made.paper,
        table_notes=made.notes,
        disputed=bool(browsed["disputes"]["benchmarks"]),
        figures=figures(runs),
        cost_figures=cost_figures(runs),
        cost_columns=cost_columns,
        cost_cells=cost_cells,
        finals=final_values(runs),
        browsed=browsed,
        disagreements=disagreements(runs),
    )


def differing_settings(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Settings in which runs differ, with each run's value; where a run was written to is none."""
    settings = [wording.flat(run.config) for run in runs]
    rows = []
    for key in sorted({key for one in settings for key in one} - {"out"}):
        values = [
            one[key] if key in one else _without(key, run, one, settings)
            for run, one in zip(runs, settings, strict=True)
        ]
        # A directory that was only evaluated has no settings of training: that it lacks them is no difference.
        counted = [value for run, value, one in zip(runs, values, settings, strict=True) if run.trained or key in one]
        if len(set(counted)) > 1:
            rows.append((key, values))
    return rows


def _without(key: str, run: Run, own: Mapping[str, str], settings: Sequence[Mapping[str, str]]) -> str:
    """What stands for a setting that a run does not record: a dash where it has none of that name, which is so where
    every run that records it has another method (task, engine, ...)."""
    name = f"{key.partition('.')[0]}.name"
    having = {one.get(name) for one in settings if key in one}
    return wording.NOTHING if not run.trained or (name in own and own[name] not in having) else _NOT_SET


def final_values(runs: Sequence[Run]) -> list[tuple[str, list[tuple[object, int] | None]]]:
    """Per metric, its last value in each run that is not null and the step of it; None where a run has none."""
    last: list[dict[str, tuple[object, int]]] = [
        {key: (value, row["step"]) for row in run.metrics for key, value in row.items() if value is not None}
        for run in runs
    ]
    keys = sorted({key for found in last for key in found} - {"step"}, key=_natural)
    return [(key, [found.get(key) for found in last]) for key in keys]


def _natural(key: str) -> list[tuple[int, str]]:
    """Sorts pass@8 before pass@16."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]


def _evaluated_by(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[tuple[int, str | None, str, list[str]]]:
    """(run, command, versions and machine, names of the evaluations it made), where an evaluation recorded any of it."""
    found: dict[tuple[int, str | None, str], list[str]] = {}
    for benchmark in benchmarks:
        for run, one in benchmark.evaluations.items():
            if one.environment and one.environment != runs[run].environment:
                by = (run, wording.command(one.environment), wording.made_with(one.environment))
                found.setdefault(by, []).append(benchmark.name)
    return [(*by, names) for by, names in sorted(found.items(), key=lambda item: item[0][0])]


def _made_with(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Versions and machine, each with the runs that were made so."""
    found: dict[str, list[str]] = {}
    for run in runs:
        if facts := wording.made_with(run.environment):
            found.setdefault(facts, []).append(run.name)
    return list(found.items())
