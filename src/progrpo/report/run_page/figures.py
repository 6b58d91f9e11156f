"""The figures of a report, in the order of the page; one without data is left out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from progrpo import schema
from progrpo.measures.pass_at_k import powers_of_two
from progrpo.report.alarms import raised
from progrpo.report.comparison.benchmarks import Benchmark, shared_benchmarks
from progrpo.report.comparison.results import largest_k, same_start
from progrpo.report.drawing import (
    INK,
    Drawing,
    canvas,
    doubling_axis,
    run_colour,
    run_marker,
    step_axis,
    to_svg,
    unit_axis,
)
from progrpo.report.evaluations import HELD_OUT, Evaluation
from progrpo.report.html import prose
from progrpo.report.paper.distributions import distribution_figures, one_problem
from progrpo.report.paper.panels import average_panels, pass_at_k_panels
from progrpo.report.read import Run, series
from progrpo.report.rollout_pages import RolloutPages
from progrpo.report.run_page.cost import seconds_figure, tokens_figure
from progrpo.statistics import smooth, smoothing_width


class StepFigure(NamedTuple):
    """A figure of metrics over the steps of a run.

    Attributes:
        title: "{k}" stands for the largest k. unit: of its axis.
        metrics: keys of what is drawn; () leaves that to the schema, whose quantities and columns name their figure.
        caption: "" for the macro of the figure's name in captions.jinja.
        beside: a metric that only runs have which the figure says something of; "" where all may have it.
    """

    title: str
    unit: str
    metrics: tuple[str, ...] = ()
    caption: str = ""
    beside: str = ""


FIGURES = {
    "entropy": StepFigure("Training entropy", "nats per token"),
    "reward": StepFigure("Training reward", "per completion"),
    "pass-at-1": StepFigure("Held-out Pass@1", "% of completions"),
    "pass-at-most": StepFigure("Held-out Pass@{k}", "% of problems"),
    "distinct": StepFigure("Distinct correct solutions", "per problem"),
    "confidence": StepFigure("Confidence, and the share of the advantage it makes", "probability; share"),
    "sampler": StepFigure(
        "Gap between sampler and trainer",
        "nats per token",
        metrics=("sampler/gap", "sampler/gap_p95"),
        beside="sampler/staleness",
    ),
}
"""Each figure over steps by its name, in the order of the page; one more is a line here, with its metrics and caption."""
_FAINT: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.35}
"""The look of what was logged, or of a single seed, behind a mean."""
NO_PAGES = RolloutPages()
"""Where nothing leads to a rollout."""
_DASHES = ("-", "--", ":")
"""Of the training metrics of one figure, in the order of the schema."""


def figures(runs: Sequence[Run], pages: RolloutPages = NO_PAGES) -> list[Drawing]:
    """Draw every figure of what was learned that there are data for.

    Args:
        pages: of the rollouts of a single run, which the points of its curves lead to.
    """
    k = largest_k(runs)
    drawings: list[Drawing | None] = []
    for name in FIGURES:
        if "{k}" not in FIGURES[name].title or k > 1:
            drawings.append(over_steps(runs, name, k, pages))
        if name == "pass-at-1":
            drawings.append(pass_at_k(runs))
    return _drawn(*drawings, *(benchmark_over_steps(runs, task) for task in _benchmarks(runs)))


def benchmark_over_steps(runs: Sequence[Run], task: str) -> Drawing:
    """Draw Pass@1 and Pass@k of a benchmark that was evaluated during training."""
    start = f"{schema.BENCHMARK}{task}/pass@"
    ks = sorted(
        {int(key.removeprefix(start)) for run in runs for row in run.metrics for key in row if key.startswith(start)}
    )
    keys = [f"{start}{k}" for k in dict.fromkeys((ks[0], ks[-1]))]
    shown = [index for index, run in enumerate(runs) if any(len(series(run, key)) for key in keys)]
    with canvas() as (figure, axes):
        for key, dash in zip(keys, _DASHES, strict=False):
            for index in shown:
                for member in runs[index].seeds:
                    axes.plot(*_points(member, key), color=run_colour(index), **_FAINT)
                look: dict[str, Any] = {"marker": run_marker(index), "color": run_colour(index), "linestyle": dash}
                axes.plot(*_points(runs[index], key), **look)
        step_axis(axes)
        unit_axis(axes, "%")
        svg = to_svg(figure, f"benchmark-{task}")
    caption = prose("captions.jinja", "benchmark", task=task, ks=ks, seeds=any(runs[index].seeds for index in shown))
    return Drawing(
        name=f"benchmark-{task}", title=f"{task} during training", svg=svg, caption=caption, runs=tuple(shown)
    )


def _benchmarks(runs: Sequence[Run]) -> list[str]:
    """The benchmarks whose Pass@k was logged during training, in the order of the rows."""
    keys = dict.fromkeys(key for run in runs for row in run.metrics for key in row if key.startswith(schema.BENCHMARK))
    return list(dict.fromkeys(key.split("/")[1] for key in keys if key.split("/", 2)[2].startswith("pass@")))


def paper_figures(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[Drawing]:
    """Draw the paper's figures of evaluations that there are data for; its Fig. 2 is the first of `figures`.

    Pass@k of held-out problems is drawn by `figures`, and not again.
    """
    others = [one for one in benchmarks if one.preset != HELD_OUT]
    return _drawn(
        pass_at_k_panels(runs, others),
        *distribution_figures(runs, benchmarks),
        average_panels(runs, shared_benchmarks(others)),
        one_problem(runs, benchmarks),
    )


def cost_figures(runs: Sequence[Run]) -> list[Drawing]:
    """Draw every figure of what it cost that there are data for."""
    return _drawn(seconds_figure(runs), tokens_figure(runs))


def pass_at_k(runs: Sequence[Run]) -> Drawing | None:
    """Pass@k against k at the first and the last evaluation; a start that all runs share is drawn once, in ink."""
    evaluated = {index: list(run.evaluations.values()) for index, run in enumerate(runs) if run.evaluations}
    ks = powers_of_two(max((evaluations[-1].n for evaluations in evaluated.values()), default=1))
    if len(ks) < 2:
        return None
    once = len(evaluated) > 1 and same_start([evaluations[0] for evaluations in evaluated.values()])
    with canvas() as (figure, axes):
        for index, evaluations in evaluated.items():
            colour = run_colour(index)
            if not once or index == min(evaluated):
                axes.plot(*_over_k(evaluations[0]), color=INK if once else colour, linestyle="--", linewidth=1.2)
            for one in evaluations[-1].seeds.values():
                axes.plot(*_over_k(one), color=colour, **_FAINT)
            if len(evaluations) > 1:
                axes.plot(*_over_k(evaluations[-1]), color=colour, marker=run_marker(index))
        doubling_axis(axes, ks, "k, completions per problem")
        unit_axis(axes, "% of problems")
        svg = to_svg(figure, "over-k")
    return Drawing(
        name="over-k",
        title="Held-out Pass@k",
        svg=svg,
        caption=prose(
            "captions.jinja", "over_k", largest=ks[-1], once=once, seeds=any(runs[index].seeds for index in evaluated)
        ),
        runs=tuple(evaluated),
    )


def _over_k(evaluation: Evaluation) -> tuple[list[int], list[float]]:
    """Each k, and Pass@k."""
    ks = powers_of_two(evaluation.n)
    return ks, [float(np.mean(list(evaluation.values(f"pass@{k}").values()))) for k in ks]


def _drawn(*drawings: Drawing | None) -> list[Drawing]:
    return [drawing for drawing in drawings if drawing is not None]


def over_steps(runs: Sequence[Run], name: str, k: int, pages: RolloutPages = NO_PAGES) -> Drawing | None:
    """Draw one figure, each metric once for each run that has it; None where no run has any.

    Measures of evaluations are drawn as points; metrics of training as a running mean over a faint line of what was logged,
    or, beside points, as a thin running mean alone.

    Args:
        k: the largest of Pass@k. pages: see `figures`.
    """
    one = FIGURES[name]
    measures = [column.at(k) if column.family else column for column in schema.columns(name)]
    points = [schema.HELD_OUT + measure.key for measure in measures]
    points += [key for key in one.metrics if key.startswith(schema.HELD_OUT)]
    lines = [metric.key for metric in schema.drawn(name)]
    lines += [key for key in one.metrics if not key.startswith(schema.HELD_OUT)]
    able = [index for index, run in enumerate(runs) if not one.beside or len(series(run, one.beside))]
    shown = [index for index in able if any(len(series(runs[index], key)) for key in (*points, *lines))]
    if not shown:
        return None
    seeds = any(runs[index].seeds for index in shown)
    width = smoothing_width(max((len(series(runs[index], key)) for index in shown for key in lines), default=0))
    with canvas() as (figure, axes):
        for key in points:
            for index in shown:
                for member in runs[index].seeds:
                    axes.plot(*_points(member, key), color=run_colour(index), **_FAINT)
                values = series(runs[index], key)
                axes.plot(values.index, values, marker=run_marker(index), color=run_colour(index))
        for key, dash in zip(lines, _DASHES, strict=False):
            for index in shown:
                _line(axes, runs[index], key, index, width, dash, thin=bool(points))
                _link(axes, runs[index], key, pages)
        step_axis(axes)
        unit_axis(axes, one.unit)
        for alarm in raised([runs[index] for index in shown]):
            axes.plot(
                alarm.step,
                1.0,
                marker="v",
                color=run_colour(shown[alarm.run]),
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
        svg = to_svg(figure, name)
    caption = one.caption or prose("captions.jinja", name.replace("-", "_"), width=width, k=k, seeds=seeds)
    if lines and pages.links:
        caption += " " + prose("captions.jinja", "linked")
    return Drawing(name=name, title=one.title.format(k=k), svg=svg, caption=caption, runs=tuple(shown))


def _points(run: Run, key: str) -> tuple[pd.Index, pd.Series]:
    values = series(run, key)
    return values.index, values


def _link(axes: Axes, run: Run, key: str, pages: RolloutPages) -> None:
    """Lay what leads to the page of a rollout over its point: unseen, and large enough for a finger."""
    values = series(run, key)
    linked = [(step, value, link) for step, value in values.items() if (link := pages.link(int(str(step))))]
    if linked:
        steps, heights, urls = zip(*linked, strict=True)
        axes.scatter(steps, heights, s=60, alpha=0.0, linewidths=0, zorder=5).set_urls(list(urls))


def _line(axes: Axes, run: Run, key: str, index: int, width: int, dash: str, *, thin: bool) -> None:
    values = series(run, key)
    look: dict[str, Any] = {"color": run_colour(index), "linestyle": dash}
    if len(values) == 1:
        axes.plot(values.index, values, marker=run_marker(index), **look)
        return
    for member in () if thin else run.seeds:
        of_seed = series(member, key)
        axes.plot(of_seed.index, smooth(of_seed.to_numpy(), width), color=run_colour(index), **_FAINT)
    if thin:
        look |= {"linewidth": 0.9, "alpha": 0.6}
    elif not run.seeds:
        axes.plot(values.index, values, color=run_colour(index), **_FAINT)
    axes.plot(values.index, smooth(values.to_numpy(), width), **look)
