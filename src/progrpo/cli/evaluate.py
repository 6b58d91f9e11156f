"""The verb `evaluate`: benchmarks into a run directory, and a table of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from progrpo import schema
from progrpo.api.evaluate import evaluate_into
from progrpo.api.subject import hint_of_best
from progrpo.cli import output
from progrpo.files import to_json
from progrpo.plural import counted
from progrpo.schema.quantity import Quantity


def run_evaluate(
    path: str, names: Sequence[str], n: int | None, preset: str | None, overrides: Sequence[str], out: Path | None
) -> None:
    """Evaluate, and print a table of each task when it is done (see `evaluate_into`)."""
    console = Console(soft_wrap=True, highlight=False)

    def show(header: Mapping[str, Any]) -> None:
        console.print(measures_table(header))
        if set(header["statuses"]) == {"no_answer"}:
            console.print(
                f"note: no completion of {header['task']} has an answer; are template and reward the right ones?"
            )

    folder, headers, _ = evaluate_into(
        path,
        names,
        n,
        preset,
        overrides,
        out,
        on_header=(lambda header: None) if output.as_json() else show,
        progress=not output.quiet(),
    )
    is_run = folder.resolve() == Path(path).resolve() and not output.quiet()
    if is_run and (hint := hint_of_best(folder, Path(str(headers[-1]["model"])))):
        typer.echo(f"note: {hint}", err=True)
    if output.as_json():
        typer.echo(to_json({"run": str(folder), "evaluations": [dict(header) for header in headers]}))
        return
    if len(headers) > 1:
        console.print(overview(headers))
    console.print(f"{folder}; compare it with: progrpo compare {folder} OTHER", markup=False)


def measures_table(header: Mapping[str, Any]) -> Table:
    """One evaluation: each measure's mean with its interval, the numbers of the whole task, and the verdicts."""
    table = Table(title=Text(title(header)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measure", overflow="fold")
    table.add_column("mean over problems", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("unit; better")
    for name, value in header["summary"].items():
        part = "" if value["problems"] == header["problems"] else f" ({counted(value['problems'], 'problem')})"
        table.add_row(
            f"{name}{part}", f"{value['mean']:.4f}", f"[{value['low']:.4f}, {value['high']:.4f}]", _unit(name)
        )
    if header["over_task"]:
        table.add_section()
        for name, value in header["over_task"].items():
            table.add_row(name, f"{value:.4f}", "", _unit(name))
    categories = {name: means["pass@1"] for name, means in header.get("by_category", {}).items() if "pass@1" in means}
    if categories:
        table.add_section()
    for name, value in categories.items():
        table.add_row(f"pass@1, {name}", f"{value:.4f}", "")
    table.add_section()
    total = sum(header["statuses"].values())
    for status, count in sorted(header["statuses"].items()):
        table.add_row(f"verdict {status}", f"{count / total:.4f}", "")
    if header["excluded"]:
        table.add_row("problems left out, bad gold", str(len(header["excluded"])), "")
    table.add_row("seconds", f"{header.get('seconds', 0.0):.1f}", "")
    return table


def _unit(name: str) -> str:
    """The unit of a measure's numbers, and which direction is better; "" where its file does not say."""
    known = schema.column(name)
    return f"{known.logged_unit} {known.arrow}".strip() if known else ""


def title(header: Mapping[str, Any]) -> str:
    """What was evaluated and how: no number without it."""
    settings = header["settings"]
    preset = f", preset {header['preset']}" if header["preset"] else ""
    return (
        f"{header['task']}{preset}: {counted(header['problems'], 'problem')} x {settings['n']}, T {settings['temperature']:g}, "
        f"top-p {settings['top_p']:g}, at most {counted(settings['max_new_tokens'], 'token')}"
    )


def overview(headers: Sequence[Mapping[str, Any]]) -> Table:
    """All evaluations of one call, a row each."""
    table = Table(title="all tasks", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    columns = schema.columns("overview")
    headings = [f"{one.at('n').heading}, {one.unit.partition(' ')[0]}" for one in columns]
    for heading in ("task", "problems", "n", *headings, "no verdict, %"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for header in headers:
        n, summary = header["settings"]["n"], header["summary"]
        lost = sum(header["statuses"].get(status, 0) for status in ("timeout", "crashed", "bad_gold"))
        name = header["task"] + (f" ({header['preset']})" if header["preset"] else "")
        cells = [_shown(one, summary.get(one.at(n).key)) for one in columns]
        table.add_row(name, str(header["problems"]), str(n), *cells, f"{100 * lost / header['samples']:.1f}")
    return table


def _shown(one: Quantity, value: Mapping[str, float] | None) -> str:
    if value is None:
        return "–"
    return f"{one.value(value['mean'])} [{one.value(value['low'])}, {one.value(value['high'])}]"
