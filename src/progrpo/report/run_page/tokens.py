"""The figure of where the tokens went: what the positions that a step forwarded were for, one bar per run."""

from collections.abc import Sequence

from progrpo.report.drawing import Drawing
from progrpo.report.html import prose
from progrpo.report.read import Row, Run, having
from progrpo.report.run_page.bars import colours_of, stacked_bars, used

_COLOURS = colours_of(("trained", "scored only", "prompts", "prompts again", "padding"))


def tokens_figure(runs: Sequence[Run]) -> Drawing | None:
    """Draw the positions of each run's steps by their use; None where no run logged them."""
    counted = [(run, uses) for run in runs if (uses := positions_by_use(run))]
    if not counted:
        return None
    bars = [(run.name, f"{sum(uses.values()):,.0f} positions", uses) for run, uses in counted]
    longest = max(sum(uses.values()) for _, uses in counted)
    divisor, many = (1e6, "million ") if longest >= 2e6 else (1e3, "thousand ") if longest >= 2e4 else (1, "")
    return Drawing(
        name="tokens",
        title="Where the tokens went",
        svg=stacked_bars("tokens", bars, colours=_COLOURS, divisor=divisor, unit=f"{many}positions per step"),
        caption=prose("captions.jinja", "tokens"),
        runs=(),
        keys=used(bars, _COLOURS),
    )


def positions_by_use(run: Run) -> dict[str, float]:
    """Positions per step by what they were for, mean over steps; empty where the run did not log them."""
    rows = [row for row in having(run, "tokens/forwarded") if "tokens/logit_row_share" in row]
    positions = sum(row["tokens/forwarded"] for row in rows)
    if not positions:
        return {}
    trained = sum(row.get("tokens/trained") or 0.0 for row in rows)
    head, again, padding = (_total(rows, f"tokens/{name}_share") for name in ("head", "repeated_prompt", "padding"))
    sums = {
        "trained": trained,
        "scored only": max(0.0, head - trained),
        "prompts": max(0.0, positions - max(head, trained) - again - padding),
        "prompts again": again,
        "padding": padding,
    }
    return {use: total / len(rows) for use, total in sums.items()}


def _total(rows: Sequence[Row], share: str) -> float:
    """A share of the positions as a number of positions; a step that forwarded none has no share."""
    return float(sum(row["tokens/forwarded"] * (row.get(share) or 0.0) for row in rows))
