"""Figures of what a run spent on what: one bar per run, one segment per part, its share written into it where there is room."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from progrpo.report.drawing import INK, PAPER, Drawing, canvas, to_svg
from progrpo.report.html import prose
from progrpo.report.read import Run, having, series
from progrpo.report.wording import duration

PHASES = ("generate", "verify", "score", "train", "sync", "evaluate", "write")
OTHER = "other"
USES = ("trained", "scored only", "prompts", "prompts again", "padding")

_LABELLED = 0.1
"""Segments below this share of the longest bar are too narrow for a label."""
_SEEN = 0.001
"""Parts below this share of every bar cannot be seen, and are not in the legend."""
_NAME_LENGTH = 44
"""Characters of a run's name that fit above its bar, with its total."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """One figure.

    Attributes:
        sizes: of the parts in a run; empty where it did not log them.
        total: a bar's length in words.
        units: (smallest longest bar, divisor, unit of the axis), the largest first.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    sizes: Callable[[Run], Mapping[str, float]]
    total: Callable[[float], str]
    units: tuple[tuple[float, float, str], ...]


def spent_figure(runs: Sequence[Run], spent: Spent) -> Drawing | None:
    """Draw what each run spent on each part; None where no run logged any."""
    sizes = [(run, parts) for run in runs if sum((parts := spent.sizes(run)).values()) > 0]
    if not sizes:
        return None
    bars = [(run.name, spent.total(sum(parts.values())), parts) for run, parts in sizes]
    longest = max(sum(parts.values()) for _, parts in sizes)
    divisor, unit = next((divisor, unit) for least, divisor, unit in spent.units if longest >= least)
    colours = colours_of(spent.parts)
    return Drawing(
        name=spent.name,
        title=spent.title,
        svg=stacked_bars(spent.name, bars, colours=colours, divisor=divisor, unit=unit),
        caption=prose("captions.jinja", spent.name),
        runs=(),
        keys=used(bars, colours),
    )


def seconds_by_phase(run: Run) -> dict[str, float]:
    """Seconds of all steps per phase, and those of no phase as `other`."""
    seconds = {phase: float(series(run, f"time/{phase}_s")[1].sum()) for phase in PHASES}
    steps = float(series(run, "time/step_s")[1].sum())
    return seconds | {OTHER: max(0.0, steps - sum(seconds.values()))}


def positions_by_use(run: Run) -> dict[str, float]:
    """Positions per step by what they were for, mean over steps; empty where the run did not log them."""
    rows = [row for row in having(run, "tokens/forwarded") if "tokens/logit_row_share" in row]

    def total(share: str) -> float:
        """A share of the positions as a number of positions; a step that forwarded none has no share."""
        return float(sum(row["tokens/forwarded"] * (row.get(share) or 0.0) for row in rows))

    positions = sum(row["tokens/forwarded"] for row in rows)
    trained = sum(row.get("tokens/trained") or 0.0 for row in rows)
    shares = ("tokens/logit_row_share", "tokens/repeated_prompt_share", "tokens/padding_share")
    scored, again, padding = (total(share) for share in shares)
    prompts = positions - max(scored, trained) - again - padding
    totals = (trained, max(0.0, scored - trained), max(0.0, prompts), again, padding)
    return {use: size / len(rows) for use, size in zip(USES, totals, strict=True)} if positions else {}


SECONDS = Spent(
    name="seconds",
    title="Where the seconds went",
    parts=(*PHASES, OTHER),
    sizes=seconds_by_phase,
    total=duration,
    units=((7200, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds")),
)
TOKENS = Spent(
    name="tokens",
    title="Where the tokens went",
    parts=USES,
    sizes=positions_by_use,
    total="{:,.0f} positions".format,
    units=(
        (2e6, 1e6, "million positions per step"),
        (2e4, 1e3, "thousand positions per step"),
        (0, 1, "positions per step"),
    ),
)


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
