"""Tables 6 and 7 of the paper: runs that differ in the strength of the confidence term, and in its form."""

from collections.abc import Collection, Sequence

from progrpo.measures.pass_at_k import doublings
from progrpo.report.comparison.averages import Shared, average, mathematical, of_one_kind, shared_benchmarks
from progrpo.report.comparison.benchmarks import MATHEMATICS, Comparison, pass_measures
from progrpo.report.html import prose
from progrpo.report.paper.numbers import AVERAGE, REMARKS
from progrpo.report.paper.tables import Column, PaperTable, TableRow, Value, cells_of, file_name, of_preset
from progrpo.report.read import Run, is_number
from progrpo.report.wording import advantage_form, flat, model
from progrpo.schema.quantity import Quantity

_K = 32
"""Of the paper's Pass@k."""
_NEVER_COMPARED = frozenset({"seed", "out"})


def ablation_tables(runs: Sequence[Run], comparison: Comparison) -> list[tuple[list[PaperTable], str]]:
    """Tables 6 and 7 once for every preset that all their runs were evaluated under, with what would fill them."""
    return [_strengths(runs, comparison), _forms(runs, comparison)]


def strength(run: Run) -> float | None:
    """alpha of a ProGRPO run; 0 of a GRPO run, which is what the paper calls alpha = 0; None of any other."""
    method = run.config.get("method") or {}
    if method.get("name") == "progrpo" and is_number(method.get("alpha")):
        return float(method["alpha"])
    return 0.0 if method.get("name") == "grpo" else None


def _strengths(runs: Sequence[Run], comparison: Comparison) -> tuple[list[PaperTable], str]:
    note = "Table 6 (strength of the confidence term) would be filled by runs of progrpo with different method.alpha."
    alphas = {index: alpha for index, run in enumerate(runs) if (alpha := strength(run)) is not None}
    swept = {alpha for index, alpha in alphas.items() if runs[index].config["method"]["name"] == "progrpo"}
    if len(swept) < 2:
        return [], note
    tables = []
    for group in map(of_one_kind, map(mathematical, shared_benchmarks(comparison.benchmarks, alphas))):
        if len({alphas[run] for run in group.runs}) < 2:
            continue
        columns = [_average_column(group)]
        rows = [
            TableRow(
                run=run,
                texts=(_strength_label(runs[run], alphas[run]), runs[run].name, model(runs[run].config)),
                cells=_cells(group, run, columns),
            )
            for run in sorted(group.runs, key=lambda run: (alphas[run], run))
        ]
        keys = {"method.alpha", "method.name"}
        tables.append(_ablation(6, "strength of the confidence term", "strength", runs, group, keys, columns, rows))
    return tables, note


def _strength_label(run: Run, alpha: float) -> str:
    return f"α = {alpha:g}" + (" (grpo)" if run.config["method"]["name"] == "grpo" else "")


def _forms(runs: Sequence[Run], comparison: Comparison) -> tuple[list[PaperTable], str]:
    note = "Table 7 (form of the confidence term) would be filled by training runs with different methods or method.baseline."
    forms = {index: form for index, run in enumerate(runs) if (form := advantage_form(run.config)) is not None}
    tables = []
    for group in map(mathematical, shared_benchmarks(comparison.benchmarks, forms)):
        if len({forms[run] for run in group.runs}) < 2:
            continue
        names = [MATHEMATICS.get(one.task, one.name) for one in group.benchmarks]
        parts = _parts(group)
        columns = [
            Column(key=one.name, label=name, parts=parts) for one, name in zip(group.benchmarks, names, strict=True)
        ]
        alike = all(one.task in MATHEMATICS for one in group.benchmarks)
        columns += [_average_column(group)] if len(columns) > 1 and alike else []
        rows = [
            TableRow(
                run=run,
                texts=(forms[run], runs[run].name, model(runs[run].config)),
                cells=_cells(group, run, columns),
            )
            for run in group.runs
        ]
        form_keys = {f"method.{key}" for key in ("name", "preset", "baseline", "alpha", "apply_to", "skip")}
        tables.append(_ablation(7, "form of the advantage", "form", runs, group, form_keys, columns, rows))
    return tables, note


def _ablation(
    number: int,
    subject: str,
    word: str,
    runs: Sequence[Run],
    group: Shared,
    varied: Collection[str],
    columns: Sequence[Column],
    rows: Sequence[TableRow],
) -> PaperTable:
    """Table 6 or 7; `varied` are the settings it is about, and others in which runs differ are named."""
    return PaperTable(
        name=file_name(str(number), group.preset),
        title=f"Table {number} ({subject}), {of_preset(group.preset)}",
        caption=prose(
            "captions.jinja",
            "ablation",
            group=group,
            six={one.task for one in group.benchmarks} == set(MATHEMATICS),
            differing=_otherwise(runs, group.runs, varied),
            remark=REMARKS[number],
        ),
        words=(word, "run", "model"),
        lead=2,
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _parts(group: Shared) -> tuple[Quantity, ...]:
    smallest = min(
        one.n for benchmark in group.benchmarks for run, one in benchmark.evaluations.items() if run in group.runs
    )
    k = _K if smallest >= _K else doublings(smallest)[-1]
    return pass_measures(k)


def _average_column(group: Shared) -> Column:
    label = (
        "Average" if len(group.benchmarks) > 1 else MATHEMATICS.get(group.benchmarks[0].task, group.benchmarks[0].name)
    )
    return Column(key=AVERAGE, label=label, parts=_parts(group))


def _cells(group: Shared, run: int, columns: Sequence[Column]) -> tuple[tuple[Value | None, ...], ...]:
    by_name = {benchmark.name: benchmark.evaluations[run] for benchmark in group.benchmarks}

    def value(column: Column, part: Quantity) -> Value | None:
        averaged = column.key == AVERAGE
        found = average(group.benchmarks, run, part.key) if averaged else by_name[column.key].interval(part.key)
        return Value.of(found, part)

    return cells_of(columns, value)


def _otherwise(runs: Sequence[Run], shown: Sequence[int], studied: Collection[str]) -> list[str]:
    """The other settings in which these runs differ: then the table is of more than what it studies."""
    settings = [flat(runs[run].config) for run in shown]
    keys = {key for one in settings for key in one} - _NEVER_COMPARED - set(studied)
    # A setting that only some methods have differs where two of them have it otherwise.
    return sorted(key for key in keys if len({one[key] for one in settings if key in one}) > 1)
