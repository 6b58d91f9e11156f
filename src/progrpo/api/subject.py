"""What `evaluate` and `shift` share: which model, which task with which settings, and what is shown meanwhile."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from progrpo import tasks
from progrpo.errors import ConfigError, DataError, ModelError
from progrpo.evaluate.benchmark import BenchmarkPlan
from progrpo.model import ModelSettings, known_positions, load_tokenizer
from progrpo.model.files import EMBEDDED
from progrpo.rollout.generate import require_context
from progrpo.rollout.verify import VerifySettings
from progrpo.settings import Choice, Settings, parse, read_yaml
from progrpo.train.checkpoint import best_folder, best_of, folders, latest_folder
from progrpo.train.settings import EngineChoice
from progrpo.types import Problem

logger = logging.getLogger(__name__)


class Subject(Settings):
    """What `key=value` may set of the model, its tasks and the verdicts."""

    seed: int = 0
    checkpoint: Literal["latest", "best"] | int = "latest"
    """Of a run directory: the latest checkpoint, the best (`checkpoint.best`), or that of a step."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Settings of the model but its path (precision, device, ...); those of a run are its own otherwise."""
    max_new_tokens: int | None = Field(None, gt=0)
    """Longest completion; None takes the task's: 8,192 for a benchmark (the paper gives reasoning models 32,768 on math)."""
    task: dict[str, Any] = Field(default_factory=dict)
    """Settings of the tasks: task.KEY=VALUE for all of them, task.NAME.KEY=VALUE for one."""
    reward: Choice | None = None
    """None takes each task's own."""
    engine: EngineChoice = EngineChoice()
    verify: VerifySettings = VerifySettings()


def find_model(path: str, request: Subject, *, where: str) -> tuple[ModelSettings, Path | None]:
    """The model's settings; and the run directory, where `path` is one and its latest checkpoint is meant.

    Raises:
        ConfigError: a setting of the model is wrong. ModelError: no such folder, or a run without a checkpoint.
    """
    if "path" in request.model:
        raise ConfigError("model.path: the model is the first argument; leave the setting out")
    if not (Path(path) / "config.yaml").is_file():
        parts = Path(path).parts
        if not Path(path).is_absolute() and len(parts) > 1 and Path(parts[0]).is_dir() and not Path(path).exists():
            raise ModelError(
                f"{path}: no such folder in {parts[0]}/; expected a run directory, a model folder or a hub id"
            )
        if request.checkpoint != "latest":
            raise ConfigError(f"checkpoint={request.checkpoint}: {path} is no run directory; give one, or leave it out")
        return parse(ModelSettings, {**_as_in_run(Path(path)), **request.model, "path": path}, where=where), None
    run = Path(path)
    checkpoint = checkpoint_folder(run, request.checkpoint)
    of_run = read_yaml(run / "config.yaml").get("model") or {}
    # The adapter that was trained is in the checkpoint: none is made.
    return parse(ModelSettings, {**of_run, "lora": None, **request.model, "path": str(checkpoint)}, where=where), run


def run_of(path: Path) -> Path | None:
    """The directory of the run that `path` is, or is a checkpoint of; None of any other model."""
    if (path / "config.yaml").is_file():
        return path
    folder = path.resolve()
    is_checkpoint = folder.parent.name == "checkpoints" and (folder.parent.parent / "config.yaml").is_file()
    return folder.parent.parent if is_checkpoint else None


def stop_of(path: Path) -> Any:
    """`sampling.stop` of the run that `path` is, or is a checkpoint of; None where it is neither."""
    run = run_of(path)
    return None if run is None else (read_yaml(run / "config.yaml").get("sampling") or {}).get("stop")


def _as_in_run(folder: Path) -> dict[str, Any]:
    """How a run rendered its prompts and held its weights, where `folder` is one of its checkpoints: so it is to be read."""
    run = run_of(folder)
    if run is None:
        return {}
    of_run = read_yaml(run / "config.yaml").get("model") or {}
    known = ("system_prompt", "chat_template_kwargs", "load_in_4bit")
    return {key: of_run[key] for key in known if of_run.get(key) is not None}


def checkpoint_folder(run: Path, which: str | int) -> Path:
    """The folder of one checkpoint of a run.

    Args:
        which: "latest", "best", or a step.

    Raises:
        ConfigError: no such name. ModelError: there is none, or none of that step. CheckpointError: it is damaged, or none is
            marked as the best.
    """
    root = run / "checkpoints"
    if which == "best":
        return best_folder(root)
    if which == "latest":
        latest = latest_folder(root)
        if latest is None:
            raise ModelError(
                f"{run}: a run directory without a checkpoint; give a model folder, or let the run reach one"
            )
        return latest
    if not isinstance(which, int):
        raise ConfigError(f"checkpoint={which}: expected latest, best, or a step")
    steps = {int(folder.name.removeprefix("step-")): folder for folder in folders(root)}
    if which not in steps:
        kept = ", ".join(map(str, steps)) or "none"
        raise ModelError(f"{run}: checkpoint={which}: there is none of that step; kept are those of {kept}")
    return steps[which]


def hint_of_best(run: Path, chosen: Path) -> str:
    """One line that says where the best checkpoint is, where a run marks one and another was chosen; "" otherwise."""
    best = best_of(run / "checkpoints")
    if best is None or chosen.name == f"step-{best.step:06d}":
        return ""
    marked = f"the best by {best.metric} ({best.value:.4g}) is that of step {best.step}"
    return f"this is {chosen.name}, the latest; {marked}, which --checkpoint best takes"


def own_task(path: str, trained_on: Mapping[str, Any]) -> str:
    """What is evaluated without --task: what a run was trained on, or an embedded model is made for."""
    if path.startswith(EMBEDDED):
        return path.removeprefix(EMBEDDED)
    if "name" not in trained_on:
        raise ConfigError(f"--task: name what to evaluate {path} on, for instance --task aime24 (progrpo list tasks)")
    return str(trained_on["name"])


def task_choice(name: str, names: Sequence[str], request: Subject, trained_on: Mapping[str, Any]) -> Choice:
    """One task with its settings: those for all tasks, over them those under its name.

    Args:
        names: all tasks asked for. trained_on: the task of a run, whose settings are the defaults of the same task.
    """
    by_task = {key: value for key, value in request.task.items() if key in names and isinstance(value, dict)}
    shared = {key: value for key, value in request.task.items() if key not in by_task}
    start = trained_on if name == trained_on.get("name") else {"name": name}
    return Choice(**{**start, **shared, **by_task.get(name, {})})


def warn_of_training_problems(benchmark: BenchmarkPlan, trained_on: Mapping[str, Any]) -> None:
    """Say where problems of a run's own task, with other settings than it was trained with, were trained on."""
    try:
        trained = tasks.load(Choice(**trained_on)).problems("train")
    except DataError as error:
        logger.warning("%s: cannot tell whether it holds problems that were trained on: %s", benchmark.name, error)
        return
    if shared := tasks.overlap(trained, benchmark.problems):
        logger.warning("%s: %s", benchmark.name, shared)


def check_context(about: ModelSettings, problems: Sequence[Problem], asked: int | None, *, source: str) -> None:
    """Check that every prompt leaves room in the model's positions: for a completion of `asked` tokens where the user named
    a limit, else for one token, since what a task allows by itself is cut where the positions end.

    Raises:
        DataError: a prompt does not.
    """
    require_context(
        problems,
        load_tokenizer(about),
        positions=known_positions(about.path),
        max_new_tokens=asked or 1,
        source=source,
        chat=about.chat,
    )


def short_name(path: str) -> str:
    """The last two telling parts of a path or hub id: Qwen-Qwen2.5-7B, a-step-000200."""
    parts = [part for part in path.replace(":", "/").split("/") if part not in ("", ".", "..", "runs", "checkpoints")]
    return "-".join(parts[-2:]) or "model"


def progress_bar(*, quiet: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        TextColumn("{task.fields[doing]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("problems"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, quiet=quiet),
    )
