"""One run against the first, problem by problem: the tables of a page and of the terminal are made of these."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from progrpo.schema.quantity import Quantity
from progrpo.statistics import Interval, paired_difference, sign_flip_test, win_tie_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """One run minus the first, or why there is no difference.

    Attributes:
        run: its index.
        step: of training, the last at which both were evaluated; None for a benchmark.
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

    def clear(self, measure: str) -> bool:
        """Whether the interval over problems of a difference leaves out 0."""
        interval = self.cells[measure]
        return interval is not None and (interval.low > 0 or interval.high < 0)


Values = Callable[[str], Mapping[str, float]]
"""A measure by problem, from its key."""


def paired(
    run: int,
    ours: Values,
    theirs: Values,
    measures: Sequence[Quantity],
    *,
    counted: Collection[str],
    tested: Collection[str] = (),
    step: int | None = None,
    problems: int | None = None,
) -> Paired:
    """Compare a run with the first on the problems for which both have a measure.

    Args:
        counted, tested: keys of measures.
        problems: that both have; None counts those with the measure that most have.
    """
    pairs = {measure.key: on_both(ours(measure.key), theirs(measure.key)) for measure in measures}
    known = {key: pair for key, pair in pairs.items() if pair[0]}
    return Paired(
        run=run,
        step=step,
        problems=max(len(pair[0]) for pair in pairs.values()) if problems is None else problems,
        cells={key: paired_difference(*pair) if pair[0] else None for key, pair in pairs.items()},
        levels={key: (sum(a) / len(a), sum(b) / len(b)) for key, (a, b) in known.items()},
        counts={key: win_tie_loss(*pair) for key, pair in known.items() if key in counted},
        p={key: sign_flip_test(*pair) for key, pair in known.items() if key in tested},
    )


def on_both(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[list[float], list[float]]:
    """The values of the problems that both have, in the order of the second."""
    both = [problem for problem in theirs if problem in ours]
    return [ours[problem] for problem in both], [theirs[problem] for problem in both]
