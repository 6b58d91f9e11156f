"""What a run cost: figures of where its seconds and its tokens went, and a table of rates, shares and memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb

from progrpo.report.drawing import INK, PAPER, Drawing, canvas, to_svg
from progrpo.report.html import prose
from progrpo.report.read import Run, having, series
from progrpo.report.wording import NOTHING, duration

PHASES = ("generate", "verify", "gather", "score", "train", "sync", "evaluate", "write")
OTHER = "other"
USES = ("trained", "scored only", "prompts", "prompts again", "padding")

_LABELLED = 0.1
"""Segments below this share of the longest bar are too narrow for a label."""
_SEEN = 0.001
"""Parts below this share of every bar cannot be seen, and are not in the legend."""
_NAME_LENGTH = 44
"""Characters of a run's name that fit above its bar, with its total."""


def seconds_figure(runs: Sequence[Run]) -> Drawing | None:
    """Draw the seconds of each run by phase; None where no run logged any."""
    units = ((7200, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))
    sizes = {run.name: seconds_by_phase(run) for run in runs}
    return _bars("seconds", "Where the seconds went", (*PHASES, OTHER), sizes, duration, units)


def tokens_figure(runs: Sequence[Run]) -> Drawing | None:
    """Draw the positions of each run's steps by their use; None where no run logged them."""
    units = ((2e6, 1e6, "million positions"), (2e4, 1e3, "thousand positions"), (0, 1, "positions"))
    per_step = [(least, divisor, f"{unit} per step") for least, divisor, unit in units]
    sizes = {run.name: positions_by_use(run) for run in runs}
    return _bars("tokens", "Where the tokens went", USES, sizes, "{:,.0f} positions".format, per_step)


def _bars(
    name: str,
    title: str,
    parts: Sequence[str],
    sizes: Mapping[str, Mapping[str, float]],
    total: Callable[[float], str],
    units: Sequence[tuple[float, float, str]],
) -> Drawing | None:
    """Draw one bar per run; None where none has a length.

    Args:
        sizes: of the parts, by run. total: a bar's length in words.
        units: (smallest longest bar, divisor, unit of the axis), the largest first.
    """
    lengths = {run: sum(by_part.values()) for run, by_part in sizes.items()}
    bars = [(run, total(length), sizes[run]) for run, length in lengths.items() if length > 0]
    if not bars:
        return None
    divisor, unit = next((divisor, unit) for least, divisor, unit in units if max(lengths.values()) >= least)
    colours = colours_of(parts)
    return Drawing(
        name=name,
        title=title,
        svg=stacked_bars(name, bars, colours=colours, divisor=divisor, unit=unit),
        caption=prose("captions.jinja", name),
        runs=(),
        keys=used(bars, colours),
    )


def seconds_by_phase(run: Run) -> dict[str, float]:
    """Seconds of all steps per phase, and those of no phase as `other`."""
    seconds = {phase: float(series(run, f"time/{phase}_s").sum()) for phase in PHASES}
    return seconds | {OTHER: max(0.0, float(series(run, "time/step_s").sum()) - sum(seconds.values()))}


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
            left = 0.0
            for part, size in parts.items():
                width, colour = size / divisor, colours[part]
                axes.barh(place, width, left=left, height=0.5, color=colour, edgecolor=PAPER, linewidth=0.6)
                if width >= _LABELLED * longest:
                    look: dict[str, Any] = {"color": _on(colour), "ha": "center", "va": "center", "fontsize": 9}
                    axes.text(left + width / 2, place, f"{size / sum(parts.values()):.0%}", **look)
                left += width
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


def _on(colour: str) -> str:
    """White or black, whichever is read better on a colour."""
    red, green, blue = to_rgb(colour)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 / 255 else "#ffffff"


@dataclass(frozen=True, slots=True)
class CostColumn:
    """One figure of the table, computed from a run's metrics; nan where the run did not log what it needs."""

    label: str
    unit: str
    shown: str
    """How a value is written."""
    value: Callable[[Run], float]


def cost_table(runs: Sequence[Run]) -> tuple[list[CostColumn], list[list[str]]]:
    """The columns that some run has, and their values in words for each run."""
    values = [(column, [column.value(run) for run in runs]) for column in COLUMNS]
    kept = [(column, of_runs) for column, of_runs in values if not all(map(math.isnan, of_runs))]
    cells = [
        [NOTHING if math.isnan(of_runs[run]) else column.shown.format(of_runs[run]) for column, of_runs in kept]
        for run in range(len(runs))
    ]
    return [column for column, _ in kept], cells


def hidden_share(run: Run) -> float:
    """Of the seconds that verification took, those that generation hid."""
    hidden, waited = _total(run, "time/verify_hidden_s"), _total(run, "time/verify_s")
    return _ratio(hidden, hidden + waited)


def _total(run: Run, key: str) -> float:
    return float(series(run, key).sum(min_count=1))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _rate(run: Run, tokens: str, phase: str) -> float:
    return _ratio(_total(run, f"tokens/{tokens}"), _total(run, f"time/{phase}_s"))


def _logit_row_share(run: Run) -> float:
    """Over the whole run, each step by the positions it forwarded."""
    rows = having(run, "tokens/logit_row_share", "tokens/forwarded")
    positions = sum(row["tokens/forwarded"] for row in rows)
    return _ratio(sum(row["tokens/logit_row_share"] * row["tokens/forwarded"] for row in rows), positions)


COLUMNS = (
    CostColumn("Generated", "tokens / s", "{:,.0f}", lambda run: _rate(run, "generated", "generate")),
    CostColumn("Trained", "tokens / s", "{:,.0f}", lambda run: _rate(run, "trained", "train")),
    CostColumn("Logit rows", "of positions", "{:.0%}", _logit_row_share),
    # Every step has as many sequences.
    CostColumn("Advantage 0", "of sequences", "{:.0%}", lambda run: series(run, "policy/zero_advantage_share").mean()),
    CostColumn("Peak memory", "GiB", "{:.2f}", lambda run: series(run, "memory/peak_gib").max()),
    CostColumn("Verification hidden", "of its seconds", "{:.0%}", hidden_share),
)
