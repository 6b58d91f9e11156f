"""Tables 2, 3 and 4 of the paper: its benchmarks with the numbers of the runs, and what is known of the paper's own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress

from progrpo.measures.pass_at_k import doublings
from progrpo.report.comparison.averages import average
from progrpo.report.comparison.benchmarks import MATHEMATICS, Benchmark, Comparison, pass_measures
from progrpo.report.evaluations import HELD_OUT, Evaluation
from progrpo.report.html import prose
from progrpo.report.paper.numbers import AVERAGE, REMARKS, PaperRow, rows_of
from progrpo.report.paper.tables import Column, PaperTable, TableRow, Value, cells_of, file_name, of_preset
from progrpo.report.read import Run
from progrpo.report.wording import model
from progrpo.schema.quantity import Quantity

WORDS = ("run", "model", "evaluated with", "source")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One of the paper's tables of benchmarks.

    Attributes:
        columns: (task, its name in the paper, keys of its measures); "pass@k" stands for Pass@k at the paper's k.
        k: the paper's, in Pass@k; where not all evaluations reach it, the largest power of two that they do.
    """

    number: int
    subject: str
    columns: tuple[tuple[str, str, tuple[str, ...]], ...]
    k: int
    digits: int
    averaged: bool = False


SHAPES = (
    Shape(
        number=2,
        subject="mathematics",
        columns=tuple((task, name, ("pass@1", "pass@k")) for task, name in MATHEMATICS.items()),
        k=32,
        digits=1,
        averaged=True,
    ),
    Shape(
        number=3,
        subject="code",
        columns=(
            ("livecodebench", "LiveCodeBench", ("pass@1", "pass@k")),
            ("codeforces", "CodeForces", ("rating", "percentile")),
            ("humaneval_plus", "HumanEval+", ("pass@1",)),
        ),
        k=16,
        digits=2,
    ),
    Shape(
        number=4,
        subject="outside the domain of training",
        columns=(("gpqa", "GPQA", ("pass@1",)), ("mmlu_pro", "MMLU-Pro", ("pass@1",))),
        k=1,
        digits=1,
    ),
)


def benchmark_tables(runs: Sequence[Run], comparison: Comparison) -> list[tuple[list[PaperTable], str]]:
    """Each of Tables 2, 3 and 4 once for every preset that has numbers for it, with what would fill it."""
    found = []
    for shape in SHAPES:
        names = ", ".join(task for task, _, _ in shape.columns)
        note = f"Table {shape.number} ({shape.subject}) would be filled by evaluations of {names}."
        found.append((list(_of_shape(runs, comparison, shape)), note))
    return found


def _of_shape(runs: Sequence[Run], comparison: Comparison, shape: Shape) -> Iterator[PaperTable]:
    tasks = {task for task, _, _ in shape.columns}
    for preset in dict.fromkeys(one.preset for one in comparison.benchmarks if one.preset != HELD_OUT):
        benchmarks = [one for one in comparison.benchmarks if one.preset == preset and one.task in tasks]
        if benchmarks:
            yield _table(runs, benchmarks, shape, preset)


def _table(runs: Sequence[Run], benchmarks: Sequence[Benchmark], shape: Shape, preset: str | None) -> PaperTable:
    paper = rows_of(shape.number) if preset == "paper" else []
    everyone = [benchmark.evaluations[run] for benchmark in benchmarks for run in benchmark.comparable]
    reached = doublings(min(one.n for one in everyone))[-1]
    k = shape.k if all(one.n >= shape.k for one in everyone) else min(reached, shape.k)
    columns = [_column(task, name, keys, shape, k, everyone) for task, name, keys in shape.columns]
    shared = _shared(benchmarks) if shape.averaged else []
    whole = {benchmark.task for benchmark in shared} == {task for task, _, _ in shape.columns}
    parts = pass_measures(k)
    if shape.averaged and (whole or paper):
        columns.append(Column(key=AVERAGE, label=f"Average of {len(shape.columns)}", parts=parts))
    if len(shared) > 1 and not whole:
        names = ", ".join(MATHEMATICS[benchmark.task] for benchmark in shared)
        columns.append(Column(key="shared", label=f"Average of {names}", parts=parts))
    averages = {AVERAGE: shared if whole else [], "shared": shared}
    rows = [_row(runs[run], run, words, row, columns, averages) for run, words, row in _grouped(benchmarks, preset)]
    rows += [_paper_row(row, columns) for row in paper]
    used = [any(value is not None for row in rows for value in row.cells[place]) for place in range(len(columns))]
    blank = [column.label for column, some in zip(columns, used, strict=True) if not some]
    columns = list(compress(columns, used))
    rows = [replace(row, cells=tuple(compress(row.cells, used))) for row in rows]
    return PaperTable(
        name=file_name(str(shape.number), preset),
        title=f"Table {shape.number} ({shape.subject}), {of_preset(preset)}",
        caption=prose(
            "captions.jinja",
            "table_of_benchmarks",
            shape=shape,
            k=k,
            preset=preset,
            paper=bool(paper),
            known=bool(rows_of(shape.number)),
            remark=REMARKS.get(shape.number, ""),
            shared=shared,
            whole=whole,
            blank=blank,
        ),
        words=WORDS,
        lead=2,
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _column(task: str, name: str, keys: Sequence[str], shape: Shape, k: int, everyone: Sequence[Evaluation]) -> Column:
    counts = {one.conditions["n"] for one in everyone if one.task == task}
    counts = counts or {str(shape.k)}
    first = "Pass@1" if shape.number == 2 or len(counts) > 1 else f"Avg@{next(iter(counts))}"
    known = {
        "pass@1": Quantity(key="pass@1", label=first, unit="%", percent=True, digits=shape.digits),
        "pass@k": Quantity(key=f"pass@{k}", label=f"Pass@{k}", unit="%", percent=True, digits=shape.digits),
        "rating": Quantity(key="rating", label="rating", unit="", digits=0),
        "percentile": Quantity(key="percentile", label="percentile", unit="", digits=1),
    }
    parts = [known[key] for key in keys]
    if len({part.key for part in parts}) < len(parts):  # one completion per problem: Pass@k is Pass@1
        parts = parts[:1]
    return Column(key=task, label=name, parts=tuple(parts))


def _shared(benchmarks: Sequence[Benchmark]) -> list[Benchmark]:
    """One benchmark per task that all runs of the table have under the same conditions."""
    runs = {run for benchmark in benchmarks for run in benchmark.evaluations}
    kept = [benchmark for benchmark in benchmarks if set(benchmark.comparable) == runs]
    return list({benchmark.task: benchmark for benchmark in reversed(kept)}.values())[::-1]


def _grouped(
    benchmarks: Sequence[Benchmark], preset: str | None
) -> Iterator[tuple[int, str, dict[str, tuple[Benchmark, Evaluation]]]]:
    """(run, sampling in words, evaluations by task): one row for each run, and one more for each other way of sampling.

    A preset fixes the completions per problem of each task, so that they may differ within its rows.
    """
    rows: dict[tuple[int, tuple[str | None, ...], int], dict[str, tuple[Benchmark, Evaluation]]] = {}
    for run in sorted({run for benchmark in benchmarks for run in benchmark.evaluations}):
        for benchmark in benchmarks:
            if run not in benchmark.evaluations:
                continue
            one = benchmark.evaluations[run]
            names = ["temperature", "top_p", "top_k", "max_new_tokens", *([] if preset else ["n"])]
            sampling = tuple(one.conditions.get(name) for name in names)
            again = 0
            while benchmark.task in rows.setdefault((run, sampling, again), {}):
                again += 1
            rows[run, sampling, again][benchmark.task] = benchmark, one
    for (run, _, _), row in rows.items():
        yield run, _sampling([one for _, one in row.values()]), row


def _sampling(evaluations: Sequence[Evaluation]) -> str:
    """The sampling settings of a row; only n may differ within it."""
    counts = " or ".join(dict.fromkeys(one.conditions["n"] for one in evaluations))
    return evaluations[0].sampling.replace(f"n {evaluations[0].conditions['n']}", f"n {counts}", 1)


def _row(
    run: Run,
    index: int,
    sampling: str,
    found: dict[str, tuple[Benchmark, Evaluation]],
    columns: Sequence[Column],
    averages: dict[str, list[Benchmark]],
) -> TableRow:
    mine = [benchmark for benchmark, _ in found.values()]

    def value(column: Column, part: Quantity) -> Value | None:
        if column.key in averages:
            over = averages[column.key]
            here = bool(over) and all(benchmark in mine for benchmark in over)
            return Value.of(average(over, index, part.key), part) if here else None
        return _cell(found[column.key][1], part) if column.key in found else None

    return TableRow(
        run=index, texts=(run.name, model(run.config), sampling, "this run"), cells=cells_of(columns, value)
    )


def _cell(evaluation: Evaluation, part: Quantity) -> Value | None:
    if part.key in ("rating", "percentile"):
        known = evaluation.over_task
        if part.key not in known:
            return None
        return Value(number=known[part.key], low=known.get(f"{part.key}_low"), high=known.get(f"{part.key}_high"))
    return Value.of(evaluation.interval(part.key), part)


def _paper_row(row: PaperRow, columns: Sequence[Column]) -> TableRow:
    def value(column: Column, part: Quantity) -> Value | None:
        number = row.values.get(column.key, {}).get(part.key)
        return None if number is None else Value(number=number)

    texts = (f"paper: {row.method}", row.model, "", f"paper, {row.evidence}: {row.how}")
    return TableRow(run=None, texts=texts, cells=cells_of(columns, value))
