"""Results of evaluations, a run against the first problem by problem, and the held-out results of all runs in one summary."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from progrpo import schema
from progrpo.measures.pass_at_k import doublings
from progrpo.report.evaluations import Evaluation
from progrpo.report.read import Run, last_shared_evaluation
from progrpo.schema.quantity import Quantity
from progrpo.statistics import Interval, paired_difference, sign_flip_test, win_tie_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """One run minus the first, problem by problem, or why there is no difference.

    Attributes:
        run: its index.
        step: of training, at which both were evaluated; None for a benchmark.
        reason: why none is given; "" where one is.
        problems: on which both were evaluated.
        cells: the difference by key of the measure; None where no problem has it in both.
        levels: the means of the run and of the first over the problems that `cells` is over.
        counts: (wins, ties, losses) in problems, of the measures that are counted.
        p: of the sign-flip test, of the measures that are tested. adjusted: by Holm's rule, for the benchmarks of one preset
            that this run is compared on.
    """

    run: int
    step: int | None = None
    reason: str = ""
    problems: int = 0
    cells: Mapping[str, Interval | None] = field(default_factory=dict)
    levels: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    p: Mapping[str, float] = field(default_factory=dict)
    adjusted: Mapping[str, float] = field(default_factory=dict)

    @property
    def clear(self) -> list[str]:
        """Measures whose difference has an interval over problems that leaves out 0."""
        known = [(key, interval) for key, interval in self.cells.items() if interval is not None]
        return [key for key, interval in known if interval.low > 0 or interval.high < 0]


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
    pairs: dict[str, tuple[list[float], list[float]]] = {}
    for measure in measures:
        mine, base = ours.values(measure.key), theirs.values(measure.key)
        both = [name for name in shared if name in mine and name in base]
        if both:
            pairs[measure.key] = [mine[name] for name in both], [base[name] for name in both]
    return Paired(
        run=run,
        step=ours.step,
        problems=len(shared),
        cells={one.key: paired_difference(*pairs[one.key]) if one.key in pairs else None for one in measures},
        levels={key: (sum(a) / len(a), sum(b) / len(b)) for key, (a, b) in pairs.items()},
        counts={key: win_tie_loss(*pair) for key, pair in pairs.items() if key in counted},
        p={key: sign_flip_test(*pair) for key, pair in pairs.items() if key in tested},
    )


def measures_of(
    place: str, evaluations: Collection[Evaluation], *, k: int, always: Collection[str]
) -> tuple[Quantity, ...]:
    """The columns that the schema places in a table: Pass@1, Pass@k, and what the evaluations measured beside them.

    Args:
        k: the largest of the families: a power of two. Of a family other than Pass@k the largest member up to it stands that
            all evaluations have.
        always: keys of columns that stand even where no evaluation has them.
    """
    columns: list[Quantity] = []
    for one in schema.columns(place):
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
_ALWAYS = ("pass@1", "distinct_correct", "entropy")
"""Columns that stand even where no run has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The held-out results of runs, evaluations by index of the run.

    Attributes:
        first: the first evaluation of each run; of one alone where it is the same for all (`same_start`).
        last: the last evaluation of each run; its first where it has no other.
        differences: to the first run, of the runs that share an evaluation with it.
    """

    measures: tuple[Quantity, ...]
    first: Mapping[int, Evaluation]
    same_start: bool
    last: Mapping[int, Evaluation]
    differences: tuple[Paired, ...]

    @property
    def named(self) -> list[Quantity]:
        """The measures that the headlines name; distinct solutions first."""
        named = [one for one in self.measures if one.key.startswith(("distinct_correct", "pass@"))]
        return sorted(named, key=lambda one: one.key.startswith("pass@"))


def summarise(runs: Sequence[Run]) -> Summary:
    """Everything the tables say, as numbers."""
    everything = [evaluation for run in runs for evaluation in run.evaluations.values()]
    measures = measures_of("held-out", everything, k=largest_k(runs), always=_ALWAYS)
    evaluated = {index: run.evaluations for index, run in enumerate(runs) if run.evaluations}
    first = {index: evaluations[min(evaluations)] for index, evaluations in evaluated.items()}
    same = len(first) > 1 and same_start(list(first.values()))
    differences = []
    for index, run in enumerate(runs[1:], start=1):
        step = last_shared_evaluation([runs[0], run])
        if step is not None:
            both = run.evaluations[step], runs[0].evaluations[step]
            differences.append(paired(index, *both, measures, counted=COUNTED))
    return Summary(
        measures=measures,
        first=dict(list(first.items())[:1]) if same else first,
        same_start=same,
        last={index: evaluations[max(evaluations)] for index, evaluations in evaluated.items()},
        differences=tuple(differences),
    )


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
