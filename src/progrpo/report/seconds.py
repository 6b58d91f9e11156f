"""The figure of where a run's seconds went: one bar per run, one segment per phase."""

from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from progrpo.report.drawing import INK, PAPER, Drawing, canvas, to_svg
from progrpo.report.read import Run, series
from progrpo.report.wording import duration

PHASES = ("generate", "verify", "score", "train", "evaluate", "write")
OTHER = "other"
_COLOURS = {
    phase: to_hex(colormaps["cividis"](0.2 + 0.8 * index / len(PHASES))) for index, phase in enumerate((*PHASES, OTHER))
}
"""From the second fifth of the map on: its darkest blue is lost on a dark page."""
_LABELLED = 0.1
"""Segments below this share of the longest bar are too narrow for a label."""
_NAME_LENGTH = 44
"""Characters of a run's name that fit above its bar, with its total."""


def seconds_figure(runs: Sequence[Run]) -> Drawing | None:
    """Draw the seconds of each run by phase; None where no run logged any."""
    timed = {index: phases for index, run in enumerate(runs) if sum((phases := seconds_by_phase(run)).values()) > 0}
    if not timed:
        return None
    longest = max(sum(phases.values()) for phases in timed.values())
    divisor, unit = (3600, "hours") if longest >= 7200 else (60, "minutes") if longest >= 120 else (1, "seconds")
    with canvas(height=0.6 + 0.55 * len(timed)) as (figure, axes):
        for place, (index, phases) in enumerate(timed.items()):
            _bar(axes, place, {phase: seconds / divisor for phase, seconds in phases.items()}, longest / divisor)
            name = runs[index].name
            shown = name if len(name) <= _NAME_LENGTH else f"…{name[1 - _NAME_LENGTH :]}"
            axes.text(0, place - 0.3, f"{shown}: {duration(sum(phases.values()))}", color=INK, va="bottom")
        axes.set_ylim(len(timed) - 0.6, -0.8)
        axes.set_xlim(0, longest / divisor)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(unit, loc="right")
        svg = to_svg(figure, "seconds")
    used = [phase for phase in _COLOURS if any(phases[phase] > 0 for phases in timed.values())]
    return Drawing(
        name="seconds",
        title="Where the seconds went",
        svg=svg,
        caption="Wall-clock time of the whole run by phase, in the order of the legend (sums of `time/generate_s`, "
        "`time/verify_s`, `time/score_s`, `time/train_s`, `time/evaluate_s`, `time/write_s`; other: the rest of "
        "`time/step_s`).",
        runs=(),
        keys=tuple((phase, _COLOURS[phase]) for phase in used),
    )


def seconds_by_phase(run: Run) -> dict[str, float]:
    """Seconds of all steps per phase, and those of no phase as `other`."""
    seconds = {phase: float(series(run, f"time/{phase}_s")[1].sum()) for phase in PHASES}
    steps = float(series(run, "time/step_s")[1].sum())
    return seconds | {OTHER: max(0.0, steps - sum(seconds.values()))}


def _bar(axes: Axes, place: int, phases: Mapping[str, float], longest: float) -> None:
    left = 0.0
    for phase, width in phases.items():
        colour = _COLOURS[phase]
        axes.barh(place, width, left=left, height=0.5, color=colour, edgecolor=PAPER, linewidth=0.6)
        if width >= _LABELLED * longest:
            share = f"{width / sum(phases.values()):.0%}"
            axes.text(left + width / 2, place, share, color=_on(colour), ha="center", va="center", fontsize=9)
        left += width


def _on(colour: str) -> str:
    """White or black, whichever is read better on a colour."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
