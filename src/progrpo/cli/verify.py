"""The verb `verify`: grade a file of completions by one reward or two, and show where graders disagree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from progrpo import rewards
from progrpo.cli import output
from progrpo.cli.tables import excerpt, make_table
from progrpo.errors import ConfigError, DataError
from progrpo.files import json_lines, require_new_file, to_json, write_whole
from progrpo.plural import counted
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice, Settings, apply_overrides, parse, read_overrides
from progrpo.tasks._answers import read_answers
from progrpo.types import STATUSES, Finish, Problem, Verdict

_EXCERPT = 100


class VerifyRequest(Settings):
    """What `key=value` may set."""

    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each reward by its name."""
    verify: VerifySettings = VerifySettings()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the file: what to grade."""

    id: Any
    completion: str
    problem: Problem
    tokens: int | None
    finish: Finish | None = None


def run_verify(path: Path, names: Sequence[str], overrides: Sequence[str], out: Path | None, show: int) -> None:
    """Grade every row of `path` and print what came out; with `out`, write one verdict a row, in order.

    Raises:
        RunDirectoryError: `out` exists. DataError: a row cannot be graded (file and line are named).
    """
    require_new_file(out)
    if len(set(names)) != len(names):
        raise ConfigError(f"--reward: {', '.join(names)}: the same reward twice has nothing to disagree on")
    changes = read_overrides(overrides)
    data = apply_overrides({}, changes)
    known = {key: data.pop(key) for key in list(data) if key in names}
    request = parse(VerifyRequest, {"settings": known, **data}, where="verify", overrides=changes)
    choices = {name: Choice(name=name, **request.settings.get(name, {})) for name in names}
    for choice in choices.values():
        rewards.load(choice)  # a name that is wrong must not cost the grading by those before it
    rows = read_rows(path)
    graded = {name: _grade(choice, rows, request.verify) for name, choice in choices.items()}
    if output.as_json():
        if out is not None:
            _write(out, rows, graded)
        counts = {name: dict(Counter(verdict.status for verdict in verdicts)) for name, verdicts in graded.items()}
        typer.echo(to_json({"rows": len(rows), "statuses": counts, "out": None if out is None else str(out)}))
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print(status_table(graded))
    if show:
        for name, verdicts in graded.items():
            console.print(slowest_table(name, rows, verdicts, show))
        for other in names[1:]:
            console.print(disagreement_table(rows, graded, names[0], other, show))
    if out is not None:
        _write(out, rows, graded)
        console.print(str(out), markup=False)


def _write(out: Path, rows: Sequence[Row], graded: Mapping[str, Sequence[Verdict]]) -> None:
    lines = [output_row(row, graded, index) for index, row in enumerate(rows)]
    write_whole(out, "".join(to_json(line) + "\n" for line in lines))


def read_rows(path: Path) -> list[Row]:
    """Rows {"id", "completion", "answer"}, the answer as in `progrpo.tasks.file`; "tokens" and "finish" are the completion's,
    every other key (numbers, tests, options, ...) is handed to the reward. Compressed where the name ends in .gz.

    Raises:
        DataError: no such file, no rows, or a row that is no object or has no completion.
    """
    if not path.is_file():
        raise DataError(f'{path}: no such file; expected JSON lines with "id", "completion" and "answer"')
    rows = [_row(data, place, number) for number, (place, data) in enumerate(json_lines(path), start=1)]
    if not rows:
        raise DataError(f"{path}: the file has no rows")
    return rows


def _row(data: Any, place: str, number: int) -> Row:
    if not isinstance(data, dict):
        raise DataError(f"{place}: expected a JSON object, got {type(data).__name__}")
    if not isinstance(data.get("completion"), str):
        raise DataError(f'{place}: "completion" must be text, got {data.get("completion")!r:.80}')
    answer, tokens, finish = data.get("answer"), data.get("tokens"), data.get("finish")
    if finish not in (None, *get_args(Finish)):
        raise DataError(f'{place}: "finish" must be "stop" or "length" (cut at the limit), got {finish!r:.80}')
    golds = () if answer is None or answer == "" else read_answers(answer, place, "answer")
    info = {key: value for key, value in data.items() if key not in ("id", "completion", "answer", "tokens", "finish")}
    problem = Problem(
        id=str(data.get("id", number)),
        prompt=str(data.get("prompt", "")),
        answer=golds[0] if golds else answer,
        accepted=golds[1:],
        info=info,
        place=place,
    )
    return Row(data.get("id", number), data["completion"], problem, tokens if isinstance(tokens, int) else None, finish)


def _grade(choice: Choice, rows: Sequence[Row], settings: VerifySettings) -> list[Verdict]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with Verifier(choice, settings) as verifier, Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(choice.name, total=len(rows))
        items = [(row.completion, row.problem, row.finish) for row in rows]
        verdicts = verifier.judge(items, lambda count: bar.update(task, completed=count))
        return [
            verdict if row.tokens is None else verifier.length_term(verdict, row.tokens)
            for row, verdict in zip(rows, verdicts, strict=True)
        ]


def output_row(row: Row, graded: Mapping[str, Sequence[Verdict]], index: int) -> dict[str, Any]:
    """The first reward's verdict; those of the others under "others"."""
    first, *others = graded
    line = {"id": row.id, **_verdict(graded[first][index])}
    return line | ({"others": {name: _verdict(graded[name][index]) for name in others}} if others else {})


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "status": verdict.status,
        "correct": verdict.correct,
        "reward": verdict.reward,
        "extracted": verdict.extracted,
        "detail": verdict.detail,
        "seconds": round(verdict.seconds, 6),
    }


def status_table(graded: Mapping[str, Sequence[Verdict]]) -> Table:
    """Counts of statuses by reward, the mean reward, and the seconds."""
    table = make_table("verdicts", "status", *((name, "right") for name in graded))
    counts = {name: Counter(verdict.status for verdict in verdicts) for name, verdicts in graded.items()}
    for status in STATUSES:
        table.add_row(status, *(str(counts[name][status]) for name in graded))
    table.add_section()
    table.add_row("rows", *(str(len(verdicts)) for verdicts in graded.values()))
    table.add_row("mean reward", *(f"{_mean([v.reward for v in verdicts]):.4f}" for verdicts in graded.values()))
    table.add_row("seconds, summed", *(f"{sum(v.seconds for v in verdicts):.2f}" for verdicts in graded.values()))
    return table


def slowest_table(name: str, rows: Sequence[Row], verdicts: Sequence[Verdict], show: int) -> Table:
    table = make_table(f"{name}: slowest", "id", ("seconds", "right"), "status", "detail")
    order = sorted(range(len(rows)), key=lambda index: -verdicts[index].seconds)
    for index in order[:show]:
        verdict = verdicts[index]
        table.add_row(
            Text(str(rows[index].id)), f"{verdict.seconds:.4f}", verdict.status, Text(excerpt(verdict.detail, _EXCERPT))
        )
    return table


def disagreement_table(
    rows: Sequence[Row], graded: Mapping[str, Sequence[Verdict]], first: str, other: str, show: int
) -> Table:
    """Rows that one reward calls correct and the other does not, side by side."""
    pairs = list(zip(rows, graded[first], graded[other], strict=True))
    differing = [(row, one, two) for row, one, two in pairs if one.correct is not two.correct]
    more = f", the first {show}" if len(differing) > show else ""
    table = make_table(
        f"{first} and {other} disagree on {len(differing)} of {counted(len(rows), 'row')}{more}",
        "id",
        "answer",
        first,
        other,
    )
    for row, one, two in differing[:show]:
        table.add_row(
            Text(str(row.id)),
            Text(excerpt(row.problem.answer_text or "", _EXCERPT)),
            *(Text(_said(verdict)) for verdict in (one, two)),
        )
    return table


def _said(verdict: Verdict) -> str:
    return (
        f"{verdict.status}: {excerpt(verdict.extracted if verdict.extracted is not None else verdict.detail, _EXCERPT)}"
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
