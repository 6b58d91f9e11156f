"""What a page comes to, one plain sentence for each run."""

from collections.abc import Sequence
from dataclasses import dataclass

from progrpo import plugins
from progrpo.report.comparison.benchmarks import Benchmark
from progrpo.report.comparison.results import Paired, Summary
from progrpo.report.evaluations import HELD_OUT
from progrpo.report.html import prose
from progrpo.report.read import Run
from progrpo.report.wording import model
from progrpo.schema.quantity import Quantity

BENCHMARKS = 3
"""Named in one sentence; the others are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """A sentence on one run, to be read after its name."""

    run: int
    text: str


def headlines(runs: Sequence[Run], summary: Summary, benchmarks: Sequence[Benchmark]) -> list[Headline]:
    """Say what each run ended with, against the first run (the first, and a run alone: against its start).

    Of held-out problems where any run was evaluated on them, else of benchmarks.
    """
    if summary.last:
        return [Headline(run=index, text=_of_held_out(runs, summary, index)) for index in range(len(runs))]
    others = [one for one in benchmarks if one.preset != HELD_OUT]
    return [Headline(run=index, text=_of_benchmarks(runs, others, index)) for index in range(len(runs))]


def lead(runs: Sequence[Run]) -> str:
    """Say what the runs of a page are about: how many, on which tasks, from which models."""
    known = plugins.summaries("tasks")
    named = [(run.config.get("task") or {}).get("name") for run in runs]
    counts = [len(run.members) for run in runs]
    words = "One run" if len(runs) == 1 else f"{len(runs)} runs"
    if max(counts) > 1:
        words += f" of {counts[0]} seeds{' each' * (len(runs) > 1)}" if len(set(counts)) == 1 else " with their seeds"
    return prose(
        "captions.jinja",
        "lead",
        runs=words,
        tasks={name: known.get(name, "") for name in map(str, filter(None, named))},
        models=list(dict.fromkeys(model(run.config) for run in runs)),
    )


def verdict(measure: Quantity, difference: Paired) -> str:
    """In words, what a difference settles; "" where there is none."""
    interval = difference.interval(measure.key)
    if interval is None:
        return ""
    if not interval.clear:
        return "not distinguishable"
    if measure.better is None:
        return "higher" if interval.mean > 0 else "lower"
    return "better" if (interval.mean > 0) == (measure.better == "higher") else "worse"


def _of_held_out(runs: Sequence[Run], summary: Summary, index: int) -> str:
    differences = {one.run: one for one in summary.differences}
    return prose(
        "captions.jinja",
        "headline",
        run=runs[index],
        first=runs[0],
        measures=summary.named,
        start=summary.first.get(index) if index == 0 else None,
        last=summary.last.get(index),
        difference=differences.get(index),
        own=summary.own if len(runs) == 1 else None,
        verdict=verdict,
    )


def _of_benchmarks(runs: Sequence[Run], benchmarks: Sequence[Benchmark], index: int) -> str:
    mine = [one for one in benchmarks if index in one.evaluations]
    gaps = {one.name: gap for one in mine for gap in one.gaps if gap.run == index}
    return prose(
        "captions.jinja",
        "headline_of_benchmarks",
        index=index,
        first=runs[0],
        benchmarks=mine[:BENCHMARKS],
        more=len(mine) - BENCHMARKS,
        gaps=gaps,
        verdict=verdict,
    )
