"""The figure of one method's advantages against another's: each completion a point."""

from progrpo.evaluate.score import Scoring
from progrpo.report.drawing import SOFT, Drawing, canvas, run_colour, run_marker, to_svg
from progrpo.report.html import prose

_POINTS = 2000
"""Most completions drawn, evenly taken; more would be one blot, and megabytes of it."""


def advantages_figure(scoring: Scoring) -> Drawing | None:
    """Draw the advantages of the other methods over those of the first; None where there is one method only."""
    if len(scoring.methods) < 2:
        return None
    values = scoring.values[:, :: -(-scoring.values.shape[1] // _POINTS)]
    first = scoring.methods[0].label
    with canvas(3.6) as (figure, axes):
        axes.axhline(0, color=SOFT, linewidth=0.6)
        axes.axvline(0, color=SOFT, linewidth=0.6)
        axes.axline((0, 0), slope=1, color=SOFT, linewidth=0.6, linestyle=(0, (2, 3)))
        for number in range(1, len(scoring.methods)):
            axes.plot(
                values[0], values[number], run_marker(number), color=run_colour(number), markersize=4, alpha=0.6,
                markeredgewidth=0,
            )  # fmt: skip
        axes.set_title("advantage")
        axes.set_xlabel(f"advantage by {first}", loc="right")
        svg = to_svg(figure, "advantages")
    taken = 0 if values.shape[1] == scoring.values.shape[1] else values.shape[1]
    return Drawing(
        name="advantages",
        title=f"Advantages over those of {first}",
        svg=svg,
        caption=prose("captions.jinja", "advantages", taken=taken),
        runs=tuple(range(1, len(scoring.methods))),
    )
