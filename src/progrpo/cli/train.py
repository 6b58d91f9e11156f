"""The verb `train`: live progress, and the plan of `--dry-run`."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from transformers.utils import logging as transformers_logging

from progrpo.api.progress import TrainingProgress
from progrpo.api.run import TrainingRun
from progrpo.cli import output
from progrpo.cli.seeds import seeds_asked_for, with_seed
from progrpo.files import finite_or_none, to_json
from progrpo.processes import launched, leave
from progrpo.train.loop import train
from progrpo.train.plan import STOPS, make_plan
from progrpo.train.record import require_free
from progrpo.train.settings import RunSettings, load_settings
from progrpo.train.setup import Chosen, choose


def run_train(
    recipe: str | Path,
    overrides: Sequence[str],
    *,
    dry_run: bool,
    resume: bool,
    profile: bool,
    processes: int | None,
    seeds: int | None = None,
) -> None:
    """Train, or show the plan of a run in so many processes (None: those that were started).

    Of several seeds one run after the other, each as it would be alone; the plan is that of the first. As JSON one object: of
    one run what it came to, of a range of seeds {"runs": [...]}, one for each.
    """
    here = launched()
    if not here.main:
        # The main process speaks for all; what only this one meets is an error, and errors are told.
        logging.getLogger().setLevel(logging.ERROR)
    console = Console(stderr=True, quiet=output.quiet() or not here.main)
    asked, others = seeds_asked_for(overrides, seeds)
    base = load_settings(recipe, others)
    each = [base] if asked is None else [load_settings(recipe, [*others, *with_seed(str(base.out), s)]) for s in asked]
    transformers_logging.disable_progress_bar()
    if dry_run:
        if here.main:
            _show_plan(choose(each[0]), resume, processes or here.count, console)
            for settings in () if output.as_json() else each[1:]:
                typer.echo(f"# then the same with seed {settings.seed}, into {settings.out}")
        return
    for settings in each[1:]:  # the first one's own start says it of that
        if here.main and not resume:
            require_free(Path(str(settings.out)))
    results = [_train(settings, console, resume=resume, profile=profile) for settings in each]
    if output.as_json() and here.main:
        typer.echo(to_json(finite_or_none(results[0] if asked is None else {"runs": results})))
    leave()
    if len(each) > 1:
        line = f"compare them with: progrpo compare {shlex.join(str(settings.out) for settings in each)}"
        console.print(line, soft_wrap=True, highlight=False)


def _train(settings: RunSettings, console: Console, *, resume: bool, profile: bool) -> dict[str, Any]:
    """Train one run, and give what it came to, for JSON; nothing in a process that is not the main one."""
    with TrainingProgress(console) as progress:
        run = train(settings, resume=resume, profile=profile, listen=progress)
    if profile and not progress.traced:
        first = min(settings.record.profile_rollouts, default=None)
        line = f"no trace was written: record.profile_rollouts begins with {first}, and fewer rollouts were made"
        console.print(line, soft_wrap=True, highlight=False)
    if not launched().main:
        return {}
    trained = TrainingRun(run.path)
    best, rows = trained.best, trained.metrics
    console.print(
        f"done: [bold]{run.path}[/]{_said_of(best)}; see it with: progrpo report {run.path}",
        soft_wrap=True,
        highlight=False,
    )
    last = rows.iloc[-1].dropna().to_dict() if len(rows) else {}
    return {"run": str(run.path), "step": int(rows.index[-1]) if len(rows) else 0, "metrics": last, "best": best}


def _said_of(best: Mapping[str, Any] | None) -> str:
    """The best checkpoint in words; "" where none is marked."""
    if best is None:
        return ""
    start = "" if best["start"] is None else f", before training {best['start']:.4g}"
    return f"; best at step {best['step']}: {best['path']} ({best['metric']} {best['value']:.4g}{start})"


def _show_plan(chosen: Chosen, resume: bool, processes: int, console: Console) -> None:
    """The resolved settings and the plan as YAML with comments; what would stop the run on standard error.

    Raises:
        typer.Exit: with 1, something would.
    """
    with TrainingProgress(console) as progress:
        plan = make_plan(chosen, resume=resume, processes=processes, listen=progress)
    stops = [line.removeprefix(STOPS) for line in plan if line.startswith(STOPS)]
    settings = chosen.settings.model_dump(mode="json")
    output.show({"settings": settings, "plan": plan, "stops": stops}, lambda: _print_plan(settings, plan))
    for reason in stops:
        typer.secho(f"error: the run would stop: {reason}", err=True, fg="red")
    if stops:
        raise typer.Exit(1)


def _print_plan(settings: Mapping[str, Any], plan: Sequence[str]) -> None:
    out = Console(soft_wrap=True, highlight=False)
    out.print(yaml.safe_dump(settings, sort_keys=False), markup=False, end="")
    for line in plan:
        if line.startswith(STOPS):  # told on standard error, as what ends the command
            continue
        out.print("# " + line.replace("\n", " ").rstrip(), markup=False)
