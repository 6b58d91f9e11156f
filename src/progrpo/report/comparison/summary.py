"""The held-out results of runs: each one's first and last evaluation, and the paired differences to the first run."""

from collections.abc import Sequence
from dataclasses import dataclass

from progrpo.measures.pass_at_k import doublings
from progrpo.report.comparison.results import Paired, Result, measures_of, paired, result
from progrpo.report.evaluations import Evaluation
from progrpo.report.html import prose
from progrpo.report.read import Run, last_shared_evaluation
from progrpo.schema.quantity import Quantity

COUNTED = ("pass@1", "distinct_correct")
"""Measures whose wins, ties and losses are counted."""
_ALWAYS = ("pass@1", "distinct_correct", "entropy")
"""Columns that stand even where no run has them."""
_HEADLINE = ("distinct_correct", "pass@")
"""Measures that the headline names, by the beginning of their key; distinct solutions first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    measures: tuple[Quantity, ...]
    first: tuple[Result, ...]
    """The first evaluation of each run; of the first run alone where it is the same for all."""
    same_start: bool
    last: tuple[Result, ...]
    """The last evaluation of each run; its first where it has no other."""
    again: bool
    """Whether some run was evaluated more than once."""
    differences: tuple[Paired, ...]
    """To the first run, of the runs that share an evaluation with it."""


def summarise(runs: Sequence[Run]) -> Summary:
    """Everything the tables say, as numbers."""
    everything = [evaluation for run in runs for evaluation in run.evaluations.values()]
    measures = measures_of("held-out", everything, k=largest_k(runs), always=_ALWAYS)
    evaluated = {index: run.evaluations for index, run in enumerate(runs) if run.evaluations}
    first = [result(index, found[min(found)], measures) for index, found in evaluated.items()]
    same = len(first) > 1 and same_start([row.evaluation for row in first])
    differences = []
    for index, run in enumerate(runs[1:], start=1):
        step = last_shared_evaluation([runs[0], run])
        if step is not None:
            both = run.evaluations[step], runs[0].evaluations[step]
            differences.append(paired(index, *both, measures, counted=COUNTED))
    return Summary(
        measures=measures,
        first=tuple(first[:1] if same else first),
        same_start=same,
        last=tuple(result(index, found[max(found)], measures) for index, found in evaluated.items()),
        again=any(len(run.evaluations) > 1 for run in runs),
        differences=tuple(differences),
    )


def headlines(runs: Sequence[Run], summary: Summary) -> list[str]:
    """One sentence for each run after the first that shares an evaluation with it: what it ended with, what the first did, and
    which differences are larger than chance over problems explains. Names of runs stand in backticks."""
    sentences = []
    for difference in summary.differences:
        named = [
            measure
            for start in _HEADLINE
            for measure in summary.measures
            if measure.key.startswith(start) and measure.key in difference.levels
        ]
        if named:
            names = {"run": runs[difference.run].name, "first": runs[0].name}
            sentences.append(prose("captions.jinja", "headline", difference=difference, measures=named, **names))
    return sentences


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
