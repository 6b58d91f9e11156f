"""Pass@k against k: one panel per benchmark, and the average over benchmarks by the form of the advantage."""

from collections.abc import Mapping, Sequence

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
from progrpo.report.paper.forms import form_label
from progrpo.report.read import Run
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
        ks = benchmark.powers(benchmark.comparable)
        curves = {
            run: {k: benchmark.evaluations[run].interval(f"pass@{k}") for k in ks} for run in benchmark.comparable
        }
        panels.append(_panel(f"benchmark-pass-{index}", benchmark.name, curves, alone=len(drawn) == 1))
    left = [f"{one.name} of {runs[run].name} ({why})" for one in drawn for run, why in one.apart.items()]
    return Drawing(
        name="benchmark-pass",
        title="Pass@k on each benchmark",
        panels=tuple(panels),
        caption=prose("captions.jinja", "benchmark_pass", left=left),
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


def _of(group: Shared) -> str:
    count = len(group.benchmarks)
    what = f"{count} benchmark{'s' * (count != 1)}"
    if group.preset == HELD_OUT:
        return f"Held-out problems, {what}"
    return f"Preset {group.preset}, {what}" if group.preset else what.capitalize()


def _panel(name: str, label: str, curves: Mapping[int, Mapping[int, Interval | None]], alone: bool) -> Panel:
    with canvas() if alone else panel_canvas() as (figure, axes):
        for run, points in curves.items():
            known = {k: point for k, point in points.items() if point is not None}
            low, high = [point.low for point in known.values()], [point.high for point in known.values()]
            axes.fill_between(list(known), low, high, color=run_colour(run), alpha=_BAND, linewidth=0)
            means = [point.mean for point in known.values()]
            axes.plot(list(known), means, color=run_colour(run), marker=run_marker(run))
        doubling_axis(axes, sorted({k for points in curves.values() for k in points}))
        unit_axis(axes, "% of problems")
        return Panel(name=name, label=label, svg=to_svg(figure, name))
