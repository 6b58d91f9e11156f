"""The verb `train`: live progress, and the plan of `--dry-run`."""

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers.utils import logging as transformers_logging

from progrpo import schema
from progrpo.cli.patience import Patience
from progrpo.cli.seeds import seeds_asked_for, with_seed
from progrpo.processes import launched, leave
from progrpo.train.loop import train
from progrpo.train.plan import STOPS, make_plan
from progrpo.train.record import require_free
from progrpo.train.settings import RunSettings, load_settings
from progrpo.train.setup import Chosen, choose


def run_train(
    recipe: Path,
    overrides: Sequence[str],
    *,
    dry_run: bool,
    resume: bool,
    profile: bool,
    processes: int | None,
    seeds: int | None = None,
) -> None:
    """Train, or show the plan of a run in so many processes (None: those that were started).

    Of several seeds one run after the other, each as it would be alone; the plan is that of the first.
    """
    here = launched()
    if not here.main:
        # The main process speaks for all; what only this one meets is an error, and errors are told.
        logging.getLogger().setLevel(logging.ERROR)
    console = Console(stderr=True, quiet=not here.main)
    asked, others = seeds_asked_for(overrides, seeds)
    base = load_settings(recipe, others)
    each = [base] if asked is None else [load_settings(recipe, [*others, *with_seed(str(base.out), s)]) for s in asked]
    transformers_logging.disable_progress_bar()
    if dry_run:
        if here.main:
            _show_plan(choose(each[0]), resume, processes or here.count, console)
            for settings in each[1:]:
                typer.echo(f"# then the same with seed {settings.seed}, into {settings.out}")
        return
    for settings in each[1:]:  # the first one's own start says it of that
        if here.main and not resume:
            require_free(Path(str(settings.out)))
    for settings in each:
        _train(settings, console, resume=resume, profile=profile)
    leave()
    if len(each) > 1:
        console.print(f"compare them with: progrpo compare {shlex.join(str(settings.out) for settings in each)}")


def _train(settings: RunSettings, console: Console, *, resume: bool, profile: bool) -> None:
    with TrainingProgress(console) as progress:
        run = train(settings, resume=resume, profile=profile, listen=progress)
    if profile and not progress.traced:
        first = min(settings.record.profile_rollouts, default=None)
        line = f"no trace was written: record.profile_rollouts begins with {first}, and fewer rollouts were made"
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"done: [bold]{run.path}[/]; see it with: progrpo report {run.path}")


def _show_plan(chosen: Chosen, resume: bool, processes: int, console: Console) -> None:
    """The resolved settings and the plan as YAML with comments; what would stop the run on standard error, too.

    Raises:
        typer.Exit: with 1, something would.
    """
    with TrainingProgress(console) as progress:
        plan = make_plan(chosen, resume=resume, processes=processes, listen=progress)
    out = Console(soft_wrap=True, highlight=False)
    out.print(yaml.safe_dump(chosen.settings.model_dump(mode="json"), sort_keys=False), markup=False, end="")
    for line in plan:
        out.print("# " + " ".join(line.split()), markup=False)
    stops = [line.removeprefix(STOPS) for line in plan if line.startswith(STOPS)]
    for reason in stops:
        typer.secho(f"error: the run would stop: {reason}", err=True, fg="red")
    if stops:
        raise typer.Exit(1)


VIEWER = "https://ui.perfetto.dev (in the browser: nothing is uploaded) or chrome://tracing"

_NUMBERS = [one for one in schema.drawn("progress") if not one.key.startswith("time/")]
_SECONDS = [one for one in schema.drawn("progress") if one.key.startswith("time/")]


class TrainingProgress:
    """A live bar on a terminal; elsewhere (a log file) one line per step, at most one a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=8),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: Any = None
        self._printed_at = 0.0
        self._doing = ""
        self._patience = Patience()
        self._pass_at_1: float | None = None
        self.traced = False
        """Whether a trace was written."""

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "prepare":
            self._prepare(data["doing"])
        elif event == "check":
            self._prepare("checking the gold answers")
            self._show("golds", done=data["done"], of=data["of"])
        elif event == "start":
            self._patience.now("")
            self._print(f"run directory {data['out']}, steps {data['done']} to {data['steps']}")
            self._show("start", done=data["done"], of=data["steps"])
        elif event == "phase":
            self._bar.update(self._task, description=data["name"])
        elif event == "evaluation":
            self._pass_at_1 = data.get("pass@1")
            self._print(f"step {data['step']:>5}  held-out: {_held_out(data)}")
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
        seconds = " ".join(f"{one.label.lower()} {row[one.key]:.2f} s" for one in _SECONDS if row.get(one.key, 0) > 0)
        if self._console.is_terminal:
            if numbers and row["step"]:
                self._bar.update(self._task, numbers=f"{numbers}  {seconds}")
            self._bar.update(self._task, completed=row["step"])
        elif time.monotonic() - self._printed_at >= 1.0 and row["step"]:
            self._printed_at = time.monotonic()
            self._print(f"step {row['step']:>5}  {numbers}  {seconds}")

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False)


def _held_out(means: Mapping[str, float]) -> str:
    """The measures one looks at while a run goes on: Pass@1, Pass@k for the largest k, and those that are no Pass@k."""
    passes = [name for name in means if name.startswith("pass@")]
    shown = [name for name in means if name != "step" and (name not in passes or name in (passes[0], passes[-1]))]
    return "  ".join(f"{name} {means[name]:.3f}" for name in shown)
