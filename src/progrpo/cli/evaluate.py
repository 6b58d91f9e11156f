"""The verb `evaluate`: benchmarks into a run directory, and a table of each."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from progrpo import engines, measures, schema
from progrpo.cli.patience import Patience
from progrpo.cli.subject import Subject, check_context, find_model, own_task, progress_bar, short_name, task_choice
from progrpo.engines import Engine
from progrpo.environment import environment
from progrpo.errors import ConfigError, DataError, RunDirectoryError
from progrpo.evaluate import EvaluateSettings
from progrpo.evaluate.benchmark import BenchmarkPlan, evaluate_benchmark, plan
from progrpo.evaluate.presets import PRESETS, PresetName, expand
from progrpo.files import make_folder, require_writable, to_json, write_whole
from progrpo.model import LanguageModel, ModelSettings, count_parameters, load_model
from progrpo.model.description import describe_model
from progrpo.schema.quantity import Quantity
from progrpo.settings import apply_overrides, parse, read_yaml

logger = logging.getLogger(__name__)


class EvaluateRequest(Subject):
    """What `key=value` may set."""

    evaluate: EvaluateSettings = EvaluateSettings()


def run_evaluate(
    path: str, names: Sequence[str], n: int | None, preset: str | None, overrides: Sequence[str], out: Path | None
) -> None:
    """Evaluate a model, or the latest checkpoint of a run, on each task; what an earlier call did is not done again.

    Raises:
        ProgrpoError: see `progrpo.errors`. Everything that can be checked is, before the model is loaded.
    """
    request = _request(n, preset, overrides)
    for one in measures.load(request.evaluate.measures):
        one.prepare()
    about, run = find_model(path, request, where="evaluate")
    folder = out or run or Path("runs") / f"evaluate-{short_name(path)}"
    require_writable(folder, remedy="choose another with --out")
    config = read_yaml(run / "config.yaml") if run is not None else {}
    trained_on = dict(config.get("task") or {})
    if request.evaluate.stop is None and (stop := (config.get("sampling") or {}).get("stop")):
        with_stop = parse(EvaluateSettings, request.evaluate.model_dump() | {"stop": stop}, where=f"{run}/config.yaml")
        request = request.model_copy(update={"evaluate": with_stop})
    if not names:
        names = [own_task(path, trained_on)]
    with Patience("reading the problems") as patience:
        benchmarks = _benchmarks(names, n, _preset(preset), request, trained_on)
        fresh = _require_own(folder, about, run)
        patience.now("reading the model's configuration")
        for benchmark in benchmarks:
            # A preset's limit is not the user's to change: what goes beyond the model's positions is cut, and counted.
            asked = None if benchmark.preset else request.max_new_tokens
            check_context(about, benchmark.problems, asked, source=benchmark.name)
        if fresh:
            _claim(folder, about, request.seed)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()

    loaded: list[tuple[LanguageModel, Engine]] = []
    chosen = engines.choose(request.engine)

    def load() -> tuple[LanguageModel, Engine]:
        if not loaded:
            chosen.prepare(about.device)
            model = describe_model(about) if chosen.no_weights else load_model(about)
            loaded.append((model, ending.enter_context(closing(chosen.make(model)))))
        return loaded[0]

    console, headers = Console(soft_wrap=True, highlight=False), []
    with ExitStack() as ending, progress_bar() as bar:
        for benchmark in benchmarks:
            line = bar.add_task(benchmark.name, total=len(benchmark.problems), doing="")
            header = evaluate_benchmark(
                benchmark,
                folder,
                load=load,
                about=about,
                engine_choice=request.engine,
                verify=request.verify,
                seed=request.seed,
                on_progress=lambda doing, done, of, line=line: bar.update(line, doing=doing, completed=done, total=of),  # type: ignore[misc]
            )
            bar.remove_task(line)
            console.print(measures_table(header))
            if set(header["statuses"]) == {"no_answer"}:
                console.print(
                    f"note: no completion of {benchmark.name} has an answer; are template and reward the right ones?"
                )
            headers.append(header)
    if len(headers) > 1:
        console.print(overview(headers))
    console.print(f"{folder}; compare it with: progrpo compare {folder} OTHER", markup=False)


def _request(n: int | None, preset: str | None, overrides: Sequence[str]) -> EvaluateRequest:
    # Every measure there is; those that need an extra only where a preset asks for the whole.
    base: dict[str, Any] = {"evaluate": {"raw": True, "measures": measures.names(extras=bool(preset))}}
    if n is not None:
        base["evaluate"]["n"] = n
    request = parse(EvaluateRequest, apply_overrides(base, overrides), where="evaluate")
    chosen_n = apply_overrides({}, overrides).get("evaluate", {}).get("n")
    if chosen_n is not None and (n is not None or preset is not None):
        other = f"--preset {preset} says" if preset else f"-n {n} says already"
        raise ConfigError(f"evaluate.n={chosen_n}: {other} how many completions; give one of the two")
    return request


def _preset(name: str | None) -> PresetName | None:
    for preset in PRESETS:
        if name == preset:
            return preset
    if name is None:
        return None
    raise ConfigError(f"--preset: expected one of {', '.join(PRESETS)}, got {name!r}")


def _benchmarks(
    names: Sequence[str],
    n: int | None,
    preset: PresetName | None,
    request: EvaluateRequest,
    trained_on: Mapping[str, Any],
) -> list[BenchmarkPlan]:
    """The tasks with their data.

    Args:
        trained_on: the task of a run, whose settings are the defaults where it is evaluated on the same.
    """
    if preset is not None and n is not None:
        raise ConfigError(f"-n {n}: --preset {preset} says how many completions; give one of the two")
    tasks = expand(names)
    planned, faults = [], []
    for name in tasks:
        try:
            one = plan(
                task_choice(name, tasks, request, trained_on),
                reward=request.reward,
                settings=request.evaluate,
                n=n,
                max_new_tokens=request.max_new_tokens,
                preset=preset,
            )
        except DataError as error:  # all that is missing is said at once
            faults.append(str(error))
        else:
            planned.append(one)
    if faults:
        raise DataError("\n".join(faults))
    return planned


def _require_own(folder: Path, about: ModelSettings, run: Path | None) -> bool:
    """Check that `folder` is the directory of this model's evaluations, or may become it; True where it is to be made.

    Raises:
        RunDirectoryError: it belongs to another model, or is a file or a folder of something else.
    """
    config = folder / "config.yaml"
    if config.is_file():
        known = read_yaml(config)
        if run is not None and run.resolve() == folder.resolve():
            return False
        if "method" in known:
            raise RunDirectoryError(
                f"{folder} is a training run, which {about.path} is not a checkpoint of as given; evaluate it with "
                f"progrpo evaluate {folder}, or choose another --out"
            )
        if (known.get("model") or {}).get("path") != about.path:
            raise RunDirectoryError(
                f"{folder} holds the evaluations of {(known.get('model') or {}).get('path')}, not of {about.path}; choose "
                "another --out"
            )
        return False
    if folder.exists() and not _is_fresh(folder):
        raise RunDirectoryError(f"{folder} exists and is no run directory; choose another --out")
    return True


def _claim(folder: Path, about: ModelSettings, seed: int) -> None:
    """Make `folder` the directory of this model's evaluations."""
    made_with = environment(about.device, seed)
    count_parameters(about.path)  # a mistyped model must not claim the folder
    make_folder(folder / "evaluations")
    write_whole(folder / "environment.json", to_json(made_with, indent=1))
    write_whole(folder / "config.yaml", yaml.safe_dump({"model": about.model_dump(mode="json")}, sort_keys=False))


def _is_fresh(folder: Path) -> bool:
    """Whether a folder holds nothing, or what a call that was killed in its first moments leaves behind."""
    if not folder.is_dir() or any((folder / "evaluations").glob("*")):
        return False
    return all(entry.name in ("evaluations", "environment.json") or entry.name[0] == "." for entry in folder.iterdir())


def measures_table(header: Mapping[str, Any]) -> Table:
    """One evaluation: each measure's mean with its interval, the numbers of the whole task, and the verdicts."""
    table = Table(title=Text(title(header)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measure")
    table.add_column("mean over problems", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("unit; better")
    for name, value in header["summary"].items():
        part = "" if value["problems"] == header["problems"] else f" ({value['problems']} problems)"
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
        f"{header['task']}{preset}: {header['problems']} problems x {settings['n']}, T {settings['temperature']:g}, "
        f"top-p {settings['top_p']:g}, at most {settings['max_new_tokens']:,} tokens"
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
