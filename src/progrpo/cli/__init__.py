"""The command line: verbs with few flags; everything else is `key=value` after the recipe.

Nothing here imports torch until a verb needs it, so that `progrpo --help` answers at once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from progrpo.api.patience import Patience
from progrpo.cli import output
from progrpo.cli.ending import EXIT_STATUSES, run
from progrpo.cli.output import Checkpoint, Json, Quiet, examples, with_checkpoint
from progrpo.cli.push import push
from progrpo.cli.replay import replay
from progrpo.cli.score import score
from progrpo.cli.watch import EXAMPLES, watch
from progrpo.files import to_json
from progrpo.processes import require_alone

__all__ = ["EXIT_STATUSES", "app", "main"]

app = typer.Typer(
    name="progrpo",
    help="RLVR training of language models that keeps exploring: ProGRPO and the baselines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 1 a plan that would stop or a replay that differs, 2 something given must be changed, 3 broke "
    "off and can go on, 4 an alarm ended a run, 130 and 143 interrupted and terminated.",
)


def _version(wanted: bool) -> None:
    if wanted:
        import progrpo

        typer.echo(f"progrpo {progrpo.__version__}")
        raise typer.Exit


@app.callback()
def _all_verbs(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and stop")
    ] = False,
) -> None:
    """RLVR training of language models that keeps exploring: ProGRPO and the baselines."""


Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings, e.g. optim.lr=3e-6")]
EvaluateOverrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings, e.g. evaluate.temperature=1.0")
]


@app.command(
    epilog=examples(
        "progrpo train demo/progrpo steps=20",
        "progrpo train math model=Qwen/Qwen2.5-0.5B-Instruct task.train=problems.jsonl --dry-run",
        "progrpo train math method=grpo optim.lr=3e-6 reward.name=./my_reward.py --resume",
    ),
)
def train(
    recipe: Annotated[str, typer.Argument(help="a recipe: its path, or the name of one that ships (progrpo recipes)")],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the resolved plan and stop")] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="with --dry-run: plan for so many, as torchrun would start")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the latest checkpoint, if there is one")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="trace rollouts 2 and 3 (record.profile_rollouts) for ui.perfetto.dev")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="so many seeds from 0 on, into OUT-0, OUT-1, ...; or seed=0..4")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a model as a recipe says."""
    from progrpo import recipes
    from progrpo.settings import SHORT, apply_overrides, read_yaml

    # What cannot be read is said before the seconds of the imports.
    apply_overrides(read_yaml(recipes.find(recipe)), overrides or [], short=SHORT)
    with _loading():
        from progrpo.cli.train import run_train

    run_train(
        recipe, overrides or [], dry_run=dry_run, resume=resume, profile=profile, processes=processes, seeds=seeds
    )


@app.command(
    epilog=examples(
        "progrpo evaluate runs/math -n 64",
        "progrpo evaluate Qwen/Qwen2.5-7B --task math --preset paper",
        "progrpo evaluate runs/math --checkpoint best --task aime24 evaluate.temperature=1.0 max_new_tokens=4096",
    ),
)
def evaluate(
    model: Annotated[
        str, typer.Argument(help='a model folder, GGUF file, hub id, run directory, or "embedded:countdown"')
    ],
    overrides: EvaluateOverrides = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="a task, or math, code, ood, paper (all 11); again for more; a run's own without"),
    ] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="completions per problem; 32 unless a preset says")] = None,
    preset: Annotated[
        list[str] | None, typer.Option("--preset", help='"paper" or "recommended": n, sampling, limit')
    ] = None,
    checkpoint: Checkpoint = None,
    out: Annotated[Path | None, typer.Option("--out", help="the run directory to write into")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Evaluate a model or a checkpoint of a run: Pass@k, majority vote, diversity, entropy, verdicts."""
    with _loading(alone="evaluate"):
        from progrpo.cli.evaluate import run_evaluate

    if len(preset or []) > 1:
        raise typer.BadParameter(f"give one, got {', '.join(preset or [])}", param_hint="--preset")
    run_evaluate(model, task or [], n, preset[0] if preset else None, with_checkpoint(overrides, checkpoint), out)


@app.command(
    epilog=examples(
        "progrpo verify answers.jsonl",
        "progrpo verify answers.jsonl --reward math --reward dapo_math --show 20",
    ),
)
def verify(
    file: Annotated[Path, typer.Argument(help='JSON lines with "id", "completion" and "answer" ("tests" for code)')],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings, e.g. math.find=gsm8k")
    ] = None,
    reward: Annotated[list[str] | None, typer.Option("--reward", help="a reward by name; again to compare")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="write one JSON line per row there")] = None,
    show: Annotated[int, typer.Option("--show", min=0, help="rows of the tables of slow and disputed verdicts")] = 10,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Grade a file of completions: statuses, the slowest rows, and where two graders disagree."""
    with _loading(alone="verify"):
        from progrpo.cli.verify import run_verify

    run_verify(file, reward or ["math"], overrides or [], out, show)


app.command(
    epilog=examples(
        "progrpo score runs/math",
        "progrpo score runs/math/rollouts/step-000001.jsonl --method grpo --method progrpo progrpo.alpha=1 --out page.html",
    ),
)(score)


app.command(
    epilog=examples(
        "progrpo replay runs/math",
        "progrpo replay runs/math --step 101",
        "progrpo replay runs/math --step 101 --method grpo --step-too",
        "progrpo replay runs/math --step 101 --method progrpo alpha=1 --sample",
    ),
)(replay)


@app.command(
    epilog=examples(
        "progrpo shift embedded:countdown",
        "progrpo shift Qwen/Qwen2.5-0.5B --task math500 -n 8 --problems 32",
    ),
)
def shift(
    model: Annotated[
        str, typer.Argument(help='a model folder, GGUF file, hub id, run directory, or "embedded:countdown"')
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings, e.g. temperature=0.8 task.numbers=3")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="the task to train on; a run's own without")] = None,
    n: Annotated[int, typer.Option("-n", "--group", min=2, help="completions per problem, as in training")] = 16,
    problems: Annotated[int, typer.Option("--problems", min=1, help="problems, drawn from the training split")] = 64,
    checkpoint: Checkpoint = None,
    out: Annotated[Path | None, typer.Option("--out", help="the folder for shift.md, shift.svg, shift.json")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Say what each variant's shift would do to your model, before training: its share of the advantage, the alpha for
    10, 20 and 40 %, and the sign flips to expect."""
    with _loading(alone="shift"):
        from progrpo.cli.shift import run_shift

    run_shift(model, task, with_checkpoint(overrides, checkpoint), n, problems, out)


@app.command(
    epilog=examples(
        "progrpo compare runs/grpo runs/progrpo",
        "progrpo compare runs/a runs/b runs/c --out pages/abc.html",
    ),
)
def compare(
    runs: Annotated[list[Path], typer.Argument(help="two or more run directories, trained or evaluated")],
    out: Annotated[Path, typer.Option("--out", help="the page to write")] = Path("comparison.html"),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Put runs side by side: tables here, one HTML page, and the paper's tables as Markdown, CSV and LaTeX."""
    with _loading(alone="compare"):
        from progrpo.cli.report import run_compare

    if output.as_json():
        from progrpo.api.compare import compare as compare_runs

        typer.echo(to_json(compare_runs(runs, out=out).as_json()))
    else:
        run_compare(runs, out)


@app.command(
    epilog=examples(
        "progrpo report runs/math",
        "progrpo report runs/math --json",
    ),
)
def report(
    run: Annotated[Path, typer.Argument(help="a run directory")],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write report.html into a run directory: one self-contained page."""
    with _loading(alone="report"):
        from progrpo.cli.report import run_report

    run_report(run)


app.command(epilog=EXAMPLES)(watch)
app.command(
    epilog=examples(
        "progrpo push runs/math me/qwen-math --dry-run",
        "progrpo push runs/math me/qwen-math --checkpoint best --private",
    ),
)(push)


@app.command(name="recipes", epilog=examples("progrpo recipes", "progrpo train demo/grpo"))
def recipes_(
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """List the recipes that ship with the package; `progrpo train NAME` takes them by name."""
    from progrpo import recipes

    summaries = recipes.summaries()
    output.show(summaries, lambda: _table(summaries))


@app.command(name="list", epilog=examples("progrpo list", "progrpo list methods --json"))
def list_(
    package: Annotated[
        str | None, typer.Argument(help="methods, rewards, tasks, engines or measures; all without")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """List what there is of one kind, or of all, with one line each."""
    from progrpo import plugins

    if package not in (None, *plugins.PACKAGES):
        raise typer.BadParameter(f"{package!r}: expected one of {', '.join(plugins.PACKAGES)}", param_hint="PACKAGE")
    listed = {name: plugins.summaries(name) for name in ([package] if package else plugins.PACKAGES)}

    def text() -> None:
        for name, summaries in listed.items():
            if package is None:
                typer.echo(f"{name}:")
            _table(summaries, indent="" if package else "  ")

    output.show(listed[package] if package else listed, text)


def _table(summaries: Mapping[str, str], indent: str = "") -> None:
    width = max(map(len, summaries))
    for name, summary in summaries.items():
        typer.echo(f"{indent}{name:<{width}}  {summary}")


@app.command(epilog=examples("progrpo schema > recipe.schema.json", "progrpo schema | head -20"))
def schema(
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Print a JSON schema of a recipe, for editors that complete and check YAML."""
    with _loading(alone="schema"):
        from progrpo.cli.schema import run_print_schema

    typer.echo(run_print_schema())


@app.command(epilog=examples("progrpo doctor", "progrpo doctor --json"))
def doctor(
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Say what this machine can do: devices, processes, versions, trackers."""
    with _loading():
        from progrpo.cli.doctor import run_doctor

    run_doctor()


def main() -> None:
    """Run the command line; what goes wrong is one line on standard error and one of `EXIT_STATUSES`."""
    run(app)


def _loading(alone: str = "") -> Patience:
    """Say what takes so long, if it does.

    Args:
        alone: a verb that works in one process.

    Raises:
        ConfigError: it was started in several.
    """
    if alone:
        require_alone(alone)
    return Patience("loading torch and transformers", quiet=output.quiet())
