"""What a comparison comes to, in one sentence a run."""

from collections.abc import Sequence

from progrpo.report.comparison.paired import Paired
from progrpo.report.comparison.summary import Summary
from progrpo.report.read import Run
from progrpo.schema.quantity import Quantity

_SAID = ("distinct_correct", "pass@")
"""Measures that the sentence names, by the beginning of their key; distinct solutions first."""


def headlines(runs: Sequence[Run], summary: Summary) -> list[str]:
    """One sentence for each run after the first that shares an evaluation with it: what it ended with, what the first did, and
    which differences are larger than chance over problems explains. Names of runs stand in backticks."""
    return [
        sentence
        for difference in summary.differences
        if (sentence := _sentence(runs[difference.run], runs[0], difference, summary.measures))
    ]


def _sentence(run: Run, first: Run, difference: Paired, measures: Sequence[Quantity]) -> str:
    said = [
        measure
        for start in _SAID
        for measure in measures
        if measure.key.startswith(start) and measure.key in difference.levels
    ]
    if not said:
        return ""
    levels = [_level(difference, measure) for measure in said]
    clear = [measure.label for measure in said if difference.clear(measure.key)]
    told = ", ".join(levels[:-1]) + (" and " if levels[:-1] else "") + levels[-1]
    rest = (
        f"clear of chance over problems: {', '.join(clear)}"
        if clear
        else "no difference is clear of chance over problems"
    )
    return f"`{run.name}` had {told} after {difference.step} steps, `{first.name}` in brackets; {rest}."


def _level(difference: Paired, measure: Quantity) -> str:
    mine, theirs = (measure.value(level) for level in difference.levels[measure.key])
    if measure.percent:
        return f"{measure.label} of {mine} % ({theirs} %)"
    return f"{mine} distinct correct solutions a problem ({theirs})"
