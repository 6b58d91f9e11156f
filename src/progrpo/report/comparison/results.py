"""What the tables of a comparison are made of: their columns, a run's results, and a run against the first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from progrpo import schema
from progrpo.measures.pass_at_k import doublings
from progrpo.report.evaluations import HELD_OUT, Evaluation
from progrpo.report.html import prose
from progrpo.schema.quantity import Quantity
from progrpo.statistics import Interval, paired_difference, sign_flip_test, win_tie_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One evaluation of one run.

    Attributes:
        run: its index.
        cells: mean by key of the measure; None where no problem has it.
    """

    run: int
    evaluation: Evaluation
    cells: Mapping[str, Interval | None]

    @property
    def made(self) -> str:
        """How it was evaluated, in words: problems, preset, step, sampling."""
        return prose("captions.jinja", "made", evaluation=self.evaluation, held_out=self.evaluation.preset == HELD_OUT)

    @property
    def statuses(self) -> dict[str, float]:
        """Share of all completions by verdict status."""
        counts = self.evaluation.statuses()
        return {status: count / counts.total() for status, count in sorted(counts.items())}


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


def result(run: int, evaluation: Evaluation, measures: Sequence[Quantity]) -> Result:
    cells = {measure.key: evaluation.interval(measure.key) for measure in measures}
    return Result(run=run, evaluation=evaluation, cells=cells)


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
