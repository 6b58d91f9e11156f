"""Bars made of parts: one bar per run, one segment per part, its share written into it where there is room."""

from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from progrpo.report.drawing import INK, PAPER, canvas, to_svg

_LABELLED = 0.1
"""Segments below this share of the longest bar are too narrow for a label."""
_SEEN = 0.001
"""Parts below this share of every bar cannot be seen, and are not in the legend."""
_NAME_LENGTH = 44
"""Characters of a run's name that fit above its bar, with its total."""


def colours_of(parts: Sequence[str]) -> dict[str, str]:
    """A colour per part, in one scale from dark to light that colour-blind readers see too."""
    # From the second fifth of the map on: its darkest colours are lost on a dark page.
    return {
        part: to_hex(colormaps["viridis"](0.2 + 0.8 * index / max(1, len(parts) - 1)))
        for index, part in enumerate(parts)
    }


def stacked_bars(
    name: str,
    bars: Sequence[tuple[str, str, Mapping[str, float]]],
    *,
    colours: Mapping[str, str],
    divisor: float,
    unit: str,
) -> str:
    """SVG of one bar for each of `bars`: a run's name, its total in words, and the size of its parts.

    Args:
        name: of the figure, unique on the page.
        divisor: a size divided by it is in `unit`, that of the axis.
    """
    longest = max(sum(parts.values()) for _, _, parts in bars) / divisor
    with canvas(height=0.6 + 0.55 * len(bars)) as (figure, axes):
        for place, (run, total, parts) in enumerate(bars):
            _bar(axes, place, {part: size / divisor for part, size in parts.items()}, longest, colours)
            shown = run if len(run) <= _NAME_LENGTH else f"…{run[1 - _NAME_LENGTH :]}"
            axes.text(0, place - 0.3, f"{shown}: {total}", color=INK, va="bottom")
        axes.set_ylim(len(bars) - 0.6, -0.8)
        axes.set_xlim(0, longest)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(unit, loc="right")
        return to_svg(figure, name)


def used(
    bars: Sequence[tuple[str, str, Mapping[str, float]]], colours: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """The legend: the parts that can be seen in some bar, with their colours."""
    seen = {part for _, _, parts in bars for part, size in parts.items() if size > _SEEN * sum(parts.values())}
    return tuple((part, colour) for part, colour in colours.items() if part in seen)


def _bar(axes: Axes, place: int, parts: Mapping[str, float], longest: float, colours: Mapping[str, str]) -> None:
    left = 0.0
    for part, width in parts.items():
        colour = colours[part]
        axes.barh(place, width, left=left, height=0.5, color=colour, edgecolor=PAPER, linewidth=0.6)
        if width >= _LABELLED * longest:
            share = f"{width / sum(parts.values()):.0%}"
            axes.text(left + width / 2, place, share, color=_on(colour), ha="center", va="center", fontsize=9)
        left += width


def _on(colour: str) -> str:
    """White or black, whichever is read better on a colour."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "#ffffff"
