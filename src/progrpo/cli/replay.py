"""The verb `replay`: a step computed again, as tables on the terminal or as JSON."""

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
from progrpo.cli.tables import make_table
from progrpo.errors import ConfigError, RunDirectoryError
from progrpo.files import require_new_file, write_whole
from progrpo.processes import require_alone

if TYPE_CHECKING:
    from progrpo.api.agreement import Agreement
    from progrpo.api.other_methods import Other
    from progrpo.api.replay import MicroReplay, Replay
    from progrpo.train.resample import DrawnAgain

DIFFERS = 1
"""The exit status where something differs."""


def replay(
    run: Annotated[Path, typer.Argument(help="a run directory")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings of --method, e.g. alpha=0.1")
    ] = None,
    step: Annotated[int | None, typer.Option("--step", min=1, help="the optimiser step; without: which can be")] = None,
    micro: Annotated[int | None, typer.Option("--micro", min=1, help="also one micro-batch of it by itself")] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="NAME or LABEL=NAME: what it would have done; again for more")
    ] = None,
    step_too: Annotated[
        bool, typer.Option("--step-too", help="take the step, by each method, and measure what it did")
    ] = False,
    sample: Annotated[bool, typer.Option("--sample", help="draw the completions again from their seeds")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="PAGE.html: each token by its weight under the run's method and --method"),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compute a step of a run again and say which numbers agree, and what another method would have done."""
    require_alone("replay")
    run_replay(
        run, settings or [], step=step, micro=micro, named=method or [], step_too=step_too, sample=sample, out=out
    )


def run_replay(
    run: Path,
    words: Sequence[str],
    *,
    step: int | None,
    micro: int | None,
    named: Sequence[str],
    step_too: bool,
    sample: bool,
    out: Path | None = None,
) -> None:
    """Replay a step and print what agrees; without a step, which can be replayed.

    Args:
        words: `LABEL.key=value` settings of the methods in `named` (of a single one also `key=value`).
        out: a page of the step's tokens, each by its weight under the run's method and those in `named`.

    Raises:
        ProgrpoError: the step cannot be replayed. Exit: `DIFFERS` where something is not as it was written.
    """
    if not (run / "config.yaml").is_file():
        raise RunDirectoryError(f"{run}: expected a run directory (with config.yaml in it)")
    if step is None and (named or words or micro is not None or step_too or sample):
        raise ConfigError(f"replay: which step? --step N; `progrpo replay {run}` lists those that can be replayed")
    if out is not None and (not named or out.suffix not in (".html", ".htm")):
        raise ConfigError(f"--out: expected PAGE.html and a --method to compare with, got {str(out)!r}")
    require_new_file(out)
    with Patience("loading torch", quiet=output.quiet()) as patience:
        from transformers.utils import logging as transformers_logging

        from progrpo.api.replay import kept
        from progrpo.api.replay import replay as replay_step
        from progrpo.api.score_apply import load_methods

        transformers_logging.disable_progress_bar()
        if step is None:
            listed = kept(run)
        else:
            methods = load_methods(named, _labelled(words, named))
            patience.now("computing the step again")
            result = replay_step(run, step, micro=micro, methods=methods, step_too=step_too, sample=sample)
    if step is None:
        output.show(
            {"kept": [dict(zip(("step", "from", "why"), one, strict=True)) for one in listed]}, lambda: _list(listed)
        )
        return
    if out is not None and result.others is not None:
        from progrpo.evaluate.spelling import Spelling
        from progrpo.report.score.page import make_score_page
        from progrpo.rollout.recorded import read_rollouts

        (file,) = result.others.scoring.files
        write_whole(out, make_score_page(result.others.scoring, Spelling.of_run(read_rollouts(Path(file)))))
    output.show(_as_json(result), lambda: _print(result))
    if not result.agrees:
        raise typer.Exit(DIFFERS)


def _labelled(words: Sequence[str], named: Sequence[str]) -> list[str]:
    """Settings with the label of their method, which a single method may do without."""
    from progrpo.api.score_apply import label_and_name

    if words and not named:
        raise ConfigError(f"replay: {words[0]!r}: settings are those of a method; name it with --method NAME")
    if len(named) != 1:
        return list(words)
    label, _ = label_and_name(named[0])
    return [word if word.startswith(f"{label}.") else f"{label}.{word}" for word in words]


def _list(listed: Sequence[tuple[int, int | None, Sequence[str]]]) -> None:
    table = make_table("rollouts that were kept", ("step", "right"), "replayed from", "kept because")
    for step, start, why in listed:
        way = (
            "no checkpoint before it" if start is None else "the start" if start == 0 else f"checkpoint of step {start}"
        )
        table.add_row(str(step), way, "; ".join(why))
    Console(highlight=False).print(table)


def _print(result: "Replay") -> None:
    console = Console(soft_wrap=True, highlight=False)
    start = "the start" if result.start == 0 else f"the checkpoint of step {result.start}"
    console.print(f"step {result.step} of {result.run}, from {start}; kept: {'; '.join(result.kept_for)}", markup=False)
    for part in (_differing(result.values), *_parts(result)):
        console.print(part)
    for note in result.notes:
        console.print(f"note: {note}", markup=False)
    for fault in result.faults:
        console.print(Text(f"differs: {fault}", style="red"))
    console.print(Text(_verdict(result), style="bold" if result.agrees else "bold red"))


def _parts(result: "Replay") -> list[Table | Text]:
    shown: list[Table | Text] = [] if result.micro is None else [_micro_table(result.micro)]
    if result.others is not None:
        from progrpo.cli.score import tables

        shown += [_methods_table(result.others), *tables(result.others.scoring, 5)]
    return shown if result.drawn is None else [*shown, _drawn_table(result.drawn)]


def _verdict(result: "Replay") -> str:
    counts = {status: sum(one.status == status for one in result.values) for status in ("equal", "close", "differs")}
    said = f"{counts['equal']} of {len(result.values)} values are equal to the last bit"
    said += f", {counts['close']} up to rounding" if counts["close"] else ""
    said += f", {counts['differs']} differ" if counts["differs"] else ""
    return said if not result.faults else f"{said}; not as it was written: {len(result.faults)}"


def _differing(values: "Sequence[Agreement]") -> Table:
    table = make_table(
        "computed again, against what was logged", "value", ("logged", "right"), ("again", "right"), "agrees", "where"
    )
    shown = [
        one for one in values if one.status != "equal" or not one.what.startswith(("rollout/", "verdict/", "tokens/"))
    ]
    for one in shown:
        agrees = "to the last bit" if one.digits is None and one.status == "equal" else f"{one.digits or 0} digits"
        style = "red" if one.status == "differs" else "" if one.status == "equal" else "yellow"
        if one.what == "weights after the step" and one.status == "close":
            agrees = "not to the last bit"
        table.add_row(
            Text(one.what), _number(one.logged), _number(one.again), Text(agrees, style=style), Text(one.where)
        )
    left = len(values) - len(shown)
    table.caption = f"and {left} counts and means of the rollout, to the last bit" if left else None
    table.caption_justify = "left"
    return table


def _micro_table(micro: "MicroReplay") -> Table:
    table = make_table(
        f"micro-batch {micro.number} of {micro.of}: loss {micro.loss:.6g}, norm of its gradient alone {micro.grad_norm:.6g}",
        "problem", ("index", "right"), "verdict", ("advantage", "right"), ("tokens", "right"), ("sum of |weights|", "right"),
    )  # fmt: skip
    for one in micro.sequences:
        table.add_row(
            Text(one["problem"]), str(one["index"]), one["status"], f"{one['advantage']:+.4f}", str(one["tokens"]),
            f"{one['weight']:.4g}",
        )  # fmt: skip
    return table


def _methods_table(others: "Other") -> Table:
    methods = others.scoring.methods
    table = make_table(
        "the step by each method, from the same weights and completions", "", *((one.label, "right") for one in methods)
    )
    table.add_row("method", *(one.name for one in methods))
    for name in others.metrics[0]:
        table.add_row(name, *(_number(one.get(name)) for one in others.metrics))
    table.add_row("cosine of the gradients", *(_number(one) for one in others.cosines))
    if others.effects:
        table.add_row(f"entropy, from {others.entropy:.4f} nats", *(f"{one.entropy:+.3g}" for one in others.effects))
        if others.held_out is not None:
            table.add_row(
                f"log-prob of {others.answers} held-out correct answers, from {others.held_out:.4f}",
                *(f"{one.held_out:+.3g}" for one in others.effects if one.held_out is not None),
            )
    notes = [f"{one.label}: {note}" for one in methods for note in one.notes]
    if others.effects and others.held_out is None:
        notes.append("no held-out correct answer was recorded (evaluate.every)")
    table.caption = "\n".join(notes) or None
    table.caption_justify = "left"
    return table


def _drawn_table(drawn: "Sequence[DrawnAgain]") -> Table | Text:
    apart = [one for one in drawn if one.parts_at is not None]
    bits = sum(one.logprobs for one in drawn)
    said = (
        f"drawn again: {len(drawn) - len(apart)} of {len(drawn)} completions are the same, {bits} with log-probs equal to the "
        f"last bit; {sum(not one.verdict for one in drawn)} judged otherwise"
    )
    if not apart:
        return Text(said)
    table = make_table(said, "problem", ("index", "right"), ("parts at token", "right"))
    for one in apart[:10]:
        table.add_row(Text(one.problem), str(one.index), str(one.parts_at))
    return table


def _as_json(result: "Replay") -> dict[str, Any]:
    from progrpo.api.other_methods import as_numbers

    return {
        "run": str(result.run),
        "step": result.step,
        "rollout": result.rollout,
        "from": result.start,
        "bundle": result.digest,
        "weights": result.fingerprint,
        "kept_for": list(result.kept_for),
        "agrees": result.agrees,
        "faults": list(result.faults),
        "notes": list(result.notes),
        "values": [asdict(one) for one in result.values],
        **({} if result.micro is None else {"micro": asdict(result.micro)}),
        **({} if result.others is None else {"others": as_numbers(result.others)}),
        **({} if result.drawn is None else {"drawn": [asdict(one) for one in result.drawn]}),
    }


def _number(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.9g}"
