"""The figure of where a run's seconds went: one bar per run, one segment per phase."""

from collections.abc import Sequence

from progrpo.report.drawing import Drawing
from progrpo.report.html import prose
from progrpo.report.read import Run, series
from progrpo.report.run_page.bars import colours_of, stacked_bars, used
from progrpo.report.wording import duration

PHASES = ("generate", "verify", "score", "train", "sync", "evaluate", "write")
OTHER = "other"
_COLOURS = colours_of((*PHASES, OTHER))


def seconds_figure(runs: Sequence[Run]) -> Drawing | None:
    """Draw the seconds of each run by phase; None where no run logged any."""
    timed = [(run, phases) for run in runs if sum((phases := seconds_by_phase(run)).values()) > 0]
    if not timed:
        return None
    bars = [(run.name, duration(sum(phases.values())), phases) for run, phases in timed]
    longest = max(sum(phases.values()) for _, phases in timed)
    divisor, unit = (3600, "hours") if longest >= 7200 else (60, "minutes") if longest >= 120 else (1, "seconds")
    return Drawing(
        name="seconds",
        title="Where the seconds went",
        svg=stacked_bars("seconds", bars, colours=_COLOURS, divisor=divisor, unit=unit),
        caption=prose("captions.jinja", "seconds"),
        runs=(),
        keys=used(bars, _COLOURS),
    )


def seconds_by_phase(run: Run) -> dict[str, float]:
    """Seconds of all steps per phase, and those of no phase as `other`."""
    seconds = {phase: float(series(run, f"time/{phase}_s")[1].sum()) for phase in PHASES}
    steps = float(series(run, "time/step_s")[1].sum())
    return seconds | {OTHER: max(0.0, steps - sum(seconds.values()))}
