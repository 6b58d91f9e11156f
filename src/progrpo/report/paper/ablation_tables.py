"""Tables 6 and 7 of the paper: runs that differ in the strength of the confidence term, and in its form."""

from collections.abc import Collection, Mapping, Sequence

from progrpo.files import is_number
from progrpo.measures.pass_at_k import doublings
from progrpo.report.comparison.benchmarks import (
    Benchmark,
    Shared,
    average,
    mathematical,
    of_one_kind,
    pass_measures,
    shared_benchmarks,
)
from progrpo.report.html import prose
from progrpo.report.paper.numbers import ABLATIONS, AVERAGE, MATHEMATICS, REMARKS
from progrpo.report.paper.panels import advantage_form
from progrpo.report.paper.tables import Column, PaperTable, TableRow, Value, paper_table, row_values
from progrpo.report.read import Run
from progrpo.report.wording import model
from progrpo.schema.quantity import Quantity

_K = 32
"""Of the paper's Pass@k."""
_NEVER_COMPARED = frozenset({"seed", "out"})


def strength_tables(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[PaperTable]:
    """Table 6 once for every preset that runs of different strength were evaluated under; none without two strengths of
    ProGRPO."""
    strengths = {index: alpha for index, run in enumerate(runs) if (alpha := strength(run)) is not None}
    names = {index: runs[index].config["method"]["name"] for index in strengths}
    if len({strengths[index] for index, name in names.items() if name == "progrpo"}) < 2:
        return []
    ascending = sorted(strengths, key=lambda run: (strengths[run], run))
    labels = {run: f"α = {strengths[run]:g}" + (" (grpo)" if names[run] == "grpo" else "") for run in ascending}
    groups = map(of_one_kind, map(mathematical, shared_benchmarks(benchmarks, strengths)))
    return [_table(6, runs, group, labels) for group in groups if len({strengths[run] for run in group.runs}) > 1]


def form_tables(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[PaperTable]:
    """Table 7 once for every preset that runs with different forms of the advantage were evaluated under."""
    forms = {index: form for index, run in enumerate(runs) if (form := advantage_form(run.config)) is not None}
    groups = map(mathematical, shared_benchmarks(benchmarks, forms))
    return [_table(7, runs, group, forms) for group in groups if len({forms[run] for run in group.runs}) > 1]


def strength(run: Run) -> float | None:
    """alpha of a ProGRPO run; 0 of a GRPO run, which is what the paper calls alpha = 0; None of any other."""
    method = run.config.get("method") or {}
    alpha = method.get("alpha")
    if method.get("name") == "progrpo" and is_number(alpha):
        return float(alpha)
    return 0.0 if method.get("name") == "grpo" else None


def _table(number: int, runs: Sequence[Run], group: Shared, labels: Mapping[int, str]) -> PaperTable:
    """Table 6, which has averages alone, or 7; `labels` name the runs, in the order of the rows."""
    about = ABLATIONS[number]
    smallest = min(benchmark.evaluations[run].n for benchmark in group.benchmarks for run in group.runs)
    parts = pass_measures(min(_K, doublings(smallest)[-1]))
    names = {one.name: MATHEMATICS.get(one.task, one.name) for one in group.benchmarks}
    columns = [Column(key=key, label=label, parts=parts) for key, label in names.items()] if number == 7 else []
    if not columns or (len(columns) > 1 and all(one.task in MATHEMATICS for one in group.benchmarks)):
        label = "Average" if len(names) > 1 else next(iter(names.values()))
        columns.append(Column(key=AVERAGE, label=label, parts=parts))
    over = {benchmark.name: [benchmark] for benchmark in group.benchmarks} | {AVERAGE: list(group.benchmarks)}

    def row(run: int) -> TableRow:
        def value(column: Column, part: Quantity) -> Value | None:
            return Value.of(average(over[column.key], run, part.key), part)

        texts = (labels[run], runs[run].name, model(runs[run].config))
        return TableRow(run=run, texts=texts, values=row_values(columns, value))

    return paper_table(
        str(number),
        f"({about.subject})",
        group.preset,
        caption=prose(
            "captions.jinja",
            "ablation",
            group=group,
            six={one.task for one in group.benchmarks} == set(MATHEMATICS),
            differing=_otherwise([runs[run] for run in group.runs], about.varied),
            remark=REMARKS[number],
        ),
        words=(about.word, "run", "model"),
        columns=columns,
        rows=[row(run) for run in labels if run in group.runs],
    )


def _otherwise(runs: Sequence[Run], varied: Collection[str]) -> list[str]:
    """The other settings in which these runs differ: then the table is of more than what it studies."""
    settings = [run.settings for run in runs]
    keys = {key for one in settings for key in one} - _NEVER_COMPARED - set(varied)
    # A setting that only some methods have differs where two of them have it otherwise.
    return sorted(key for key in keys if len({one[key] for one in settings if key in one}) > 1)
