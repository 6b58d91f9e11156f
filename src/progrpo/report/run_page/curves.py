"""Figures of metrics over steps: what they show, as data, and how it is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes

from progrpo import schema
from progrpo.report.drawing import Drawing, canvas, run_colour, run_marker, step_axis, to_svg, unit_axis
from progrpo.report.html import prose
from progrpo.report.read import Run, series
from progrpo.schema.quantity import Quantity
from progrpo.statistics import smooth, smoothing_width


@dataclass(frozen=True, slots=True)
class Layer:
    """One metric over steps, drawn once for each run that has it."""

    key: str
    look: Literal["smoothed", "faint", "points"]
    """`smoothed`: the running mean over a faint raw line; `faint`: a thin running mean alone; `points`: as logged."""
    dash: Literal["-", "--", ":"] = "-"

    def __post_init__(self) -> None:
        schema.metric(self.key)  # a figure of a metric that nothing logs would be blank


@dataclass(frozen=True, slots=True)
class Curves:
    """One figure; its caption is the macro of its name."""

    name: str
    title: str
    unit: str
    layers: tuple[Layer, ...]
    k: int | None = None
    """Of the Pass@k it is of."""


ENTROPY = Curves("entropy", "Training entropy", "nats per token", (Layer("rollout/entropy", "smoothed"),))
REWARD = Curves("reward", "Training reward", "per completion", (Layer("rollout/reward", "smoothed"),))
PASS_AT_1 = Curves("pass-at-1", "Held-out Pass@1", "% of completions", (Layer("evaluate/pass@1", "points"),))
DISTINCT = Curves(
    "distinct",
    "Distinct correct solutions",
    "per problem",
    (Layer("evaluate/distinct_correct", "points"), Layer("rollout/distinct_correct", "faint")),
)
CONFIDENCE = Curves(
    "confidence",
    "Confidence, and the share of the advantage it makes",
    "probability; share",
    (
        Layer("progrpo/prompt_confidence", "smoothed"),
        Layer("progrpo/completion_confidence", "smoothed", "--"),
        Layer("progrpo/shift_share", "smoothed", ":"),
    ),
)


def pass_at(measure: Quantity) -> Curves:
    """The figure of one Pass@k over steps."""
    layer = Layer(f"evaluate/{measure.key}", "points")
    k = int(measure.key.removeprefix("pass@"))
    return Curves("pass-at-most", f"Held-out {measure.label}", "% of problems", (layer,), k)


def over_steps(runs: Sequence[Run], curves: Curves) -> Drawing | None:
    """Draw one figure; None where no run has any of its metrics."""
    points = {(i, layer.key): series(run, layer.key)[0].size for i, run in enumerate(runs) for layer in curves.layers}
    shown = tuple(index for index in range(len(runs)) if any(points[index, layer.key] for layer in curves.layers))
    if not shown:
        return None
    smoothed = [layer.key for layer in curves.layers if layer.look != "points"]
    width = smoothing_width(max((points[index, key] for index in shown for key in smoothed), default=0))
    with canvas() as (figure, axes):
        for layer in curves.layers:
            for index in shown:
                _draw(axes, runs[index], index, layer, width)
        step_axis(axes)
        unit_axis(axes, curves.unit)
        svg = to_svg(figure, curves.name)
    caption = prose("captions.jinja", curves.name.replace("-", "_"), width=width, k=curves.k)
    return Drawing(name=curves.name, title=curves.title, svg=svg, caption=caption, runs=shown)


def _draw(axes: Axes, run: Run, index: int, layer: Layer, width: int) -> None:
    steps, values = series(run, layer.key)
    look: dict[str, Any] = {"color": run_colour(index), "linestyle": layer.dash}
    if layer.look == "points" or steps.size == 1:
        axes.plot(steps, values, marker=run_marker(index), **look)
    elif layer.look == "faint":
        axes.plot(steps, smooth(values, width), linewidth=0.9, alpha=0.6, **look)
    else:
        axes.plot(steps, values, linewidth=0.8, alpha=0.35, color=run_colour(index))
        axes.plot(steps, smooth(values, width), **look)
