"""Pass@k against k: one panel per benchmark, and the average over benchmarks by the form of the advantage."""

from collections.abc import Mapping, Sequence
from typing import Any

from progrpo.plural import counted
from progrpo.report.comparison.benchmarks import Benchmark, Shared, average, of_one_kind
from progrpo.report.drawing import (
    PANEL,
    Drawing,
    Panel,
    canvas,
    doubling_axis,
    run_colour,
    run_marker,
    to_svg,
    unit_axis,
)
from progrpo.report.evaluations import HELD_OUT
from progrpo.report.html import prose
from progrpo.report.read import Run
from progrpo.report.wording import method

_BAND = 0.15
"""Opacity of an interval."""


def pass_at_k_panels(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> Drawing | None:
    """Pass@k over k on every benchmark whose problems have more than one completion; None where there is none."""
    drawn = [one for one in benchmarks if len(one.powers(one.comparable)) > 1]
    if not drawn:
        return None
    left = [f"{one.name} of {runs[run].name} ({why})" for one in drawn for run, why in one.apart.items()]
    alone = {one.name: Shared(preset=one.preset, runs=one.comparable, benchmarks=(one,)) for one in drawn}
    return Drawing(
        name="benchmark-pass",
        title="Pass@k on each benchmark",
        panels=_panels("benchmark-pass", alone),
        caption=prose("captions.jinja", "benchmark_pass", left=left),
        runs=tuple(sorted({run for benchmark in drawn for run in benchmark.comparable})),
    )


def average_panels(runs: Sequence[Run], shared: Sequence[Shared]) -> Drawing | None:
    """Average Pass@k over the benchmarks of one kind that all runs share, one panel per preset, named by the form of the
    advantage; None without two training runs, whose forms could be compared."""
    trained = [group for group in map(of_one_kind, shared) if sum(runs[run].trained for run in group.runs) > 1]
    drawn = {_label(group): group for group in trained if len(group.powers) > 1}
    if not drawn:
        return None
    alone = all(len(group.benchmarks) == 1 for group in drawn.values())
    shown = tuple(sorted({run for group in drawn.values() for run in group.runs}))
    names = [(runs[run].name, advantage_form(runs[run].config)) for run in shown]
    return Drawing(
        name="average-pass",
        title=f"{'' if alone else 'Average '}Pass@k by the form of the advantage",
        panels=_panels("average-pass", drawn),
        caption=prose("captions.jinja", "average_pass", alone=alone, groups=drawn),
        runs=shown,
        labels=tuple(name if form in (None, name) else f"{name}: {form}" for name, form in names),
    )


def _label(group: Shared) -> str:
    count = len(group.benchmarks)
    what = counted(count, "benchmark")
    if group.preset == HELD_OUT:
        return f"Held-out problems, {what}"
    return f"Preset {group.preset}, {what}" if group.preset else what.capitalize()


def _panels(name: str, groups: Mapping[str, Shared]) -> tuple[Panel, ...]:
    """Pass@k over k, averaged over the benchmarks of each group; by label."""
    panels = []
    for index, (label, group) in enumerate(groups.items()):
        with canvas(*([] if len(groups) == 1 else PANEL)) as (figure, axes):
            for run in group.runs:
                points = {k: average(group.benchmarks, run, f"pass@{k}") for k in group.powers}
                known = {k: point for k, point in points.items() if point is not None}
                low, high = [point.low for point in known.values()], [point.high for point in known.values()]
                axes.fill_between(list(known), low, high, color=run_colour(run), alpha=_BAND, linewidth=0)
                means = [point.mean for point in known.values()]
                axes.plot(list(known), means, color=run_colour(run), marker=run_marker(run))
            doubling_axis(axes, group.powers)
            unit_axis(axes, "% of problems")
            svg = to_svg(figure, f"{name}-{index}")
            panels.append(Panel(name=f"{name}-{index}", label=label, svg=svg))
    return tuple(panels)


def advantage_form(config: Mapping[str, Any]) -> str | None:
    """The confidence term where the settings say it (arXiv:2602.05281, Eq. 4, Eq. 10, Sec. 4.5), else the method's name; None
    where the settings name no method."""
    chosen = config.get("method") or {}
    if "name" not in chosen:
        return None
    return prose("captions.jinja", "advantage_form", method=chosen) or method(config)
