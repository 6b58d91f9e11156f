"""The tables of a comparison: each run's first and last evaluation, and the paired differences to the first run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from progrpo import schema
from progrpo.report.comparison.paired import Paired, paired
from progrpo.report.read import Row, Run, is_number, last_shared_evaluation
from progrpo.schema.quantity import Quantity
from progrpo.statistics import Interval, bootstrap_mean

COUNTED = ("pass@1", "distinct_correct")
"""Measures whose wins, ties and losses are counted."""
_ALWAYS = ("pass@1", "distinct_correct", "entropy")
"""Columns that stand even where no run has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """One row of the table: one or all runs at one evaluation."""

    label: str
    run: int | None
    """Index of the run; None where the row stands for all of them."""
    step: int
    problems: int
    samples: str
    """Completions per problem; more than one number where the problems differ."""
    cells: Mapping[str, Interval | None]
    """By key of the measure; None where no problem has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    measures: tuple[Quantity, ...]
    first: tuple[Evaluated, ...]
    """The first evaluation of each run; a single row where it is the same for all."""
    last: tuple[Evaluated, ...]
    """The last evaluation of each run; its first where it has no other."""
    again: bool
    """Whether some run was evaluated more than once."""
    differences: tuple[Paired, ...]
    """To the first run, of the runs that share an evaluation with it."""


def summarise(runs: Sequence[Run]) -> Summary:
    """Everything the tables say, as numbers."""
    measures = measures_of(runs)
    evaluated = [(index, run) for index, run in enumerate(runs) if run.evaluations]
    first = [_evaluated(run, index, min(run.evaluations), measures) for index, run in evaluated]
    if len(first) > 1 and same_start([run for _, run in evaluated]):
        first = [replace(first[0], label="all runs", run=None)]
    return Summary(
        measures=measures,
        first=tuple(first),
        last=tuple(_evaluated(run, index, max(run.evaluations), measures) for index, run in evaluated),
        again=any(len(run.evaluations) > 1 for run in runs),
        differences=tuple(_differences(runs, measures)),
    )


def measures_of(runs: Sequence[Run]) -> tuple[Quantity, ...]:
    """The columns that the schema places here: Pass@1, the largest Pass@k, distinct correct solutions, entropy, and what a
    measure of the runs declares beside them."""
    found = [largest(one, runs) if one.family else one for one in schema.columns("held-out")]
    return tuple(one for one in found if one is not None and (one.key in _ALWAYS or _measured(one.key, runs)))


def largest(family: Quantity, runs: Sequence[Run]) -> Quantity | None:
    """A measure of a family (Pass@k) for the largest power of two that every problem of every evaluation has; None if that
    is 1."""
    rows = [row for run in runs for rows in run.evaluations.values() for row in rows]
    reached = [{int(member) for key in row["measures"] if (member := family.member(key))} for row in rows]
    shared = set.intersection(*reached) if reached else set()
    k = max((k for k in shared if k > 1 and k.bit_count() == 1), default=None)
    return None if k is None else family.at(k)


def _measured(key: str, runs: Sequence[Run]) -> bool:
    """Whether some problem has a measure."""
    return any(key in row["measures"] for run in runs for rows in run.evaluations.values() for row in rows)


def same_start(runs: Sequence[Run]) -> bool:
    """Whether all runs were first evaluated at the same step with the same result on every problem."""
    starts = [(min(run.evaluations), _correct(run.evaluations[min(run.evaluations)])) for run in runs]
    return all(start == starts[0] for start in starts)


def _correct(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    return {row["problem"]: (row["correct"], row["n"]) for row in rows}


def _evaluated(run: Run, index: int, step: int, measures: Sequence[Quantity]) -> Evaluated:
    rows = run.evaluations[step]
    return Evaluated(
        label=run.name,
        run=index,
        step=step,
        problems=len(rows),
        samples=" or ".join(str(n) for n in sorted({row["n"] for row in rows})),
        cells={
            measure.key: bootstrap_mean(known) if (known := list(_values(rows, measure.key).values())) else None
            for measure in measures
        },
    )


def _values(rows: Sequence[Row], key: str) -> dict[str, float]:
    return {row["problem"]: row["measures"][key] for row in rows if is_number(row["measures"].get(key))}


def _differences(runs: Sequence[Run], measures: Sequence[Quantity]) -> Iterator[Paired]:
    for index, run in enumerate(runs[1:], start=1):
        step = last_shared_evaluation([runs[0], run])
        if step is not None:
            rows, baseline = run.evaluations[step], runs[0].evaluations[step]
            same = _same_problems(rows, baseline)
            ours = partial(_values, [row for row in rows if row["problem"] in same])
            theirs = partial(_values, baseline)
            yield paired(index, ours, theirs, measures, counted=COUNTED, step=step, problems=len(same))


def _same_problems(rows: Sequence[Row], others: Sequence[Row]) -> set[str]:
    """Problems of both; an id with another prompt or answer is another problem."""
    known = {row["problem"]: (row.get("prompt"), row.get("answer")) for row in others}
    return {row["problem"] for row in rows if known.get(row["problem"]) == (row.get("prompt"), row.get("answer"))}
