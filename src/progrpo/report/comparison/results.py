"""Results of evaluations, a run against the first problem by problem, and the held-out results of all runs in one summary."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from progrpo import schema
from progrpo.measures.pass_at_k import doublings
from progrpo.report.evaluations import Evaluation, why_apart
from progrpo.report.read import Run, last_shared_evaluation
from progrpo.schema.quantity import Quantity
from progrpo.statistics import (
    Interval,
    difference_over_seeds,
    over_seeds,
    paired_difference,
    sign_flip_test,
    win_tie_loss,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """One run minus the first, problem by problem, or why there is no difference.

    Attributes:
        run: its index.
        step: of training, at which the run was evaluated; None of a benchmark of a model that is no checkpoint.
        reason: why none is given; "" where one is.
        problems: on which both were evaluated, and compared.
        otherwise: in words, in what the two differ and are compared nevertheless; "" where alike.
        cells: the difference by key of the measure; None where no problem has it in both.
        seeds: the same with its interval over seeds, where both sides have two or more; paired where `same_seeds`.
        of_seeds: how many seeds the two sides have; (1, 1) of runs by themselves.
        levels: the means of the run and of the first over the problems that `cells` is over.
        counts: (wins, ties, losses) in problems, of the measures that are counted.
        p: of the sign-flip test, of the measures that are tested. adjusted: by Holm's rule, for the benchmarks of one preset
            that this run is compared on.
    """

    run: int
    step: int | None = None
    reason: str = ""
    otherwise: str = ""
    problems: int = 0
    cells: Mapping[str, Interval | None] = field(default_factory=dict)
    seeds: Mapping[str, Interval] = field(default_factory=dict)
    same_seeds: bool = False
    of_seeds: tuple[int, int] = (1, 1)
    levels: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    p: Mapping[str, float] = field(default_factory=dict)
    adjusted: Mapping[str, float] = field(default_factory=dict)

    @property
    def known(self) -> list[str]:
        """Keys of the measures that have a difference."""
        return [key for key, interval in self.cells.items() if interval is not None]

    def interval(self, key: str) -> Interval | None:
        """The difference with the interval that it is judged by: over seeds where there is one, else over problems."""
        return self.seeds.get(key) or self.cells.get(key)


def paired(
    run: int,
    ours: Evaluation,
    theirs: Evaluation,
    measures: Sequence[Quantity],
    *,
    counted: Collection[str],
    tested: Collection[str] = (),
) -> Paired:
    """Compare a run with the first on the problems that both have, each measure where both have it.

    Args:
        counted, tested: keys of measures.
    """
    shared = [
        name
        for name, scores in theirs.problems.items()
        if name in ours.problems and ours.problems[name].identity == scores.identity
    ]
    pairs: dict[str, tuple[list[float], list[float], list[str]]] = {}
    for measure in measures:
        mine, base = ours.values(measure.key), theirs.values(measure.key)
        both = [name for name in shared if name in mine and name in base]
        if both:
            pairs[measure.key] = [mine[name] for name in both], [base[name] for name in both], both
    return Paired(
        run=run,
        step=ours.step,
        otherwise="" if ours.step == theirs.step else f"{_at(ours)} against {_at(theirs)}",
        problems=len(shared),
        cells={one.key: paired_difference(*pairs[one.key][:2]) if one.key in pairs else None for one in measures},
        seeds=_over_seeds(ours, theirs, {key: names for key, (_, _, names) in pairs.items()}),
        same_seeds=bool(ours.seeds) and ours.seeds.keys() == theirs.seeds.keys(),
        of_seeds=(max(1, len(ours.seeds)), max(1, len(theirs.seeds))),
        levels={key: (sum(a) / len(a), sum(b) / len(b)) for key, (a, b, _) in pairs.items()},
        counts={key: win_tie_loss(a, b) for key, (a, b, _) in pairs.items() if key in counted},
        p={key: sign_flip_test(a, b) for key, (a, b, _) in pairs.items() if key in tested},
    )


def _at(evaluation: Evaluation) -> str:
    return "no checkpoint" if evaluation.step is None else f"step {evaluation.step}"


def paired_held_out(run: int, ours: Evaluation, theirs: Evaluation, measures: Sequence[Quantity]) -> Paired:
    """The same of held-out problems: no difference where the two were judged or sampled otherwise, and with other numbers of
    completions none of a measure that depends on the number."""
    nothing: dict[str, Interval | None] = {one.key: None for one in measures}
    reason = why_apart(ours, theirs, but_for=("step", "digest", "n"))
    if reason:
        return Paired(run=run, step=ours.step, reason=reason, cells=nothing)
    mine, base = ours.conditions["n"], theirs.conditions["n"]
    counts = "" if mine == base else f"n {mine}, not {base}"
    kept = [one for one in measures if not counts or _whatever_n(one.key)]
    found = replace(paired(run, ours, theirs, kept, counted=COUNTED), otherwise="")
    if not found.problems:
        return Paired(run=run, step=ours.step, reason=OTHER_PROBLEMS, cells=nothing)
    if not counts:
        return found
    left = ", ".join(one.label for one in measures if one not in kept and ours.values(one.key))
    otherwise = counts + (f"; not compared in what depends on n: {left}" if left else "")
    return replace(found, cells=nothing | dict(found.cells), otherwise=otherwise)


def _whatever_n(key: str) -> bool:
    """Whether the expectation of a measure is the same for any number of completions per problem."""
    family, _, at = key.removeprefix("raw/").partition("@")
    return family in (_UNBIASED_AT if at else _UNBIASED)


def _over_seeds(ours: Evaluation, theirs: Evaluation, names: Mapping[str, Sequence[str]]) -> dict[str, Interval]:
    """The difference of each measure over seeds: of pairs where both sides have the same ones, else of two means.

    Args:
        names: of the problems, by measure.
    """

    def means(evaluation: Evaluation, key: str) -> list[float]:
        of_seeds = [evaluation.seeds[seed].values(key) for seed in sorted(evaluation.seeds)]
        return [sum(values[name] for name in names[key]) / len(names[key]) for values in of_seeds]

    if min(len(ours.seeds), len(theirs.seeds)) < 2:
        return {}
    intervals: dict[str, Interval | None] = {}
    for key in names:
        mine, base = means(ours, key), means(theirs, key)
        if ours.seeds.keys() == theirs.seeds.keys():
            intervals[key] = over_seeds([a - b for a, b in zip(mine, base, strict=True)])
        else:
            intervals[key] = difference_over_seeds(mine, base)
    return {key: interval for key, interval in intervals.items() if interval is not None}


def measures_of(
    places: Collection[str], evaluations: Collection[Evaluation], *, k: int, always: Collection[str]
) -> tuple[Quantity, ...]:
    """The columns that the schema places in a table: Pass@1, Pass@k, and what the evaluations measured beside them.

    Args:
        places: names of the table in the schema; one of them will do.
        k: the largest of the families: a power of two. Of a family other than Pass@k the largest member up to it stands that
            all evaluations have.
        always: keys of columns that stand even where no evaluation has them.
    """
    columns: list[Quantity] = []
    for one in schema.columns():
        if not set(places) & set(one.drawn):
            continue
        if one.family:
            members = [one.at(power) for power in doublings(k)[1:]]
            everywhere = [
                member
                for member in members
                if one.key == "pass@K" or all(evaluation.values(member.key) for evaluation in evaluations)
            ]
            columns += everywhere[-1:]
        elif one.key in always or any(evaluation.values(one.key) for evaluation in evaluations):
            columns.append(one)
    return tuple(columns)


COUNTED = ("pass@1", "distinct_correct")
"""Measures whose wins, ties and losses are counted."""
OTHER_PROBLEMS = "other problems"
"""Why two evaluations of no shared problem are not compared."""
_UNBIASED = ("entropy", "length", "truncated", "probability", "low_probability", "confidence", "rollout_entropy")
_UNBIASED_AT = ("pass", "auc", "maj", "coverage")
"""Measures, and families of them, that are means over completions or estimates over all subsets of k: unbiased for any n."""
_ALWAYS = ("pass@1", "distinct_correct", "entropy")
"""Columns that stand even where no run has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The held-out results of runs, evaluations by index of the run.

    Attributes:
        first: the first evaluation of each run; of one alone where it is the same for all (`same_start`).
        last: the last evaluation of each run; its first where it has no other.
        differences: to the first run, of the runs that share an evaluation with it.
        own: of a run alone, its last evaluation against its first.
    """

    measures: tuple[Quantity, ...]
    first: Mapping[int, Evaluation]
    same_start: bool
    last: Mapping[int, Evaluation]
    differences: tuple[Paired, ...]
    own: Paired | None = None

    @property
    def named(self) -> list[Quantity]:
        """The measures that the headlines name; distinct solutions first."""
        named = [one for one in self.measures if one.key.startswith(("distinct_correct", "pass@"))]
        return sorted(named, key=lambda one: one.key.startswith("pass@"))


def summarise(runs: Sequence[Run]) -> Summary:
    """Everything the tables say, as numbers."""
    everything = [evaluation for run in runs for evaluation in run.evaluations.values()]
    measures = measures_of(("held-out", "page"), everything, k=largest_k(runs), always=_ALWAYS)
    evaluated = {index: run.evaluations for index, run in enumerate(runs) if run.evaluations}
    first = {index: evaluations[min(evaluations)] for index, evaluations in evaluated.items()}
    same = len(first) > 1 and same_start(list(first.values()))
    differences = []
    for index, run in enumerate(runs[1:], start=1):
        step = last_shared_evaluation([runs[0], run])
        if step is not None:
            both = run.evaluations[step], runs[0].evaluations[step]
            differences.append(paired_held_out(index, *both, measures))
    alone = runs[0].evaluations if len(runs) == 1 else {}
    ends = (alone[max(alone)], alone[min(alone)]) if len(alone) > 1 else None
    return Summary(
        measures=measures,
        own=paired_held_out(0, *ends, measures) if ends else None,
        first=dict(list(first.items())[:1]) if same else first,
        same_start=same,
        last={index: evaluations[max(evaluations)] for index, evaluations in evaluated.items()},
        differences=tuple(differences),
    )


def not_compared(runs: Sequence[Run], summary: Summary) -> list[str]:
    """Where each training run stands, where they do not all stand at the end and together; and which of them are not compared
    with the first on held-out problems, or not in all measures, and why."""
    trained = [run for run in runs if run.trained]
    ends = {(run.steps_done, run.steps_planned) for run in trained}
    notes = []
    if len(ends) > 1 or any(done != planned for done, planned in ends):
        stands = ", ".join(f"{run.name} at {run.steps_done} of {run.steps_planned or '?'}" for run in trained)
        notes.append(f"the runs stand at different steps, or are not finished: {stands}.")
    differences = {one.run: one for one in summary.differences}
    for index, run in enumerate(runs[1:], start=1):
        found = differences.get(index)
        if not run.trained or not runs[0].trained:
            continue
        if found and not found.reason:
            if found.otherwise:
                notes.append(f"{run.name} is compared with {runs[0].name} on held-out problems, but {found.otherwise}.")
            continue
        if not run.evaluations or not runs[0].evaluations:
            blind = run if not run.evaluations else runs[0]
            why = f"{blind.name} was never evaluated on held-out problems (evaluate.every)"
        elif found is None:
            steps = (", ".join(map(str, list(one.evaluations)[-3:])) for one in (run, runs[0]))
            why = "they share no step that both were evaluated at ({} against {})".format(*steps)
        else:
            why = "their held-out problems differ" if found.reason == OTHER_PROBLEMS else found.reason
        notes.append(f"{run.name} is not compared with {runs[0].name} on held-out problems: {why}.")
    return notes


def largest_k(runs: Sequence[Run]) -> int:
    """The largest power of two up to the completions that every problem of every held-out evaluation has; 1 without any."""
    counts = [evaluation.n for run in runs for evaluation in run.evaluations.values()]
    return doublings(min(counts, default=1))[-1]


def same_start(evaluations: Sequence[Evaluation]) -> bool:
    """Whether these evaluations were made at the same step with the same result on every problem."""
    results = [
        (one.step, {name: (scores.correct, scores.n) for name, scores in one.problems.items()}) for one in evaluations
    ]
    return all(one == results[0] for one in results)
