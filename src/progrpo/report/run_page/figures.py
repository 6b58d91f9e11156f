"""The figures of a report, in the order of the page; one without data is left out."""

from collections.abc import Sequence

from progrpo import schema
from progrpo.files import is_number
from progrpo.report.comparison.averages import shared_benchmarks
from progrpo.report.comparison.benchmarks import Comparison
from progrpo.report.comparison.summary import largest_k, same_start
from progrpo.report.drawing import INK, Drawing, canvas, doubling_axis, run_colour, run_marker, to_svg, unit_axis
from progrpo.report.html import prose
from progrpo.report.paper.distributions import distribution_figures, one_problem
from progrpo.report.paper.panels import average_panels, pass_at_k_panels
from progrpo.report.read import Row, Run
from progrpo.report.run_page.bars import SECONDS, TOKENS, spent_figure
from progrpo.report.run_page.curves import CONFIDENCE, DISTINCT, ENTROPY, PASS_AT_1, REWARD, over_steps, pass_at

PASS_AT_K = schema.metric("evaluate/pass@K")


def figures(runs: Sequence[Run]) -> list[Drawing]:
    """Draw every figure of what was learned that there are data for."""
    k = largest_k(runs)
    return _drawn(
        over_steps(runs, ENTROPY),
        over_steps(runs, REWARD),
        over_steps(runs, PASS_AT_1),
        pass_at_k(runs),
        over_steps(runs, pass_at(PASS_AT_K.at(k))) if k > 1 else None,
        over_steps(runs, DISTINCT),
        over_steps(runs, CONFIDENCE),
    )


def paper_figures(runs: Sequence[Run], comparison: Comparison) -> list[Drawing]:
    """Draw the paper's figures of evaluations that there are data for; its Fig. 2 is the first of `figures`."""
    benchmarks = comparison.benchmarks
    return _drawn(
        pass_at_k_panels(runs, benchmarks),
        *distribution_figures(runs, benchmarks),
        average_panels(runs, shared_benchmarks(benchmarks)),
        one_problem(runs, benchmarks),
    )


def cost_figures(runs: Sequence[Run]) -> list[Drawing]:
    """Draw every figure of what it cost that there are data for."""
    return _drawn(spent_figure(runs, SECONDS), spent_figure(runs, TOKENS))


def pass_at_k(runs: Sequence[Run]) -> Drawing | None:
    """Pass@k against k at the first and the last evaluation; a start that all runs share is drawn once, in ink."""
    curves = {
        index: found for index, run in enumerate(runs) if (found := [by_k for r in run.metrics if (by_k := _by_k(r))])
    }
    if not any(len(found[-1]) > 1 for found in curves.values()):
        return None
    starts = [evaluations[min(evaluations)] for index in curves if (evaluations := runs[index].evaluations)]
    once = len(curves) > 1 and len(starts) == len(curves) and same_start(starts)
    with canvas() as (figure, axes):
        for index, found in curves.items():
            first, last = found[0], found[-1]
            if not once or index == min(curves):
                colour = INK if once else run_colour(index)
                axes.plot(list(first), list(first.values()), color=colour, linestyle="--", linewidth=1.2)
            if len(found) > 1:
                axes.plot(list(last), list(last.values()), color=run_colour(index), marker=run_marker(index))
        ks = sorted({k for found in curves.values() for k in found[-1]})
        doubling_axis(axes, ks, "k, completions per problem")
        unit_axis(axes, "% of problems")
        svg = to_svg(figure, "over-k")
    return Drawing(
        name="over-k",
        title="Held-out Pass@k",
        svg=svg,
        caption=prose("captions.jinja", "over_k", largest=ks[-1], once=once),
        runs=tuple(curves),
    )


def _by_k(row: Row) -> dict[int, float]:
    """Pass@k by k, ascending, of a row of metrics."""
    members = {
        PASS_AT_K.member(key.removeprefix(schema.HELD_OUT)): key for key in row if key.startswith(schema.HELD_OUT)
    }
    by_k = {int(k): row[key] for k, key in members.items() if k}
    return {k: by_k[k] for k in sorted(by_k) if is_number(by_k[k])}


def _drawn(*drawings: Drawing | None) -> list[Drawing]:
    return [drawing for drawing in drawings if drawing is not None]
