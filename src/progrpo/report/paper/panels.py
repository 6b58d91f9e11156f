"""Pass@k against k: one panel per benchmark, and the average over benchmarks by the form of the advantage."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from progrpo.report.comparison.averages import Shared, average, of_one_kind
from progrpo.report.comparison.benchmarks import Benchmark
from progrpo.report.drawing import (
    Drawing,
    Panel,
    canvas,
    doubling_axis,
    panel_canvas,
    run_colour,
    run_marker,
    to_svg,
    unit_axis,
)
from progrpo.report.evaluations import HELD_OUT
from progrpo.report.html import prose
from progrpo.report.read import Run
from progrpo.report.wording import advantage_form
from progrpo.statistics import Interval

_BAND = 0.15
"""Opacity of an interval."""


def pass_at_k_panels(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> Drawing | None:
    """Pass@k over k on every benchmark whose problems have more than one completion; None where there is none."""
    drawn = [one for one in benchmarks if len(one.powers(one.comparable)) > 1]
    if not drawn:
        return None
    panels = []
    for index, benchmark in enumerate(drawn):
        curves = {run: _pass_at_k(benchmark, run) for run in benchmark.comparable}
        panels.append(_panel(f"benchmark-pass-{index}", benchmark.name, curves, alone=len(drawn) == 1))
    return Drawing(
        name="benchmark-pass",
        title="Pass@k on each benchmark",
        panels=tuple(panels),
        caption=prose("captions.jinja", "benchmark_pass", left=_not_drawn(runs, drawn)),
        runs=tuple(sorted({run for benchmark in drawn for run in benchmark.comparable})),
    )


def average_panels(runs: Sequence[Run], shared: Sequence[Shared]) -> Drawing | None:
    """Average Pass@k over the benchmarks of one kind that all runs share, one panel per preset, named by the form of the
    advantage; None without two training runs, whose forms could be compared."""
    trained = [group for group in map(of_one_kind, shared) if sum(runs[run].trained for run in group.runs) > 1]
    drawn = [group for group in trained if len(group.powers) > 1]
    if not drawn:
        return None
    alone = all(len(group.benchmarks) == 1 for group in drawn)
    panels = []
    for index, group in enumerate(drawn):
        curves = {run: {k: average(group.benchmarks, run, f"pass@{k}") for k in group.powers} for run in group.runs}
        panels.append(_panel(f"average-pass-{index}", _of(group), curves, alone=len(drawn) == 1))
    shown = tuple(sorted({run for group in drawn for run in group.runs}))
    return Drawing(
        name="average-pass",
        title=f"{'' if alone else 'Average '}Pass@k by the form of the advantage".strip(),
        panels=tuple(panels),
        caption=prose("captions.jinja", "average_pass", alone=alone, groups=[(_of(group), group) for group in drawn]),
        runs=shown,
        labels=tuple(form_label(runs[run]) for run in shown),
    )


def form_label(run: Run) -> str:
    """The form of a run's advantage, with the run's name."""
    form = advantage_form(run.config)
    return f"{run.name}: {form}" if form and form != run.name else run.name


def _of(group: Shared) -> str:
    count = len(group.benchmarks)
    what = f"{count} benchmark{'s' * (count != 1)}"
    if group.preset == HELD_OUT:
        return f"Held-out problems, {what}"
    return f"Preset {group.preset}, {what}" if group.preset else what.capitalize()


def _pass_at_k(benchmark: Benchmark, run: int) -> dict[int, Interval | None]:
    evaluation = benchmark.evaluations[run]
    ks = benchmark.powers(benchmark.comparable)
    return {k: evaluation.interval(f"pass@{k}") for k in ks}


def _panel(name: str, label: str, curves: Mapping[int, Mapping[int, Interval | None]], alone: bool = False) -> Panel:
    with canvas() if alone else panel_canvas() as (figure, axes):
        for run, points in curves.items():
            _curve(axes, run, {k: point for k, point in points.items() if point is not None})
        doubling_axis(axes, sorted({k for points in curves.values() for k in points}))
        unit_axis(axes, "% of problems")
        return Panel(name=name, label=label, svg=to_svg(figure, name))


def _curve(axes: Axes, run: int, points: Mapping[int, Interval]) -> None:
    ks, found = list(points), list(points.values())
    axes.fill_between(
        ks, [one.low for one in found], [one.high for one in found], color=run_colour(run), alpha=_BAND, linewidth=0
    )
    axes.plot(ks, [one.mean for one in found], color=run_colour(run), marker=run_marker(run))


def _not_drawn(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[str]:
    """The evaluations that were made otherwise than the others of their panel."""
    return [
        f"{benchmark.name} of {runs[run].name} ({why})"
        for benchmark in benchmarks
        for run, why in benchmark.apart.items()
    ]
