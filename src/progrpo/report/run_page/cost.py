"""The table of what a run cost: rates, shares of the work, and memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from progrpo.report.read import Run, having, series
from progrpo.report.wording import NOTHING


@dataclass(frozen=True, kw_only=True, slots=True)
class CostColumn:
    """One figure of the table, computed from a run's metrics; None where the run did not log what it needs."""

    label: str
    unit: str
    value: Callable[[Run], float | None]
    shown: str = "{:,.0f}"
    """How a value is written."""


def cost_table(runs: Sequence[Run]) -> tuple[list[CostColumn], list[list[str]]]:
    """The columns that some run has, and their values in words for each run."""
    found = [[column.value(run) for run in runs] for column in COLUMNS]
    kept = [index for index, values in enumerate(found) if any(value is not None for value in values)]
    cells = [
        [NOTHING if (value := found[index][run]) is None else COLUMNS[index].shown.format(value) for index in kept]
        for run in range(len(runs))
    ]
    return [COLUMNS[index] for index in kept], cells


def hidden_share(run: Run) -> float | None:
    """Of the seconds that verification took, those that generation hid."""
    hidden, waited = _sum(run, "time/verify_hidden_s"), _sum(run, "time/verify_s")
    return None if hidden is None or waited is None or not hidden + waited else hidden / (hidden + waited)


def _rate(tokens: str, seconds: str) -> Callable[[Run], float | None]:
    def value(run: Run) -> float | None:
        made, took = _sum(run, tokens), _sum(run, seconds)
        return made / took if made is not None and took else None

    return value


def _share_of_positions(key: str) -> Callable[[Run], float | None]:
    """A share over the whole run, each step by the positions it forwarded."""

    def value(run: Run) -> float | None:
        rows = having(run, key, "tokens/forwarded")
        positions = sum(row["tokens/forwarded"] for row in rows)
        return sum(row[key] * row["tokens/forwarded"] for row in rows) / positions if positions else None

    return value


def _zero_advantages(run: Run) -> float | None:
    values = series(run, "policy/zero_advantage_share")[1]  # every step has as many sequences
    return float(values.mean()) if values.size else None


def _peak(run: Run) -> float | None:
    values = series(run, "memory/peak_gib")[1]
    return float(values.max()) if values.size else None


def _sum(run: Run, key: str) -> float | None:
    values = series(run, key)[1]
    return float(values.sum()) if values.size else None


COLUMNS = (
    CostColumn(label="Generated", unit="tokens / s", value=_rate("tokens/generated", "time/generate_s")),
    CostColumn(label="Trained", unit="tokens / s", value=_rate("tokens/trained", "time/train_s")),
    CostColumn(
        label="Logit rows", unit="of positions", value=_share_of_positions("tokens/logit_row_share"), shown="{:.0%}"
    ),
    CostColumn(label="Advantage 0", unit="of sequences", value=_zero_advantages, shown="{:.0%}"),
    CostColumn(label="Peak memory", unit="GiB", value=_peak, shown="{:.2f}"),
    CostColumn(label="Verification hidden", unit="of its seconds", value=hidden_share, shown="{:.0%}"),
)
