"""The figures of a report, in the order of the page; one without data is left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from progrpo import schema
from progrpo.report.comparison.averages import shared_benchmarks
from progrpo.report.comparison.benchmarks import Comparison
from progrpo.report.comparison.summary import largest, same_start
from progrpo.report.drawing import INK, Drawing, canvas, run_colour, run_marker, to_svg, unit_axis
from progrpo.report.html import prose
from progrpo.report.paper.distributions import distribution_figures, one_problem
from progrpo.report.paper.panels import average_panels, pass_at_k_panels
from progrpo.report.read import Row, Run, is_number
from progrpo.report.run_page.curves import CONFIDENCE, DISTINCT, ENTROPY, PASS_AT_1, REWARD, over_steps, pass_at
from progrpo.report.run_page.seconds import seconds_figure
from progrpo.report.run_page.tokens import tokens_figure

PASS_AT_K = schema.metric("evaluate/pass@K")


def figures(runs: Sequence[Run]) -> list[Drawing]:
    """Draw every figure of what was learned that there are data for."""
    most = largest(PASS_AT_K, runs)
    drawn = [
        over_steps(runs, ENTROPY),
        over_steps(runs, REWARD),
        over_steps(runs, PASS_AT_1),
        pass_at_k(runs),
        over_steps(runs, pass_at(most)) if most else None,
        over_steps(runs, DISTINCT),
        over_steps(runs, CONFIDENCE),
    ]
    return [drawing for drawing in drawn if drawing is not None]


def paper_figures(runs: Sequence[Run], comparison: Comparison) -> list[Drawing]:
    """Draw the paper's figures of evaluations that there are data for; its Fig. 2 is the first of `figures`."""
    benchmarks = comparison.benchmarks
    drawn = [
        pass_at_k_panels(runs, benchmarks),
        *distribution_figures(runs, benchmarks),
        average_panels(runs, shared_benchmarks(benchmarks)),
        one_problem(runs, benchmarks),
    ]
    return [figure for figure in drawn if figure is not None]


def cost_figures(runs: Sequence[Run]) -> list[Drawing]:
    """Draw every figure of what it cost that there are data for."""
    return [drawing for drawing in (seconds_figure(runs), tokens_figure(runs)) if drawing is not None]


def pass_at_k(runs: Sequence[Run]) -> Drawing | None:
    """Pass@k against k at the first and the last evaluation; a start that all runs share is drawn once, in ink."""
    rows = {index: found for index, run in enumerate(runs) if (found := [r for r in run.metrics if _by_k(r)])}
    if not any(len(_by_k(found[-1])) > 1 for found in rows.values()):
        return None
    starts = [runs[index] for index in rows]
    once = len(rows) > 1 and all(run.evaluations for run in starts) and same_start(starts)
    with canvas() as (figure, axes):
        for index, found in rows.items():
            if not once or index == min(rows):
                _line(axes, _by_k(found[0]), INK if once else run_colour(index), linestyle="--", linewidth=1.2)
            if len(found) > 1:
                _line(axes, _by_k(found[-1]), run_colour(index), marker=run_marker(index))
        ks = sorted({k for found in rows.values() for k in _by_k(found[-1])})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ks, [str(k) for k in ks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("k, completions per problem", loc="right")
        unit_axis(axes, "% of problems")
        svg = to_svg(figure, "over-k")
    return Drawing(
        name="over-k",
        title="Held-out Pass@k",
        svg=svg,
        caption=prose("captions.jinja", "over_k", largest=ks[-1], once=once),
        runs=tuple(rows),
    )


def _line(axes: Axes, points: Mapping[int, float], colour: str, **look: Any) -> None:
    axes.plot(list(points), list(points.values()), color=colour, **look)


def _by_k(row: Row) -> dict[int, float]:
    named = {key: PASS_AT_K.member(key.removeprefix(schema.HELD_OUT)) for key in row if key.startswith(schema.HELD_OUT)}
    found = {int(k): row[key] for key, k in named.items() if k}
    return {k: found[k] for k in sorted(found) if is_number(found[k])}
