"""The picture of the verb `shift`: how sure the model is of its completions, and what each alpha makes of that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from progrpo.evaluate.shift import TARGETS, Measured, Variant
from progrpo.report.drawing import (
    GRID,
    INK,
    RIGHT,
    SOFT,
    WRONG,
    histogram,
    percentages,
    run_colour,
    run_marker,
    sheet,
    to_file,
)
from progrpo.report.shift.words import percent

_BINS = 30
_MARKED = (0.01, *TARGETS, 1.0)
"""Shares with a line of their own."""
_LOWEST = 1e-4
"""Of the axis of shares; what lies below is drawn on its edge."""
_LEGEND: dict[str, Any] = {"loc": "upper center", "frameon": False, "fontsize": 9.5, "borderaxespad": 0}
_LEGEND["bbox_to_anchor"] = (0.5, -0.16)  # below, in units of the axes


def picture(measured: Measured) -> str:
    """SVG for a file of its own: c(o) of correct and incorrect completions on the left, shares over alpha on the right."""
    with sheet(4.9, 10.6) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        _confidences(left, measured)
        _shares(right, measured.variants)
        return to_file(figure, "shift")


def _confidences(axes: Axes, measured: Measured) -> None:
    axes.set_title("% of the completions of each kind")
    axes.set_xlabel("confidence of a completion, c(o)")
    values = np.array([*measured.correct, *measured.incorrect])
    if not len(values):
        _say(axes, "no completion with a verdict")
        return
    edges = np.histogram_bin_edges(values, bins=_BINS)
    for label, kind, colour in (("correct", measured.correct, RIGHT), ("incorrect", measured.incorrect, WRONG)):
        if kind:
            histogram(axes, kind, edges, colour, linewidth=1.5, label=f"{label} ({len(kind):,})")
    if measured.facts.c_prompt is not None:
        axes.axvline(measured.facts.c_prompt, color=INK, linestyle=(0, (4, 2)), linewidth=1.3, label="c(q), mean")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    percentages(axes)
    axes.legend(**_LEGEND, ncols=3)


def _shares(axes: Axes, variants: Sequence[Variant]) -> None:
    axes.set_title("shift's share of the advantage, % (marks: the defaults)")
    axes.set_xlabel("alpha")
    drawn = [(place, one) for place, one in enumerate(variants) if one.default.acts and one.default.share]
    if not drawn:
        _say(axes, "no variant acts on these groups,\nor no group is mixed")
        return
    alphas = [alpha for _, one in drawn for alpha in (one.default.alpha, *one.alphas.values()) if alpha]
    low, high = (min(alphas) / 3, max(alphas) * 2) if alphas else (0.1, 10.0)
    shares = [one.default.share or 0.0 for _, one in drawn]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(max(_LOWEST, min(0.005, *shares) / 1.5), max(1.5, *shares) * 1.3)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if high < 1e4 * low else (1,)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(_MARKED, [f"{100 * share:g}" for share in _MARKED])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(True, axis="y", color=GRID)
    for place, one in drawn:
        _line(axes, place, one, (low, high))
    axes.legend(**_LEGEND, ncols=2)


def _line(axes: Axes, place: int, one: Variant, ends: tuple[float, float]) -> None:
    """A straight line through the origin, on two logarithmic axes; a level one for a variant without alpha."""
    alpha, share, colour = one.default.alpha, one.default.share or 0.0, run_colour(place)
    label = f"{one.label}: {percent(share)}"
    shown = max(share, axes.get_ylim()[0])
    if not alpha:
        axes.axhline(shown, color=colour, linestyle=(0, (1, 2)), linewidth=1.5, label=label)
        return
    # Dashes, each variant's with a phase of its own, and open marks: what lies on top of each other is all seen.
    axes.plot(ends, [share / alpha * end for end in ends], color=colour, linestyle=(4 * place, (8, 4)), linewidth=1.6)
    mark: dict[str, Any] = {"markersize": 8, "markerfacecolor": "none", "markeredgewidth": 1.8}
    axes.plot(alpha, shown, run_marker(place), color=colour, clip_on=False, label=label, **mark)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=SOFT)
    axes.set_xticks([])
    axes.set_yticks([])
