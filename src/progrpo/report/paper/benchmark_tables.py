"""Tables 2, 3 and 4 of the paper: its benchmarks with the numbers of the runs, and what is known of the paper's own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from progrpo.measures.pass_at_k import doublings
from progrpo.report.comparison.benchmarks import (
    Benchmark,
    average,
    pass_measures,
    shared_benchmarks,
)
from progrpo.report.evaluations import HELD_OUT, Evaluation
from progrpo.report.html import prose
from progrpo.report.paper.numbers import AVERAGE, MATHEMATICS, REMARKS, ROWS, Shape
from progrpo.report.paper.tables import Column, PaperTable, TableRow, Value, paper_table, row_values
from progrpo.report.read import Run, grouped
from progrpo.report.wording import model
from progrpo.schema.quantity import Quantity

_OVER_TASK = {
    "rating": Quantity(key="rating", label="rating", unit="", digits=0),
    "percentile": Quantity(key="percentile", label="percentile", unit="", digits=1),
}
"""Numbers of a whole task."""


def benchmark_tables(shape: Shape, runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[PaperTable]:
    """One of Tables 2, 3 and 4, once for every preset that has numbers for it."""
    tasks = {task for task, _, _ in shape.columns}
    shown = [one for one in benchmarks if one.task in tasks and one.preset != HELD_OUT]
    by_preset = grouped((benchmark.preset, benchmark) for benchmark in shown)
    return [_table(runs, benchmarks, shape, preset) for preset, benchmarks in by_preset.items()]


def _table(runs: Sequence[Run], benchmarks: Sequence[Benchmark], shape: Shape, preset: str | None) -> PaperTable:
    stated = [row for row in ROWS if row.table == shape.number]
    paper = stated if preset == "paper" else []
    evaluations = [benchmark.evaluations[run] for benchmark in benchmarks for run in benchmark.comparable]
    k = min(shape.k, doublings(min(one.n for one in evaluations))[-1])
    columns = [_column(*column, shape, k, evaluations) for column in shape.columns]
    groups = shared_benchmarks(benchmarks) if shape.averaged else []
    shared = list({one.task: one for group in groups for one in reversed(group.benchmarks)}.values())[::-1]
    whole = {benchmark.task for benchmark in shared} == {task for task, _, _ in shape.columns}
    averages = {}
    if shape.averaged and (whole or paper):
        columns.append(Column(key=AVERAGE, label=f"Average of {len(shape.columns)}", parts=pass_measures(k)))
        averages[AVERAGE] = shared if whole else []
    if len(shared) > 1 and not whole:
        names = ", ".join(MATHEMATICS[benchmark.task] for benchmark in shared)
        columns.append(Column(key="shared", label=f"Average of {names}", parts=pass_measures(k)))
        averages["shared"] = shared
    rows = [_row(runs[run], run, row, columns, averages) for run, row in _grouped(benchmarks, preset)]
    for row in paper:
        texts = (f"paper: {row.method}", row.model, "", f"paper, {row.evidence}: {row.how}")
        numbers = {(key, part): Value(number=n) for key, parts in row.values.items() for part, n in parts.items()}
        rows.append(TableRow(run=None, texts=texts, values=numbers))
    filled = {key for row in rows for key, _ in row.values}
    return paper_table(
        str(shape.number),
        f"({shape.subject})",
        preset,
        caption=prose(
            "captions.jinja",
            "table_of_benchmarks",
            shape=shape,
            k=k,
            preset=preset,
            paper=bool(paper),
            known=bool(stated),
            remark=REMARKS.get(shape.number, ""),
            shared=shared,
            whole=whole,
            blank=[column.label for column in columns if column.key not in filled],
        ),
        words=("run", "model", "evaluated with", "source"),
        columns=columns,
        rows=rows,
    )


def _column(
    task: str, label: str, keys: Sequence[str], shape: Shape, k: int, evaluations: Sequence[Evaluation]
) -> Column:
    counts = {one.conditions["n"] for one in evaluations if one.task == task} or {str(shape.k)}
    passes = [replace(measure, digits=shape.digits) for measure in pass_measures(k)]
    if shape.number != 2 and len(counts) == 1:
        passes[0] = replace(passes[0], label=f"Avg@{next(iter(counts))}")
    # With one completion per problem Pass@k is Pass@1, and stands once.
    known = _OVER_TASK | {"pass@1": passes[0], "pass@k": passes[-1]}
    parts = dict.fromkeys(known[key] for key in keys)
    return Column(key=task, label=label, parts=tuple(parts))


def _grouped(benchmarks: Sequence[Benchmark], preset: str | None) -> Iterator[tuple[int, dict[str, Benchmark]]]:
    """(run, benchmarks by task): one row for each run, and one more for each other way of sampling.

    A preset fixes the completions per problem of each task, so that they may differ within its rows.
    """
    names = ["temperature", "top_p", "top_k", "max_new_tokens", *([] if preset else ["n"])]
    for run in sorted({run for benchmark in benchmarks for run in benchmark.evaluations}):
        rows: dict[tuple[tuple[str | None, ...], int], dict[str, Benchmark]] = {}
        for benchmark in benchmarks:
            if run in benchmark.evaluations:
                sampling = tuple(benchmark.evaluations[run].conditions.get(name) for name in names)
                again = 0
                while benchmark.task in rows.setdefault((sampling, again), {}):
                    again += 1
                rows[sampling, again][benchmark.task] = benchmark
        for row in rows.values():
            yield run, row


def _row(
    run: Run,
    index: int,
    row: Mapping[str, Benchmark],
    columns: Sequence[Column],
    averages: Mapping[str, Sequence[Benchmark]],
) -> TableRow:
    """One run under one way of sampling.

    Args:
        row: benchmarks by task. averages: the benchmarks of each column that is an average.
    """

    def value(column: Column, part: Quantity) -> Value | None:
        over = averages.get(column.key)
        if over and all(benchmark in row.values() for benchmark in over):
            return Value.of(average(over, index, part.key), part)
        return _cell(row[column.key].evaluations[index], part) if column.key in row else None

    evaluations = [benchmark.evaluations[index] for benchmark in row.values()]
    counts = " or ".join(dict.fromkeys(one.conditions["n"] for one in evaluations))  # only n may differ within a row
    sampling = evaluations[0].sampling.replace(f"n {evaluations[0].conditions['n']}", f"n {counts}", 1)
    texts = (run.name, model(run.config), sampling, "this run")
    return TableRow(run=index, texts=texts, values=row_values(columns, value))


def _cell(evaluation: Evaluation, part: Quantity) -> Value | None:
    if part.key not in _OVER_TASK:
        return Value.of(evaluation.interval(part.key), part)
    known = evaluation.over_task
    if part.key not in known:
        return None
    return Value(number=known[part.key], low=known.get(f"{part.key}_low"), high=known.get(f"{part.key}_high"))
