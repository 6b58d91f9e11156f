"""One style for all figures, and SVG that takes its colours and its font from the page it stands in."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

RUN_COLOURS = 8
"""Runs after the eighth get the first colours again, with the next marker."""
MARKERS = "osD^vPX*h"

# Colours of the page: matplotlib wants hex, the page wants variables that follow its light or dark scheme.
INK, SOFT, GRID, PAPER = "#010101", "#010102", "#010103", "#010104"
RIGHT, WRONG = "#010105", "#010106"
_RUNS = [f"#0102{index:02x}" for index in range(RUN_COLOURS)]
_VARIABLES = {
    **{INK: "--ink", SOFT: "--soft", GRID: "--rule", PAPER: "--paper", RIGHT: "--right", WRONG: "--wrong"},
    **{colour: f"--run-{index}" for index, colour in enumerate(_RUNS)},
}

PANEL = (2.5, 3.3)
"""Height and width of a small drawing, in inches: its type stays as large as the others' where it is a phone wide."""

_STEPS = [1, 2, 2.5, 5, 10]
"""Between ticks, times a power of ten."""
_CHARACTER, _EDGES = 6.0, 40.0
"""Width of a character of a tick label, and of what stands beside an axis, in units of 1/72 inch."""
_ONE_PERCENT = 0.01

_STYLE = Path(__file__).parent / "page.mplstyle"
_WIDTH, _HEIGHT = 5.0, 3.0  # inches of 72 units: type of 10 units stays readable where the page is a phone wide


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One of several small drawings under one title; its name is unique on the page."""

    name: str
    label: str
    svg: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A figure of the page: one drawing, or small ones side by side with one legend and one caption.

    Attributes:
        name: unique on the page.
        svg: of the one drawing; "" where there are panels.
        runs: that appear in it, for the legend; empty where the figure names them itself.
        keys: further entries of the legend: (label, colour).
        labels: what the legend calls the runs; empty for their names.
        marks: entries of the legend for marks: (label, whether filled).
    """

    name: str
    title: str
    caption: str
    runs: tuple[int, ...]
    svg: str = ""
    panels: tuple[Panel, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = ()
    marks: tuple[tuple[str, bool], ...] = ()


def run_colour(index: int) -> str:
    return _RUNS[index % RUN_COLOURS]


def run_marker(index: int) -> str:
    return MARKERS[index // RUN_COLOURS % len(MARKERS)] if index >= RUN_COLOURS else MARKERS[index]


@contextmanager
def sheet(height: float, width: float) -> Iterator[Figure]:
    """An empty figure in the page's style, whatever the reader's matplotlibrc says; height, width: inches."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.style.use(_STYLE)
        yield Figure(figsize=(width, height))


@contextmanager
def canvas(height: float = _HEIGHT, width: float = _WIDTH) -> Iterator[tuple[Figure, Axes]]:
    """Axes in the page's style.

    Args:
        height, width: inches; the width of all figures that stand alone, or that of a `PANEL`.
    """
    with sheet(height, width) as figure:
        yield figure, figure.add_subplot()


def step_axis(axes: Axes) -> None:
    axes.set_xlabel("step", loc="right")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))


def doubling_axis(axes: Axes, ks: Sequence[int], label: str = "k") -> None:
    """An x axis of numbers of completions that double; every second is named where there are many."""
    axes.set_xscale("log", base=2)
    named = [k for place, k in enumerate(ks) if len(ks) <= 8 or place % 2 == 0]
    axes.set_xticks(named, [str(k) for k in named])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label, loc="right")


def value_axis(axes: Axes) -> None:
    """An x axis of values, with as many ticks as have labels that fit; call it when everything is drawn."""
    figure = axes.get_figure(root=True)
    characters = ((figure.get_figwidth() if figure else _WIDTH) * 72 - _EDGES) / _CHARACTER
    low, high = axes.get_xlim()
    for ticks in range(5, 0, -1):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, steps=_STEPS))
        shown = [value for value in axes.xaxis.get_majorticklocs() if low <= value <= high]
        labels = axes.xaxis.get_major_formatter().format_ticks(shown)
        if sum(len(label) + 2 for label in labels) <= characters:
            return


def unit_axis(axes: Axes, unit: str) -> None:
    """Name the unit of y above the axis, where a long one fits; "%" reads fractions as percentages. Call it when
    everything is drawn.

    The margins of y are kept out of where no value can be: below 0 and, of shares, above 1.
    """
    axes.set_title(unit)
    smallest, largest = axes.dataLim.intervaly
    if 0 <= smallest <= largest < math.inf:
        low, high = axes.get_ylim()
        if unit.startswith("%"):
            high = max(high, _ONE_PERCENT) if largest else _ONE_PERCENT
            high = min(high, 1.0) if largest <= 1 else high
        elif not largest:
            high = 1.0
        axes.set_ylim(max(low, 0.0), high)
        for line in axes.lines:  # marks on the edge are drawn whole
            line.set_clip_on(False)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=_STEPS))
    if unit.startswith("%"):
        percentages(axes)


def percentages(axes: Axes) -> None:
    """Read the fractions on y as percentages."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")


def histogram(axes: Axes, values: Sequence[float] | np.ndarray, edges: np.ndarray, colour: str, **line: Any) -> None:
    """Draw the share of the values that lie between each two edges; `line`: of its outline."""
    shares = np.histogram(values, edges)[0] / len(values)
    axes.stairs(shares, edges, color=colour, fill=True, alpha=0.15)
    axes.stairs(shares, edges, color=colour, **line)


def to_svg(figure: Figure, name: str) -> str:
    """Inline SVG without a size of its own; must be called inside `canvas`.

    Ids that something refers to are unique to `name` and the same at every call; the others are left out.
    """
    svg = _written(figure, name)
    svg = svg[svg.index("<svg") :].strip()
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    svg = f'<svg {box[0] if box else ""} role="img" aria-labelledby="{name}-title">{rest}'
    svg = re.sub(r'<g id="[^"]*"', "<g", svg).replace("xlink:href", "href")
    link = r'<a href="([^"#]*?step-0*(\d+)\.html)" target="_blank">'
    svg = re.sub(link, r'<a href="\1" aria-label="rollout of step \2">', svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def to_file(figure: Figure, name: str) -> str:
    """SVG for a file of its own: in the page's light colours, with text as outlines; must be called inside `sheet`."""
    matplotlib.rcParams["svg.fonttype"] = "path"
    figure.set_facecolor(PAPER)
    svg = _written(figure, name)
    css = (Path(__file__).parent / "page.css").read_text("utf-8")
    light = dict(reversed(re.findall(r"(--[\w-]+): (#\w+);", css)))  # the first of each name: light comes before dark
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, light[variable])
    return svg


def _written(figure: Figure, name: str) -> str:
    matplotlib.rcParams["svg.hashsalt"] = name
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return written.getvalue()
