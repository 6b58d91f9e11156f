"""What a training run shows while it goes on: a bar on a terminal, lines elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from progrpo import schema
from progrpo.api.patience import Patience

VIEWER = "https://ui.perfetto.dev (in the browser: nothing is uploaded) or chrome://tracing"

_NUMBERS = [one for one in schema.drawn("progress") if not one.key.startswith("time/")]
_SECONDS = [one for one in schema.drawn("progress") if one.key.startswith("time/")]


_SILENCE_S = 10.0
"""A log file hears something at least so often."""
_PHASES = {"generate": "generating problems", "train": "training", "evaluate": "evaluating problems"}


class TrainingProgress:
    """A live bar on a terminal; elsewhere (a log file) one line per step, at most one a second and one in ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=8),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            TextColumn("left"),
            # Takes what the others leave: a narrow terminal loses the last of the numbers, not the count or the time.
            TextColumn("{task.fields[numbers]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task: Any = None
        self._printed_at = 0.0
        self._doing = ""
        self._patience = Patience(quiet=console.quiet)
        self._step_now = self._steps = 0
        self._pass_at_1: float | None = None
        self.traced = False
        """Whether a trace was written."""

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "prepare":
            self._prepare(data["doing"])
        elif event == "check":
            self._prepare("checking the gold answers")
            self._patience.count(data["done"], data["of"])
            self._show("golds", done=data["done"], of=data["of"])
        elif event == "measure":
            self._prepare("measuring pass rates")
            self._patience.count(data["done"], data["of"])
            self._show("pass rates", done=data["done"], of=data["of"])
        elif event == "difficulty":
            self._patience.now("")
            for line in data["lines"]:
                self._print(line)
        elif event == "start":
            self._step_now, self._steps = int(data["done"]) + 1, int(data["steps"])
            self._patience.now("")
            self._print(f"run directory {data['out']}, steps {data['done']} to {data['steps']}")
            self._show("start", done=data["done"], of=data["steps"])
        elif event == "phase":
            self._phase(data["name"])
        elif event == "sampled":
            self._patience.count(data["done"], data["of"])
        elif event == "evaluation":
            self._pass_at_1 = data.get("pass@1")
            self._print(f"step {data['step']:>5}  held-out: {_held_out(data)}")
        elif event == "benchmark":
            self._print(f"step {data['step']:>5}  {data['task']}: {_held_out(data['measures'])}")
        elif event == "profile":
            self.traced = True
            self._print(f"trace of step {data['step']}: {data['path']}; open it at {VIEWER}")
        elif event == "step":
            self._step(data)

    def __enter__(self) -> Self:
        self._bar.start()
        self._patience.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._patience.__exit__(kind, value, tb)
        self._bar.stop()

    def _phase(self, name: str) -> None:
        """A bar shows it; a log file hears of what is longer than ten seconds."""
        self._bar.update(self._task, description=name)
        if not self._console.is_terminal:
            self._patience.now(f"step {self._step_now}: {_PHASES.get(name, name)}", after_s=_SILENCE_S)

    def _prepare(self, doing: str) -> None:
        """Say what a log file would else show as silence."""
        if self._console.is_terminal:
            self._show(doing.split()[0], done=0, of=1)
        elif doing != self._doing and not self._console.quiet:
            self._patience.now(doing)
        self._doing = doing

    def _show(self, name: str, *, done: int, of: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task(name, numbers="")
        self._bar.update(self._task, description=name, completed=done, total=of)

    def _step(self, row: Mapping[str, Any]) -> None:
        numbers = "  ".join(
            f"{one.label.lower()} {row[one.key]:.3f}" for one in _NUMBERS if row.get(one.key) is not None
        )
        if self._pass_at_1 is not None:
            numbers += f"  Pass@1 {self._pass_at_1:.3f}"
        self._step_now = row["step"] + 1
        self._patience.now("")
        seconds = " ".join(f"{one.label.lower()} {row[one.key]:.2f} s" for one in _SECONDS if row.get(one.key, 0) > 0)
        if self._console.is_terminal:
            if numbers and row["step"]:
                self._bar.update(self._task, numbers=f"{numbers}  {seconds}")
            self._bar.update(self._task, completed=row["step"])
        elif row["step"] and (row["step"] == self._steps or time.monotonic() - self._printed_at >= 1.0):
            self._printed_at = time.monotonic()
            self._print(f"step {row['step']:>5}  {numbers}  {seconds}")

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False)


def _held_out(means: Mapping[str, float]) -> str:
    """The measures one looks at while a run goes on: Pass@1, Pass@k for the largest k, and those that are no Pass@k."""
    passes = [name for name in means if name.startswith("pass@")]
    shown = [name for name in means if name != "step" and (name not in passes or name in (passes[0], passes[-1]))]
    return "  ".join(f"{name} {means[name]:.3f}" for name in shown)
