"""The alarms of runs, as their directories hold them (alarms.jsonl): which, from which step to which, and what was said."""

from collections.abc import Sequence
from typing import NamedTuple

from progrpo.report.read import Run


class Raised(NamedTuple):
    """An alarm of a run.

    Attributes:
        run: the run's place on the page. name: of the run directory, which is a seed's where the run stands for several.
        step: it began at. until: the step it was over at; None where it was not.
        metric: the key in metrics.jsonl that it is about. text: what was said.
    """

    run: int
    name: str
    alarm: str
    step: int
    until: int | None
    metric: str
    text: str

    @property
    def steps(self) -> str:
        return f"from step {self.step} on" if self.until is None else f"steps {self.step} to {self.until}"


def raised(runs: Sequence[Run]) -> list[Raised]:
    """Every alarm of the runs, by run and step."""
    return [one for index, run in enumerate(runs) for member in run.members for one in _of(member, index)]


def _of(run: Run, index: int) -> list[Raised]:
    events = run.alarms or ()
    over = {(event["alarm"], event["since"]): event["step"] for event in events if event["event"] == "ends"}
    return [
        Raised(
            run=index,
            name=run.name,
            alarm=event["alarm"],
            step=event["step"],
            until=over.get((event["alarm"], event["step"])),
            metric=event["metric"],
            text=event["text"],
        )
        for event in events
        if event["event"] == "begins"
    ]
