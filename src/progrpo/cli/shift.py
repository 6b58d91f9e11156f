"""The verb `shift`: what each variant's shift would do to a model, from one sampling before any training."""

import logging
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from pydantic import Field
from rich.console import Console
from rich.markdown import Markdown

from progrpo import engines
from progrpo.api.patience import Patience
from progrpo.api.subject import (
    Subject,
    check_context,
    find_model,
    own_task,
    progress_bar,
    short_name,
    stop_of,
    task_choice,
)
from progrpo.cli import output
from progrpo.engines import Sampling, Stops
from progrpo.environment import digest, environment
from progrpo.errors import ConfigError, PluginError, RunDirectoryError, SplitError
from progrpo.evaluate import EvaluateSettings
from progrpo.evaluate.benchmark import BenchmarkPlan, plan
from progrpo.evaluate.shift import Measured, measure, needs
from progrpo.files import make_folder, require_writable, to_json, write_whole
from progrpo.model import ModelSettings, count_parameters, load_model
from progrpo.model.files import fingerprint
from progrpo.plural import counted
from progrpo.report.shift.figure import picture
from progrpo.report.shift.words import PICTURE, About, conditions, markdown, notes, tables
from progrpo.rollout.generate import completion_seeds, run_rollout
from progrpo.rollout.gold import bad_gold_rows, without
from progrpo.rollout.verify import Verifier
from progrpo.settings import SHORT, Choice, apply_overrides, parse, read_overrides, read_yaml
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.types import Group, Problem

logger = logging.getLogger(__name__)


class ShiftRequest(Subject):
    """What `key=value` may set."""

    temperature: float = Field(1.0, gt=0)
    """Of sampling, as `sampling.temperature` of a recipe."""
    stop: Stops = ()
    """As `sampling.stop` of a recipe; where it is not given, that of the run, where a run or its checkpoint is asked about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """The groups, and what else is told of them: problems left out for their gold, and whether training would score anew."""

    groups: tuple[Group, ...]
    excluded: int
    other_scorer: bool


def run_shift(path: str, task: str | None, overrides: Sequence[str], n: int, problems: int, out: Path | None) -> None:
    """Sample `n` completions of `problems` problems, and say what each variant would make of their advantages.

    Raises:
        ProgrpoError: see `progrpo.errors`. What can be checked without the model is, before it is loaded.
    """
    if n < 2:
        raise ConfigError(f"-n {n}: a group of one has no advantage; expected 2 or more, better what training will use")
    if problems < 1:
        raise ConfigError(f"--problems {problems}: expected 1 or more")
    changes = read_overrides(overrides)
    request = parse(ShiftRequest, apply_overrides({}, changes, short=SHORT), where="shift", overrides=changes)
    engines.choose(request.engine)
    about, run = find_model(path, request, where="shift")
    folder = out or Path("runs") / f"shift-{short_name(path)}"
    _require_free(folder)
    require_writable(folder, remedy="choose another with --out")
    trained_on = dict(read_yaml(run / "config.yaml").get("task") or {}) if run is not None else {}
    if "stop" not in request.model_fields_set and (stop := stop_of(Path(path))):
        with_stop = parse(ShiftRequest, {"stop": stop}, where=f"{path}: sampling")
        request = request.model_copy(update={"stop": with_stop.stop})
    name = task or own_task(path, trained_on)
    benchmark, split = _plan(task_choice(name, [name], request, trained_on), request, n)
    with Patience("reading the model's configuration"):
        check_context(about, benchmark.problems, request.max_new_tokens, source=name)
        made_with = environment(about.device, request.seed)
        count_parameters(about.path)  # a mistyped model must not claim the folder
    _make(folder)
    with Verifier(benchmark.reward, request.verify) as verifier:
        chosen, excluded = _problems(benchmark.problems, split, problems, request, verifier)
        sampled = _sample(chosen, excluded, benchmark, about, request, verifier)
    measured = measure(make_rollout_batch(sampled.groups, needs(), request.verify.failed))
    said = _about(about.path, name, split, benchmark, request, sampled)
    asked = {
        "weights": fingerprint(about.path) or about.path,
        "settings": request.model_dump(mode="json"),
        "task": benchmark.task.params.model_dump(mode="json"),
        "reward": benchmark.reward.model_dump(mode="json"),
        "digest": digest(chosen),
        "environment": made_with,
    }
    numbers = {"about": asdict(said), **asdict(measured), "notes": notes(measured, said)}
    write_whole(folder / "shift.json", to_json({**numbers, "asked": asked}, indent=1))
    write_whole(folder / "shift.md", markdown(measured, said))
    write_whole(folder / PICTURE, picture(measured))
    if output.as_json():
        typer.echo(to_json({**numbers, "out": str(folder)}))
        return
    _show(measured, said)
    Console(soft_wrap=True, highlight=False).print(
        f"{folder / 'shift.md'}, with {PICTURE} and shift.json", markup=False
    )


def _show(measured: Measured, said: About) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(conditions(said), markup=False)
    console.print(Markdown(tables(measured, said)))
    for note in notes(measured, said):
        console.print(f"note: {note}", markup=False)


def _plan(choice: Choice, request: ShiftRequest, n: int) -> tuple[BenchmarkPlan, str]:
    """The task's training problems, for training is asked about; its test problems where it has no others."""

    def planned(split: str) -> BenchmarkPlan:
        return plan(
            choice,
            reward=request.reward,
            settings=EvaluateSettings(n=n, temperature=request.temperature, top_p=1.0),
            n=None,
            max_new_tokens=request.max_new_tokens,
            preset=None,
            split=split,
        )

    try:
        return planned("train"), "train"
    except SplitError:
        return planned("test"), "test"


def _problems(
    known: Sequence[Problem], split: str, count: int, request: ShiftRequest, verifier: Verifier
) -> tuple[Sequence[Problem], int]:
    """So many of them, drawn by the seed, without those whose own gold does not verify; and how many those were.

    Drawn, because files are often in the order of their sources or of difficulty.
    """
    drawn = random.Random(request.seed).sample(list(known), min(count, len(known)))
    if len(drawn) < count:
        logger.warning(
            "the %s split has %s, fewer than --problems %d: all are taken", split, counted(len(drawn), "problem"), count
        )
    if not request.verify.check_gold:
        return drawn, 0
    kept = without(drawn, bad_gold_rows(drawn, verifier, split=split), split=split)
    return kept, len(drawn) - len(kept)


def _sample(
    chosen: Sequence[Problem],
    excluded: int,
    benchmark: BenchmarkPlan,
    about: ModelSettings,
    request: ShiftRequest,
    verifier: Verifier,
) -> Sampled:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model = load_model(about)
    with closing(engines.load(request.engine, model)) as engine, progress_bar() as bar:
        line = bar.add_task(benchmark.name, total=len(chosen), doing="sampling")
        rollout = run_rollout(
            chosen,
            model=model,
            engine=engine,
            verifier=verifier,
            sampling=Sampling(
                temperature=request.temperature, max_new_tokens=benchmark.max_new_tokens, stop=request.stop
            ),
            seeds=[completion_seeds(request.seed, "shift", problem=one, group=benchmark.settings.n) for one in chosen],
            prompt_logprobs=True,
            on_sampled=lambda done: bar.update(line, completed=done),
        )
    verifier.require_trustworthy([verdict for group in rollout.groups for verdict in group.verdicts])
    if any(group.prompt_logprobs is None for group in rollout.groups):
        raise PluginError(
            f"engine {request.engine.name!r} gave no log-probs of the prompts, which c(q) is made of; use engine.name=hf"
        )
    return Sampled(
        groups=rollout.groups, excluded=excluded, other_scorer=not engine.capabilities.samples_trained_weights
    )


def _about(
    path: str, task: str, split: str, benchmark: BenchmarkPlan, request: ShiftRequest, sampled: Sampled
) -> About:
    return About(
        model=path,
        task=task,
        split=split,
        temperature=request.temperature,
        max_new_tokens=benchmark.max_new_tokens,
        seed=request.seed,
        statuses=dict(Counter(verdict.status for group in sampled.groups for verdict in group.verdicts)),
        excluded=sampled.excluded,
        other_scorer=sampled.other_scorer,
    )


def _require_free(folder: Path) -> None:
    """Raises RunDirectoryError where `folder` cannot take the files."""
    if folder.exists() and not folder.is_dir():
        raise RunDirectoryError(f"{folder} is a file, expected a folder; choose another --out")
    for name in ("shift.json", "shift.md", PICTURE):
        if (folder / name).exists():
            raise RunDirectoryError(f"{folder / name} exists; choose another --out, nothing was overwritten")


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise RunDirectoryError(f"{folder} cannot be made ({error.strerror}); choose another --out") from None
