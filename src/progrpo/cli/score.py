"""The verb `score`: the advantages and token weights that several methods give to the same recorded rollouts."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from progrpo.api.patience import Patience
from progrpo.cli import output
from progrpo.cli.output import Json, Quiet
from progrpo.cli.tables import excerpt, make_table
from progrpo.errors import ConfigError
from progrpo.files import require_new_file, to_json, write_whole
from progrpo.plural import counted
from progrpo.processes import require_alone

if TYPE_CHECKING:
    from progrpo.evaluate.score import Scoring
    from progrpo.rollout.recorded import RolloutFile

_PAGES = (".html", ".htm")


def score(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="ROLLOUTS.jsonl... [KEY=VALUE]...", help="rollouts of a run; settings, e.g. progrpo.alpha=1"
        ),
    ],
    method: Annotated[
        list[str] | None, typer.Option("--method", help="NAME or LABEL=NAME; again to compare with the first")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="whose tokenizer spells the tokens; else the run's")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="PAGE.html, or FILE.jsonl with a row per completion")
    ] = None,
    show: Annotated[int, typer.Option("--show", min=0, help="rows of the tables of differences")] = 10,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show the advantages and token weights that several methods give to the same recorded rollouts."""
    require_alone("score")
    run_score(words, method or ["grpo", "progrpo"], model, out, show)


def run_score(words: Sequence[str], named: Sequence[str], model: str | None, out: Path | None, show: int) -> None:
    """Apply each method to the rollouts and print how their advantages differ; with `out`, write a page or rows.

    Args:
        words: rollouts files, and `LABEL.key=value` settings of the methods.
        named: methods, as NAME or LABEL=NAME. The others are compared with the first.
        model: whose tokenizer spells the tokens, on the page and for methods that read that; None takes that of the run.
        show: groups and completions of the tables of differences.

    Raises:
        ProgrpoError: a file, method or setting cannot be used, or `out` exists.
    """
    if out is not None and out.suffix not in (*_PAGES, ".jsonl"):
        raise ConfigError(f"--out: expected a name that ends in .html (a page) or .jsonl (rows), got {str(out)!r}")
    require_new_file(out)
    with Patience("loading torch", quiet=output.quiet()) as patience:
        paths = [file for word in words if _is_path(word) for file in _files(Path(word))]
        if not paths:
            raise ConfigError("score: no rollouts file; give one or more, for instance RUN/rollouts/step-000001.jsonl")
        from progrpo.api.score_apply import apply_methods, load_methods
        from progrpo.rollout.recorded import read_rollouts

        methods = load_methods(named, [word for word in words if not _is_path(word)])
        spelled = any("token_texts" in method.needs for method in methods.values())
        if model is not None and not spelled and (out is None or out.suffix not in _PAGES):
            raise ConfigError("--model: only a page shows tokens; name one with --out PAGE.html")
        patience.now("reading the rollouts")
        files = [read_rollouts(path) for path in dict.fromkeys(paths)]
        patience.now("applying the methods")
        scoring = apply_methods(files, methods, model)
    notes = [*scoring.notes, *(f"{one.label}: {note}" for one in scoring.methods for note in one.notes)]
    if out is not None:
        write_whole(out, _page(scoring, files, model) if out.suffix in _PAGES else _rows(scoring))
    output.show(_result(scoring, notes, out), lambda: _print(scoring, notes, out, show))


def _result(scoring: "Scoring", notes: Sequence[str], out: Path | None) -> dict[str, Any]:
    """What --json prints."""
    from progrpo.evaluate.score import statistics

    numbers = zip(scoring.methods, statistics(scoring), strict=True)
    return {
        "files": scoring.files,
        "methods": {one.label: {"name": one.name, **asdict(row)} for one, row in numbers},
        "notes": notes,
        "out": None if out is None else str(out),
    }


def _print(scoring: "Scoring", notes: Sequence[str], out: Path | None, show: int) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for table in tables(scoring, show):
        console.print(table)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    if out is not None:
        console.print(str(out), markup=False)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    from progrpo.api.score import rollout_files

    return rollout_files(path)


def _is_path(word: str) -> bool:
    return "=" not in word or Path(word).is_file()


def tables(scoring: "Scoring", show: int) -> list[Table]:
    """Statistics by method, and with `show` the groups and completions on which methods differ most."""
    shown = [_statistics_table(scoring)]
    if show and len(scoring.methods) > 1:
        shown += [_groups_table(scoring, show), _completions_table(scoring, show)]
    return shown


def _statistics_table(scoring: "Scoring") -> Table:
    from progrpo.evaluate.score import statistics
    from progrpo.report.score.words import in_words

    table = make_table(
        f"advantages of {counted(len(scoring.completions), 'completion')} in {counted(len(scoring.groups), 'group')}; the last "
        f"rows against {scoring.methods[0].label}",
        "",
        *((one.label, "right") for one in scoring.methods),
    )
    for one, values in in_words(statistics(scoring)):
        table.add_row(one.label, *values)
    return table


def _groups_table(scoring: "Scoring", show: int) -> Table:
    from progrpo.evaluate.score import group_difference, groups_apart, prompt_text

    title = f"groups that differ most, {min(show, len(scoring.groups))} of {len(scoring.groups)}"
    table = make_table(title, "problem", "prompt", ("correct", "right"), ("mean |difference|", "right"))
    for members in groups_apart(scoring)[:show]:
        right = sum(one.verdict.correct for one in members)
        table.add_row(
            Text(excerpt(members[0].problem.id)),
            Text(excerpt(prompt_text(members[0].problem))),
            f"{right} / {len(members)}",
            f"{group_difference(members):.3f}",
        )
    return table


def _completions_table(scoring: "Scoring", show: int) -> Table:
    from progrpo.evaluate.score import completions_apart
    from progrpo.report.wording import NOTHING
    from progrpo.schema.quantity import fixed

    table = make_table(
        f"completions that differ most, {min(show, len(scoring.completions))} of {len(scoring.completions)}",
        "problem",
        ("index", "right"),
        "verdict",
        ("c(o)", "right"),
        *((one.label, "right") for one in scoring.methods),
        "completion",
    )
    for one in completions_apart(scoring)[:show]:
        table.add_row(
            Text(excerpt(one.problem.id)),
            str(one.index),
            one.verdict.status,
            NOTHING if one.confidence is None else f"{one.confidence:.3f}",
            *(fixed(value, 3, signed=True) for value in one.advantages),
            Text(excerpt(one.completion.text)),
        )
    return table


def _rows(scoring: "Scoring") -> str:
    labels = [one.label for one in scoring.methods]
    lines = (
        {
            "file": one.file,
            "problem": one.problem.id,
            "index": one.index,
            "status": one.verdict.status,
            "reward": one.verdict.reward,
            "confidence": one.confidence,
            "recorded": one.recorded,
            "advantages": dict(zip(labels, one.advantages, strict=True)),
            **(
                {}
                if one.weights is None
                else {"token_weights": {k: v.tolist() for k, v in zip(labels, one.weights, strict=True)}}
            ),
            **(
                {}
                if one.entropy_changes is None
                else {"predicted_entropy_change": dict(zip(labels, one.entropy_changes, strict=True))}
            ),
        }
        for one in scoring.completions
    )
    return "".join(to_json(line) + "\n" for line in lines)


def _page(scoring: "Scoring", files: "Sequence[RolloutFile]", model: str | None) -> str:
    from progrpo.evaluate.spelling import Spelling
    from progrpo.report.score.page import make_score_page

    spelling = Spelling.of_model(model) if model is not None else Spelling.of_run(files[0])
    return make_score_page(scoring, spelling)
