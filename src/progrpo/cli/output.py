"""What every verb takes beside its own words: --quiet, --json, and examples at the end of its help."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from progrpo.files import to_json

_chosen = {"quiet": False, "json": False}


def quiet() -> bool:
    """Whether progress and hints are left out: results, warnings and errors alone."""
    return _chosen["quiet"] or _chosen["json"]


def as_json() -> bool:
    """Whether the result is one JSON object on standard output in place of tables and text."""
    return _chosen["json"]


def show(result: Mapping[str, Any], text: Callable[[], None]) -> None:
    """Print the result as JSON where that was asked for, else the text."""
    if as_json():
        typer.echo(to_json(result))
    else:
        text()


def reset() -> None:
    """Forget what an earlier call in this process chose."""
    _chosen.update(quiet=False, json=False)


def _quiet(value: bool) -> bool:
    _chosen["quiet"] = value
    return value


def _json(value: bool) -> bool:
    _chosen["json"] = value
    return value


Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=_quiet, help="no progress, no hints: results, warnings and errors")
]
Json = Annotated[bool, typer.Option("--json", callback=_json, help="the result as one JSON object on standard output")]


Checkpoint = Annotated[
    str | None, typer.Option("--checkpoint", help="of a run: latest (without it), best (checkpoint.best), or a step")
]


def named_checkpoint(name: str) -> str | int:
    """What --checkpoint names: a step is a number."""
    return int(name) if name.isdecimal() else name


def with_checkpoint(overrides: Sequence[str] | None, checkpoint: str | None) -> list[str]:
    """Overrides with what --checkpoint names as the last of them."""
    return [*(overrides or []), *([] if checkpoint is None else [f"checkpoint={checkpoint}"])]


def examples(*lines: str) -> str:
    """The end of a verb's help: a line for each example."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
