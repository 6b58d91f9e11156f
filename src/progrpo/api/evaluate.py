"""`progrpo.evaluate`: benchmarks into a run directory, and what they come to."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.progress import TaskID
from transformers.utils import logging as transformers_logging

from progrpo import engines, measures
from progrpo.api.own import RewardLike, Rows, has_rows, reward_section, task_section
from progrpo.api.patience import Patience
from progrpo.api.run import TrainingRun
from progrpo.api.subject import (
    Subject,
    check_context,
    find_model,
    own_task,
    progress_bar,
    short_name,
    stop_of,
    task_choice,
    warn_of_training_problems,
)
from progrpo.engines import Engine, EngineSetup
from progrpo.environment import environment
from progrpo.errors import ConfigError, DataError, RunDirectoryError
from progrpo.evaluate import EvaluateSettings
from progrpo.evaluate.benchmark import BenchmarkPlan, evaluate_benchmark, plan
from progrpo.evaluate.presets import PRESETS, PresetName, expand
from progrpo.files import make_folder, require_writable, to_json, write_whole
from progrpo.model import LanguageModel, ModelSettings, count_parameters, load_model
from progrpo.model.description import describe_model
from progrpo.rows import read_results
from progrpo.settings import SHORT, Choice, apply_overrides, parse, read_overrides, read_yaml

logger = logging.getLogger(__name__)

_DOING = {"sampling": "evaluating problems", "golds": "checking the gold answers"}
_PROBLEMS = "problems-evaluated"  # those that were given as rows; a run's own stand in `problems`


class EvaluateRequest(Subject):
    """What `key=value` may set."""

    evaluate: EvaluateSettings = EvaluateSettings()


class Evaluations:
    """What `progrpo.evaluate` came to.

    Attributes:
        path: the run directory that holds it, for `progrpo.compare`. headers: one per task, as its file has it.
    """

    def __init__(self, path: Path, headers: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
        self.path = path
        self.headers = tuple(headers)
        self._names = tuple(names)

    @property
    def measures(self) -> pd.DataFrame:
        """A row per task and measure: its mean over problems with a 95 % interval over problems ("low", "high")."""
        rows = [
            {"task": header["task"], "preset": header["preset"], "measure": name, **value}
            for header in self.headers
            for name, value in header["summary"].items()
        ]
        return pd.DataFrame(rows)

    def samples(self) -> pd.DataFrame:
        """The completions, a row each: task, problem, prompt, answer, text, status, extracted, tokens, ..."""
        rows = [
            {
                "task": header["task"],
                "problem": one.problem,
                "prompt": one.prompt,
                "answer": one.answer,
                **{key: getattr(sample, key) for key in ("text", "status", "extracted", "tokens", "finish", "detail")},
            }
            for header, name in zip(self.headers, self._names, strict=True)
            for _, one in read_results(self.path / "evaluations" / f"{name}.jsonl")
            for sample in one.samples
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}: {', '.join(self._names)})"


def evaluate(
    model: str | Path | TrainingRun,
    task: str | Sequence[str] | Rows | Mapping[str, Any] | None = None,
    *,
    reward: RewardLike | None = None,
    n: int | None = None,
    preset: PresetName | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Evaluations:
    """Evaluate a model, or the latest checkpoint of a run; what an earlier call did is not done again.

        progrpo.evaluate(run, n=16).measures

    Args:
        model: a model folder, a hub id, a run (or its directory), or "embedded:countdown". Of a run its latest checkpoint,
            or with checkpoint="best" (or a step) another, which goes into runs/evaluate-RUN-STEP.
        task: its name, several, or problems as a list of {"prompt", "answer", ...}; None takes a run's own.
        reward: as for `train`; None takes that of the run for the run's own task, else the task's.
        n: completions per problem; None takes 32, or what a preset says.
        preset: "paper" or "recommended": n, sampling and limit.
        out: the run directory to write into; None takes the run's, or runs/evaluate-MODEL.
        progress: show a bar on standard error.
        **overrides: settings by name: evaluate={"temperature": 1.0}, max_new_tokens=64, model_={...} likewise.

    Raises:
        ProgrpoError: any of `progrpo.errors`; all that can be checked is, before the model is loaded.
    """
    path = str(model.path) if isinstance(model, TrainingRun) else str(model)
    changes: dict[str, Any] = dict(overrides)
    if reward is not None:
        changes["reward"] = reward_section(reward)
    names = [task] if isinstance(task, str) else []
    if isinstance(task, Sequence) and not isinstance(task, str) and all(isinstance(one, str) for one in task):
        names = [str(one) for one in task]
    elif task is not None and not isinstance(task, str):
        folder = _own_folder(path, out)
        task_settings = {"test": task} if not isinstance(task, Mapping) else task
        if not has_rows(task_settings):
            raise ConfigError(f"task: expected names, or problems as a list of mappings, got {task!r:.80}")
        names = ["file"]
        changes["task"] = {"file": {k: v for k, v in task_section(task_settings, folder).items() if k != "name"}}
    folder, headers, done = evaluate_into(
        path, names, n, preset, changes, None if out is None else Path(out), progress=progress
    )
    return Evaluations(folder, headers, done)


def _load(about: ModelSettings, chosen: EngineSetup, ending: ExitStack) -> tuple[LanguageModel, Engine]:
    """The model and what generates, until `ending` ends."""
    chosen.prepare(about.device)
    model = describe_model(about) if chosen.no_weights else load_model(about)
    return model, ending.enter_context(closing(chosen.make(model)))


def _own_folder(path: str, out: str | Path | None) -> Path:
    """Where the problems of an evaluation are kept."""
    run = Path(path) if (Path(path) / "config.yaml").is_file() else None
    return Path(out or run or Path("runs") / f"evaluate-{short_name(path)}") / _PROBLEMS


def evaluate_into(
    path: str,
    names: Sequence[str],
    n: int | None,
    preset: str | None,
    overrides: Sequence[str] | Mapping[str, Any],
    out: Path | None,
    *,
    on_header: Callable[[Mapping[str, Any]], None] = lambda header: None,
    progress: bool = True,
) -> tuple[Path, list[Mapping[str, Any]], list[str]]:
    """Evaluate a model, or the latest checkpoint of a run, on each task; what an earlier call did is not done again.

    Args:
        on_header: called with each evaluation's header when it is done.

    Returns:
        The run directory, the headers, and the evaluations' names.

    Raises:
        ProgrpoError: see `progrpo.errors`. Everything that can be checked is, before the model is loaded.
    """
    request = _request(n, preset, overrides)
    for one in measures.load(request.evaluate.measures):
        one.prepare()
    about, run = find_model(path, request, where="evaluate")
    folder = out or _folder_of(path if run is None else about.path, run if request.checkpoint == "latest" else None)
    require_writable(folder, remedy="choose another with --out")
    config = read_yaml(run / "config.yaml") if run is not None else {}
    trained_on = dict(config.get("task") or {})
    own_reward = Choice(**config["reward"]) if config.get("reward") else None
    if request.evaluate.stop is None and (stop := stop_of(Path(path))):
        with_stop = parse(EvaluateSettings, request.evaluate.model_dump() | {"stop": stop}, where=f"{path}: sampling")
        request = request.model_copy(update={"evaluate": with_stop})
    if not names:
        names = [own_task(path, trained_on)]
    with Patience("reading the problems") as patience:
        benchmarks = _benchmarks(names, n, _preset(preset), request, trained_on, own_reward)
        fresh = _require_own(folder, about, run)
        patience.now("reading the model's configuration")
        for benchmark in benchmarks:
            # A preset's limit is not the user's to change: what goes beyond the model's positions is cut, and counted.
            asked = None if benchmark.preset else request.max_new_tokens
            check_context(about, benchmark.problems, asked, source=benchmark.name)
        if fresh:
            _claim(folder, about, request.seed)
    transformers_logging.disable_progress_bar()

    chosen = engines.choose(request.engine)
    headers: list[Mapping[str, Any]] = []
    with (
        ExitStack() as ending,
        progress_bar(quiet=not progress) as bar,
        Patience(quiet=not progress or bar.console.is_terminal) as patience,
    ):
        load = cache(partial(_load, about, chosen, ending))

        def report(line: TaskID, name: str, doing: str, done: int, of: int) -> None:
            bar.update(line, doing=doing, completed=done, total=of)
            if not done:
                patience.now(f"{name}: {_DOING.get(doing, doing)}")
            patience.count(done, of)

        for benchmark in benchmarks:
            line = bar.add_task(benchmark.name, total=len(benchmark.problems), doing="")
            patience.now(f"{benchmark.name}: loading the model")
            header = evaluate_benchmark(
                benchmark,
                folder,
                load=load,
                about=about,
                engine_choice=request.engine,
                verify=request.verify,
                seed=request.seed,
                on_progress=partial(report, line, benchmark.name),
            )
            bar.remove_task(line)
            headers.append(header)
            on_header(header)
    return folder, headers, [one.name for one in benchmarks]


def _folder_of(path: str, run: Path | None) -> Path:
    """Where evaluations go: into the run, which holds those of its latest checkpoint; of any other model into a folder of its
    own."""
    return run or Path("runs") / f"evaluate-{short_name(path)}"


def _request(n: int | None, preset: str | None, overrides: Sequence[str] | Mapping[str, Any]) -> EvaluateRequest:
    # Every measure there is; those that need an extra only where a preset asks for the whole.
    base: dict[str, Any] = {"evaluate": {"raw": True, "measures": measures.names(extras=bool(preset))}}
    if n is not None:
        base["evaluate"]["n"] = n
    changes = read_overrides(overrides)
    request = parse(EvaluateRequest, apply_overrides(base, changes, short=SHORT), where="evaluate", overrides=changes)
    chosen_n = next((one.value for one in reversed(changes) if one.key == "evaluate.n"), None)
    if chosen_n is not None and (n is not None or preset is not None):
        other = f"--preset {preset} says" if preset else f"-n {n} says already"
        raise ConfigError(f"evaluate.n={chosen_n}: {other} how many completions; give one of the two")
    return request


def _preset(name: str | None) -> PresetName | None:
    for preset in PRESETS:
        if name == preset:
            return preset
    if name is not None:
        raise ConfigError(f"--preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return None


def _benchmarks(
    names: Sequence[str],
    n: int | None,
    preset: PresetName | None,
    request: EvaluateRequest,
    trained_on: Mapping[str, Any],
    own_reward: Choice | None,
) -> list[BenchmarkPlan]:
    """The tasks with their data.

    Args:
        trained_on: the task of a run: the defaults of its settings, and what `own_reward` judges, on whatever data.
    """
    if preset is not None and n is not None:
        raise ConfigError(f"-n {n}: --preset {preset} says how many completions; give one of the two")
    expanded = expand(names)
    planned, faults = [], []
    for name in expanded:
        try:
            choice = task_choice(name, expanded, request, trained_on)
            own = choice.name == trained_on.get("name")
            one = plan(
                choice,
                reward=request.reward or (own_reward if own else None),
                settings=request.evaluate,
                n=n,
                max_new_tokens=request.max_new_tokens,
                preset=preset,
            )
        except DataError as error:  # all that is missing is said at once
            faults.append(str(error))
        else:
            planned.append(one)
            if own and choice != Choice(**trained_on):
                warn_of_training_problems(one, trained_on)
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
    known = ("evaluations", "environment.json", _PROBLEMS)
    return all(entry.name in known or entry.name[0] == "." for entry in folder.iterdir())
